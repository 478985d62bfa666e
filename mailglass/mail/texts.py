"""Text that an application gives: a str, or a lazy string such as `gettext_lazy` answers, which is read once."""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias, TypeVar, Union

from mailglass.errors import MessageError

T = TypeVar("T")


class LazyText(Protocol):
    """A stand-in for a str that is read with `str()`, such as `gettext_lazy` answers."""

    def casefold(self) -> str:
        """Return the text casefolded, as a str does."""

    def encode(self) -> bytes:
        """Return the text encoded, as a str does."""


# a text as an application gives it
TextLike: TypeAlias = Union[str, LazyText]  # noqa: UP007 - read at run time too

# what a stand-in for a str has, whichever library it is of; bytes have it not
_METHODS: Final = ("casefold", "encode")


def evaluated(value: T, field: str) -> T | str:
    """Return the plain str of a str or of a lazy string; any other value as it is, for its own check to refuse.

    A lazy string is read when the message is built, in the language that is active there.

    Args:
        value: any value.
        field: the message's field, named in the error.

    Raises:
        MessageError: the lazy string cannot be read.
    """
    if type(value) is str or value is None:
        return value
    if isinstance(value, str):
        # whatever its class would make of it
        return str.__str__(value)
    try:
        if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in _METHODS):
            return value
        text = str(value)
    except Exception as error:
        problem = type(error).__name__
    else:
        return str.__str__(text)
    raise MessageError(field, f"a lazy string cannot be read ({problem}); give a str")
