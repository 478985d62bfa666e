"""Amazon SES: what reaches the call, and what its answers mean."""

from __future__ import annotations

import email
import email.policy
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.errors import ConfigError, ProviderCallError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.registry import provider_class
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.ses.exchange import call_once
from mailglass.providers.ses.sending import decode_tag, outcome_of, send_parameters
from mailglass.providers.suppression_list import ListedAddress
from mailglass.refusals.answer_rows import SES
from mailglass.rendering import mime
from mailglass.settings import Secret, build_options
from tests.refusal_rows import codes_of

O = OutcomeClass  # noqa: E741
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MAIL = Outgoing(
    delivery_id=ID,
    tenant="acme",
    stream="transactional",
    recipient=Address("ada@example.com"),
    sender=Address("shop@example.org"),
    subject="Your order",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    text="Thank you.",
)
PLAIN = SESOptions(region="eu-west-1")
KEYS: dict[str, Any] = {"region": "eu-west-1", "access_key_id": Secret("AKIA"), "secret_access_key": Secret("s")}


def parameters(**change: Any) -> dict[str, Any]:
    return send_parameters(replace(MAIL, **change), PLAIN)


def raw(**change: Any) -> EmailMessage:
    found = email.message_from_bytes(parameters(**change)["Content"]["Raw"]["Data"], policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def tags(**change: Any) -> dict[str, str]:
    return {tag["Name"]: tag["Value"] for tag in parameters(**change)["EmailTags"]}


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("ses") is SESProvider


def test_a_plain_mail_says_only_what_it_has() -> None:
    assert parameters() == {
        "Destination": {"ToAddresses": ["ada@example.com"]},
        "Content": {"Raw": {"Data": mime.build(MAIL)}},
        "EmailTags": [{"Name": "mailglass_id", "Value": str(ID)}],
    }


def test_everything_a_mail_can_say_reaches_the_call() -> None:
    change: dict[str, Any] = {
        "recipient": Address("ada@example.com", "Ada, Countess"),
        "sender": Address("shop@xn--mller-kva.example", "Müller & Söhne"),
        "html": '<p>Danke, 世界 <img src="cid:logo"></p>',
        "reply_to": (Address("help@example.org"), Address("desk@example.org", "Desk")),
        "cc": (Address("c@example.org", "Cc"),),
        "bcc": (Address("b1@example.org"), Address("b2@example.org")),
        "headers": (("X-One", "1"), ("X-One", "2"), ("List-Unsubscribe", "<https://example.org/u>")),
        "tags": ("welcome", "größer als"),
        "metadata": {"order": "77", "shop.name": "Ärmel & Co"},
        "attachments": (
            Attachment("Rechnung März.pdf", b"%PDF", "application/pdf"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        "options": {"ses": {"TenantName": "t-1", "FeedbackForwardingEmailAddress": "fb@example.org"}, "smtp": {"x": 1}},
    }
    found = parameters(**change)
    assert found["Destination"] == {
        "ToAddresses": ["ada@example.com"],
        "CcAddresses": ["c@example.org"],
        "BccAddresses": ["b1@example.org", "b2@example.org"],
    }
    assert (found["TenantName"], found["FeedbackForwardingEmailAddress"]) == ("t-1", "fb@example.org")
    assert "x" not in found and "FromEmailAddress" not in found
    message = raw(**change)
    assert message["From"].addresses[0].display_name == "Müller & Söhne"
    assert message["From"].addresses[0].addr_spec == "shop@xn--mller-kva.example"
    assert message["To"].addresses[0].display_name == "Ada, Countess"
    assert [item.addr_spec for item in message["Reply-To"].addresses] == ["help@example.org", "desk@example.org"]
    assert message["Cc"].addresses[0].addr_spec == "c@example.org" and message["Bcc"] is None
    assert message.get_all("X-One") == ["1", "2"]
    assert message["X-Mailglass-Id"] == str(ID)
    names = {part.get_filename(): part["Content-ID"] for part in message.walk() if part.get_filename()}
    assert names == {"Rechnung März.pdf": None, "logo.png": "<logo>"}
    bodies = {part.get_content_type() for part in message.walk()}
    assert {"text/plain", "text/html", "application/pdf", "image/png"} <= bodies
    assert {decode_tag(name): decode_tag(value) for name, value in tags(**change).items()} == {
        "mailglass_id": str(ID),
        "mailglass_tag_1": "welcome",
        "mailglass_tag_2": "größer als",
        "order": "77",
        "shop.name": "Ärmel & Co",
    }


def test_every_attempt_is_byte_identical() -> None:
    change: dict[str, Any] = {"html": "<p>ü</p>", "attachments": (Attachment("a.bin", b"\x00"),), "tags": ("ä",)}
    assert parameters(**change) == parameters(**change)


def test_the_accounts_configuration_set_and_tenant_go_with_every_mail_unless_it_names_its_own() -> None:
    options = SESOptions(region="eu-west-1", configuration_set="events", tenant_name="acme")
    found = send_parameters(MAIL, options)
    assert (found["ConfigurationSetName"], found["TenantName"]) == ("events", "acme")
    other = send_parameters(replace(MAIL, options={"ses": {"ConfigurationSetName": "other"}}), options)
    assert (other["ConfigurationSetName"], other["TenantName"]) == ("other", "acme")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipient": Address("jösé@example.com")}, "unsupported_smtputf8"),
        ({"reply_to": (Address("jösé@example.com"),)}, "unsupported_smtputf8"),
        ({"headers": (("X-SES-Configuration-Set", "x"),)}, "unsupported_x_ses_headers"),
        ({"options": {"ses": {"Destination": {}}}}, "option_conflict"),
        ({"options": {"ses": {"EmailTags": []}}}, "option_conflict"),
        ({"options": {"ses": {"FromEmailAddress": "a@example.org"}}}, "option_conflict"),
        ({"options": {"ses": "x"}}, "invalid_options"),
        ({"metadata": {"k": "half a pair \ud83d"}}, "invalid_text"),
        ({"attachments": (Attachment("a.bin", b"\x00" * 30_000_000),)}, "too_large"),
    ],
)
def test_mail_that_ses_cannot_carry_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsendable) as refusal:
        parameters(**change)
    assert refusal.value.reason == reason


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_short_text_survives_as_a_message_tag(text: str) -> None:
    value = tags(metadata={"k": text})["k"]
    assert decode_tag(value) == text
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,256}", value)


def refused(code: str, message: str = "", status: int = 400, headers: dict[str, str] | None = None) -> Outcome:
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    return outcome_of({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta})


NOT_VERIFIED = "Email address is not verified. The following identities failed the check in region EU-WEST-1: a@b.c"
ROWS = [
    ("TooManyRequestsException", "Too many requests", 429, O.THROTTLED, "ses_TooManyRequestsException"),
    ("TooManyRequestsException", "Maximum sending rate exceeded.", 429, O.THROTTLED, "ses_TooManyRequestsException"),
    ("ThrottlingException", "Maximum sending rate exceeded.", 400, O.THROTTLED, "ses_ThrottlingException"),
    ("Throttling", "Maximum sending rate exceeded.", 400, O.THROTTLED, "ses_Throttling"),
    ("TooManyRequestsException", "Daily message quota exceeded.", 429, O.QUOTA, "ses_daily_quota"),
    ("ThrottlingException", "Daily message quota exceeded.", 400, O.QUOTA, "ses_daily_quota"),
    ("Throttling", "Daily message quota exceeded", 400, O.QUOTA, "ses_daily_quota"),
    ("LimitExceededException", "", 400, O.QUOTA, "ses_LimitExceededException"),
    ("InternalServiceErrorException", "", 500, O.TRANSIENT, "ses_InternalServiceErrorException"),
    ("ServiceUnavailable", "", 503, O.TRANSIENT, "ses_ServiceUnavailable"),
    ("ServiceUnavailableException", "", 503, O.TRANSIENT, "ses_ServiceUnavailableException"),
    ("AccountSuspendedException", "", 400, O.MISCONFIGURED, "ses_AccountSuspendedException"),
    ("SendingPausedException", "", 400, O.MISCONFIGURED, "ses_SendingPausedException"),
    ("MailFromDomainNotVerifiedException", "", 400, O.MISCONFIGURED, "ses_MailFromDomainNotVerifiedException"),
    ("NotFoundException", "Configuration set <x> does not exist.", 404, O.MISCONFIGURED, "ses_NotFoundException"),
    ("MessageRejected", "Address blacklisted.", 400, O.REJECTED, "ses_MessageRejected"),
    ("MessageRejected", NOT_VERIFIED, 400, O.MISCONFIGURED, "ses_unverified"),
    ("MessageRejected", "Sending paused for this account.", 400, O.MISCONFIGURED, "ses_sending_paused"),
    ("BadRequestException", "Missing final '@domain'", 400, O.REJECTED, "ses_BadRequestException"),
    # the words count under their own code only
    ("BadRequestException", "Daily message quota exceeded.", 400, O.REJECTED, "ses_BadRequestException"),
    ("AccessDeniedException", "User is not authorized", 403, O.MISCONFIGURED, "ses_AccessDeniedException"),
    ("SignatureDoesNotMatch", "", 403, O.MISCONFIGURED, "ses_SignatureDoesNotMatch"),
    ("InvalidSignatureException", "", 403, O.MISCONFIGURED, "ses_InvalidSignatureException"),
    ("UnrecognizedClientException", "", 403, O.MISCONFIGURED, "ses_UnrecognizedClientException"),
    ("InvalidClientTokenId", "", 403, O.MISCONFIGURED, "ses_InvalidClientTokenId"),
    ("ExpiredTokenException", "", 403, O.MISCONFIGURED, "ses_ExpiredTokenException"),
    ("ExpiredToken", "", 400, O.MISCONFIGURED, "ses_ExpiredToken"),
    ("RequestExpired", "", 400, O.MISCONFIGURED, "ses_RequestExpired"),
    # not SES's own words
    ("", "", 404, O.MISCONFIGURED, "http_404"),
    ("Forbidden", "", 403, O.MISCONFIGURED, "http_403"),
    ("301", "", 301, O.MISCONFIGURED, "http_301"),
    ("ValidationException", "", 400, O.REJECTED, "http_400"),
    ("413", "", 413, O.REJECTED, "http_413"),
    ("429", "", 429, O.THROTTLED, "http_429"),
    ("503", "", 503, O.TRANSIENT, "http_503"),
    ("500", "", 500, O.UNCERTAIN, "http_500"),
    ("InternalFailure", "", 500, O.UNCERTAIN, "http_500"),
    ("502", "", 502, O.UNCERTAIN, "http_502"),
    ("504", "", 504, O.UNCERTAIN, "http_504"),
]


@pytest.mark.parametrize(("code", "message", "status", "kind", "reason"), ROWS)
def test_an_error_is_classed(code: str, message: str, status: int, kind: OutcomeClass, reason: str) -> None:
    found = refused(code, message, status)
    assert (found.kind, found.reason, found.status) == (kind, reason, status)
    assert "a@b.c" not in repr(found)


def test_every_class_of_error_that_is_listed_is_tested() -> None:
    tested = {row[0] for row in ROWS}
    credentials = {code for code in codes_of(SES) if refused(code, status=403).kind is O.MISCONFIGURED} - tested
    assert codes_of(SES) - tested <= credentials
    assert {f"ses_{row.name}" for row in SES if row.name} <= {row[4] for row in ROWS}


@pytest.mark.parametrize(("code", "wait"), [("TooManyRequestsException", 7.0), ("ServiceUnavailable", 7.0), ("x", 7.0)])
def test_the_time_ses_asks_to_wait_is_kept(code: str, wait: float) -> None:
    assert refused(code, status=503, headers={"retry-after": "7"}).retry_after == wait


def test_an_accepted_mail_keeps_sess_id() -> None:
    answer = {"MessageId": "0100018f-77-000000", "ResponseMetadata": {"HTTPStatusCode": 200}}
    assert outcome_of(answer) == Outcome(O.ACCEPTED, "0100018f-77-000000", status=200)


@pytest.mark.parametrize("answer", [{}, {"MessageId": ""}, {"MessageId": 7}, {"ResponseMetadata": None}])
def test_an_answer_without_an_id_is_uncertain(answer: dict[str, Any]) -> None:
    assert outcome_of(answer).kind is O.UNCERTAIN


class Raising:
    """A client that fails before or beside the network, where no real server can make it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def send_email(self, **_: Any) -> Any:
        raise self.error


URL = "https://email.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ParamValidationError(report="x"), O.REJECTED, "invalid_options"),
        (NoCredentialsError(), O.MISCONFIGURED, "credentials_missing"),
        (CredentialRetrievalError(provider="p", error_msg="x"), O.TRANSIENT, "credentials_unavailable"),
        (EndpointConnectionError(endpoint_url=URL), O.TRANSIENT, "connect_failed"),
        (MemoryError(), O.TRANSIENT, "request_failed"),
        # whoever was asked here, no one watched how far it came
        (ReadTimeoutError(endpoint_url=URL), O.UNCERTAIN, "answer_lost"),
        (SSLError(endpoint_url=URL, error="x"), O.UNCERTAIN, "answer_lost"),
        (ConnectionClosedError(endpoint_url=URL), O.UNCERTAIN, "answer_lost"),
    ],
)
def test_a_failure_beside_the_wire_is_classed(error: Exception, kind: OutcomeClass, reason: str) -> None:
    found = call_once(Raising(error), {}, monotonic() + 10)
    assert isinstance(found, Outcome) and (found.kind, found.reason) == (kind, reason)


def test_a_refusal_of_the_role_that_lends_the_credentials_is_read_like_sess_own() -> None:
    parsed: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    found = call_once(Raising(ClientError(parsed, "AssumeRole")), {}, monotonic() + 10)
    assert not isinstance(found, Outcome) and outcome_of(found).kind is O.MISCONFIGURED


def test_nothing_is_started_when_the_deadline_is_near() -> None:
    found = call_once(Raising(AssertionError("started")), {}, monotonic() + 0.1)
    assert found == Outcome(O.TRANSIENT, reason="deadline")


def test_a_mail_that_cannot_be_sent_does_not_stop_the_mails_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Accepting:
        def send_email(self, **_: Any) -> Any:
            return {"MessageId": "m-1", "ResponseMetadata": {"HTTPStatusCode": 200}}

    provider = SESProvider("acme", SESOptions(**KEYS))
    monkeypatch.setattr(provider.clients, "sender", Accepting)
    poisoned = [
        replace(MAIL, recipient=Address("ö@example.com")),
        replace(MAIL, headers=(("X-Bad", "a\r\nBcc: x@example.com"),)),
        replace(MAIL, subject=7),  # type: ignore[arg-type]
    ]
    mails = [part for bad in poisoned for part in (MAIL, bad)]
    found = provider.send(mails, deadline=monotonic() + 10)
    provider.close()
    assert [(one.kind, one.reason) for one in found] == [
        (O.ACCEPTED, None),
        (O.REJECTED, "unsupported_smtputf8"),
        (O.ACCEPTED, None),
        (O.REJECTED, "message_invalid"),
        (O.ACCEPTED, None),
        (O.TRANSIENT, "encode_failed"),
    ]


def test_mails_go_out_several_at_once_and_no_more_than_the_account_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)

    class Waiting:
        def send_email(self, **_: Any) -> Any:
            together.wait(60)
            return {"MessageId": threading.current_thread().name, "ResponseMetadata": {"HTTPStatusCode": 200}}

    provider = SESProvider("acme", SESOptions(**KEYS, concurrency=3))
    monkeypatch.setattr(provider.clients, "sender", Waiting)
    found = provider.send([MAIL] * 6, deadline=monotonic() + 20)
    provider.close()
    assert len({one.provider_message_id for one in found}) == 3


TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"region": "nowhere!"}, "region"),
        ({"region": "eu-west-1", "access_key_id": Secret("a")}, "secret_access_key"),
        ({"region": "eu-west-1", "secret_access_key": Secret("a")}, "access_key_id"),
        ({"region": "eu-west-1", "session_token": Secret("a")}, "access_key_id"),
        ({"region": "eu-west-1", "endpoint_url": "http://email.example.com"}, "endpoint_url"),
        ({"region": "eu-west-1", "sqs_queue_url": "sqs", "topic_arns": (TOPIC,)}, "sqs_queue_url"),
        ({"region": "eu-west-1", "sqs_queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q"}, "topic_arns"),
        ({"region": "eu-west-1", "topic_arns": (TOPIC, "arn:aws:sqs:eu-west-1:1:x")}, "topic_arns"),
        ({"region": "eu-west-1", "topic_arns": ("arn:aws:sns:*:1:x",)}, "topic_arns"),
        ({"region": "eu-west-1", "concurrency": 0}, "concurrency"),
        ({"region": "eu-west-1", "read_timeout": 0.0}, "read_timeout"),
        ({"region": "eu-west-1", "webhook_tolerance": float("inf")}, "webhook_tolerance"),
        ({"region": "eu-west-1", "configuration_set": ""}, "configuration_set"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        SESOptions(**options)
    assert error.value.key == key


def test_secrets_come_by_reference_and_show_nowhere() -> None:
    table = {"region": "eu-west-1", "access_key_id": "env:ID", "secret_access_key": "env:KEY", "topic_arns": [TOPIC]}
    options = build_options(SESOptions, table, "accounts.acme", {"ID": "AKIAXX", "KEY": "s3cr3t"})
    assert options.topic_arns == (TOPIC,)
    assert "s3cr3t" not in repr(options) and "s3cr3t" not in repr(SESProvider("acme", options))
    with pytest.raises(ConfigError):
        build_options(SESOptions, table | {"secret_access_key": "s3cr3t"}, "accounts.acme", {})


def test_an_unsubscription_is_not_entered_at_ses_as_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = SESProvider("acme", SESOptions(**KEYS))
    monkeypatch.setattr(provider.clients, "manager", lambda: pytest.fail("SES was asked"))
    entries = [ListedAddress("ada@example.com", reason) for reason in ("unsubscribe", "manual", "provider")]
    assert provider.suppression_list().push(entries) == [False, False, False]


def client_error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetAccount")


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (client_error("AccessDeniedException", 403), 403, False),
        (client_error("ThrottlingException", 400), 400, True),
        (client_error("TooManyRequestsException", 429), 429, True),
        (client_error("InternalServiceErrorException", 500), 500, True),
        (ReadTimeoutError(endpoint_url="https://x/ada@example.com"), None, True),
        (EndpointConnectionError(endpoint_url="https://x/ada@example.com"), None, True),
        (NoCredentialsError(), None, False),
        (ParamValidationError(report="ada@example.com"), None, False),
    ],
)
def test_a_management_call_that_fails_says_whether_to_try_again(
    error: Exception, status: int | None, retryable: bool
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(ProviderCallError) as found:
        SESProvider("acme", SESOptions(**KEYS)).clients.manage("get account", fail)
    assert (found.value.status, found.value.retryable) == (status, retryable)
    assert "ada@example.com" not in str(found.value) and "acme: get account" in str(found.value)
    assert found.value.__suppress_context__
