"""Words about the mail itself and the way it took: content, size, protocol, infrastructure."""

from __future__ import annotations

from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope
from mailglass.refusals.patterns.sources import FIELD, GOOGLE, MICROSOFT, RFC5321
from mailglass.refusals.rows import Row

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
_A = About

MAIL: Final = (
    Row(
        _A.SIZE,
        (
            "(?:message|mail|e-?mail|data|content|header|attachment|file)s?(?:'s)? ~ ?too (?:big|large|long)",
            r"(?:message|mail|e-?mail|data)s?(?:'s)? ~ ?exceed\w{0,3} ~ ?(?:size|maximum|limit)",
            r"(?:content|header|attachment|file)s?(?:'s)? ~ ?exceed\w{0,3} ~ ?(?:size|maximum|limit)",
            r"exceed\w{0,3} ~ ?(?:size|maximum)",
            "(?:message|maximum) size",
            "size limit",
            "too long for ~ ?(?:mail ?box|recipient)",
            "too large",
        ),
        "RFC 3463 X.3.4",
    ),
    Row(
        _A.CONTENT,
        (
            "spam",
            "virus",
            "malware",
            "phish",
            "unsolicited",
            "quarantin",
            "suspicious",
            "malicious",
            "dangerous",
            "infected",
            "trojan",
            "(?:message|mail|email|mime|your) content",
            "content ~ ?(?:block|reject|refus|denied|denial|filter|not (?:allowed|accepted)|policy|quarantin)",
            "attachment",
            "bare (?:lf|line ?-?feeds?|newline)",
            "(?:url|link)s? ~ ?(?:in|block|list)",
            "dt:spm",
        ),
        FIELD,
    ),
    Row(
        _A.CONTENT,
        (
            r"(?:duplicate|multiple|missing|invalid|malformed|bad|no) ~ ?(?:headers?|message-?id|mime|from:)",
            "(?:duplicate|multiple) from",
            "malformed ~ ?message",
            "rfc ?5322",
            "rfc ?2822",
            "not rfc",
        ),
        GOOGLE,
    ),
    Row(
        _A.PROTOCOL,
        (
            "too many recipients?",
            "recipients? (?:count|limit)",
            "(?:number|maximum|count) of recipients",
        ),
        "RFC 5321 4.5.3.1.10",
        _T,
        Scope.SESSION,
    ),
    Row(
        _A.PROTOCOL,
        (
            "no ipv6",
            "ipv6 ~ ?(?:not|block|reject)",
            "not ~ ?ipv6",
        ),
        MICROSOFT,
        scope=Scope.SESSION,
    ),
    Row(
        _A.PROTOCOL,
        (
            "requiretls",
            "smtputf8",
            "utf-?8 ~ ?address",
            "internationali[sz]ed",
            "non-?ascii",
        ),
        "RFC 6531, RFC 8689",
        scope=Scope.MAIL,
    ),
    Row(
        _A.PROTOCOL,
        (
            "starttls",
            "(?:tls|encryption|ssl) ~ ?(?:required|needed|missing|mandatory|not used|lack)",
            r"(?:require|need|missing|no|without|lack of)\w{0,2} ~ ?(?:tls|encryption|security)",
        ),
        "RFC 3207 4",
        scope=Scope.ACCOUNT,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "tls ~ ?(?:unavailable|not available|failed|failure|temporar)",
            "tlsa",
            r"dane\b",
            "dnssec",
            "certificate",
        ),
        "RFC 3207 4",
    ),
    Row(_A.PROTOCOL, (r"(?:helo|ehlo)\b",), "RFC 5321 4.1.1.1", scope=Scope.ACCOUNT),
    Row(
        _A.PROTOCOL,
        (
            "(?:unsupported|unknown|unrecogni[sz]ed) ~ ?(?:parameter|argument|command|sequence|syntax|option)",
            "(?:invalid|bad|wrong) ~ ?(?:parameter|argument|command|sequence|option)",
            "(?:invalid|bad|wrong) (?:command |parameter |argument )?syntax",
            "command (?:order|sequence|not|out)",
            "syntax error",
            "bad sequence",
            "not implemented",
            "pipelin",
            "synchroni[sz]ation",
            "out of (?:sequence|order)",
            "auth ~ ?type",
        ),
        RFC5321,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "hop ?-?count",
            "too many (?:hops|received)",
            "(?:mail )?loop",
        ),
        "RFC 3463 X.4.6",
        scope=Scope.MAIL,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "(?:message|delivery|time|queue|retry|ttl|lifetime) ~ ?expired",
            "^expired",
            "retry time ?out",
            "too old",
            "could not be delivered ~ ?(?:hours|days)",
        ),
        "RFC 3463 X.4.7",
        _U,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "licen[cs]e expired",
            "system storage",
            "(?:system|server|host|domain|service|we|currently|now) ~ ?not accepting",
            "not accepting ~ ?(?:now|connections|network)",
            "shutting down",
            "system ~ ?(?:busy|load)",
            "queue (?:quota|full)",
            "server ~ ?(?:busy|overload|down)",
            "service ~ ?(?:not available|unavailable|shut)",
            "connection (?:refused|reset|timed|lost|dropped)",
            "no route",
            "auth server",
            "host accepts no mail",
        ),
        RFC5321,
        scope=Scope.DESTINATION,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "local error",
            "local problem",
            "internal ~ ?error",
            r"(?:dns|name ?server|lookup) ~ ?(?:error|fail\w{1,4}|timeout)",
            "servfail",
            "(?:system|server|temporary) (?:error|failure|problem)",
            "resources",
            r"connect\w{0,3} ~ ?time(?:d )?out",
            "timed out",
        ),
        RFC5321,
    ),
)
