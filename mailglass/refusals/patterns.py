"""Words that any receiver may use, in the order in which they count.

Greylisting and the wishes of the recipient's side come first, then what is said about the sender, then rates, then the
mailbox, then the mail. Texts in other languages than English are those of receivers that were met.
"""

from __future__ import annotations

from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope, Stage
from mailglass.refusals.rows import DIALOGUE, HEARSAY, Row

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN

FIELD: Final = "seen in the field (smtp-field-manual)"
POSTFIX: Final = "Postfix, access(5) and smtpd"
EXIM: Final = "Exim, default configuration"
RFC5321: Final = "RFC 5321 4.2.3"
GOOGLE: Final = "Google, Gmail SMTP errors and codes"
MICROSOFT: Final = "Microsoft, NDRs and SMTP errors in Exchange Online"
SES: Final = "Amazon SES, SMTP response codes"
MIMECAST: Final = "Mimecast, SMTP error codes"

_A = About

GREYLISTING: Final = (
    Row(_A.GREYLISTING, ("gr[ae]y ?-?list", "postgr[ae]y"), "postgrey, SQLgrey, greylistd, rspamd"),
    Row(_A.GREYLISTING, (r"(?:via|using|by) ~ ?gr[ae]y[a-z0-9-]{0,20}\.",), "block lists named grey (zone-mta)"),
    Row(_A.GREYLISTING, ("internal resources? (?:are |is )?(?:temporarily )?(?:unavailable|not available)",), MIMECAST),
    Row(_A.GREYLISTING, ("(?:please )?come back later",), "Yandex, seen in the field"),
)

RECIPIENT_POLICY: Final = (
    Row(
        _A.RECIPIENT_POLICY,
        ("(?:ip )?not (?:in )?(?:the |a )?(?:allow|white)-? ?list",),
        GOOGLE,
        scope=Scope.DESTINATION,
    ),
    Row(_A.RECIPIENT_POLICY, ("recipient ~ ?(?:has |have )?blocked (?:this|the|your|mail)",), FIELD),
    Row(_A.RECIPIENT_POLICY, ("blocked by (?:the )?(?:recipient|user)",), FIELD),
    Row(_A.RECIPIENT_POLICY, ("(?:user list|user entry|envelope blocked|anti-?spoofing)",), MIMECAST),
    Row(
        _A.RECIPIENT_POLICY,
        ("(?:sender|you) ~ ?not (?:allowed|authorized|permitted) ~ ?(?:group|recipient|list)",),
        MICROSOFT,
    ),
    Row(
        _A.RECIPIENT_POLICY,
        ("not (?:allowed|authorized|permitted) to send to (?:this|the) (?:recipient|group|list|address)",),
        MICROSOFT,
    ),
    Row(
        _A.RECIPIENT_POLICY,
        (
            "(?:only|just) ~ ?internal senders",
            "internal senders only",
            "(?:closed to|restricted to|external) ~ ?senders",
        ),
        MICROSOFT,
    ),
    Row(
        _A.RECIPIENT_POLICY,
        (
            r"resolver\.rst\.",
            r"transport\.rules",
            "organi[sz]ation(?:'s|al)? policy",
            "delivery not authorized",
            "public folder",
        ),
        MICROSOFT,
    ),
    Row(
        _A.RECIPIENT_POLICY,
        (
            "customer(?:'s)? (?:block )?list",
            "tenant ~ ?block",
            "blocked by ~ ?(?:organi[sz]ation|tenant)",
        ),
        MICROSOFT,
    ),
    Row(_A.RECIPIENT_POLICY, ("(?:every|all) recipients?(?: address(?:es)?)? (?:are )?rejected",), MICROSOFT, _U),
    Row(
        _A.RECIPIENT_POLICY,
        (
            "(?:recipient|domain)(?:'s)? (?:domain |organi[sz]ation )?policy ~ ?gcdp",
            "gcdp",
        ),
        GOOGLE,
    ),
    Row(_A.RECIPIENT_POLICY, ("does ?n[o']t (?:want|accept) ~ ?(?:mail|messages) from (?:you|this sender)",), FIELD),
)

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

MAILBOX: Final = (
    Row(
        _A.INFRASTRUCTURE,
        ("(?:insufficient|not enough|out of|no) system (?:storage|resources|space)",),
        "RFC 3463 X.3.1",
        _T,
        Scope.DESTINATION,
    ),
    Row(
        _A.MAILBOX_FULL,
        ("(?:over quota|full|quota) and inactive",),
        GOOGLE,
        _P,
        codes=frozenset({"2.2"}),
        doubtful=True,
    ),
    Row(
        _A.MAILBOX_FULL,
        (
            "<mailbox> ~ ?(?:is |are )?(?:full|over ?-?quota|exhausted|exceeded ~ ?(?:quota|limit|storage|size))",
            "full ~ ?(?:mail ?box|inbox|folder)",
        ),
        "RFC 3463 X.2.2",
        _T,
    ),
    Row(
        _A.MAILBOX_FULL,
        (
            "over ?-? ?(?:its |the |their |his )?(?:disk |storage |mail )?quota",
            "overquota",
            r"quota ~ ?(?:exceeded|full|reached|violat\w{0,5}|exhausted)",
            r"exceed\w{0,3} ~ ?quota",
            "quota_?exceeded",
            "mailbox_?full",
            "disk quota",
        ),
        "RFC 3463 X.2.2",
        _T,
    ),
    Row(
        _A.MAILBOX_FULL,
        (
            "(?:out of|insufficient|not enough|no|lack of) ~ ?(?:storage|space)(?! on system)",
            "storage ~ ?(?:full|limit|exhausted|exceeded|allocation)",
            "(?:mail ?box|inbox|folder) ~ ?(?:size )?(?:limit|exceed)",
        ),
        "RFC 3463 X.2.2",
        _T,
        stages=frozenset({Stage.RCPT, Stage.DATA, Stage.DOT, *HEARSAY}),
    ),
    Row(
        _A.MAILBOX_FULL,
        (
            "bo[iî]te ~ ?pleine",
            "quota ~ ?d[ée]pass[ée]",
            "postfach ~ ?(?:voll|überfüllt)",
            "speicherplatz",
            "kontingent",
            "buz[oó]n ~ ?lleno",
            "cuota ~ ?(?:excedida|superada)",
            "casella ~ ?piena",
            "quota superata",
            "caixa ~ ?cheia",
            "cota (?:excedida|ultrapassada)",
            r"mailbox ~ ?vol\b",
            r"postvak ~ ?vol\b",
            "skrzynka ~ ?(?:pełna|przepełniona)",
            "ящик ~ ?(?:переполнен|заполнен)",
            "превышена квота",
            "kotas?ı",
            "kutusu dolu",
            "schránka ~ ?plná",
            "postilaatikko ~ ?täynnä",
            r"brevlåda\w{0,3} ~ ?full",
            "megtelt",
            "πλήρες",
        ),
        "receivers in their own languages",
        _T,
    ),
    Row(
        _A.MAILBOX_FULL,
        (
            r"(?<!queue )(?:quotas?|cuota|cota|kvot[aey]?|kiintiö|kontingent|kota)\b",
            r"(?:llen[oa]|pleine?|voll|überfüllt|pien[oa]|chei[oa]|vol|dolu|fuld|fullt|plná|plný|täynnä|megtelt)\b",
            r"(?:pełn[aey]|przepełnion\w{1,2}|переполнен\w{0,2}|заполнен\w{0,2}|пълна|квота|квоту|πλήρ\w{1,3})\b",
        ),
        "receivers in their own languages",
        _T,
    ),
    Row(
        _A.MAILBOX_FULL,
        ("[^ ]{0,40}(?:邮箱已满|邮箱空间不足|空间不足|容量|メールボックスがいっぱい|용량|메일함이 가득)",),
        "receivers in their own languages",
        _T,
    ),
    Row(
        _A.RECIPIENT_DISABLED,
        (
            "<who> ~ ?temporarily (?:disabled|locked|suspended|deactivated|blocked)",
            "<who> ~ ?(?:disabled|locked|suspended|deactivated|blocked) temporarily",
        ),
        FIELD,
        _T,
    ),
    Row(
        _A.RECIPIENT_DISABLED, ("policy ~ ?on (?:the )?target address",), "Yandex, seen in the field", _U, doubtful=True
    ),
    Row(
        _A.RECIPIENT_DISABLED,
        (
            r"<who> ~ ?(?:disabled|deactivated|suspended|inactive|in-?activ\w{1,6}|closed|locked)",
            "<who> ~ ?(?:terminated|deleted|removed|discontinued)",
            "<who> ~ ?(?:expired|not active)",
            "<who> ~ ?(?:no longer (?:active|in use|available|on (?:(?:this|the) )?server)|archived)",
        ),
        "RFC 3463 X.2.1",
    ),
    Row(
        _A.RECIPIENT_DISABLED,
        (
            "(?:disabled|deactivated) (?:mail ?box|account|user|recipient|address|e-?mail)",
            "(?:inactive|suspended|terminated) (?:mail ?box|account|user|recipient|address|e-?mail)",
            "account ?disabled",
            "accountdisabled",
        ),
        "RFC 3463 X.2.1",
    ),
    Row(
        _A.RECIPIENT_DISABLED,
        (
            "<who> ~ ?(?:moved|new owner|changed owner)",
            "(?:has moved|moved to|no longer at|no longer (?:employed|works))",
            "new owner",
        ),
        "RFC 3463 X.1.6, RFC 7293",
    ),
    Row(
        _A.RECIPIENT_DISABLED,
        (
            "<who> ~ ?not accepting ~ ?(?:e-?mail|mail|messages)",
            "<who> (?:that )?you tried to reach ~ ?(?:disabled|inactive|deactivated|closed|suspended)",
            "inactivity",
        ),
        "RFC 3463 X.2.1",
    ),
    Row(_A.RECIPIENT_UNKNOWN, ("<who> not local",), RFC5321, _U, proves=False),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "(?:recipient|address|user) ~ ?(?:unverified|verification (?:pending|in progress))",
            "(?:unverified|unverifiable) (?:address|recipient)",
            "ambiguous",
        ),
        POSTFIX,
        _U,
        proves=False,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            r"(?:unknown|no such|no|bad|malformed|illegal|invalid) (?:local |destination |virtual |final )?<who>\b",
            r"(?:unknown|no such|invalid) (?:e-?mail |mail )<who>\b",
            r"non-?exist(?:ent|ing) (?:local |e-?mail |mail )?<who>\b",
            r"(?:unrout|undeliver|unresolv)e?able (?:e-?mail |mail )?<who>\b",
        ),
        RFC5321,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "<who> ~ ?(?:unknown|not (?:be )?found|does ?n[o']?[ ']?t (?:exist|have)|not exist)",
            "<who> ~ ?(?:do(?:es)? not exist|nonexistent|non-existent|nonexisting)",
            "<who> ~ ?(?:not known|missing|not (?:a )?(?:valid|known|recogni[sz]ed|listed)|invalid)",
            r"<who> ~ ?(?:unrout\w{2,5}|could not be found|cannot be found|has no account|doesn't have)",
        ),
        RFC5321,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "(?:ex)?recip(?:ient)?notfound",
            "<who> (?:that )?you (?:tried|are trying) to (?:reach|contact) ~ ?(?:not exist|not (?:be )?found|unknown)",
            "(?:recipient|mailbox|user|account) missing",
            "not a (?:valid|known|recogni[sz]ed|registered) (?:local |e-?mail |mail )?<who>",
            "nosuchuser",
            "no account",
            "has no account",
            "not our customer",
            "misspelled",
            "user unknown",
            "unknown ~ ?local ?-?part",
            "address lookup failed",
            "no ~ ?by that name",
            "not a known user",
            "dd this user",
        ),
        FIELD,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "(?:unknown|no such) (?:host|domain|mail server)",
            "(?:host|domain|mail server) ~ ?(?:unknown|not found|does not exist|not exist)",
            "bad destination (?:system|host|domain)",
        ),
        "RFC 3463 X.1.2, Sendmail",
        codes=frozenset({"1.2"}),
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "null mx",
            "nullmx",
            "(?:recipient|destination) domain ~ ?(?:unknown|not found|does not (?:exist|accept)|invalid)",
            "domain (?:does not|doesn't) accept (?:e-?)?mail",
        ),
        "RFC 7505",
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "(?:dns )?domain (?:is )?missing",
            "no mail host",
            "nxdomain",
            "host or domain name not found",
        ),
        "RFC 1035",
        doubtful=True,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        ("^(?:unable to (?:get|find) (?:mx|an mx)|no mx (?:for|records?|hosts?))",),
        "SendGrid, Mailgun and Brevo, in their own words",
        stages=HEARSAY,
        doubtful=True,
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        (
            "destinataire ~ ?(?:inconnu|inexistant|invalide|introuvable)",
            "utilisateur ~ ?inconnu",
            "adresse ~ ?(?:inconnue|inexistante|invalide)",
            r"empf(?:ä|ae)nger\w{0,8} ~ ?(?:unbekannt|existiert nicht|nicht gefunden)",
            "benutzer ~ ?(?:unbekannt|existiert nicht)",
            "unbekannter? (?:empfänger|empfaenger|benutzer|adresse)",
            "postfach ~ ?(?:existiert nicht|nicht (?:gefunden|vorhanden))",
            "usuario ~ ?(?:desconocido|no existe|inexistente)",
            "destinatario ~ ?(?:desconocido|no existe|inexistente|sconosciuto|non esiste)",
            "utente ~ ?(?:sconosciuto|inesistente|non esiste)",
            "usuário ~ ?(?:desconhecido|inexistente|não existe)",
            "destinatário ~ ?(?:desconhecido|inexistente|não existe)",
            "onbekende (?:gebruiker|ontvanger)",
            "gebruiker ~ ?(?:onbekend|bestaat niet)",
            "(?:użytkownik|odbiorca|skrzynka|adres) ~ ?(?:nie istnieje|nieznany)",
            "пользователь ~ ?(?:не найден|не существует)",
            "нет такого",
            "(?:ящик|адрес) ~ ?не существует",
            "kullanıcı ~ ?(?:bulunamadı|yok)",
            "neznámý uživatel",
        ),
        "receivers in their own languages",
    ),
    Row(
        _A.RECIPIENT_UNKNOWN,
        ("[^ ]{0,40}(?:用户不存在|收件人不存在|邮箱不存在|宛先不明|ユーザーが存在しません|존재하지 않는)",),
        "receivers in their own languages",
    ),
)

DOUBTS: Final = Row(
    _A.UNKNOWN,
    (
        r"senders?\b",
        "from (?:user|header|address|field|domain|line)",
        "(?:reply-to|return-path|mail from|envelope from)",
        "(?:your|my) (?:e-?mail )?(?:address|account|domain|ip|host|server|network)",
        r"(?:blocked|barred|policy|authenticat\w{1,6}|content|quota|(?:out|in)bound|outgoing|sending)\b",
        "(?:ldap|directory|database|backend) ~ ?(?:error|fail|unavailable|unreachable|time)",
        "not (?:permitted|allowed|authori[sz]ed)",
        r"(?:block|safe|deny|black|white|allow) ?-?lists?\b",
        r"(?:unable|cannot|could not|failed|failure) (?:to )?(?:verify|look ?up|reach|connect)",
    ),
    "receivers that say several things at once",
)
"""Words that may be about somebody else than the recipient who is said to be unknown or disabled beside them."""

REFUSED_ADDRESS: Final = (
    # without a reason: Cisco's and others' 5.1.0
    Row(
        _A.RECIPIENT_UNKNOWN,
        ("(?:recipient |e-?mail )?address (?:refused|rejected)",),
        FIELD,
        _U,
        codes=frozenset({"1.0"}),
        proves=False,
    ),
)

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

ORDER: Final = (*GREYLISTING, *RECIPIENT_POLICY, *SENDER, *RATES, *MAILBOX, *MAIL, *REFUSED_ADDRESS)
"""All of them; the first one that speaks tells the subject."""
