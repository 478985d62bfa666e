"""Words about the recipient: greylisting, the wishes of their side, the mailbox, and what casts doubt on it."""

from __future__ import annotations

from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope, Stage
from mailglass.refusals.patterns.sources import FIELD, GOOGLE, MICROSOFT, MIMECAST, POSTFIX, RFC5321
from mailglass.refusals.rows import HEARSAY, Row

_P, _T, _U = Lasting.PERMANENT, Lasting.TEMPORARY, Lasting.UNKNOWN
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
