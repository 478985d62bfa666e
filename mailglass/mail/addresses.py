"""E-mail addresses: parsed once, kept with an A-label domain, compared by one key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

from mailglass.errors import MessageError
from mailglass.mail.texts import TextLike, evaluated

# dot-atom local part and letter-digit-hyphen domain: what almost every address is. Anything else goes to
# email-validator, which costs some 60 times as much.
_PLAIN = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]\Z"
)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*+)\"\Z")
FORBIDDEN = re.compile(r"[\r\n\x00]")
_LINE_END = "an address must not hold CR, LF or NUL"
MAX_LOCAL_PART = 64
MAX_ADDRESS = 254
MAX_DISPLAY_NAME = 256
# a name with every character escaped, an address, and some space around them
MAX_MAILBOX = 1024


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox.

    >>> from mailglass import Address, Message
    >>> message = Message(to=Address("ada@example.com", "Ada"), subject="Receipt", text="Thank you.")
    >>> message.to[0].email, message.to[0].name
    ('ada@example.com', 'Ada')

    Attributes:
        email: the addr-spec, its domain in lower-case A-labels (RFC 5891).
        name: the display name, or "".
    """

    email: str
    name: str = ""

    def __repr__(self) -> str:
        return f"<Address at {self.domain}>"

    @property
    def local_part(self) -> str:
        """Part before the last `@`."""
        return self.email.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """The domain in lower-case A-labels."""
        return self.email.rpartition("@")[2]

    @property
    def key(self) -> str:
        """Key that suppression lists compare: the whole address in lower case."""
        return self.email.lower()

    @property
    def smtputf8(self) -> bool:
        """True if the local part needs the SMTPUTF8 extension (RFC 6531)."""
        return not self.email.isascii()


# a mailbox as an application writes it
AddressLike: TypeAlias = Union[TextLike, Address, tuple[TextLike, TextLike]]  # noqa: UP007 - read at run time too
# one of them, or several
AddressesLike: TypeAlias = Union[AddressLike, Sequence[AddressLike]]  # noqa: UP007


def parse_address(value: object, field: str) -> Address:
    """Parse `ada@example.com`, `Ada <ada@example.com>`, an `Address` or a `(name, email)` pair.

    Args:
        value: what the application gave.
        field: the message's field, named in the error.

    Raises:
        MessageError: not an address; never echoes it.
    """
    if isinstance(value, Address):
        return _checked(value.email, value.name, field)
    if isinstance(value, tuple):
        value = tuple(evaluated(part, field) for part in value)
        if len(value) == 2 and all(isinstance(part, str) for part in value):
            return _checked(value[1], value[0], field)
    value = evaluated(value, field)
    if not isinstance(value, str):
        raise MessageError(
            field, f"an address must be a str, an Address or a (name, email) pair, not {type(value).__name__}"
        )
    if len(value) <= MAX_ADDRESS and _PLAIN.match(value):
        return _checked(value, "", field)
    if len(value) > MAX_MAILBOX:
        raise MessageError(field, f"longer than {MAX_MAILBOX} characters")
    if FORBIDDEN.search(value):
        raise MessageError(field, _LINE_END)
    if named := _named(value):
        return _checked(named[1], named[0], field)
    return _checked(value, "", field)


def parse_addresses(value: object, field: str) -> tuple[Address, ...]:
    """One address or a list of them. A string is always one address: commas are not split."""
    if value is None or (type(value) is tuple and not value):
        return ()
    if type(value) is str:
        return (parse_address(value, field),)
    if isinstance(value, tuple):
        value = tuple(evaluated(part, field) for part in value)
    if isinstance(value, list | tuple) and not (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
        and "@" not in value[0]
    ):
        return tuple(parse_address(item, field) for item in value)
    return (parse_address(value, field),)


def _named(value: str) -> tuple[str, str] | None:
    """Return the name and the address of `Name <address>`, or None where it is not of that form."""
    value = value.strip()
    begin = value.rfind("<")
    spec = value[begin + 1 : -1]
    if begin < 0 or not value.endswith(">") or not spec or ">" in spec:
        return None
    name = value[:begin].strip()
    if quoted := _QUOTED.match(name):
        return re.sub(r"\\(.)", r"\1", quoted[1]), spec.strip()
    return None if any(mark in name for mark in '<>"') else (name, spec.strip())


def encodable(text: str) -> bool:
    """Return whether it can be written as UTF-8: a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _checked(email: str, name: str, field: str) -> Address:
    if len(name) > MAX_DISPLAY_NAME:
        raise MessageError(field, f"a display name may have at most {MAX_DISPLAY_NAME} characters")
    if len(email) > MAX_ADDRESS:
        raise MessageError(field, f"an address may have at most {MAX_ADDRESS} characters (RFC 5321 4.5.3.1.3)")
    if FORBIDDEN.search(name) or FORBIDDEN.search(email):
        raise MessageError(field, _LINE_END)
    if not encodable(name):
        raise MessageError(field, "a display name holds a lone surrogate, which no mail can carry")
    if _PLAIN.match(email):
        local, _, domain = email.rpartition("@")
        if len(local) > MAX_LOCAL_PART:
            raise MessageError(field, f"the local part is longer than {MAX_LOCAL_PART} octets (RFC 5321 4.5.3.1.1)")
        lowered = domain.lower()
        if "xn--" not in lowered:
            return Address(f"{local}@{lowered}", name)
    return Address(_validated(email, field), name)


def _validated(email: str, field: str) -> str:
    import email_validator

    try:
        result = email_validator.validate_email(
            email,
            check_deliverability=False,
            test_environment=True,
            strict=True,
            allow_quoted_local=True,
        )
    except email_validator.EmailNotValidError:
        # its text quotes the address, so it is not passed on
        if "@" in email and email.rpartition("@")[2].isalnum():
            raise MessageError(field, "the domain has no dot, as localhost: no provider delivers there") from None
        raise MessageError(
            field, "not a valid e-mail address (RFC 5321); check it before building the message"
        ) from None
    return f"{result.local_part}@{result.ascii_domain.lower()}"
