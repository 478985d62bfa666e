"""SparkPost: what reaches the wire, and what its answers mean."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
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
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.http_provider import Unsendable
from mailglass.providers.registry import provider_class
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.refusals.answer_rows import SPARKPOST
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
O = OutcomeClass  # noqa: E741


def opened(**more: Any) -> SparkPostProvider:
    return SparkPostProvider("acme-sp", SparkPostOptions(api_key=Secret("key"), **more))


PROVIDER = opened()


def wire(mail: Outgoing, provider: SparkPostProvider = PROVIDER) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provider.encode(mail))
    return found


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> HTTPAnswer:
    return HTTPAnswer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def read(status: int, body: object, headers: dict[str, str] | None = None) -> Outcome:
    (outcome,) = PROVIDER.read(answer(status, body, headers), [MAIL])
    return outcome


def test_the_room_is_found_by_its_entry_point() -> None:
    assert provider_class("sparkpost") is SparkPostProvider


def test_a_plain_mail_says_only_what_it_has() -> None:
    assert wire(MAIL) == {
        "options": {"transactional": True, "perform_substitutions": False},
        "recipients": [{"address": {"email": "ada@example.com"}, "metadata": {"mailglass_id": str(ID)}}],
        "content": {"from": {"email": "shop@example.org"}, "subject": "Your order", "text": "Thank you."},
    }


def test_everything_a_mail_can_say_reaches_the_wire() -> None:
    mail = replace(
        MAIL,
        recipient=Address("ada@xn--bcher-kva.example", 'Ada "the first", Countess'),
        sender=Address("shop@example.org", "Müller & Söhne"),
        html="<p>Danke, {{name}} 世界</p>",
        reply_to=(Address("help@example.org"), Address("desk@example.org", "Désk")),
        cc=(Address("c1@example.org"), Address("c2@example.org", "Zoë"), Address("C1@example.org")),
        bcc=(Address("b@example.org", "B"), Address("c1@example.org"), Address("ADA@xn--bcher-kva.example")),
        headers=(("X-One", "1"), ("X-Two", "zwei ü")),
        tags=("welcome", "a", "welcome"),
        metadata={"order": "77"},
        attachments=(
            Attachment("Rechnung für Ada.pdf", b"\x00\xffpdf", "application/pdf"),
            Attachment("logo.png", b"png", "image/png", "logo"),
        ),
        options={
            "sparkpost": {"campaign_id": "spring", "options": {"click_tracking": False, "ip_pool": "vip"}},
            "postmark": {"TrackOpens": True},
        },
    )
    shared = {"metadata": {"mailglass_id": str(ID), "order": "77"}, "tags": ["welcome", "a"]}
    name = 'Ada "the first", Countess'
    copied = {"header_to": "ada@xn--bcher-kva.example", "name": name}
    account = opened(ip_pool="pool", return_path="bounces@mail.example.org", open_tracking=True, click_tracking=True)
    assert wire(mail, account) == {
        "return_path": "bounces@mail.example.org",
        "campaign_id": "spring",
        "options": {
            "ip_pool": "vip",
            "open_tracking": True,
            "click_tracking": False,
            "transactional": True,
            "perform_substitutions": False,
        },
        "recipients": [
            {"address": {"email": "ada@xn--bcher-kva.example", "name": name}, **shared},
            {"address": {"email": "c1@example.org", **copied}, **shared},
            {"address": {"email": "c2@example.org", **copied}, **shared},
            {"address": {"email": "b@example.org", **copied}, **shared},
        ],
        "content": {
            "from": {"email": "shop@example.org", "name": "Müller & Söhne"},
            "subject": "Your order",
            "text": "Thank you.",
            "html": "<p>Danke, {{name}} 世界</p>",
            "reply_to": 'help@example.org, "Désk" <desk@example.org>',
            "headers": {"X-One": "1", "X-Two": "zwei ü", "CC": 'c1@example.org, "Zoë" <c2@example.org>'},
            "attachments": [
                {
                    "type": "application/pdf",
                    "name": "Rechnung für Ada.pdf",
                    "data": base64.b64encode(b"\x00\xffpdf").decode(),
                }
            ],
            "inline_images": [{"type": "image/png", "name": "logo", "data": "cG5n"}],
        },
    }


def test_blind_copies_are_shown_to_no_recipient() -> None:
    found = wire(replace(MAIL, bcc=(Address("b@example.org"),)))
    assert "b@example.org" not in json.dumps(found["content"])
    assert found["recipients"][1]["address"] == {"email": "b@example.org", "header_to": "ada@example.com"}


@pytest.mark.parametrize(("stream", "transactional"), [("transactional", True), ("operational", True), ("bulk", False)])
def test_the_stream_says_which_of_sparkposts_two_lists_applies(stream: str, transactional: bool) -> None:
    assert wire(replace(MAIL, stream=stream))["options"]["transactional"] is transactional


def test_a_mails_own_options_go_before_the_accounts() -> None:
    chosen = {"return_path": "own@example.org", "options": {"transactional": False, "perform_substitutions": True}}
    account = opened(return_path="bounces@example.org")
    found = wire(replace(MAIL, options={"sparkpost": chosen}), account)
    assert found["return_path"] == "own@example.org"
    assert found["options"] == {"transactional": False, "perform_substitutions": True}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": (("X-A", "1"), ("x-a", "2"))}, "unsupported_repeated_headers"),
        ({"options": {"sparkpost": {"recipients": [{"address": "spy@example.org"}]}}}, "option_conflict"),
        ({"options": {"sparkpost": {"Content": {"template_id": "x"}}}}, "option_conflict"),
        ({"options": {"sparkpost": {"metadata": {"mailglass_id": "other"}}}}, "option_conflict"),
        ({"options": {"sparkpost": ["sandbox"]}}, "invalid_options"),
        ({"options": {"sparkpost": {"options": ["sandbox"]}}}, "invalid_options"),
        ({"options": {"sparkpost": {"options": {"sandbox": object()}}}}, "invalid_options"),
        ({"subject": "half a pair \ud83d"}, "invalid_text"),
        ({"attachments": (Attachment("ü" * 128, b"x", "text/plain"),)}, "unsupported_file_name"),
    ],
)
def test_mail_that_sparkpost_cannot_carry_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsendable) as caught:
        PROVIDER.encode(replace(MAIL, **change))
    assert caught.value.reason == reason


def test_our_id_counts_towards_the_size_of_the_metadata() -> None:
    mail = replace(MAIL, metadata={"order": "77"})
    exact = len(json.dumps({"mailglass_id": str(ID), "order": "77"}, separators=(",", ":")))
    assert opened(max_metadata=exact).fitting(mail) is mail
    assert opened(max_metadata=exact - 1).fitting(mail).metadata == {}


def test_each_mail_is_a_transmission_with_the_key_and_the_subaccount() -> None:
    request = PROVIDER.request([MAIL], [PROVIDER.encode(MAIL)])
    assert (request.method, request.path) == ("POST", "/api/v1/transmissions/?num_rcpt_errors=3")
    assert json.loads(request.body) == wire(MAIL)
    assert PROVIDER.mails_per_request == 1
    assert PROVIDER.credentials() == {"authorization": "key"}
    assert opened(subaccount=0).credentials() == {"authorization": "key", "x-msys-subaccount": "0"}


def test_mails_are_the_same_bytes_at_every_attempt_but_sparkpost_takes_them_twice() -> None:
    assert PROVIDER.encode(MAIL) == PROVIDER.encode(replace(MAIL))
    assert PROVIDER.idempotent is False


def results(accepted: object, rejected: object, **more: Any) -> dict[str, Any]:
    counts = {"total_accepted_recipients": accepted, "total_rejected_recipients": rejected}
    return {"results": {"id": "65832150921904138", **counts, **more}}


def test_a_transmission_that_took_everybody_is_accepted_under_its_id() -> None:
    accepted = Outcome(O.ACCEPTED, "65832150921904138", status=200)
    assert read(200, results(1, 0)) == accepted
    assert read(200, results(3, 0) | {"errors": [{"code": "2000", "message": "with validation errors"}]}) == accepted
    assert read(200, {"results": {"id": 65832150921904138}}) == accepted


def test_a_transmission_that_took_nobody_is_rejected() -> None:
    assert read(200, results(0, 1)) == Outcome(O.REJECTED, "65832150921904138", reason="recipients_refused", status=200)
    errors = [{"message": "required field is missing", "code": "1400"}]
    assert read(200, results(0, 1, rcpt_to_errors=errors)).reason == "sparkpost_1400"
    suppressed = [{"message": "rejected", "code": "1902", "description": "recipient address suppressed"}]
    assert read(200, results(0, 2, rcpt_to_errors=suppressed)).kind is O.SUPPRESSED


def test_a_transmission_that_took_some_does_not_tell_whom_and_is_uncertain() -> None:
    assert read(200, results(1, 1)) == Outcome(
        O.UNCERTAIN, "65832150921904138", reason="recipients_refused_in_part", status=200
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        7,
        None,
        [],
        {},
        {"results": []},
        {"results": {}},
        {"results": {"id": ""}},
        {"results": {"id": True, "total_accepted_recipients": True}},
    ],
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_good_status_without_a_readable_result_is_uncertain(status: int, body: object) -> None:
    assert read(status, body) == Outcome(O.UNCERTAIN, reason="answer_unreadable", status=status)


def errors(code: object, description: str = "") -> dict[str, Any]:
    item = {"message": "no", "code": code} | ({"description": description} if description else {})
    return {"errors": [item]}


CODES = [
    (403, "1100", O.MISCONFIGURED),
    (404, "1101", O.REJECTED),
    (405, "1102", O.REJECTED),
    (400, "1200", O.REJECTED),
    (422, "1300", O.REJECTED),
    (401, "1303", O.MISCONFIGURED),
    (401, "1304", O.MISCONFIGURED),
    (422, "1400", O.REJECTED),
    (500, "1500", O.TRANSIENT),
    (400, "1502", O.TRANSIENT),
    (404, "1600", O.REJECTED),
    (403, "1601", O.MISCONFIGURED),
    (409, "1602", O.REJECTED),
    (415, "1700", O.REJECTED),
    (503, "1900", O.TRANSIENT),
    (400, "1901", O.REJECTED),
    (400, "1902", O.REJECTED),
    (400, "1910", O.MISCONFIGURED),
    (420, "2101", O.QUOTA),
    (420, "2102", O.QUOTA),
    (420, "2103", O.QUOTA),
    (422, "3000", O.REJECTED),
    (400, "3005", O.QUOTA),
    (420, "3005", O.QUOTA),
    (400, "5002", O.REJECTED),
    (400, "7000", O.MISCONFIGURED),
    (400, "7001", O.MISCONFIGURED),
    (400, "99999", O.REJECTED),
]


@pytest.mark.parametrize(("status", "code", "kind"), CODES)
@pytest.mark.parametrize("form", [str, int])
def test_an_error_code_decides_before_the_status(status: int, code: str, kind: OutcomeClass, form: type) -> None:
    outcome = read(status, errors(form(code)))
    assert (outcome.kind, outcome.reason, outcome.status) == (kind, f"sparkpost_{code}", status)


def test_no_error_code_is_mapped_without_a_row_here() -> None:
    assert codes_of(SPARKPOST) <= {code for _, code, _ in CODES}


def test_only_a_refusal_that_speaks_of_the_recipient_is_suppressed() -> None:
    assert read(400, errors("1902", "recipient address suppressed due to customer policy")).kind is O.SUPPRESSED
    assert read(400, errors("1902", "Message was rejected by a content policy")).kind is O.REJECTED


def test_the_first_code_that_is_known_decides() -> None:
    body = {"errors": [{"code": "1300"}, {"code": "7001"}]}
    assert (read(400, body).kind, read(400, body).reason) == (O.MISCONFIGURED, "sparkpost_7001")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, O.MISCONFIGURED),
        (400, O.REJECTED),
        (401, O.MISCONFIGURED),
        (403, O.MISCONFIGURED),
        (404, O.REJECTED),
        (405, O.REJECTED),
        (409, O.REJECTED),
        (413, O.REJECTED),
        (415, O.REJECTED),
        (420, O.QUOTA),
        (422, O.REJECTED),
        (429, O.THROTTLED),
        (500, O.UNCERTAIN),
        (502, O.UNCERTAIN),
        (503, O.TRANSIENT),
        (504, O.UNCERTAIN),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", [], {"errors": "no"}, {"errors": []}, {"errors": [7]}])
def test_an_answer_without_sparkposts_own_words_is_read_by_its_status(
    status: int, kind: OutcomeClass, body: object
) -> None:
    assert (read(status, body).kind, read(status, body).reason) == (kind, f"http_{status}")


def test_a_500_in_sparkposts_own_words_took_nothing_and_may_work_later() -> None:
    assert read(500, {"errors": [{"message": "Unable to send"}]}) == Outcome(O.TRANSIENT, reason="http_500", status=500)


def test_a_throttled_mail_waits_one_to_five_seconds_or_as_long_as_the_answer_says() -> None:
    assert read(429, {"errors": [{"message": "Too many requests"}]}) == Outcome(
        O.THROTTLED, reason="http_429", status=429, retry_after=5.0
    )
    assert read(429, b"", {"retry-after": "2"}).retry_after == 2.0


def test_a_used_up_allowance_carries_the_wait_the_answer_names() -> None:
    assert read(420, errors("2101"), {"retry-after": "60"}).retry_after == 60.0
    assert read(420, errors("2101")).retry_after is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(
    "errors results code description id total_accepted_recipients total_rejected_recipients rcpt_to_errors".split()
)


@given(st.integers(100, 599), json_values | st.dictionaries(words, st.dictionaries(words, json_values) | json_values))
def test_any_answer_is_one_outcome(status: int, body: Any) -> None:
    outcome = read(status, body)
    assert outcome.provider_message_id is None or outcome.provider_message_id.isprintable()
    assert outcome.kind is not O.ACCEPTED or 200 <= status < 300


def options(**raw: Any) -> SparkPostOptions:
    environ = {"KEY": "k", "PW": "p", "TOK": "t"}
    return build_options(SparkPostOptions, {"api_key": "env:KEY", **raw}, "accounts.sp", environ)


def test_options_are_built_from_the_accounts_table() -> None:
    built = options(webhook_tokens=["env:TOK"], subaccount=7, open_tracking=False, webhook_header="X-Api-Key")
    assert (built.webhook_tokens, built.subaccount, built.open_tracking) == ((Secret("t"),), 7, False)
    assert "Secret(env:KEY)" in repr(built)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"webhook_username": "hooks"}, "webhook_passwords"),
        ({"webhook_passwords": "env:PW"}, "webhook_username"),
        ({"webhook_username": "a:b", "webhook_passwords": "env:PW"}, "webhook_username"),
        ({"webhook_header": "X Api"}, "webhook_header"),
        ({"webhook_header": ""}, "webhook_header"),
        ({"subaccount": -1}, "subaccount"),
        ({"subaccount": "7"}, "subaccount"),
        ({"return_path": "example.org"}, "return_path"),
        ({"max_metadata": 0}, "max_metadata"),
        ({"base_url": "http://api.sparkpost.com"}, "base_url"),
    ],
)
def test_contradicting_options_are_refused_when_the_account_is_opened(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**raw)
    assert caught.value.key == f"accounts.sp.{key}"
