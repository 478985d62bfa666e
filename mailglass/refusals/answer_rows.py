"""Providers' own codes in answers to a send. The first row of a provider that matches an answer counts."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from mailglass.mail.refusal import About, Lasting, Scope
from mailglass.refusals.answers import ANY, Answer

_P, _T = Lasting.PERMANENT, Lasting.TEMPORARY
_A = About
_ANY: Final = frozenset({ANY})
# what an API answers to a request that is at fault; 429 is about the rate whatever is said beside it
_CLIENT: Final = frozenset(range(400, 500)) - {429}
_NOT_429: Final = frozenset(range(100, 600)) - {429}


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _at(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


_POSTMARK: Final = "Postmark, API error codes"
# of a whole request, or of one mail of a batch, whose request is answered 200
_POSTMARKS: Final = _at(200, 401, 422)

POSTMARK: Final[tuple[Answer, ...]] = (
    Answer(_A.SENDER_ACCOUNT, _P, _POSTMARK, _codes("10"), _POSTMARKS),  # bad or missing server token
    Answer(_A.INFRASTRUCTURE, _T, _POSTMARK, _codes("100"), _POSTMARKS),  # maintenance
    # sender signature not found, or not confirmed
    Answer(_A.SENDER_ACCOUNT, _P, _POSTMARK, _codes("400 401"), _POSTMARKS, scope=Scope.SENDER),
    Answer(_A.PROTOCOL, _P, _POSTMARK, _codes("402 403 409 410"), _POSTMARKS),  # JSON, mails in a batch
    Answer(_A.SENDER_RATE, _T, _POSTMARK, _codes("405"), _POSTMARKS, used_up=True),  # out of credits
    Answer(_A.RECIPIENT_POLICY, _P, _POSTMARK, _codes("406"), _POSTMARKS, listed=True),  # inactive recipient
    Answer(_A.CONTENT, _P, _POSTMARK, _codes("411"), _POSTMARKS),  # forbidden attachment type
    Answer(_A.SENDER_ACCOUNT, _P, _POSTMARK, _codes("412 413"), _POSTMARKS),  # pending approval, may not send
    # templates
    Answer(_A.CONTENT, _P, _POSTMARK, _codes("1101") | {str(code) for code in range(1109, 1150)}, _POSTMARKS),
    Answer(_A.SENDER_ACCOUNT, _P, _POSTMARK, _codes("1235 1236"), _POSTMARKS),  # message stream
    Answer(_A.UNKNOWN, _P, _POSTMARK, _codes("300"), _POSTMARKS),  # invalid e-mail request
    Answer(_A.UNKNOWN, _P, _POSTMARK, _ANY, _POSTMARKS),
)

_SES: Final = "Amazon SES API v2, SendEmail errors"
_AWS: Final = "AWS, common errors"
_SES_RATE: Final = _codes("TooManyRequestsException ThrottlingException Throttling")

SES: Final[tuple[Answer, ...]] = (
    Answer(
        _A.SENDER_RATE, _T, _SES, _SES_RATE, says=("daily message quota exceeded",), used_up=True, name="daily_quota"
    ),
    Answer(_A.SENDER_RATE, _T, _SES, _SES_RATE),
    Answer(_A.SENDER_RATE, _T, _SES, _codes("LimitExceededException"), used_up=True),
    Answer(
        _A.INFRASTRUCTURE,
        _T,
        _SES,
        _codes("InternalServiceErrorException ServiceUnavailable ServiceUnavailableException"),
    ),
    Answer(_A.SENDER_ACCOUNT, _P, _SES, _codes("AccountSuspendedException SendingPausedException")),
    Answer(_A.SENDER_ACCOUNT, _P, _SES, _codes("MailFromDomainNotVerifiedException"), scope=Scope.SENDER),
    Answer(_A.SENDER_ACCOUNT, _P, _SES, _codes("NotFoundException")),  # the configuration set, the tenant
    Answer(
        _A.SENDER_ACCOUNT,
        _P,
        _SES,
        _codes("MessageRejected"),
        says=("email address is not verified",),
        scope=Scope.SENDER,
        name="unverified",
    ),
    Answer(_A.SENDER_ACCOUNT, _P, _SES, _codes("MessageRejected"), says=("sending paused",), name="sending_paused"),
    Answer(_A.UNKNOWN, _P, _SES, _codes("MessageRejected BadRequestException")),
    Answer(
        _A.SENDER_ACCOUNT,
        _P,
        _AWS,
        _codes(
            "AccessDenied AccessDeniedException ExpiredToken ExpiredTokenException IncompleteSignature"
            " IncompleteSignatureException InvalidClientTokenId InvalidSignatureException MissingAuthenticationToken"
            " MissingAuthenticationTokenException NotAuthorized OptInRequired RequestExpired SignatureDoesNotMatch"
            " UnrecognizedClientException"
        ),
    ),
    # without a code of SES's: `endpoint_url` leads elsewhere
    Answer(_A.PROTOCOL, _P, _SES, statuses=_at(404), scope=Scope.ACCOUNT),
)

_SENDGRID: Final = "SendGrid, v3 API errors"

SENDGRID: Final[tuple[Answer, ...]] = (
    # 401 both for a bad key and for a used-up allowance: only this text tells them apart
    Answer(
        _A.SENDER_RATE,
        _T,
        _SENDGRID,
        statuses=_at(401, 403),
        says=("maximum credits exceeded",),
        used_up=True,
        name="credits",
    ),
    Answer(
        _A.SENDER_ACCOUNT,
        _P,
        _SENDGRID,
        statuses=_at(400, 403),
        says=("verified sender identity",),
        scope=Scope.SENDER,
    ),
    Answer(_A.SENDER_ACCOUNT, _P, _SENDGRID, statuses=_at(451)),  # another region's account
    # the API's own word that the mail was not taken; other 5xx come from gateways in front of it
    Answer(_A.INFRASTRUCTURE, _T, _SENDGRID, statuses=_at(500)),
)

_MAILGUN: Final = "Mailgun, API reference"

MAILGUN: Final[tuple[Answer, ...]] = (
    # of the account or its domain, and not of the mail
    Answer(
        _A.SENDER_ACCOUNT,
        _P,
        _MAILGUN,
        statuses=_at(400),
        says=("for test purposes", "authorized recipients", "not allowed to send", "please activate your"),
        name="not_allowed",
    ),
    Answer(_A.SENDER_ACCOUNT, _P, _MAILGUN, statuses=_at(404)),  # no such domain, or not in this region
    # at a path that it does not know it answers 200
    Answer(_A.PROTOCOL, _P, _MAILGUN, _codes("wrong_url"), scope=Scope.ACCOUNT),
    # the API's own word that the mail was not taken; other 5xx come from gateways in front of it
    Answer(_A.INFRASTRUCTURE, _T, _MAILGUN, statuses=_at(500)),
)

_BREVO: Final = "Brevo, API reference"

BREVO: Final[tuple[Answer, ...]] = (
    Answer(_A.PROTOCOL, _P, _BREVO, _codes("missing_parameter duplicate_parameter method_not_allowed"), _CLIENT),
    Answer(_A.UNKNOWN, _P, _BREVO, _codes("invalid_parameter out_of_range document_not_found not_acceptable"), _CLIENT),
    Answer(_A.SENDER_ACCOUNT, _P, _BREVO, _codes("unauthorized account_under_validation permission_denied"), _CLIENT),
    Answer(_A.SENDER_RATE, _T, _BREVO, _codes("not_enough_credits"), _CLIENT, used_up=True),
    # the API's own word; a 500 without a code may come from a gateway in front of it
    Answer(_A.INFRASTRUCTURE, _T, _BREVO, _ANY, _at(500)),
)

_RESEND: Final = "Resend, API errors"

RESEND: Final[tuple[Answer, ...]] = (
    Answer(_A.UNKNOWN, _P, _RESEND, _codes("validation_error"), _at(400, 422)),
    # the domain is not verified, or the sender may only write to its own address
    Answer(_A.SENDER_ACCOUNT, _P, _RESEND, _codes("validation_error"), _at(403), scope=Scope.SENDER),
    Answer(_A.SENDER_ACCOUNT, _P, _RESEND, _codes("missing_api_key restricted_api_key"), _at(401)),
    Answer(_A.SENDER_ACCOUNT, _P, _RESEND, _codes("invalid_api_key"), _at(403)),
    Answer(_A.PROTOCOL, _P, _RESEND, _codes("invalid_idempotency_key"), _at(400)),
    Answer(_A.PROTOCOL, _P, _RESEND, _codes("not_found"), _at(404)),
    Answer(_A.PROTOCOL, _P, _RESEND, _codes("method_not_allowed"), _at(405)),
    # the same delivery was sent with other bytes: asking again can never help
    Answer(_A.PROTOCOL, _P, _RESEND, _codes("invalid_idempotent_request"), _at(409)),
    # the first request is still being worked on: ask again soon, with the same key; no other mail is concerned
    Answer(_A.SENDER_RATE, _T, _RESEND, _codes("concurrent_idempotent_requests"), _at(409), scope=Scope.MAIL),
    Answer(_A.CONTENT, _P, _RESEND, _codes("invalid_attachment"), _at(422)),
    Answer(
        _A.PROTOCOL,
        _P,
        _RESEND,
        _codes("invalid_from_address invalid_access invalid_parameter invalid_region missing_required_field"),
        _at(422),
    ),
    Answer(_A.SENDER_RATE, _T, _RESEND, _codes("rate_limit_exceeded"), _at(429)),
    Answer(_A.SENDER_RATE, _T, _RESEND, _codes("daily_quota_exceeded monthly_quota_exceeded"), _at(429), used_up=True),
    Answer(_A.UNKNOWN, _P, _RESEND, _codes("security_error"), _at(451)),
    # the API's own word; a 500 without it may come from a gateway in front of it
    Answer(_A.INFRASTRUCTURE, _T, _RESEND, _codes("application_error internal_server_error"), _at(500)),
)

_MAILJET: Final = "Mailjet, Send API v3.1 errors"

MAILJET: Final[tuple[Answer, ...]] = (
    Answer(_A.SENDER_ACCOUNT, _P, _MAILJET, _codes("mj-0001 mj-0015")),  # key suspended, bad credentials
    # the key may not use Sender, the sender is not validated, From is not authorised
    Answer(_A.SENDER_ACCOUNT, _P, _MAILJET, _codes("send-0006 send-0007 send-0008"), scope=Scope.SENDER),
    # errors that Mailjet words itself: no gateway has lost the answer of a server that accepted
    Answer(_A.INFRASTRUCTURE, _T, _MAILJET, _ANY, frozenset(range(500, 600))),
    # another address than the API's
    Answer(_A.PROTOCOL, _P, _MAILJET, statuses=_at(404, 405), scope=Scope.ACCOUNT),
)

_SPARKPOST: Final = "SparkPost, API errors"

SPARKPOST: Final[tuple[Answer, ...]] = (
    Answer(_A.SENDER_RATE, _T, _SPARKPOST, statuses=_at(429)),
    # permission denied, tenant or user not authorised, no licence, generation not configured
    Answer(_A.SENDER_ACCOUNT, _P, _SPARKPOST, _codes("1100 1303 1304 1601 1910")),
    Answer(_A.INFRASTRUCTURE, _T, _SPARKPOST, _codes("1502 1900")),  # resources, generation not available
    # generation rejected: for the recipient only where it says so
    Answer(_A.RECIPIENT_POLICY, _P, _SPARKPOST, _codes("1902"), says=("suppress",), listed=True),
    Answer(_A.UNKNOWN, _P, _SPARKPOST, _codes("1902")),
    Answer(_A.SENDER_RATE, _T, _SPARKPOST, _codes("2101 2102 2103 3005"), used_up=True),  # hour, day, sandbox
    Answer(_A.SENDER_ACCOUNT, _P, _SPARKPOST, _codes("7000 7001"), scope=Scope.SENDER),  # domain blocked, not set up
    # a 500 in SparkPost's own words; other 5xx come from gateways in front of it
    Answer(_A.INFRASTRUCTURE, _T, _SPARKPOST, _ANY, _at(500)),
    Answer(_A.SENDER_RATE, _T, _SPARKPOST, statuses=_at(420), used_up=True),
    # one recipient of a transmission that was not taken for any
    Answer(_A.UNKNOWN, _P, _SPARKPOST, statuses=range(200, 300)),
)

_MANDRILL: Final = "Mailchimp Transactional, API errors"
_REJECTS: Final = "Mailchimp Transactional, reject reasons"

MANDRILL: Final[tuple[Answer, ...]] = (
    # the name goes before the status, which is 500 for all of them on older servers
    Answer(_A.SENDER_ACCOUNT, _P, _MANDRILL, _codes("Invalid_Key Unknown_Subaccount Unknown_Pool"), _NOT_429),
    Answer(_A.SENDER_RATE, _T, _MANDRILL, _codes("PaymentRequired"), _NOT_429, used_up=True),
    Answer(_A.CONTENT, _P, _MANDRILL, _codes("Unknown_Template"), _NOT_429),
    Answer(_A.UNKNOWN, _P, _MANDRILL, _codes("ValidationError"), _NOT_429),
    Answer(_A.SENDER_RATE, _T, _MANDRILL, _codes("RateLimited"), _NOT_429),
    Answer(_A.INFRASTRUCTURE, _T, _MANDRILL, _codes("ServiceUnavailable GeneralError"), _NOT_429),
    # without a name that is known: another address than the API's
    Answer(_A.PROTOCOL, _P, _MANDRILL, statuses=_at(404), scope=Scope.ACCOUNT),
    # why one recipient was rejected at once
    Answer(_A.RECIPIENT_UNKNOWN, _P, _REJECTS, _codes("hard-bounce"), _at(200), listed=True),
    Answer(_A.RECIPIENT_DISABLED, _T, _REJECTS, _codes("soft-bounce"), _at(200), listed=True),
    Answer(_A.RECIPIENT_POLICY, _P, _REJECTS, _codes("spam unsub custom"), _at(200), listed=True),
    Answer(_A.RECIPIENT_UNKNOWN, _P, _REJECTS, _codes("invalid"), _at(200), certain=True),
    Answer(_A.CONTENT, _P, _REJECTS, _codes("rule"), _at(200)),
    Answer(_A.SENDER_ACCOUNT, _P, _REJECTS, _codes("invalid-sender unsigned"), _at(200), scope=Scope.SENDER),
    Answer(_A.SENDER_ACCOUNT, _P, _REJECTS, _codes("test-mode-limit"), _at(200)),
    Answer(_A.UNKNOWN, _P, _REJECTS, _ANY, _at(200), name="rejected"),
)

ANSWERS: Final = MappingProxyType(
    {
        "brevo": BREVO,
        "mailgun": MAILGUN,
        "mailjet": MAILJET,
        "mandrill": MANDRILL,
        "postmark": POSTMARK,
        "resend": RESEND,
        "sendgrid": SENDGRID,
        "ses": SES,
        "sparkpost": SPARKPOST,
    }
)
"""By the provider's name in settings."""
