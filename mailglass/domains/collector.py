"""The collector: asks DNS what the analysers want, all questions of a level at once, within a budget."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.asyncresolver
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from mailglass.domains.lookups import CAA, MX, TLSA, Facts, Lookup, LookupStatus, Question, Record
from mailglass.domains.policy_file import POLICY, PolicyFileError, is_public
from mailglass.domains.report import Report, analyse
from mailglass.domains.subject import Subject
from mailglass.errors import ConfigError

Fetch = Callable[[str, Sequence[str], float], Awaitable[str]]
"""`fetch(host, addresses, timeout)` returns a policy file."""

MAX_QUESTIONS: Final = 400
"""Questions that one run asks at most."""

MAX_LEVELS: Final = 24
"""Round trips that one run takes at most."""

TIMEOUT: Final = 3.0
LIFETIME: Final = 8.0
BUDGET: Final = 40.0
TOGETHER: Final = 40
PAYLOAD: Final = 1232
PORT: Final = 53

# RFC 8914 4: what says that DNSSEC, and not the server, is at fault
_BOGUS: Final = frozenset({1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27})


@dataclass(frozen=True, slots=True)
class Resolver:
    """A recursive resolver.

    Attributes:
        address: IPv4 or IPv6; "" for those of the system.
        port: of DNS.
    """

    address: str = ""
    port: int = PORT


def parse_resolver(value: str, key: str = "--resolver") -> Resolver:
    """Parse `IP`, `IP:PORT` or `[IPv6]:PORT`.

    Args:
        value: as a person wrote it; "" for the system's resolvers.
        key: the option or setting, named in the error.

    Raises:
        ConfigError: neither of them.
    """
    text = value.strip()
    if not text:
        return Resolver()
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        address = ""
    if not address or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ConfigError(
            key, "not the address of a resolver", "Write IP or IP:PORT, for example 1.1.1.1 or [::1]:5353"
        )
    return Resolver(address, int(port))


class Collector:
    """Asks one resolver. Use it within one event loop.

    Args:
        resolver: who is asked.
        timeout: seconds for one try.
        lifetime: seconds for one question with all its tries.
        max_questions: of a run.
        fetch: fetches policy files over HTTPS; None for no files.
    """

    def __init__(
        self,
        resolver: Resolver | None = None,
        *,
        timeout: float = TIMEOUT,
        lifetime: float = LIFETIME,
        max_questions: int = MAX_QUESTIONS,
        fetch: Fetch | None = None,
    ) -> None:
        self._where = resolver or Resolver()
        self._timeout, self._lifetime = timeout, lifetime
        self._left = max_questions
        self._fetch = fetch
        self._together = asyncio.Semaphore(TOGETHER)
        self._problem = ""
        try:
            self._resolver = self._opened(self._where)
        except dns.exception.DNSException as error:
            self._problem = f"no resolver is configured ({type(error).__name__})"

    def _opened(self, where: Resolver) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not where.address)
        if where.address:
            resolver.nameservers = [where.address]
            resolver.port = where.port
        resolver.timeout, resolver.lifetime = self._timeout, self._lifetime
        resolver.search = []
        resolver.cache = None
        # the AD flag of a query asks whether the answer is validated, without its signatures (RFC 6840 5.7)
        resolver.flags = dns.flags.RD | dns.flags.AD
        resolver.use_edns(0, 0, PAYLOAD)
        return resolver

    async def collect(self, questions: Iterable[Question]) -> dict[Question, Lookup]:
        """Ask questions, all at once. Never raises: what fails says so.

        Args:
            questions: of one level.
        """
        asked = list(questions)
        within, beyond = asked[: self._left], asked[self._left :]
        self._left -= len(within)
        found = await asyncio.gather(*(self._ask(question) for question in within))
        answers = dict(zip(within, found, strict=True))
        answers |= {question: _failed(question, "the run's budget of questions is spent") for question in beyond}
        return answers

    async def _ask(self, question: Question) -> Lookup:
        if self._problem:
            return _failed(question, self._problem)
        started = time.monotonic()
        try:
            async with self._together:
                # a server that sends one octet at a time does not hold the run up either
                async with asyncio.timeout(self._lifetime + 1):
                    answer = await (self._file(question) if question.rdtype == POLICY else self._resolve(question))
        except (TimeoutError, dns.exception.DNSException, OSError, ValueError, EOFError) as error:
            answer = _failed(question, _cause(error))
        return _timed(answer, (time.monotonic() - started) * 1000, self._where)

    async def _file(self, question: Question) -> Lookup:
        """Fetch the policy file of a host, from the addresses that the resolver gives."""
        if self._fetch is None:
            return _failed(question, "not fetched")
        found = [await self._resolve(Question(question.name, rdtype)) for rdtype in ("A", "AAAA")]
        try:
            text = await self._fetch(question.name, [text for lookup in found for text in lookup.texts], self._timeout)
        except PolicyFileError as error:
            return _failed(question, str(error))
        return Lookup(question, LookupStatus.ANSWER, (text,))

    async def _resolve(self, question: Question) -> Lookup:
        name = dns.name.from_text(question.name)
        resolver = self._resolver
        if question.server:
            if not _may_be_asked(question.server, self._where):
                return _failed(question, "the nameserver's address is not public")
            port = self._where.port if question.server == self._where.address else PORT
            resolver = self._opened(Resolver(question.server, port))
        try:
            answer = await resolver.resolve(name, question.rdtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return _missing(question, error)
        except dns.resolver.NoNameservers as error:
            return _refused(question, error)
        return _answered(question, answer)


async def examine(subject: Subject, collector: Collector, *, budget: float = BUDGET) -> Report:
    """Collect level by level what the analysers want, and return the report.

    Args:
        subject: what sends.
        collector: who asks.
        budget: seconds; what is not known by then is reported as `cannot_verify`.
    """
    facts = Facts()
    deadline = time.monotonic() + budget
    for _ in range(MAX_LEVELS):
        report = analyse(subject, facts)
        if not facts.wanted:
            return report
        left = deadline - time.monotonic()
        if left <= 0:
            break
        facts = await _level(facts, collector, left)
    unasked = {question: _failed(question, "the run's time is spent") for question in facts.wanted}
    facts = facts.with_answers(unasked)
    return analyse(subject, facts)


async def _level(facts: Facts, collector: Collector, left: float) -> Facts:
    try:
        async with asyncio.timeout(left):
            return facts.with_answers(await collector.collect(facts.wanted))
    except TimeoutError:
        return facts.with_answers({question: _failed(question, "the run's time is spent") for question in facts.wanted})


def _may_be_asked(server: str, where: Resolver) -> bool:
    """Return whether packets may be sent to an address that DNS named: public ones, and the resolver itself."""
    return server == where.address or is_public(server)


def _failed(question: Question, error: str, *, bogus: bool = False) -> Lookup:
    return Lookup(question, LookupStatus.FAILED, error=error, bogus=bogus)


def _timed(lookup: Lookup, duration_ms: float, where: Resolver) -> Lookup:
    return Lookup(
        lookup.question,
        lookup.status,
        lookup.records,
        lookup.pieces,
        lookup.ttl,
        lookup.chain,
        lookup.authenticated,
        lookup.bogus,
        lookup.server or where.address,
        round(duration_ms, 1),
        lookup.error,
    )


def _cause(error: BaseException) -> str:
    """Return why a question has no answer, in words of ours: what an error quotes may be anybody's."""
    if isinstance(error, TimeoutError | dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, OSError):
        return "the resolver cannot be reached"
    if isinstance(error, dns.name.LabelTooLong | dns.name.NameTooLong | dns.name.EmptyLabel | dns.name.BadEscape):
        return "not a name that can be asked for"
    if isinstance(error, dns.resolver.YXDOMAIN):
        return "the name is too long after a DNAME"
    return f"no usable answer ({type(error).__name__})"


def _missing(question: Question, error: dns.resolver.NXDOMAIN) -> Lookup:
    chain: tuple[str, ...] = ()
    authenticated = False
    responses: dict[Any, Any] = error.kwargs.get("responses") or {}
    for response in responses.values():
        authenticated = bool(response.flags & dns.flags.AD)
        try:
            chain = _chain(response.resolve_chaining().cnames)
        except dns.exception.DNSException:
            continue
    return Lookup(question, LookupStatus.NXDOMAIN, chain=chain, authenticated=authenticated)


def _refused(question: Question, error: dns.resolver.NoNameservers) -> Lookup:
    said, bogus = [], False
    for attempt in error.kwargs.get("errors", ()):
        response = attempt[-1]
        if isinstance(response, dns.message.Message):
            codes = [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]
            bogus = bogus or any(code in _BOGUS for code in codes)
            said.append(
                dns.rcode.to_text(response.rcode()) + "".join(f" (extended error {code})" for code in codes[:3])
            )
        elif isinstance(attempt[3], str):
            said.append(attempt[3])
        else:
            said.append(_cause(attempt[3]))
    return _failed(question, ", ".join(dict.fromkeys(said)) or "no nameserver answers", bogus=bogus)


def _answered(question: Question, answer: dns.resolver.Answer) -> Lookup:
    authenticated = bool(answer.response.flags & dns.flags.AD)
    chain = _chain(answer.chaining_result.cnames)
    server = str(answer.nameserver or "")
    if answer.rrset is None:
        return Lookup(question, LookupStatus.NODATA, chain=chain, authenticated=authenticated, server=server)
    rdatas = sorted(answer.rrset)
    records = tuple(_record(rdata) for rdata in rdatas)
    pieces = tuple(tuple(len(piece) for piece in rdata.strings) for rdata in rdatas if hasattr(rdata, "strings"))
    return Lookup(
        question, LookupStatus.ANSWER, records, pieces, int(answer.rrset.ttl), chain, authenticated, server=server
    )


def _chain(rrsets: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_name(rdata.target) for rrset in rrsets for rdata in rrset)[:16]


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""


def _record(rdata: Any) -> Record:
    match rdata.rdtype:
        case dns.rdatatype.TXT | dns.rdatatype.SPF:
            return b"".join(rdata.strings).decode("latin-1")
        case dns.rdatatype.MX:
            return MX(int(rdata.preference), _name(rdata.exchange))
        case dns.rdatatype.TLSA:
            return TLSA(int(rdata.usage), int(rdata.selector), int(rdata.mtype), rdata.cert.hex())
        case dns.rdatatype.CAA:
            return CAA(int(rdata.flags), rdata.tag.decode("latin-1").lower(), rdata.value.decode("latin-1"))
        case dns.rdatatype.SOA:
            return str(rdata.serial)
        case dns.rdatatype.CNAME | dns.rdatatype.NS | dns.rdatatype.PTR:
            return _name(rdata.target)
        case _:
            return str(rdata.to_text())
