"""Mailjet: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer, HTTPRequest
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.mailjet import MailjetOptions, MailjetProvider
from mailglass.providers.registry import provider_class
from mailglass.refusals.answer_rows import MAILJET
from mailglass.settings import Secret, build_options
from tests.refusal_rows import codes_of

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
OTHER = replace(MAIL, delivery_id=uuid4(), recipient=Address("bob@example.com"))
O = OutcomeClass  # noqa: E741


def opened(**more: Any) -> MailjetProvider:
    return MailjetProvider("acme-mj", MailjetOptions(api_key=Secret("key"), secret_key=Secret("sec"), **more))


PROVIDER = opened()


def wire(mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PROVIDER.encode(mail))
    return found


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def success(mail: Outgoing, number: object = 1152921526316184579) -> dict[str, Any]:
    person = {"Email": mail.recipient.email, "MessageUUID": "u", "MessageID": number, "MessageHref": "https://x"}
    return {"Status": "success", "CustomID": str(mail.delivery_id), "To": [person], "Cc": [], "Bcc": []}


def failure(status: int = 400, code: str = "mj-0013", **more: Any) -> dict[str, Any]:
    error = {"ErrorIdentifier": "e", "ErrorCode": code, "StatusCode": status, "ErrorMessage": "no"}
    return {"Status": "error", "Errors": [error], **more}


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("mailjet") is MailjetProvider


def test_a_plain_mail_says_only_what_it_has() -> None:
    assert wire(MAIL) == {
        "From": {"Email": "shop@example.org"},
        "To": [{"Email": "ada@example.com"}],
        "Subject": "Your order",
        "TextPart": "Thank you.",
        "CustomID": str(ID),
    }


def test_everything_a_mail_can_say_reaches_the_wire() -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@xn--bcher-kva.example", 'Ada "the first", Countess'),
        sender=Address("shop@example.org", "Müller & Söhne"),
        html="<p>Danke, 世界</p>",
        reply_to=(Address("help@example.org", "Help"),),
        cc=(Address("c1@example.org"), Address("c2@example.org", "C2"), Address("C1@example.org")),
        bcc=(Address("b@example.org"), Address("c1@example.org"), Address("ADA@xn--bcher-kva.example")),
        headers=(("X-One", "1"), ("List-Unsubscribe", "<https://x.example/u>")),
        tags=("welcome",),
        metadata={"order": "77", "ü": "é"},
        attachments=(
            Attachment("Rechnung für Ada.pdf", b"\x00\xffpdf", "application/pdf"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        options={"mailjet": {"TrackOpens": "disabled", "Priority": 3}, "postmark": {"TrackOpens": True}},
    )
    assert wire(mail) == {
        "TrackOpens": "disabled",
        "Priority": 3,
        "From": {"Email": "shop@example.org", "Name": "Müller & Söhne"},
        "To": [{"Email": "ada@xn--bcher-kva.example", "Name": 'Ada "the first", Countess'}],
        "Cc": [{"Email": "c1@example.org"}, {"Email": "c2@example.org", "Name": "C2"}],
        "Bcc": [{"Email": "b@example.org"}],
        "ReplyTo": {"Email": "help@example.org", "Name": "Help"},
        "Subject": "Your order",
        "TextPart": "Thank you.",
        "HTMLPart": "<p>Danke, 世界</p>",
        "Headers": {"X-One": "1", "List-Unsubscribe": "<https://x.example/u>"},
        "Attachments": [
            {
                "ContentType": "application/pdf",
                "Filename": "Rechnung für Ada.pdf",
                "Base64Content": base64.b64encode(b"\x00\xffpdf").decode(),
            }
        ],
        "InlinedAttachments": [
            {"ContentType": "image/png", "Filename": "logo.png", "Base64Content": "cG5n", "ContentID": "logo"}
        ],
        "CustomCampaign": "welcome",
        "EventPayload": '{"order":"77","ü":"é"}',
        "CustomID": str(ID),
    }


def test_a_campaign_may_be_named_by_the_mails_own_options() -> None:
    assert wire(replace(MAIL, options={"mailjet": {"CustomCampaign": "news"}}))["CustomCampaign"] == "news"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reply_to": (Address("a@b.example"), Address("c@d.example"))}, "unsupported_reply_to"),
        ({"headers": (("X-A", "1"), ("x-a", "2"))}, "unsupported_repeated_headers"),
        ({"options": {"mailjet": {"Bcc": [{"Email": "spy@example.org"}]}}}, "option_conflict"),
        ({"options": {"mailjet": {"customid": "other"}}}, "option_conflict"),
        ({"options": {"mailjet": {"EventPayload": "x"}}}, "option_conflict"),
        ({"options": {"mailjet": ["TrackOpens"]}}, "invalid_options"),
        ({"options": {"mailjet": {"Variables": object()}}}, "invalid_options"),
        ({"subject": "half a pair \ud83d"}, "invalid_text"),
        ({"metadata": {"a": "\ud83d"}}, "invalid_text"),
    ],
)
def test_mail_that_mailjet_cannot_carry_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsendable) as caught:
        PROVIDER.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


def test_mails_go_together_to_one_address_with_key_and_secret() -> None:
    parts = [PROVIDER.encode(MAIL), PROVIDER.encode(OTHER)]
    request = PROVIDER.request([MAIL, OTHER], parts)
    assert (request.method, request.path) == ("POST", "/v3.1/send")
    assert json.loads(request.body) == {"Messages": [json.loads(part) for part in parts]}
    assert PROVIDER.credentials() == {"authorization": "Basic " + base64.b64encode(b"key:sec").decode()}


def test_a_sandbox_account_says_so_in_every_request() -> None:
    sandbox = opened(sandbox=True)
    request = sandbox.request([MAIL], [sandbox.encode(MAIL)])
    assert json.loads(request.body) == {"Messages": [wire(MAIL)], "SandboxMode": True}
    assert sandbox.read(answer(200, {"Messages": [success(MAIL, 0)]}), [MAIL]) == [Outcome(O.ACCEPTED, status=200)]


def test_a_64_bit_id_is_kept_to_the_last_digit() -> None:
    body = json.dumps({"Messages": [success(MAIL, 9223372036854775807)]}).encode()
    assert PROVIDER.read(answer(200, body), [MAIL]) == [Outcome(O.ACCEPTED, "9223372036854775807", status=200)]


@pytest.mark.parametrize("number", [0, -5, 1 << 63, 1.5e18, True, None, "", "x", "1" * 20, [7]])
def test_invalid_message_id_is_dropped_and_the_mail_is_accepted(number: object) -> None:
    assert PROVIDER.read(answer(200, {"Messages": [success(MAIL, number)]}), [MAIL]) == [
        Outcome(O.ACCEPTED, status=200)
    ]


def test_the_id_is_the_recipients_own_and_no_copys() -> None:
    item = success(MAIL, 7)
    item["To"].insert(0, {"Email": "other@example.com", "MessageID": 8})
    assert PROVIDER.read(answer(200, {"Messages": [item]}), [MAIL])[0].provider_message_id == "7"


@pytest.mark.parametrize("status", [200, 201, 400, 403, 500])
def test_a_batch_that_failed_in_part_is_read_mail_by_mail_whatever_its_status(status: int) -> None:
    found = answer(status, {"Messages": [success(MAIL), failure(), success(OTHER, 8)]})
    mails = [MAIL, replace(MAIL, delivery_id=uuid4()), OTHER]
    assert PROVIDER.read(found, mails) == [
        Outcome(O.ACCEPTED, "1152921526316184579", status=status),
        Outcome(O.REJECTED, reason="mailjet_mj-0013", status=400),
        Outcome(O.ACCEPTED, "8", status=status),
    ]
    assert not PROVIDER.refuses_whole(found)


def test_verdicts_are_matched_by_our_id_before_their_place() -> None:
    swapped = {"Messages": [success(OTHER, 8), success(MAIL, 7)]}
    assert [one.provider_message_id for one in PROVIDER.read(answer(200, swapped), [MAIL, OTHER])] == ["7", "8"]


@pytest.mark.parametrize(
    "items",
    [
        [success(MAIL)],
        [success(MAIL), success(MAIL)],
        [success(MAIL), "success"],
        [success(MAIL), {"Status": "queued"}],
        [success(MAIL), failure(), failure()],
    ],
)
def test_a_mail_without_a_verdict_of_its_own_is_uncertain(items: list[Any]) -> None:
    first, second = PROVIDER.read(answer(200, {"Messages": items}), [MAIL, OTHER])
    assert first.kind is O.ACCEPTED
    assert (second.kind, second.reason) == (O.UNCERTAIN, "answer_unreadable")


ROWS = [
    (400, "mj-0013", O.REJECTED),
    (400, "mj-0003", O.REJECTED),
    (400, "send-0003", O.REJECTED),
    (400, "send-0010", O.REJECTED),
    (400, "send-0015", O.REJECTED),
    (400, "mj-0011", O.REJECTED),
    (401, "mj-0001", O.MISCONFIGURED),
    (401, "mj-0015", O.MISCONFIGURED),
    (403, "send-0006", O.MISCONFIGURED),
    (403, "send-0007", O.MISCONFIGURED),
    (403, "send-0008", O.MISCONFIGURED),
    (400, "send-0008", O.MISCONFIGURED),
    (403, "mj-9999", O.MISCONFIGURED),
    (404, "mj-9999", O.MISCONFIGURED),
    (405, "mj-9999", O.MISCONFIGURED),
    (413, "mj-9999", O.REJECTED),
    (429, "mj-9999", O.THROTTLED),
    (500, "mj-9999", O.TRANSIENT),
    (503, "mj-9999", O.TRANSIENT),
    (400, "mj-9999", O.REJECTED),
]


@pytest.mark.parametrize(("status", "code", "kind"), ROWS)
def test_an_error_means_the_same_for_one_mail_and_for_a_request(status: int, code: str, kind: OutcomeClass) -> None:
    (alone,) = PROVIDER.read(answer(400, {"Messages": [failure(status, code)]}), [MAIL])
    assert (alone.kind, alone.reason, alone.status) == (kind, f"mailjet_{code}", status)
    whole = {"ErrorIdentifier": "e", "ErrorCode": code, "StatusCode": 418, "ErrorMessage": "no"}
    found = answer(status, whole)
    outcomes = PROVIDER.read(found, [MAIL, OTHER])
    assert [(one.kind, one.reason, one.status) for one in outcomes] == [(kind, f"mailjet_{code}", status)] * 2
    assert PROVIDER.refuses_whole(found)


def test_no_error_code_is_mapped_without_a_row_here() -> None:
    assert codes_of(MAILJET) <= {code for _, code, _ in ROWS}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, O.MISCONFIGURED),
        (400, O.REJECTED),
        (401, O.MISCONFIGURED),
        (403, O.MISCONFIGURED),
        (404, O.MISCONFIGURED),
        (405, O.MISCONFIGURED),
        (413, O.REJECTED),
        (429, O.THROTTLED),
        (500, O.UNCERTAIN),
        (502, O.UNCERTAIN),
        (503, O.TRANSIENT),
        (504, O.UNCERTAIN),
        (200, O.UNCERTAIN),
        (204, O.UNCERTAIN),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>Rate limit exceeded</html>", [], {}, {"Messages": {}}, {"Messages": []}])
def test_an_answer_without_mailjets_own_words_is_read_by_its_status(
    status: int, kind: OutcomeClass, body: object
) -> None:
    assert [one.kind for one in PROVIDER.read(answer(status, body), [MAIL, OTHER])] == [kind, kind]


def test_a_rate_limit_in_html_is_throttled_with_the_wait_it_names() -> None:
    found = HTTPAnswer(429, {"content-type": "text/html", "retry-after": "7"}, b"<html>Rate limit exceeded</html>")
    assert PROVIDER.read(found, [MAIL]) == [Outcome(O.THROTTLED, reason="http_429", status=429, retry_after=7.0)]


def test_a_500_in_mailjets_own_words_took_nothing_and_may_work_later() -> None:
    body = {"ErrorIdentifier": "D4DF574C", "StatusCode": 500, "ErrorMessage": "an error"}
    assert PROVIDER.read(answer(500, body), [MAIL]) == [Outcome(O.TRANSIENT, reason="http_500", status=500)]


def test_of_several_errors_the_most_final_decides() -> None:
    item = failure(429, "mj-9999")
    item["Errors"] += failure(403, "send-0008")["Errors"]
    assert PROVIDER.read(answer(403, {"Messages": [item]}), [MAIL])[0].kind is O.MISCONFIGURED
    item["Errors"] += failure(400, "mj-0013")["Errors"]
    assert PROVIDER.read(answer(403, {"Messages": [item]}), [MAIL])[0].kind is O.REJECTED


@pytest.mark.parametrize("errors", [None, [], "no", [7], [{}], [{"StatusCode": "x"}], [{"ErrorCode": ["a"]}]])
def test_an_error_that_says_nothing_is_a_refusal(errors: object) -> None:
    (outcome,) = PROVIDER.read(answer(400, {"Messages": [{"Status": "error", "Errors": errors}]}), [MAIL])
    assert outcome.kind is O.REJECTED
    assert outcome.reason in ("mailjet_error", "http_400")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
answer_words = st.sampled_from("Status success error Errors To Email CustomID MessageID StatusCode ErrorCode".split())
verdicts = st.dictionaries(answer_words, answer_words | json_values, max_size=6) | json_values


@given(st.integers(100, 599), st.lists(verdicts, max_size=4), st.integers(1, 3))
def test_any_answer_gives_every_mail_one_outcome(status: int, items: list[Any], count: int) -> None:
    mails = [replace(MAIL, delivery_id=uuid4()) for _ in range(count)]
    outcomes = PROVIDER.read(answer(status, {"Messages": items}), mails)
    assert len(outcomes) == count
    for outcome in outcomes:
        assert outcome.provider_message_id is None or outcome.provider_message_id.isdigit()


@dataclass
class Wire:
    """Stands where the connection is and answers as Mailjet does: a verdict per message, a 400 if one is bad."""

    asked: list[list[str]] = field(default_factory=list)
    whole: Callable[[list[str]], HTTPAnswer | None] = lambda subjects: None

    def each(self, work, items):  # type: ignore[no-untyped-def]
        return [work(item) for item in items]

    def exchange(self, request: HTTPRequest, *, deadline: float) -> HTTPAnswer | Outcome:
        messages = json.loads(request.body)["Messages"]
        subjects = [message["Subject"] for message in messages]
        self.asked.append(subjects)
        if (refusal := self.whole(subjects)) is not None:
            return refusal
        verdicts = [
            failure() if subject == "poison" else success(replace(MAIL, delivery_id=UUID(message["CustomID"])), 7)
            for subject, message in zip(subjects, messages, strict=True)
        ]
        return answer(400 if "poison" in subjects else 200, {"Messages": verdicts})

    def close(self) -> None:
        pass


def sent(wire: Wire, *subjects: str) -> list[OutcomeClass]:
    provider = opened()
    provider.http = wire  # type: ignore[assignment]
    mails = [replace(MAIL, delivery_id=uuid4(), subject=subject) for subject in subjects]
    return [outcome.kind for outcome in provider.send(mails, deadline=monotonic() + 60)]


def test_poisoned_mail_of_a_batch_costs_no_other_and_no_second_request() -> None:
    wire = Wire()
    assert sent(wire, "a", "poison", "b") == [O.ACCEPTED, O.REJECTED, O.ACCEPTED]
    assert wire.asked == [["a", "poison", "b"]]


def test_fifty_mails_share_a_request_and_no_more() -> None:
    wire = Wire()
    assert set(sent(wire, *map(str, range(60)))) == {O.ACCEPTED}
    assert [len(subjects) for subjects in wire.asked] == [50, 10]
    assert MailjetProvider.mails_per_request == 50


def test_a_request_refused_as_a_whole_is_asked_again_mail_by_mail() -> None:
    malformed = answer(400, {"ErrorCode": "mj-0002", "StatusCode": 400})
    wire = Wire(whole=lambda subjects: malformed if "bad" in subjects else None)
    assert sent(wire, "a", "bad", "b") == [O.ACCEPTED, O.REJECTED, O.ACCEPTED]
    assert wire.asked == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_mails_are_the_same_bytes_at_every_attempt() -> None:
    mail = replace(MAIL, metadata={"b": "1", "a": "2"}, attachments=(Attachment("a.bin", b"x"),))
    assert PROVIDER.encode(mail) == PROVIDER.encode(replace(mail))


def test_mailjet_has_no_list_of_its_own_that_could_be_read_and_takes_a_mail_twice() -> None:
    assert not PROVIDER.keeps_suppressions
    assert PROVIDER.idempotent is False


def options(**raw: Any) -> MailjetOptions:
    environ = {"KEY": "k", "SEC": "s", "PW": "p"}
    given = {"api_key": "env:KEY", "secret_key": "env:SEC", **raw}
    return build_options(MailjetOptions, given, "accounts.mj", environ)


def test_options_are_built_from_the_accounts_table() -> None:
    built = options(webhook_username="hooks", webhook_passwords=["env:PW"], sandbox=True)
    assert (built.webhook_passwords, built.sandbox, built.base_url) == (
        (Secret("p"),),
        True,
        "https://api.mailjet.com",
    )
    assert "Secret(env:SEC)" in repr(built)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_username": "hooks"}, "webhook_passwords"),
        ({"webhook_passwords": "env:PW"}, "webhook_username"),
        ({"webhook_username": "a:b", "webhook_passwords": "env:PW"}, "webhook_username"),
        ({"secret_key": "plain"}, "secret_key"),
        ({"base_url": "http://api.mailjet.com"}, "base_url"),
        ({"sandbox": "yes"}, "sandbox"),
    ],
)
def test_contradicting_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**raw)
    assert caught.value.key == f"accounts.mj.{key}"
