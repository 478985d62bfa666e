"""Postmark: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.registry import provider_class
from mailglass.refusals.answer_rows import POSTMARK
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


@pytest.fixture
def provider() -> PostmarkProvider:
    return PostmarkProvider("acme-postmark", PostmarkOptions(server_token=Secret("token")))


def wire(provider: PostmarkProvider, mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.encode(mail))
    return found


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("postmark") is PostmarkProvider


def test_a_plain_mail_says_only_what_it_has(provider: PostmarkProvider) -> None:
    assert wire(provider, MAIL) == {
        "MessageStream": "outbound",
        "From": "shop@example.org",
        "To": "ada@example.com",
        "Subject": "Your order",
        "TextBody": "Thank you.",
        "Metadata": {"mailglass_id": str(ID)},
    }


def test_everything_a_mail_can_say_reaches_the_wire(provider: PostmarkProvider) -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@example.com", 'Ada "the first", Countess'),
        sender=Address("shop@example.org", "Müller & Söhne"),
        html="<p>Danke, 世界</p>",
        reply_to=(Address("help@example.org"), Address("desk@example.org", "Desk")),
        cc=(Address("c1@example.org"), Address("c2@example.org")),
        bcc=(Address("b@example.org"),),
        headers=(("X-One", "1"), ("X-One", "2")),
        tags=("welcome",),
        metadata={"order": "77"},
        attachments=(
            Attachment("bill.pdf", b"\x00\xffpdf", "application/pdf"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        options={"postmark": {"TrackOpens": False, "TrackLinks": "None"}, "sendgrid": {"asm": {"group_id": 1}}},
    )
    assert wire(provider, mail) == {
        "MessageStream": "outbound",
        "TrackOpens": False,
        "TrackLinks": "None",
        "From": '"Müller & Söhne" <shop@example.org>',
        "To": '"Ada \\"the first\\", Countess" <ada@example.com>',
        "Cc": "c1@example.org, c2@example.org",
        "Bcc": "b@example.org",
        "ReplyTo": 'help@example.org, "Desk" <desk@example.org>',
        "Subject": "Your order",
        "TextBody": "Thank you.",
        "HtmlBody": "<p>Danke, 世界</p>",
        "Tag": "welcome",
        "Headers": [{"Name": "X-One", "Value": "1"}, {"Name": "X-One", "Value": "2"}],
        "Attachments": [
            {
                "Name": "bill.pdf",
                "Content": base64.b64encode(b"\x00\xffpdf").decode(),
                "ContentType": "application/pdf",
            },
            {"Name": "logo.png", "Content": "cG5n", "ContentType": "image/png", "ContentID": "cid:logo"},
        ],
        "Metadata": {"order": "77", "mailglass_id": str(ID)},
    }


def test_a_mails_own_options_choose_the_message_stream(provider: PostmarkProvider) -> None:
    assert wire(provider, replace(MAIL, options={"postmark": {"MessageStream": "news"}}))["MessageStream"] == "news"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"options": {"postmark": {"bcc": "spy@example.org"}}}, "option_conflict"),
        ({"options": {"postmark": {"Metadata": {"mailglass_id": "other"}}}}, "option_conflict"),
        ({"options": {"postmark": ["TrackOpens"]}}, "invalid_options"),
        ({"options": {"postmark": {"TrackOpens": object()}}}, "invalid_options"),
        ({"subject": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_postmark_cannot_carry_is_refused_by_name(
    provider: PostmarkProvider, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsendable) as caught:
        provider.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


def test_single_mail_goes_to_email_and_several_to_the_batch(provider: PostmarkProvider) -> None:
    part = provider.encode(MAIL)
    assert provider.request([MAIL], [part]).path == "/email"
    assert provider.request([MAIL], [part]).body == part
    batch = provider.request([MAIL, MAIL], [part, part])
    assert batch.path == "/email/batch"
    assert json.loads(batch.body) == [json.loads(part)] * 2


CODES = [
    (10, OutcomeClass.MISCONFIGURED),
    (100, OutcomeClass.TRANSIENT),
    (300, OutcomeClass.REJECTED),
    (400, OutcomeClass.MISCONFIGURED),
    (401, OutcomeClass.MISCONFIGURED),
    (402, OutcomeClass.REJECTED),
    (403, OutcomeClass.REJECTED),
    (405, OutcomeClass.QUOTA),
    (406, OutcomeClass.SUPPRESSED),
    (409, OutcomeClass.REJECTED),
    (410, OutcomeClass.REJECTED),
    (411, OutcomeClass.REJECTED),
    (412, OutcomeClass.MISCONFIGURED),
    (413, OutcomeClass.MISCONFIGURED),
    (1101, OutcomeClass.REJECTED),
    (1109, OutcomeClass.REJECTED),
    (1130, OutcomeClass.REJECTED),
    (1235, OutcomeClass.MISCONFIGURED),
    (1236, OutcomeClass.MISCONFIGURED),
    (99999, OutcomeClass.REJECTED),
]


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_an_error_code_means_the_same_alone_and_in_a_batch(
    provider: PostmarkProvider, code: int, kind: OutcomeClass
) -> None:
    item = {"ErrorCode": code, "Message": "no"}
    alone = provider.read(answer(422, item), [MAIL])
    assert [(one.kind, one.reason, one.status) for one in alone] == [(kind, f"postmark_{code}", 422)]
    good = {"ErrorCode": 0, "Message": "OK", "MessageID": "mid-1"}
    first, second = provider.read(answer(200, [item, good]), [MAIL, MAIL])
    assert (first.kind, first.reason) == (kind, f"postmark_{code}")
    assert second == Outcome(OutcomeClass.ACCEPTED, "mid-1", status=200)


def test_no_error_code_is_mapped_without_a_row_here() -> None:
    assert codes_of(POSTMARK) - {str(code) for code, _ in CODES} <= {str(code) for code in range(1109, 1150)}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, OutcomeClass.MISCONFIGURED),
        (401, OutcomeClass.MISCONFIGURED),
        (403, OutcomeClass.MISCONFIGURED),
        (404, OutcomeClass.REJECTED),
        (413, OutcomeClass.REJECTED),
        (415, OutcomeClass.REJECTED),
        (422, OutcomeClass.REJECTED),
        (429, OutcomeClass.THROTTLED),
        (500, OutcomeClass.UNCERTAIN),
        (502, OutcomeClass.UNCERTAIN),
        (503, OutcomeClass.TRANSIENT),
        (504, OutcomeClass.UNCERTAIN),
        (204, OutcomeClass.UNCERTAIN),
    ],
)
def test_a_status_without_an_error_code_is_classed(provider: PostmarkProvider, status: int, kind: OutcomeClass) -> None:
    outcomes = provider.read(answer(status, b"<html>"), [MAIL, MAIL])
    assert [outcome.kind for outcome in outcomes] == [kind, kind]


def test_a_throttled_answer_carries_the_wait_the_provider_asked_for(provider: PostmarkProvider) -> None:
    (outcome,) = provider.read(answer(429, {"ErrorCode": 429}, {"retry-after": "7"}), [MAIL])
    assert (outcome.kind, outcome.retry_after) == (OutcomeClass.THROTTLED, 7.0)


def test_a_bad_token_is_misconfigured_for_every_mail_of_the_request(provider: PostmarkProvider) -> None:
    outcomes = provider.read(answer(401, {"ErrorCode": 10, "Message": "no"}), [MAIL, MAIL])
    assert [(one.kind, one.reason) for one in outcomes] == [(OutcomeClass.MISCONFIGURED, "postmark_10")] * 2


@pytest.mark.parametrize("body", [b"", b"<html>", 7, None, [], ["OK"], [{"MessageID": "x"}], {"ErrorCode": "0"}])
def test_a_good_status_without_a_readable_item_is_uncertain(provider: PostmarkProvider, body: object) -> None:
    outcomes = provider._read(answer(200, body), [MAIL])
    assert [outcome.kind for outcome in outcomes] == [OutcomeClass.UNCERTAIN]


def test_a_batch_answered_in_part_leaves_the_rest_uncertain(provider: PostmarkProvider) -> None:
    good = {"ErrorCode": 0, "Message": "OK", "MessageID": "mid-1"}
    outcomes = provider._read(answer(200, [good]), [MAIL, MAIL, MAIL])
    assert [outcome.kind for outcome in outcomes] == [
        OutcomeClass.ACCEPTED,
        OutcomeClass.UNCERTAIN,
        OutcomeClass.UNCERTAIN,
    ]


def test_a_mail_accepted_for_its_copies_only_is_suppressed_for_the_recipient(provider: PostmarkProvider) -> None:
    text = (
        "Message OK, but will not deliver to these inactive addresses: c1@example.org, Ada@example.com. "
        "Inactive recipients are ones that have generated a hard bounce."
    )
    item = {"ErrorCode": 0, "Message": text, "MessageID": "mid-1"}
    (outcome,) = provider.read(answer(200, item), [MAIL])
    assert outcome == Outcome(OutcomeClass.SUPPRESSED, "mid-1", "postmark_406", 200)
    other = replace(MAIL, recipient=Address("bob@example.com"))
    assert provider.read(answer(200, item), [other])[0].kind is OutcomeClass.ACCEPTED


def options(**raw: Any) -> PostmarkOptions:
    environ = {"TOKEN": "t", "PW": "p"}
    return build_options(PostmarkOptions, {"server_token": "env:TOKEN", **raw}, "accounts.pm", environ)


def test_options_are_built_from_the_accounts_table() -> None:
    built = options(webhook_username="hooks", webhook_passwords=["env:PW"], read_timeout=10, message_stream="news")
    assert built.webhook_passwords == (Secret("p"),)
    assert (built.read_timeout, built.message_stream) == (10.0, "news")
    assert "Secret(env:TOKEN)" in repr(built)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_username": "hooks"}, "webhook_passwords"),
        ({"webhook_passwords": "env:PW"}, "webhook_username"),
        ({"webhook_username": "a:b", "webhook_passwords": "env:PW"}, "webhook_username"),
        ({"message_stream": ""}, "message_stream"),
        ({"base_url": "http://api.postmarkapp.com"}, "base_url"),
        ({"base_url": "ftp://api.postmarkapp.com"}, "base_url"),
        ({"base_url": "https://user:pw@api.postmarkapp.com"}, "base_url"),
        ({"base_url": "https://"}, "base_url"),
        ({"base_url": "https://host:99999"}, "base_url"),
        ({"read_timeout": 0.0}, "read_timeout"),
        ({"connect_timeout": -1.0}, "connect_timeout"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_contradicting_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**raw)
    assert caught.value.key == f"accounts.pm.{key}"
