"""DNS facts: questions, what came back, and a collection that notes which questions it cannot answer yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class LookupStatus(StrEnum):
    """End of a question.

    `nodata`: the name exists and has no such record. `failed`: nobody could tell, which is never "missing".
    """

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    FAILED = "failed"


class Question(NamedTuple):
    """One question to DNS.

    Attributes:
        name: in lower-case A-labels, without a final dot.
        rdtype: the type, such as `TXT`.
        server: the address of a nameserver to ask; "" for the resolver.
    """

    name: str
    rdtype: str
    server: str = ""


class MX(NamedTuple):
    """A mail exchanger; host "" for the root of a null MX (RFC 7505)."""

    preference: int
    host: str


class TLSA(NamedTuple):
    """A certificate association (RFC 6698 2.1), its data as hexadecimal digits."""

    usage: int
    selector: int
    matching: int
    data: str


class CAA(NamedTuple):
    """An authorisation of a certificate authority (RFC 8659 4.1)."""

    flags: int
    tag: str
    value: str


Record = str | MX | TLSA | CAA


@dataclass(frozen=True, slots=True)
class Lookup:
    """One question with its answer.

    Attributes:
        question: what was asked.
        status: how it ended.
        records: the answers: text of TXT (one character per octet), names, addresses, or the tuples above.
        pieces: of TXT, the lengths of the strings that each record was published in.
        ttl: seconds that the answer may be kept.
        chain: the names that CNAME records led to, in order.
        authenticated: the resolver has validated the answer with DNSSEC (RFC 4035 3.2.3).
        bogus: the resolver says that DNSSEC fails (RFC 8914).
        server: who answered.
        duration_ms: how long it took.
        error: the cause of a failure, for people.
    """

    question: Question
    status: LookupStatus
    records: tuple[Record, ...] = ()
    pieces: tuple[tuple[int, ...], ...] = ()
    ttl: int | None = None
    chain: tuple[str, ...] = ()
    authenticated: bool = False
    bogus: bool = False
    server: str = ""
    duration_ms: float = 0.0
    error: str = ""

    @property
    def failed(self) -> bool:
        """True if nothing is known about the records."""
        return self.status is LookupStatus.FAILED

    @property
    def found(self) -> bool:
        """True if there are records."""
        return self.status is LookupStatus.ANSWER

    @property
    def texts(self) -> tuple[str, ...]:
        """The records that are text: of TXT, names, addresses."""
        return tuple(record for record in self.records if isinstance(record, str))

    @property
    def hosts(self) -> tuple[MX, ...]:
        """The mail exchangers, the preferred first."""
        return tuple(sorted(record for record in self.records if isinstance(record, MX)))


PENDING: Final = "not asked yet"


class Facts:
    """Collected answers. A question without an answer is noted as wanted and counts as failed until it is collected.

    Analysers are pure functions over facts. Running them, collecting what they wanted and running them again gathers
    level by level, and each level is one round trip.

    Args:
        lookups: what was collected.
    """

    def __init__(self, lookups: Mapping[Question, Lookup] | None = None) -> None:
        self._lookups = dict(lookups or {})
        self._wanted: dict[Question, None] = {}

    @property
    def wanted(self) -> tuple[Question, ...]:
        """The questions that were asked and have no answer, in order."""
        return tuple(self._wanted)

    @property
    def lookups(self) -> Mapping[Question, Lookup]:
        """All answers."""
        return self._lookups

    def ask(self, name: str, rdtype: str, server: str = "") -> Lookup:
        """Return the answer to a question, or a failed one that says that it was not asked yet."""
        question = Question(name.lower().rstrip("."), rdtype, server)
        found = self._lookups.get(question)
        if found is not None:
            return found
        self._wanted[question] = None
        return Lookup(question, LookupStatus.FAILED, error=PENDING)

    def with_answers(self, lookups: Mapping[Question, Lookup]) -> Facts:
        """Return facts that know these answers too, with nothing wanted."""
        return Facts({**self._lookups, **lookups})
