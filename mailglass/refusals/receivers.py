"""Receivers that are known by their words, hosts or domains, and what they publish about their own refusals.

A row here wins over whatever code, label and text seem to say: it is the receiver's own meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope, Stage
from mailglass.refusals.rows import Row

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
_A = About

DOMAINS: Final[dict[str, str]] = {
    **dict.fromkeys(("gmail.com", "googlemail.com", "google.com"), "gmail"),
    **dict.fromkeys(("outlook.com", "hotmail.com", "live.com", "msn.com", "office365.com"), "microsoft"),
    **dict.fromkeys(
        (
            "yahoo.com",
            "ymail.com",
            "rocketmail.com",
            "aol.com",
            "yahoodns.net",
            "att.net",
            "sbcglobal.net",
            "yahoo.co.uk",
            "yahoo.fr",
            "yahoo.de",
            "yahoo.it",
            "yahoo.es",
            "yahoo.co.jp",
            "bellsouth.net",
        ),
        "yahoo",
    ),
    **dict.fromkeys(("icloud.com", "me.com", "mac.com", "apple.com", "privaterelay.appleid.com"), "apple"),
    **dict.fromkeys(("gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.com", "web.de", "mail.com"), "gmx"),
    **dict.fromkeys(("orange.fr", "wanadoo.fr", "laposte.net"), "orange"),
    **dict.fromkeys(("free.fr", "proxad.net"), "free"),
    **dict.fromkeys(("t-online.de", "magenta.de"), "t_online"),
    **dict.fromkeys(("comcast.net", "comcast.com"), "comcast"),
    **dict.fromkeys(("cox.net", "charter.net", "spectrum.net", "rr.com"), "cox"),
    **dict.fromkeys(("mail.ru", "bk.ru", "inbox.ru", "list.ru"), "mail_ru"),
    **dict.fromkeys(("yandex.ru", "yandex.com", "yandex.net", "ya.ru"), "yandex"),
    "rambler.ru": "rambler",
    **dict.fromkeys(("qq.com", "foxmail.com", "exmail.qq.com"), "qq"),
    **dict.fromkeys(("163.com", "126.com", "yeah.net", "netease.com"), "netease"),
    **dict.fromkeys(("zoho.com", "zohomail.com"), "zoho"),
    **dict.fromkeys(("proton.me", "protonmail.com", "protonmail.ch"), "proton"),
    "mimecast.com": "mimecast",
    **dict.fromkeys(("pphosted.com", "ppe-hosted.com", "proofpoint.com"), "proofpoint"),
    **dict.fromkeys(("barracudanetworks.com", "cudamail.com"), "barracuda"),
    **dict.fromkeys(("iphmx.com", "ironport.com"), "cisco"),
}
"""Families by the domain of a host or an address."""

MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("gsmtp", "gmail"),
    ("gcdp", "gmail"),
    ("support.google.com", "gmail"),
    ("protection.outlook.com", "microsoft"),
    ("prod.outlook.com", "microsoft"),
    ("exchangelabs.com", "microsoft"),
    ("resolver.adr.", "microsoft"),
    ("resolver.rst.", "microsoft"),
    ("storedrv.", "microsoft"),
    ("s2017062302", "microsoft"),
    ("office365", "microsoft"),
    ("mail.live.com", "microsoft"),
    ("postmaster.yahooinc.com", "yahoo"),
    ("postmaster.aol.com", "yahoo"),
    ("yahoo.com", "yahoo"),
    ("support.apple.com", "apple"),
    ("postmaster.gmx", "gmx"),
    ("postmaster.web.de", "gmx"),
    ("mimecast", "mimecast"),
    ("proofpoint", "proofpoint"),
    ("cuda_nsu", "barracuda"),
    ("yandex", "yandex"),
    ("rambler", "rambler"),
    ("service.mail.qq.com", "qq"),
    ("mail.163.com", "netease"),
    ("comcast", "comcast"),
    ("t-online", "t_online"),
)
"""Marks of a receiver's texts."""

GENERAL: Final = "any"


@dataclass(frozen=True, slots=True)
class Published:
    """A receiver's own meaning.

    Attributes:
        receiver: its family; `any` for labels that only one receiver writes.
        row: its words.
        reply: the reply codes beside which it means this; empty for any.
    """

    receiver: str
    row: Row
    reply: frozenset[int] = frozenset()


def _row(
    receiver: str,
    about: About,
    says: tuple[str, ...],
    source: str,
    lasting: Lasting | None = None,
    scope: Scope | None = None,
    *,
    codes: str = "",
    reply: tuple[int, ...] = (),
    used_up: bool = False,
    doubtful: bool = False,
    stages: frozenset[Stage] = frozenset(),
) -> Published:
    row = Row(about, says, source, lasting, scope, stages, frozenset(codes.split()), used_up, doubtful)
    return Published(receiver, row, frozenset(reply))


_GMAIL: Final = "Google, Gmail SMTP errors and codes (2026-02)"
_EXO: Final = "Microsoft, NDRs and SMTP errors in Exchange Online (2023)"
_OUTLOOK: Final = "Outlook.com Postmaster (2026-06)"
_YAHOO: Final = "Yahoo Sender Hub, SMTP error codes (2026-02)"
_SEEN: Final = "seen in the field (smtp-field-manual, sisimai)"
_D, _ACCOUNT, _SESSION = Scope.DESTINATION, Scope.ACCOUNT, Scope.SESSION

PUBLISHED: Final[tuple[Published, ...]] = (
    # Gmail gives registered numbers meanings of its own
    _row("gmail", _A.SENDER_AUTHENTICATION, ("",), _GMAIL, scope=_ACCOUNT, codes="7.25"),
    _row("gmail", _A.SENDER_AUTHENTICATION, ("",), _GMAIL, codes="7.24 7.26 7.27 7.30 7.31 7.32 7.40"),
    _row("gmail", _A.PROTOCOL, ("",), _GMAIL, None, _ACCOUNT, codes="7.29"),
    _row(
        "gmail",
        _A.CONTENT,
        (
            "duplicate ~ ?message-?id",
            "repeated message-?id",
        ),
        _GMAIL,
        codes="7.28",
    ),
    _row("gmail", _A.SENDER_RATE, ("",), _GMAIL, _T, _D, codes="7.28", reply=(421, 450, 451)),
    _row("gmail", _A.SENDER_REPUTATION, ("",), _GMAIL, _U, codes="7.28"),
    _row("gmail", _A.INFRASTRUCTURE, ("try again later, closing connection",), _GMAIL, _T, _D, codes="7.0"),
    _row("gmail", _A.RECIPIENT_RATE, ("receiving",), _GMAIL, _T, codes="2.1"),
    _row("gmail", _A.SENDER_RATE, ("peak",), _GMAIL, _T, _ACCOUNT, codes="2.1", used_up=True),
    _row("gmail", _A.SENDER_RATE, ("",), _GMAIL, _T, _ACCOUNT, codes="4.5", reply=(550,), used_up=True),
    _row(
        "gmail",
        _A.MAILBOX_FULL,
        (
            "inactive",
            "over quota and",
            "full and",
        ),
        _GMAIL,
        _P,
        codes="2.2",
        reply=(552,),
        doubtful=True,
    ),
    _row("gmail", _A.SENDER_ACCOUNT, ("",), _GMAIL, codes="7.80 7.90"),
    _row("gmail", _A.SENDER_REPUTATION, ("not authorized to send e?-?mail directly",), _GMAIL, _U),
    _row(
        "microsoft",
        _A.SENDER_RATE,
        ("",),
        "Microsoft, 451 4.7.500-699 (Exchange Online)",
        _T,
        _D,
        codes=" ".join(f"7.{number}" for number in range(500, 516)),
        reply=(421, 450, 451),
    ),
    # Exchange Online and Outlook.com
    _row("microsoft", _A.RECIPIENT_POLICY, ("(?:every|all) recipients?(?: address(?:es)?)?",), _EXO, _U, codes="4.1"),
    _row("microsoft", _A.INFRASTRUCTURE, ("relay",), _EXO, _U, codes="4.1"),
    _row("microsoft", _A.RECIPIENT_UNKNOWN, ("",), _EXO, _U, codes="4.1"),
    _row("microsoft", _A.RECIPIENT_UNKNOWN, ("",), _EXO, codes="1.10 7.504 7.505"),
    _row(
        "microsoft",
        _A.RECIPIENT_UNKNOWN,
        (
            "unavailable",
            "mailbox",
        ),
        _OUTLOOK,
        codes="5.0",
    ),
    _row(
        "microsoft",
        _A.SENDER_RATE,
        (
            "submission",
            "quota ~ ?sen[dt]",
        ),
        _EXO,
        _T,
        _ACCOUNT,
        codes="2.2",
        used_up=True,
    ),
    _row(
        "microsoft",
        _A.RECIPIENT_DISABLED,
        (
            "account ?disabled",
            "storedrv ~ ?accountdisabled",
        ),
        _EXO,
        codes="7.13",
    ),
    _row("microsoft", _A.RECIPIENT_POLICY, ("",), _EXO, codes="7.12 7.13"),
    _row("microsoft", _A.SENDER_ACCOUNT, ("",), _EXO, codes="1.8"),
    _row(
        "microsoft",
        _A.SENDER_REPUTATION,
        (
            r"\(?s3140",
            r"\(?s3150",
            "network ~ ?block",
        ),
        _OUTLOOK,
        _U,
        codes="7.1",
    ),
    _row("microsoft", _A.SENDER_RATE, ("concurrent connections",), _EXO, _T, Scope.CONNECTIONS, reply=(432,)),
    _row("any", _A.RECIPIENT_UNKNOWN, ("recipient address rejected: access denied",), _EXO, _U, codes="4.1"),
    _row(
        "any",
        _A.RECIPIENT_UNKNOWN,
        ("requested action not taken: mailbox unavailable",),
        _OUTLOOK,
        codes="5.0",
        reply=(550,),
    ),
    _row("any", _A.SENDER_RATE, (r"\(?rp-00[123]",), _OUTLOOK, _T, _D),
    _row("any", _A.SENDER_REPUTATION, (r"\(?(?:sc-00[1-4]|dy-00[12]|ou-00[12])",), _OUTLOOK, _U),
    _row("any", _A.SENDER_REPUTATION, ("",), _GMAIL, _U, codes="7.28", reply=(550, 554)),
    # Yahoo and AOL
    _row("any", _A.SENDER_REPUTATION, (r"\[?(?:tss09|tss11)",), _YAHOO, _P),
    _row("any", _A.SENDER_REPUTATION, (r"\[?(?:tss?0[1-5]|ipts0[45])",), _YAHOO, _T, _D),
    _row(
        "any",
        _A.SENDER_REPUTATION,
        (
            r"\[?(?:bl2[13])\]?",
            r"\[?vs1-(?:ip|mf)",
        ),
        _YAHOO,
        _U,
    ),
    _row("any", _A.CONTENT, (r"\[?ph01",), _YAHOO),
    _row("any", _A.SENDER_AUTHENTICATION, (r"\[?au01",), _YAHOO),
    _row(
        "yahoo",
        _A.RECIPIENT_UNKNOWN,
        (
            "mail ?box (?:not found|missing|does not exist)",
            "no such account",
            "no longer valid",
            "no account",
            "has no account",
            "doesn't have",
        ),
        _YAHOO,
    ),
    _row(
        "yahoo",
        _A.RECIPIENT_DISABLED,
        (
            "disabled",
            r"554\.30",
        ),
        _YAHOO,
    ),
    _row("yahoo", _A.SENDER_AUTHENTICATION, ("unauthenticated",), _YAHOO, codes="7.9"),
    _row("yahoo", _A.CONTENT, ("",), _YAHOO, codes="7.9"),
    _row(
        "yahoo",
        _A.SENDER_ACCOUNT,
        (
            "from domain",
            "soa",
            "does not resolve",
        ),
        _YAHOO,
        scope=Scope.SENDER,
    ),
    _row("yahoo", _A.RECIPIENT_RATE, ("too quickly",), _YAHOO, _T, reply=(450,)),
    # iCloud
    _row("any", _A.SENDER_REPUTATION, (r"\[(?:cs0[12]|hm08)",), _SEEN, _U, _D),
    _row("any", _A.SENDER_AUTHENTICATION, (r"\[hme1",), _SEEN),
    _row("any", _A.INFRASTRUCTURE, (r"\[(?:hcm1|bs02)",), _SEEN, _T, _D),
    _row("apple", _A.RECIPIENT_DISABLED, ("inactive",), _SEEN, _U, codes="1.1", doubtful=True),
    # GMX, web.de, mail.com: no enhanced codes
    _row(
        "gmx",
        _A.RECIPIENT_UNKNOWN,
        (
            "mailbox unavailable",
            "unavailable mailbox",
        ),
        "GMX, postmaster page",
        reply=(550,),
    ),
    _row("gmx", _A.CONTENT, ("header based",), "GMX, postmaster page"),
    _row("gmx", _A.SENDER_REPUTATION, ("policy (?:restrictions|violations)",), "GMX, postmaster page", None, _D),
    _row("free", _A.RECIPIENT_DISABLED, ("inactivity", "inactive"), _SEEN, codes="2.1"),
    # Orange, La Poste: the last three digits count
    *(
        _row("any", about, (rf"(?:ofr|lpn|ouk)\d{{0,3}}_(?:{numbers})(?!\d)",), _SEEN, lasting, scope)
        for about, numbers, lasting, scope in (
            (_A.SENDER_REPUTATION, "10[123]|510|630", _U, None),
            (_A.SENDER_RATE, "104", _T, _D),
            (_A.INFRASTRUCTURE, "10[5789]|201|42[34]", _T, _D),
            (_A.SENDER_AUTHENTICATION, "401|517", None, None),
            (_A.SENDER_ACCOUNT, "305|40[235]|415|421", None, None),
            (_A.RECIPIENT_UNKNOWN, "416", None, None),
            (_A.MAILBOX_FULL, "417", _T, None),
            (_A.RECIPIENT_DISABLED, "42[06]", None, None),
            (_A.INFRASTRUCTURE, "505|999", _T, _D),
            (_A.CONTENT, "506|513", None, None),
            (_A.SIZE, "514", None, None),
        )
    ),
    # T-Online, Comcast, Cox, Spectrum
    _row("any", _A.SENDER_REPUTATION, (r"\((?:bl|nowl|dial)\)",), "T-Online, postmaster page", _P),
    _row("any", _A.SENDER_REPUTATION, (r"\[?(?:es|bl)0000\d\d",), "Comcast, postmaster page", _U),
    _row(
        "any",
        _A.SENDER_RATE,
        (
            r"\[?rl0000\d\d",
            r"\[?rl\d{6}",
        ),
        "Comcast, postmaster page",
        _T,
        _D,
    ),
    _row("any", _A.SENDER_AUTHENTICATION, (r"\[?dm0000\d\d",), "Comcast, postmaster page"),
    _row(
        "comcast",
        _A.RECIPIENT_DISABLED,
        (
            "recipient ~ ?unavailable",
            "unavailable recipient",
        ),
        "Comcast, postmaster page",
        codes="2.0",
    ),
    _row("any", _A.SENDER_REPUTATION, ("aup#(?:cxbl|cdrbl|ipbl)",), _SEEN, _U),
    _row("any", _A.SENDER_AUTHENTICATION, ("aup#(?:cxdns|cxsndr)",), _SEEN, scope=_ACCOUNT),
    _row("any", _A.SENDER_RATE, ("aup#(?:cxcnct|cxmxrt)",), _SEEN, _T, _D),
    _row("any", _A.SENDER_ACCOUNT, ("aup#(?:cxthrt|cxmj)",), _SEEN),
    _row("any", _A.CONTENT, ("aup#urlbl",), _SEEN),
    _row("any", _A.SENDER_AUTHENTICATION, (r"aup#[io]-?11[0-9]\d",), _SEEN, scope=_ACCOUNT),
    _row("any", _A.SENDER_RATE, (r"aup#[io]-?1(?:3|4|5[4-8])\d",), _SEEN, _T, _D),
    _row("any", _A.SENDER_REPUTATION, (r"aup#[io]-?1(?:000|2[0-5]\d)",), _SEEN, _U),
    # Russia and China
    _row("mail_ru", _A.RECIPIENT_DISABLED, ("invalid mailbox",), _SEEN),
    _row(
        "yandex",
        _A.RECIPIENT_UNKNOWN,
        (
            "no such user",
            "nonexistent user",
            "unknown user",
        ),
        _SEEN,
        codes="7.1",
    ),
    _row(
        "rambler",
        _A.RECIPIENT_DISABLED,
        (
            "inactive",
            "blocked",
        ),
        _SEEN,
    ),
    _row(
        "qq",
        _A.RECIPIENT_RATE,
        ("(?:mailbox )?unavailable(?: mailbox)? or (?:access denied|denied access)",),
        _SEEN,
        _T,
    ),
    _row(
        "any",
        _A.RECIPIENT_RATE,
        (
            "mailbox unavailable or access denied",
            "unavailable mailbox or denied access",
        ),
        _SEEN,
        _T,
    ),
    _row("qq", _A.RECIPIENT_POLICY, ("rejected by recipients?",), _SEEN),
    _row(
        "any",
        _A.SENDER_REPUTATION,
        (
            "hl:(?:rep|mep)",
            "dt:rbl",
        ),
        "NetEase, help page",
        None,
        _D,
    ),
    _row(
        "any",
        _A.SENDER_RATE,
        (
            "hl:(?:icc|ifc)",
            "mi:(?:dmc|sfq)",
            "rp:drc",
        ),
        "NetEase, help page",
        _T,
        _D,
    ),
    _row("any", _A.PROTOCOL, ("(?:mi|rp):(?:cel|ccl)",), "NetEase, help page", _T, _SESSION),
    _row("any", _A.CONTENT, ("dt:spm",), "NetEase, help page"),
    _row("zoho", _A.RECIPIENT_POLICY, ("",), _SEEN, codes="4.1"),
    # filters in front of mail servers
    _row(
        "mimecast",
        _A.RECIPIENT_UNKNOWN,
        (
            "user unknown",
            "unknown user",
            "invalid recipient",
        ),
        "Mimecast, SMTP error codes",
        reply=(503, 550),
    ),
    _row(
        "proofpoint",
        _A.RECIPIENT_UNKNOWN,
        (
            "unverified address",
            "verification",
        ),
        _SEEN,
        _T,
        codes="1.1",
        reply=(421, 450),
    ),
    _row("barracuda", _A.CONTENT, ("recipient:blocked",), _SEEN, _U),
    _row("any", _A.SENDER_RATE, (r"(?:server|service) (?:is )?busy ~ ?\(?as(?:7|4|3)\d\d",), _EXO, _T, _D),
)


def family(words: str, host: str = "", domain: str = "") -> str | None:
    """Return the family of the receiver that spoke, or None.

    Args:
        words: its text, as `texts.comparable` gives it.
        host: the name of the server that refused, where it is known.
        domain: the domain of the recipient's address.
    """
    for mark, name in MARKS:
        if mark in words:
            return name
    for value in (host, domain):
        labels = value.lower().strip(".").split(".")[-6:]
        for start in range(len(labels) - 1):
            if known := DOMAINS.get(".".join(labels[start:])):
                return known
    return None
