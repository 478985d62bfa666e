"""Brevo: what reaches the wire, what is refused by name, and what its answers mean."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.brevo import BrevoOptions, BrevoProvider
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.registry import provider_class
from mailglass.refusals.answer_rows import BREVO
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
    html="<p>Thank you.</p>",
)
MESSAGE_ID = "<202601021158.9876543210@smtp-relay.mailin.fr>"
O = OutcomeClass  # noqa: E741


def opened(**options: Any) -> BrevoProvider:
    return BrevoProvider("acme-brevo", BrevoOptions(api_key=Secret("xkeysib"), **options))


@pytest.fixture
def provider() -> BrevoProvider:
    return opened()


def wire(provider: BrevoProvider, mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.encode(mail))
    return found


def custom(provider: BrevoProvider, mail: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(wire(provider, mail)["headers"]["X-Mailin-custom"])
    return found


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def error(status: int, code: str, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return answer(status, {"code": code, "message": "no"}, headers)


def refused(provider: BrevoProvider, mail: Outgoing) -> str:
    with pytest.raises(Unsendable) as caught:
        provider.encode(mail)
    return caught.value.reason


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("brevo") is BrevoProvider


def test_a_plain_mail_says_only_what_it_has(provider: BrevoProvider) -> None:
    assert wire(provider, MAIL) == {
        "subject": "Your order",
        "sender": {"email": "shop@example.org"},
        "to": [{"email": "ada@example.com"}],
        "textContent": "Thank you.",
        "htmlContent": "<p>Thank you.</p>",
        "headers": {"idempotencyKey": str(ID), "X-Mailin-custom": f'{{"mailglass_id": "{ID}"}}'},
    }


def test_everything_a_mail_can_say_reaches_the_wire(provider: BrevoProvider) -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@xn--bcher-kva.example", "Ada, Countess"),
        sender=Address("shop@example.org", "Müller & Söhne"),
        text="Danke, 世界",
        reply_to=(Address("desk@example.org", "Desk"),),
        cc=(Address("c@example.org", "Žofie"), Address("ADA@xn--bcher-kva.example")),
        bcc=(Address("b@example.org"), Address("c@example.org")),
        headers=(("X-One", "1"), ("List-Unsubscribe", "<https://example.org/u>")),
        tags=("welcome", "größe zwei", "welcome"),
        metadata={"order": "77", "path": "C:\\new"},
        attachments=(Attachment("bill no 1.pdf", b"\x00\xffpdf", "application/pdf"),),
        options={"brevo": {"templateId": 3, "params": {"a": 1}}, "resend": {"topic_id": "t"}},
    )
    assert wire(provider, mail) == {
        "templateId": 3,
        "params": {"a": 1},
        "subject": "Your order",
        "sender": {"email": "shop@example.org", "name": "Müller & Söhne"},
        "to": [{"email": "ada@xn--bcher-kva.example", "name": "Ada, Countess"}],
        "cc": [{"email": "c@example.org", "name": "Žofie"}],
        "bcc": [{"email": "b@example.org"}],
        "replyTo": {"email": "desk@example.org", "name": "Desk"},
        "textContent": "Danke, 世界",
        "htmlContent": "<p>Thank you.</p>",
        "headers": {
            "X-One": "1",
            "List-Unsubscribe": "<https://example.org/u>",
            "idempotencyKey": str(ID),
            "X-Mailin-custom": f'{{"mailglass_id": "{ID}", "order": "77", "path": "C:\\\\new"}}',
        },
        "tags": ["welcome", "größe zwei"],
        "attachment": [{"name": "bill no 1.pdf", "content": base64.b64encode(b"\x00\xffpdf").decode()}],
    }


def attached(filename: str, content_type: str = "", content_id: str = "") -> dict[str, Any]:
    return {"attachments": (Attachment(filename, b"x", content_type, content_id),)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (attached("logo.png", "image/png", "logo"), "unsupported_inline_images"),
        (attached("Rechnung-März.pdf"), "unsupported_attachment_name"),
        (attached("noextension"), "unsupported_attachment_name"),
        (attached(".profile"), "unsupported_attachment_name"),
        (attached("odd."), "unsupported_attachment_name"),
        (attached("data.txt", "text/csv"), "unsupported_attachment_type"),
        ({"headers": (("X-One", "1"), ("x-one", "2"))}, "unsupported_repeated_headers"),
        ({"headers": (("X-One", "größe"),)}, "unsupported_header_text"),
        ({"headers": (("x-mailin-CUSTOM", "1"),)}, "option_conflict"),
        ({"headers": (("IdempotencyKey", "1"),)}, "option_conflict"),
        ({"headers": (("sender.ip", "1"),)}, "option_conflict"),
        ({"reply_to": (Address("a@example.org"), Address("b@example.org"))}, "unsupported_reply_to"),
        ({"sender": Address("ö@example.org")}, "unsupported_smtputf8"),
        ({"reply_to": (Address("ö@example.org"),)}, "unsupported_smtputf8"),
        ({"cc": (Address("ö@example.org"),)}, "unsupported_smtputf8"),
        ({"options": {"brevo": {"messageVersions": []}}}, "option_conflict"),
        ({"options": {"brevo": {"HTMLContent": "x"}}}, "option_conflict"),
        ({"options": {"brevo": [1]}}, "invalid_options"),
        ({"subject": "half a pair \ud83d"}, "invalid_text"),
    ],
)
def test_mail_that_brevo_cannot_carry_is_refused_by_name(
    provider: BrevoProvider, change: dict[str, Any], reason: str
) -> None:
    assert refused(provider, replace(MAIL, **change)) == reason


def test_a_recipient_whose_address_is_not_ascii_is_mailed(provider: BrevoProvider) -> None:
    mail = replace(MAIL, recipient=Address("ö@example.com"), bcc=(Address("ä@example.com"),))
    assert wire(provider, mail)["to"] == [{"email": "ö@example.com"}]


def test_a_mail_without_html_gets_its_text_as_html(provider: BrevoProvider) -> None:
    found = wire(provider, replace(MAIL, html=None, text="a < b\n  & <script>"))
    assert found["textContent"] == "a < b\n  & <script>"
    assert "a &lt; b\n  &amp; &lt;script&gt;" in found["htmlContent"]
    assert "pre-wrap" in found["htmlContent"] and "<script>" not in found["htmlContent"]
    assert wire(provider, replace(MAIL, html=None, text=""))["htmlContent"]


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=80))
def test_a_name_that_brevo_would_drop_is_encoded_and_no_other(name: str) -> None:
    written = wire(opened(), replace(MAIL, recipient=Address("ada@example.com", name)))["to"][0]["name"]
    special = any(character in '()<>[]:;@\\,."' for character in name)
    if name.isascii() or not special:
        assert written == name
    else:
        assert written.isascii()
        assert str(make_header(decode_header(written))) == name


@given(
    st.dictionaries(
        st.text(alphabet="abcdefgh_.-", min_size=1, max_size=8),
        st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=30),
        max_size=5,
    )
)
def test_metadata_travels_as_a_header_that_every_server_takes(metadata: dict[str, str]) -> None:
    mail = replace(MAIL, metadata=metadata)
    text = wire(opened(), mail)["headers"]["X-Mailin-custom"]
    assert text.isascii() and "\\u" not in text and max(map(len, text.split())) <= 850
    found = json.loads(text)
    assert found.pop("mailglass_id") == str(ID)
    packed = found.pop("mailglass_metadata", None)
    assert (json.loads(base64.b64decode(packed)) if packed else found) == metadata


def test_metadata_can_be_kept_at_home() -> None:
    mail = replace(MAIL, metadata={"customer": "4711", "blob": "x" * 900})
    assert custom(opened(metadata=False), mail) == {"mailglass_id": str(ID)}


def test_a_dedicated_address_is_asked_for() -> None:
    assert wire(opened(sender_ip="203.0.113.9"), MAIL)["headers"]["sender.ip"] == "203.0.113.9"
    assert "sender.ip" not in wire(opened(), MAIL)["headers"]


def test_a_mail_is_the_same_bytes_at_every_attempt() -> None:
    mail = replace(MAIL, tags=("b", "a"), metadata={"z": "ü", "a": "2"}, cc=(Address("c@example.org"),))
    assert opened().encode(mail) == opened(read_timeout=5.0).encode(replace(mail, headers=()))


def test_every_mail_is_a_request_under_its_own_key(provider: BrevoProvider) -> None:
    part = provider.encode(MAIL)
    request = provider.request([MAIL], [part])
    assert (request.method, request.path, request.body) == ("POST", "/v3/smtp/email", part)
    assert provider.credentials() == {"api-key": "xkeysib"}
    assert provider.mails_per_request == 1


def test_a_key_holds_for_the_shorter_of_the_times_brevo_names() -> None:
    assert (BrevoProvider.idempotent, BrevoProvider.idempotency_window) == (True, 900.0)


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("written", [MESSAGE_ID, MESSAGE_ID.strip("<>")])
def test_an_accepted_mail_keeps_the_id_in_the_form_webhooks_have(
    provider: BrevoProvider, status: int, written: str
) -> None:
    outcomes = provider.read(answer(status, {"messageId": written}), [MAIL])
    assert outcomes == [Outcome(O.ACCEPTED, MESSAGE_ID, status=status)]


CODES = [
    ("invalid_parameter", O.REJECTED),
    ("missing_parameter", O.REJECTED),
    ("out_of_range", O.REJECTED),
    ("document_not_found", O.REJECTED),
    ("duplicate_parameter", O.REJECTED),
    ("method_not_allowed", O.REJECTED),
    ("not_acceptable", O.REJECTED),
    ("unauthorized", O.MISCONFIGURED),
    ("account_under_validation", O.MISCONFIGURED),
    ("permission_denied", O.MISCONFIGURED),
    ("not_enough_credits", O.QUOTA),
]


@pytest.mark.parametrize("status", [400, 402, 403, 409])
@pytest.mark.parametrize(("code", "kind"), CODES)
def test_an_error_is_classed_by_its_code(provider: BrevoProvider, status: int, code: str, kind: OutcomeClass) -> None:
    (outcome,) = provider.read(error(status, code), [MAIL])
    assert (outcome.kind, outcome.reason, outcome.status) == (kind, f"brevo_{code}", status)


def test_no_code_is_mapped_without_a_row_here() -> None:
    assert codes_of(BREVO) == {code for code, _ in CODES}


def test_a_request_that_came_before_is_uncertain_for_its_fate_is_not_told(provider: BrevoProvider) -> None:
    (outcome,) = provider.read(error(400, "duplicate_request"), [MAIL])
    assert outcome == Outcome(O.UNCERTAIN, None, "brevo_duplicate_request", 400)


def test_a_request_that_came_before_is_accepted_where_its_message_id_is_told(provider: BrevoProvider) -> None:
    told = answer(400, {"code": "duplicate_request", "messageId": MESSAGE_ID})
    assert provider.read(told, [MAIL]) == [Outcome(O.ACCEPTED, MESSAGE_ID, "brevo_duplicate_request", 400)]


def test_another_refusal_is_none_the_better_for_a_message_id(provider: BrevoProvider) -> None:
    told = answer(400, {"code": "invalid_parameter", "messageId": MESSAGE_ID})
    assert provider.read(told, [MAIL]) == [Outcome(O.REJECTED, None, "brevo_invalid_parameter", 400)]


@pytest.mark.parametrize("body", [b"<html>", {"code": "new"}, {"code": 7}, [], None])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, O.MISCONFIGURED),
        (400, O.REJECTED),
        (401, O.MISCONFIGURED),
        (402, O.QUOTA),
        (403, O.MISCONFIGURED),
        (404, O.REJECTED),
        (405, O.REJECTED),
        (406, O.REJECTED),
        (413, O.REJECTED),
        (429, O.THROTTLED),
        (502, O.UNCERTAIN),
        (503, O.TRANSIENT),
        (504, O.UNCERTAIN),
    ],
)
def test_an_unknown_error_is_classed_by_its_status(
    provider: BrevoProvider, status: int, kind: OutcomeClass, body: object
) -> None:
    (outcome,) = provider.read(answer(status, body), [MAIL])
    assert (outcome.kind, outcome.reason) == (kind, f"http_{status}")


def test_a_500_is_transient_by_brevos_own_word_only(provider: BrevoProvider) -> None:
    assert provider.read(error(500, "internal_error"), [MAIL])[0].kind is O.TRANSIENT
    assert provider.read(answer(500, b"<html>"), [MAIL])[0].kind is O.UNCERTAIN


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_code_says_nothing_against_a_status_that_it_does_not_belong_to(provider: BrevoProvider, status: int) -> None:
    (outcome,) = provider.read(error(status, "invalid_parameter"), [MAIL])
    assert outcome.kind is not O.REJECTED
    assert provider.read(error(status, "duplicate_request"), [MAIL])[0].kind is not O.ACCEPTED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-sib-ratelimit-reset": "9"}, 9.0),
        ({"retry-after": "3", "x-sib-ratelimit-reset": "9"}, 3.0),
        ({}, None),
    ],
)
def test_a_throttled_answer_waits_until_the_limit_resets(
    provider: BrevoProvider, headers: dict[str, str], seconds: float | None
) -> None:
    (outcome,) = provider.read(error(429, "too_many_requests", headers), [MAIL])
    assert (outcome.kind, outcome.retry_after) == (O.THROTTLED, seconds)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", 7, None, [], {}, {"messageId": ""}, {"messageId": 7}, {"messageIds": [MESSAGE_ID]}]
)
def test_a_good_status_without_a_readable_id_is_uncertain(provider: BrevoProvider, body: object) -> None:
    (outcome,) = provider._read(answer(201, body), [MAIL])
    assert (outcome.kind, outcome.reason) == (O.UNCERTAIN, "answer_unreadable")


def options(**raw: Any) -> BrevoOptions:
    environ = {"KEY": "xkeysib", "A": "a", "B": "b", "EMPTY": " "}
    return build_options(BrevoOptions, {"api_key": "env:KEY", **raw}, "accounts.br", environ)


def test_options_are_built_from_the_accounts_table() -> None:
    built = options(webhook_username="hooks", webhook_passwords=["env:A", "env:B"], webhook_networks="203.0.113.0/24")
    assert built.webhook_passwords == (Secret("a"), Secret("b"))
    assert built.webhook_networks == ("203.0.113.0/24",)
    assert "xkeysib" not in repr(built)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_username": "hooks"}, "webhook_passwords"),
        ({"webhook_passwords": "env:A"}, "webhook_username"),
        ({"webhook_username": "a:b", "webhook_passwords": "env:A"}, "webhook_username"),
        ({"webhook_header": "X-Hook"}, "webhook_header_values"),
        ({"webhook_header_values": "env:A"}, "webhook_header"),
        ({"webhook_header": "X Hook", "webhook_header_values": "env:A"}, "webhook_header"),
        ({"webhook_tokens": "env:A", "webhook_header": "X", "webhook_header_values": "env:B"}, "webhook_header_values"),
        ({"webhook_tokens": "env:A", "webhook_username": "h", "webhook_passwords": "env:B"}, "webhook_tokens"),
        ({"webhook_tokens": "env:EMPTY"}, "webhook_tokens"),
        ({"webhook_networks": "203.0.113.0/99"}, "webhook_networks"),
        ({"sender_ip": "somewhere"}, "sender_ip"),
        ({"base_url": "http://api.brevo.com"}, "base_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**raw)
    assert caught.value.key == f"accounts.br.{key}"
