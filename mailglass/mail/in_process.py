"""Objects that stay in their process: messages and delivery calls hold addresses and do not travel by a broker."""

from __future__ import annotations

from typing import Any, Final, NoReturn

REMEDY: Final = (
    "write a task of your own that takes an id, builds the message and calls deliver_later.delay(message), "
    "and use that task in chains, links, chords, maps and chunks"
)
# the option of a signature that holds its `InProcess`
IN_PROCESS: Final = "mailglass_in_process"


def refuse_to_travel(what: str) -> NoReturn:
    """Raise the error of something that was about to be serialised for a broker.

    Raises:
        TypeError: always; names the remedy.
    """
    raise TypeError(f"{what} does not travel through a broker: {REMEDY}")


class InProcess:
    """A mark on signatures: kombu and pickle find it when a signature is serialised, and are refused."""

    def __json__(self) -> NoReturn:
        refuse_to_travel("a signature of deliver_later")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_to_travel("a signature of deliver_later")

    def __copy__(self) -> InProcess:
        return self

    def __deepcopy__(self, memo: object) -> InProcess:
        return self

    def __repr__(self) -> str:
        return "<in process>"
