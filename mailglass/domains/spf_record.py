"""SPF records: the grammar of RFC 7208 12, with the position of what is wrong."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from mailglass.domains.names import MAX_LABEL, MAX_NAME, is_queryable

VERSION: Final = "v=spf1"
# RFC 7208 4.6.4
MAX_LOOKUPS: Final = 10
MAX_VOIDS: Final = 2
MAX_MX: Final = 10
COSTLY: Final = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
"""The terms that cause lookups."""

MAX_TERMS: Final = 1000

_MECHANISM: Final = re.compile(r"([+\-~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?=[:/]|\Z)(.*)\Z", re.IGNORECASE)
_MODIFIER: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)\Z")
_DUAL_CIDR: Final = re.compile(r"(.*?)(?:/(\d+))?(?://(\d+))?\Z")
_MACRO: Final = re.compile(r"%(?:\{([A-Za-z])(\d*)(r?)([.\-+,/_=]*)\}|%|_|-)", re.IGNORECASE)
_MACRO_LETTERS: Final = frozenset("slodiphv")
_EXPLANATION_LETTERS: Final = frozenset("crt")
_LITERAL: Final = re.compile(r"[\x21-\x24\x26-\x7e]*\Z")
# RFC 7208 7.1: letters, digits and hyphens, not digits alone
_TOP_LABEL: Final = re.compile(r"(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\Z")
_MACRO_END: Final = re.compile(r"%\{[A-Za-z]\d*r?[.\-+,/_=]*\}\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism or a modifier.

    Attributes:
        text: as published.
        position: of its first character in the record, from 0.
        name: in lower case.
        qualifier: `+`, `-`, `~` or `?`; "" of a modifier.
        value: the domain or network; "" for none.
        prefix4: the length of an IPv4 prefix.
        prefix6: the length of an IPv6 prefix.
        modifier: it is `name=value`.
        error: what is wrong with it; "" if it is well formed.
    """

    text: str
    position: int
    name: str
    qualifier: str = ""
    value: str = ""
    prefix4: int | None = None
    prefix6: int | None = None
    modifier: bool = False
    error: str = ""

    @property
    def costs(self) -> bool:
        """True if its evaluation counts as a lookup."""
        return self.name in COSTLY and (self.modifier == (self.name == "redirect"))


@dataclass(frozen=True, slots=True)
class SPFRecord:
    """A parsed record.

    Attributes:
        text: as published.
        terms: in order.
        errors: what makes it a permerror (RFC 7208 4.6), each with its position.
    """

    text: str
    terms: tuple[Term, ...]
    errors: tuple[str, ...]

    @property
    def all(self) -> Term | None:
        """The first `all`, which ends the evaluation."""
        return next((term for term in self.terms if term.name == "all" and not term.modifier), None)

    @property
    def redirect(self) -> Term | None:
        """The redirect modifier that counts: none where there is an `all` (RFC 7208 6.1)."""
        if self.all is not None:
            return None
        return next((term for term in self.terms if term.name == "redirect" and term.modifier), None)

    @property
    def evaluated(self) -> tuple[Term, ...]:
        """The mechanisms that may be evaluated: those before `all`."""
        found: list[Term] = []
        for term in self.terms:
            if term.modifier:
                continue
            if term.name == "all":
                break
            found.append(term)
        return tuple(found)

    @property
    def ignored(self) -> tuple[Term, ...]:
        """The mechanisms behind `all`, which nobody evaluates (RFC 7208 5.1)."""
        end = self.all
        if end is None:
            return ()
        return tuple(term for term in self.terms if not term.modifier and term.position > end.position)


def is_spf(text: str) -> bool:
    """Return whether a TXT record is an SPF record (RFC 7208 4.5): `v=spf1`, then a space or the end."""
    return text[: len(VERSION)].lower() == VERSION and text[len(VERSION) : len(VERSION) + 1] in ("", " ")


def parse_spf(text: str) -> SPFRecord:
    """Parse an SPF record. Linear in its length; never raises."""
    terms: list[Term] = []
    errors: list[str] = []
    position = len(VERSION)
    for piece in text[len(VERSION) :].split(" "):
        if piece:
            if len(terms) >= MAX_TERMS:
                errors.append(f"more than {MAX_TERMS} terms")
                break
            term = _term(piece, position)
            terms.append(term)
            if term.error:
                errors.append(f"{term.error} at position {position}: {piece[:80]}")
        position += len(piece) + 1
    for name in ("redirect", "exp"):
        if sum(term.modifier and term.name == name for term in terms) > 1:
            errors.append(f"{name}= occurs more than once")
    return SPFRecord(text, tuple(terms), tuple(errors[:20]))


def _term(text: str, position: int) -> Term:
    if not all("\x21" <= character <= "\x7e" for character in text):
        return Term(text, position, "", error="a character outside of ASCII, or a control character")
    if found := _MODIFIER.match(text):
        return _modifier(text, position, found[1].lower(), found[2])
    found = _MECHANISM.match(text)
    if found is None:
        return Term(text, position, "", error="no known mechanism or modifier")
    qualifier, name, rest = found[1] or "+", found[2].lower(), found[3]
    if name == "all":
        return Term(text, position, name, qualifier, error="`all` takes no argument" if rest else "")
    if name in ("ip4", "ip6"):
        return _network(text, position, name, qualifier, rest)
    if name in ("a", "mx"):
        return _with_prefix(text, position, name, qualifier, rest)
    value = rest[1:] if rest.startswith(":") else ""
    if rest.startswith("/"):
        return Term(text, position, name, qualifier, error=f"`{name}` takes no prefix length")
    if not rest and name == "ptr":
        return Term(text, position, name, qualifier)
    return Term(text, position, name, qualifier, value, error=domain_spec_error(value))


def _modifier(text: str, position: int, name: str, value: str) -> Term:
    if name in ("redirect", "exp"):
        error = domain_spec_error(value)
    else:
        # RFC 7208 6: an unknown modifier is ignored, whatever it says
        error = _macro_error(value, _MACRO_LETTERS | _EXPLANATION_LETTERS)
    return Term(text, position, name, value=value, modifier=True, error=error)


def _network(text: str, position: int, name: str, qualifier: str, rest: str) -> Term:
    address, slash, length = rest[1:].partition("/")
    width = 32 if name == "ip4" else 128
    prefix = width
    error = "" if rest.startswith(":") else f"`{name}` needs a network"
    try:
        parsed = ipaddress.ip_address(address)
        if parsed.max_prefixlen != width or "%" in address:
            raise ValueError
    except ValueError:
        error = error or f"not an IPv{name[2]} address"
    if slash:
        if _is_length(length, width):
            prefix = int(length)
        else:
            error = error or f"not a prefix length of 0 to {width}"
    if name == "ip4":
        return Term(text, position, name, qualifier, rest[1:], prefix4=prefix, error=error)
    return Term(text, position, name, qualifier, rest[1:], prefix6=prefix, error=error)


def _is_length(text: str, width: int) -> bool:
    """Return whether it is a prefix length: digits without a leading zero."""
    return text.isdigit() and len(text) <= 3 and (text == "0" or text[0] != "0") and int(text) <= width


def _with_prefix(text: str, position: int, name: str, qualifier: str, rest: str) -> Term:
    found = _DUAL_CIDR.match(rest)
    domain, short, long = found.groups() if found else (rest, None, None)
    error = ""
    if (short is not None and not _is_length(short, 32)) or (long is not None and not _is_length(long, 128)):
        error = "not a prefix length"
    value = domain[1:]
    if domain.startswith(":"):
        error = error or domain_spec_error(value)
    elif domain:
        error = error or "not a prefix length"
    return Term(
        text,
        position,
        name,
        qualifier,
        value,
        int(short) if short and not error else None,
        int(long) if long and not error else None,
        error=error,
    )


def expand(value: str, domain: str, sender: str) -> str:
    """Return a domain-spec with its macros expanded (RFC 7208 7.3); "" where it depends on the message.

    Args:
        value: well formed.
        domain: whose record is evaluated (`%{d}`).
        sender: the domain of the envelope's sender (`%{o}`).
    """
    known = {"d": domain, "o": sender}
    pieces: list[str] = []
    position = 0
    for found in _MACRO.finditer(value):
        pieces.append(value[position : found.start()])
        position = found.end()
        letter, digits, reverse, delimiters = found.groups()
        if letter is None:
            pieces.append({"%%": "%", "%_": " ", "%-": "%20"}[found[0]])
            continue
        if letter.lower() not in known:
            return ""
        parts = re.split(f"[{re.escape(delimiters or '.')}]", known[letter.lower()])
        parts = parts[::-1] if reverse else parts
        pieces.append(".".join(parts[-int(digits[:4]) :] if digits else parts))
    name = "".join([*pieces, value[position:]]).lower().rstrip(".")
    # what is too long loses labels on the left
    while len(name) > MAX_NAME:
        name = name.partition(".")[2]
    return name


def domain_spec_error(value: str) -> str:
    """Return what is wrong with a domain-spec (RFC 7208 7.1); "" if nothing is."""
    if not value:
        return "no domain given"
    if error := _macro_error(value, _MACRO_LETTERS):
        return error
    if _MACRO_END.search(value):
        return ""
    name = value.removesuffix(".")
    label = name.rpartition(".")[2]
    if "." not in name or len(label) > MAX_LABEL or not _TOP_LABEL.match(label):
        return "not a domain name"
    if "%" not in name and not is_queryable(name):
        return "not a domain name"
    return ""


def _macro_error(value: str, letters: frozenset[str]) -> str:
    position = 0
    for found in _MACRO.finditer(value):
        if not _LITERAL.match(value, position, found.start()):
            break
        letter, digits = found[1], found[2]
        if letter and letter.lower() not in letters:
            return f"unknown macro %{{{letter}}}"
        if digits and int(digits[:4]) == 0:
            return "a macro that keeps no label"
        position = found.end()
    return "" if _LITERAL.match(value, position) else "a % that begins no macro"
