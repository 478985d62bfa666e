"""Words about the sender: authentication, account and standing, reputation, rates."""

from __future__ import annotations

from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope
from mailglass.refusals.patterns.sources import FIELD, GOOGLE, MICROSOFT, POSTFIX, SES
from mailglass.refusals.rows import DIALOGUE, HEARSAY, Row

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
_A = About

SENDER: Final = (
    # authentication
    Row(
        _A.SENDER_ACCOUNT,
        (
            "(?:client|user) ~ ?not authenticated ~ ?(?:to send|anonymous)",
            "unauthenticated client",
        ),
        MICROSOFT,
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        (
            r"(?:open)?spf\b",
            "sender policy framework",
            "dkim",
            "dmarc",
            "domainkeys",
        ),
        "RFC 7372",
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        (
            "unauthenticated ~ ?(?:e?-?mail|messages?|sender)",
            "(?:sender|message|mail|e-?mail|domain)s? ~ ?(?:is |are |was )?(?:unauthenticated|not authenticated)",
            "unauthenticatedsender",
            "unauthenticated, rate",
        ),
        GOOGLE,
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        (
            "required authentication level",
            "authentication (?:checks?|requirements|results?)",
        ),
        MICROSOFT,
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        (
            "ip name lookup failed",
            "reverse[ -]?(?:dns|host|look|name|map|path lookup)",
            "r-?dns",
            r"ptr\b",
            "fcrdns",
        ),
        "RFC 7372 3",
        scope=Scope.ACCOUNT,
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        ("(?:cannot|can not|could not|unable to) find ~ ?(?:reverse )?hostname",),
        POSTFIX,
        scope=Scope.ACCOUNT,
    ),
    Row(
        _A.SENDER_AUTHENTICATION,
        (
            "from ~ ?not aligned",
            "(?:not|no) (?:in )?align",
            "spoof",
        ),
        GOOGLE,
    ),
    # the account's credentials, senders and standing
    Row(
        _A.SENDER_ACCOUNT,
        (
            r"sender ~ ?(?:verif\w{1,8} failed|verify failed)",
            "not owned by",
            r"send-?as\b",
            "sendasdenied",
            "send on behalf",
        ),
        POSTFIX,
        scope=Scope.SENDER,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "not (?:allowed|authorized|permitted) to send ~ ?(?:as|from|on behalf|using)",
            "(?:no send-as permission|permissions? to send)",
            "identity ~ ?(?:not|un)",
        ),
        FIELD,
        scope=Scope.SENDER,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "(?:identit(?:y|ies)|sender) ~ ?(?:not (?:been )?(?:yet )?verified|failed the check)",
            "(?:from|e?-?mail address|domain) ~ ?(?:not (?:been )?(?:yet )?verified|failed the check)",
            "(?:unverified|not verified) (?:identity|sender|domain)",
            "not match ~ ?verified",
            "not a (?:verified )?sender (?:signature|identity)",
            "sender ~ ?unverified",
        ),
        SES,
        scope=Scope.SENDER,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "sending ~ ?(?:paused|suspended|disabled|denied|not allowed|not enabled)",
            "your ~ ?account",
            "(?:sender|sending) account",
            "submission account",
        ),
        SES,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "bad outbound sender",
            "tenant ~ ?(?:exceeded|threshold|over)",
            "over threshold",
            "outboundspamexception",
            "storedrv[.]submission[.]exception:outboundspam",
            "unusual sending activity",
            "(?:domain|account|user) ~ ?not (?:allowed|permitted) to send",
            "account ~ ?suspended for abuse",
        ),
        MICROSOFT,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:rejected|denied|refused)",
            "return-path(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:rejected|denied|refused)",
            "mail from(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:rejected|denied|refused)",
            "envelope sender(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:rejected|denied|refused)",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:invalid|unknown|unresolvable)",
            "return-path(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:invalid|unknown|unresolvable)",
            "(?:mail from|envelope sender)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?invalid",
            "mail from(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:unknown|unresolvable)",
            "envelope sender(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:unknown|unresolvable)",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?not found",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:not exist|lookup failed)",
            "return-path(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:not found|not exist|lookup failed)",
            "(?:mail from|envelope sender)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?not found",
            "mail from(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:not exist|lookup failed)",
            "envelope sender(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?(?:not exist|lookup failed)",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?must resolve",
            "return-path(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?must resolve",
            "(?:mail from|envelope sender)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?must resolve",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?null mx",
            "(?:sender|from)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?does not (?:exist|resolve|accept)",
            "(?:return-path|mail from|envelope sender)(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?null mx",
            "return-path(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?does not (?:exist|resolve|accept)",
            "mail from(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?does not (?:exist|resolve|accept)",
            "envelope sender(?:'s)? (?:e?-?mail )?(?:address|domain)?(?:'s)? ~ ?does not (?:exist|resolve|accept)",
        ),
        POSTFIX,
        scope=Scope.SENDER,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "domain of (?:the )?sender",
            "sender ~ ?null mx",
        ),
        "Sendmail, RFC 7505",
        scope=Scope.SENDER,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "(?:bad|invalid|wrong|incorrect) (?:user ?name|login|credentials?|password)",
            "(?:username|password) ~ ?not accepted",
            "authentication (?:failed|failure|unsuccessful|credentials)",
        ),
        "RFC 4954 6",
        stages=DIALOGUE,
    ),
    Row(
        _A.RECIPIENT_POLICY,
        (
            "authentication (?:is )?(?:required|needed)",
            "(?:log ?in|authenticate) first",
            "must (?:be authenticated|authenticate|log ?in)",
            "smtp auth",
        ),
        "RFC 4954 6",
        _U,
        stages=HEARSAY,
    ),
    Row(
        _A.SENDER_ACCOUNT,
        (
            "authentication (?:is )?(?:required|needed)",
            "(?:log ?in|authenticate) first",
            "must (?:be authenticated|authenticate|log ?in)",
            "smtp auth",
        ),
        "RFC 4954 6",
        stages=DIALOGUE,
    ),
    # a relay of ours that does not know us, or a receiver that does not know its own domain
    Row(
        _A.SENDER_ACCOUNT,
        (
            "relay(?:ing)? ~ ?(?:denied|not (?:permitted|allowed|authorized)|prohibited|disallowed|refused)",
            "(?:unable|not (?:permitted|allowed|authorized)) to relay",
            "no relay",
            "rcpthosts",
            "we do not relay",
        ),
        POSTFIX,
        stages=DIALOGUE,
    ),
    Row(
        _A.INFRASTRUCTURE,
        (
            "relay(?:ing)? ~ ?(?:denied|not (?:permitted|allowed|authorized)|prohibited|disallowed|refused)",
            "(?:unable|not (?:permitted|allowed|authorized)) to relay",
            "no relay",
            "rcpthosts",
            "we do not relay",
        ),
        POSTFIX,
        _U,
        stages=HEARSAY,
    ),
    # reputation; a URL of the body on a list of domains is content
    Row(
        _A.CONTENT,
        (
            "(?:url|link|uri|body|domain)s? ~ ?(?:in|on|by|listed|of) ~ ?(?:[a-z0-9.-]{0,40}(?:dbl|surbl|uribl))",
            "surbl",
            "uribl",
        ),
        "zone-mta, bounces.txt",
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "spamhaus",
            "spamcop",
            "barracudacentral",
            r"sorbs\b",
            "cloudmark",
            "invaluement",
            "manitu",
            "senderscore",
            "senderbase",
            "abuseat",
            "mailspike",
            "uceprotect",
            "nixspam",
            r"truncate\.gbudb",
        ),
        "zone-mta, bounces.txt",
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "black ?-?list",
            "block ?-?list",
            "deny ?-?list",
            r"(?:dns)?[rd]?bls?\b",
            "dnsbl",
            r"rbl\b",
            r"rbl\.",
            "listed (?:at|by|in|on)",
            "blocked using",
        ),
        "zone-mta, bounces.txt",
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "reputation",
            "(?:bad|poor|low) ~ ?score",
            "no smtp service",
            "ip ~ ?(?:based)",
            "header based",
        ),
        "GMX, postmaster page",
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "client host ~ ?(?:blocked|rejected|denied|refused)",
            "banned (?:sending )?ip",
            r"(?:ips?|netblock)\b ~ ?(?:blocked|banned|blacklisted|rejected|denied|refused|listed|not allowed)",
            r"(?:your|sender|sending|client|connecting) ~ ?(?:host|server|network)\b ~ ?(?:blocked|banned|blacklisted)",
            r"(?:your|sender|sending|client|connecting) ~ ?(?:host|server|network)\b ~ ?(?:rejected|denied|refused)",
            r"(?:your|sender|sending|client|connecting) ~ ?(?:host|server|network)\b ~ ?(?:listed|not allowed)",
            r"(?:host|server|network) (?:is|was|has been|not) ~ ?(?:blocked|banned|blacklisted|rejected|denied)",
            r"(?:host|server|network) (?:is|was|has been|not) ~ ?(?:refused|listed|not allowed|allowed)",
            "(?:host|server|network) (?:blocked|banned|blacklisted|block-?listed)",
        ),
        POSTFIX,
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "dynamic ip",
            "dial-?up",
            "open (?:relay|proxy)",
            "compromised host",
            "namespace mining",
            r"complaints?\b",
            "(?:mail|email|messages?) from your (?:ip|network) ~ ?(?:block|reject|refus|denied)",
            "(?:mail|email|messages?) from your (?:server|host|domain) ~ ?(?:block|reject|refus|denied)",
        ),
        FIELD,
    ),
    Row(
        _A.SENDER_REPUTATION,
        (
            "badmailfrom",
            "invalid recipients in excess",
            "too many (?:invalid|unknown|bad|nonexistent) (?:recipients?|users?)",
        ),
        FIELD,
    ),
)

RATES: Final = (
    Row(
        _A.RECIPIENT_RATE,
        ("(?:daily|hourly|message) ~ ?limits? ~ ?(?:of|for) (?:this|the) (?:mail ?box|recipient|user|address)",),
        FIELD,
        _T,
    ),
    Row(
        _A.RECIPIENT_RATE,
        (
            "<who> ~ ?receiving ~ ?(?:too|rate|quickly|fast|many|high)",
            "receiving ~ ?(?:mail|messages|e-?mail) ~ ?(?:at a rate|too)",
            "(?:receive|receiving) limit",
        ),
        GOOGLE,
        _T,
    ),
    Row(
        _A.RECIPIENT_RATE,
        (
            "recipient ~ ?exceeded (?:the|their|its|his) limit",
            "limit ~ ?(?:messages|number) ~ ?(?:sender )?(?:to|per) (?:this )?recipient",
            "this sender to recipient",
            "thread limit",
            "recipientthreadlimit",
        ),
        MICROSOFT,
        _T,
    ),
    Row(
        _A.RECIPIENT_RATE,
        (
            "(?:volume|messages?|mails?) ~ ?to this (?:address|recipient|mailbox|user)",
            "too many ~ ?recent",
            "many recent messages",
            "messages recently",
        ),
        FIELD,
        _T,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "(?:daily|hourly|monthly|24.hours?) ~ ?(?:quota|limits?|maximum|allowance)",
            "reached ~ ?(?:daily|hourly|monthly) ~ ?limit",
        ),
        SES,
        _T,
        Scope.ACCOUNT,
        used_up=True,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "(?:e-?mails?|messages?|mails?|recipients?|failures) per (?:hour|day|month)",
            "mail send limit",
            "outgoing ~ ?limit",
            "credits? exceeded",
            "(?:submission|sending|message|relay|customer|sender|outgoing|smtp) ~ ?quota",
            "peak ~ ?relay limit",
            "(?:submission|relay) limit",
        ),
        MICROSOFT,
        _T,
        Scope.ACCOUNT,
        used_up=True,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "(?:per-?connection|messages per (?:connection|session)) ~ ?limit",
            "(?:limit|too many|maximum) ~ ?messages ~ ?(?:per|this|in one) ~ ?(?:connection|session)",
        ),
        "Yahoo, SMTP error codes",
        _T,
        Scope.SESSION,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "(?:concurrent|simultaneous|parallel) ~ ?(?:connections?|sessions?)",
            "too many (?:connections?|sessions?)",
            "connections? ~ ?(?:limit|exceeded)",
        ),
        MICROSOFT,
        _T,
        Scope.CONNECTIONS,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "(?:maximum )?sending rate ~ ?exceeded",
            "throttl",
        ),
        SES,
        _T,
        Scope.ACCOUNT,
    ),
    Row(
        _A.SENDER_RATE,
        (
            "unusual ~ ?rate",
            "rate ?-?limit",
            "rate ~ ?exceeded",
            "exceeded ~ ?rate",
            "too many (?:messages|e?-?mails?)",
            "too fast",
            "too quickly",
            "slow down",
            "too much mail from",
            "sending ~ ?too",
        ),
        GOOGLE,
        _T,
    ),
)
