"""Explain a refusal: what the receiver meant, and which findings of the doctor it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from mailglass.domains.names import shown
from mailglass.errors import ConfigError
from mailglass.mail.refusal import About, Refusal, Stage
from mailglass.refusals.consequences import WORDS
from mailglass.refusals.receivers import PUBLISHED
from mailglass.refusals.texts import comparable
from mailglass.refusals.understand import understand

MAX_TEXT: Final = 2000
_ENHANCED: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_REPLY: Final = re.compile(r"\s*([245]\d\d)(?:[ -]|\Z)")

_SPF: Final = ("spf.record", "spf.syntax", "spf.terminal", "spf.lookups", "spf.voids", "spf.includes")
_DKIM: Final = ("dkim.key", "dkim.syntax", "dkim.strength", "dkim.revoked", "dkim.pair")
_DMARC: Final = ("dmarc.record", "dmarc.policy", "alignment.dmarc")
_PTR: Final = ("ptr.reverse", "ptr.helo")
_ALL: Final = (*_SPF, *_DKIM, *_DMARC)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Meaning of a code for DNS.

    Attributes:
        findings: of the doctor, by `area.check`.
        text: what the receiver checks.
        source: where that is published.
    """

    findings: tuple[str, ...]
    text: str
    source: str


_GMAIL: Final = "Google, Gmail SMTP errors and codes (https://support.google.com/a/answer/3726730)"
_MICROSOFT: Final = "Microsoft, NDRs and SMTP errors in Exchange Online and Outlook.com"
_IANA: Final = "IANA, SMTP Enhanced Status Codes (RFC 7372, RFC 8617)"

BY_CODE: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        "1.7": Meaning(("mx.record",), "the sender's address or its domain is not valid", "RFC 3463 3.2"),
        "1.8": Meaning(
            ("mx.record", "mx.target"), "the sender's domain does not exist or takes no mail", "RFC 3463 3.2"
        ),
        "4.312": Meaning(("mx.record", "mx.target"), "the domain could not be looked up", _MICROSOFT),
        "7.20": Meaning(_DKIM, "no DKIM signature passed", _IANA),
        "7.21": Meaning((*_DKIM, "alignment.dkim"), "no DKIM signature that the receiver accepts passed", _IANA),
        "7.22": Meaning((*_DKIM, "alignment.dkim"), "no DKIM signature of the author's domain passed", _IANA),
        "7.23": Meaning(_SPF, "SPF failed", _IANA),
        "7.24": Meaning(_SPF, "SPF ended with an error", _IANA),
        "7.25": Meaning(_PTR, "the sending address has no name that leads back to it", _IANA),
        "7.26": Meaning(_ALL, "the mail does not authenticate: neither SPF nor DKIM passed, or DMARC failed", _GMAIL),
        "7.27": Meaning(
            (*_SPF, "mx.record"),
            "at Gmail: SPF did not pass. Elsewhere: the sender's domain has a null MX",
            f"{_GMAIL}; RFC 7505 4.2",
        ),
        "7.29": Meaning((), "at Gmail: the mail came without TLS. No record of yours mends that", _GMAIL),
        "7.30": Meaning(
            _DKIM, "at Gmail: DKIM did not pass. Elsewhere: REQUIRETLS was not possible", f"{_GMAIL}; RFC 8689"
        ),
        "7.31": Meaning(_SPF, "SPF of the envelope's domain failed", _GMAIL),
        "7.32": Meaning(("alignment.dmarc", "alignment.dkim", "alignment.spf"), "From does not align", _GMAIL),
        "7.40": Meaning(_DMARC, "the From domain has no DMARC record, or one without a policy", _GMAIL),
        "7.509": Meaning(_ALL, "the mail failed DMARC, and the domain's policy is reject", _MICROSOFT),
        "7.515": Meaning(
            (*_ALL, "mx.record"),
            "the From domain does not meet Outlook.com's rules for bulk senders: SPF, DKIM and DMARC all have to pass",
            _MICROSOFT,
        ),
    }
)
"""By subject and detail of the enhanced status: `7.515` of `5.7.515`."""

BY_SUBJECT: Final[Mapping[About, tuple[str, ...]]] = MappingProxyType(
    {
        About.SENDER_AUTHENTICATION: (*_ALL, *_PTR),
        About.SENDER_REPUTATION: _PTR,
        About.SENDER_ACCOUNT: ("alignment.dmarc",),
    }
)
"""Areas by the subject of the refusal, for codes that name none."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Meaning of a refusal for the sender's DNS.

    Attributes:
        status: the enhanced status; "" if there is none.
        refusal: as it is understood.
        text: what it means, for people.
        findings: of the doctor that it belongs to, by `area.check`; empty where DNS has no part in it.
        sources: where the meaning is published.
    """

    status: str
    refusal: Refusal
    text: str
    findings: tuple[str, ...]
    sources: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "status": self.status or None,
            "about": self.refusal.about.value,
            "lasting": self.refusal.lasting.value,
            "scope": self.refusal.scope.value,
            "receiver": self.refusal.receiver,
            "meaning": self.text,
            "findings": list(self.findings),
            "sources": list(self.sources),
        }


def explain(said: str) -> Explanation:
    """Explain a refusal.

    Args:
        said: an enhanced status such as `5.7.515`, or a whole reply with its text.

    Raises:
        ConfigError: there is neither a status nor a text in it.
    """
    text = said[:MAX_TEXT]
    code = _ENHANCED.search(text)
    reply = _REPLY.match(text)
    if code is None and reply is None and not re.search(r"[A-Za-z]{3}", text):
        raise ConfigError(
            "--explain", "no status code", "Write for example --explain 5.7.515, or the receiver's whole reply"
        )
    status = code[0] if code else ""
    number = int(reply[1]) if reply else None
    refusal = understand(Stage.DOT, number, status or None, text if text.strip() != status else "")
    detail = ".".join(code.groups()[1:]) if code else ""
    meaning = BY_CODE.get(detail)
    findings = meaning.findings if meaning else BY_SUBJECT.get(refusal.about, ())
    general = WORDS[refusal.about]
    words = f"{meaning.text}. In general: {general}" if meaning else general
    sources = dict.fromkeys([meaning.source] if meaning else [])
    sources |= dict.fromkeys(_sources(refusal, text, detail))
    return Explanation(shown(status), refusal, words, findings, tuple(sources))


def _sources(refusal: Refusal, text: str, detail: str) -> list[str]:
    """Return where the receivers' own rows that speak of this come from."""
    words = comparable(text)
    return [
        item.row.source
        for item in PUBLISHED
        if item.row.about is refusal.about
        and detail
        and detail in item.row.codes
        and item.receiver in (refusal.receiver, "any")
        and item.row.speaks(words, Stage.DOT, detail)
    ]
