"""SES's events: one per recipient, by one table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.errors import WebhookBodyError
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent, RejectReason
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.ses.events import EVENTS

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SNS_ID = "19ba9823-d7f2-53c1-860e-cb10e0d13dfc"
K, R = EventKind, RejectReason
HARD, SOFT, UNDETERMINED = BounceClass.HARD, BounceClass.SOFT, BounceClass.UNDETERMINED
PROVIDER = SESProvider("acme", SESOptions(region="eu-west-1"))
MAIL: dict[str, Any] = {
    "timestamp": "2026-03-04T13:28:00.500Z",
    "messageId": "0102018f-77-000000",
    "destination": ["ada@example.com"],
    "tags": {
        "ses:configuration-set": ["events"],
        "mailglass_id": [str(ID)],
        "mailglass_tag_2": ["b64_Z3LDtsOfZXI"],
        "mailglass_tag_1": ["welcome"],
        "order": ["77"],
    },
}


def wrap(content: object, **outer: Any) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content) + "\n"
    fields = {
        "Type": "Notification",
        "MessageId": SNS_ID,
        "Message": text,
        "Timestamp": "2026-03-04T13:30:00.000Z",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:x",
    }
    return json.dumps(fields | outer).encode()


def read(content: object, **outer: Any) -> list[ProviderEvent]:
    return PROVIDER.normalise(wrap(content, **outer), {})


def bounce(kind: str | None, subtype: str = "General", *recipients: dict[str, Any]) -> dict[str, Any]:
    people = list(recipients) or [{"emailAddress": "ada@example.com", "action": "failed", "status": "5.1.1"}]
    return {"bounce": {"bounceType": kind, "bounceSubType": subtype, "bouncedRecipients": people}}


def complaint(kind: str | None, subtype: str | None = None) -> dict[str, Any]:
    people = [{"emailAddress": "ada@example.com"}]
    return {"complaint": {"complainedRecipients": people, "complaintFeedbackType": kind, "complaintSubType": subtype}}


def topics(**status: str) -> dict[str, Any]:
    return {
        "unsubscribeAll": False,
        "topicSubscriptionStatus": [{"topicName": name, "subscriptionStatus": value} for name, value in status.items()],
    }


NO_ROUTE = {"emailAddress": "ada@example.com", "diagnosticCode": "smtp; 550 5.4.4 unable to route"}
ROWS: list[tuple[str, dict[str, Any], EventKind, BounceClass | None, RejectReason | None]] = [
    ("Send", {"send": {}}, K.SENT, None, None),
    ("Delivery", {"delivery": {"recipients": ["ada@example.com"]}}, K.DELIVERED, None, None),
    ("DeliveryDelay", {"deliveryDelay": {"delayType": "MailboxFull"}}, K.DEFERRED, None, None),
    ("Bounce", bounce("Permanent"), K.BOUNCED, HARD, None),
    ("Bounce", bounce("Permanent", "NoEmail"), K.BOUNCED, HARD, None),
    ("Bounce", bounce("Permanent", "Suppressed"), K.REJECTED, None, R.BOUNCED),
    ("Bounce", bounce("Permanent", "OnAccountSuppressionList"), K.REJECTED, None, R.BOUNCED),
    ("Bounce", bounce("Permanent", "UnsubscribedRecipient"), K.REJECTED, None, R.UNSUBSCRIBED),
    ("Bounce", bounce("Transient"), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Transient", "MailboxFull"), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Transient", "MessageTooLarge"), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Transient", "ContentRejected"), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Transient", "AttachmentRejected"), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Transient", "General", NO_ROUTE), K.BOUNCED, SOFT, None),
    ("Bounce", bounce("Undetermined", "Undetermined"), K.BOUNCED, UNDETERMINED, None),
    ("Bounce", bounce("Undetermined", "Undetermined", NO_ROUTE), K.BOUNCED, UNDETERMINED, None),
    ("Bounce", bounce(None), K.BOUNCED, UNDETERMINED, None),
    ("Complaint", complaint("abuse"), K.COMPLAINED, None, None),
    ("Complaint", complaint(None), K.COMPLAINED, None, None),
    ("Complaint", complaint("fraud"), K.COMPLAINED, None, None),
    ("Complaint", complaint("not-spam"), K.UNKNOWN, None, None),
    ("Complaint", complaint(None, "OnAccountSuppressionList"), K.REJECTED, None, R.SPAM),
    ("Reject", {"reject": {"reason": "Bad content"}}, K.REJECTED, None, R.BLOCKED),
    ("Rendering Failure", {"failure": {"errorMessage": "x", "templateName": "t"}}, K.FAILED, None, None),
    ("Open", {"open": {"userAgent": "x"}}, K.OPENED, None, None),
    ("Click", {"click": {"link": "https://example.com/"}}, K.CLICKED, None, None),
    ("Subscription", {"subscription": {"newTopicPreferences": {"unsubscribeAll": True}}}, K.UNSUBSCRIBED, None, None),
    (
        "Subscription",
        {"subscription": {"newTopicPreferences": topics(a="OptOut"), "oldTopicPreferences": topics(a="OptIn")}},
        K.UNSUBSCRIBED,
        None,
        None,
    ),
    (
        "Subscription",
        {
            "subscription": {
                "newTopicPreferences": topics(a="OptIn", b="OptOut"),
                "oldTopicPreferences": topics(a="OptOut", b="OptOut"),
            }
        },
        K.SUBSCRIBED,
        None,
        None,
    ),
    ("Received", {}, K.UNKNOWN, None, None),
    ("Something New", {}, K.UNKNOWN, None, None),
    ("", {}, K.UNKNOWN, None, None),
]


@pytest.mark.parametrize("name", ["eventType", "notificationType"])
@pytest.mark.parametrize(("kind", "part", "event", "bounce_class", "reason"), ROWS)
def test_an_event_is_classed_however_it_is_published(
    name: str,
    kind: str,
    part: dict[str, Any],
    event: EventKind,
    bounce_class: BounceClass | None,
    reason: RejectReason | None,
) -> None:
    (found,) = read({name: kind, "mail": MAIL, **part})
    assert (found.kind, found.bounce_class, found.reject_reason) == (event, bounce_class, reason)


def test_every_event_that_is_mapped_is_tested() -> None:
    assert {kind for kind, _ in EVENTS} <= {row[0] for row in ROWS}
    assert {(meaning.kind, meaning.bounce_class, meaning.reject_reason) for meaning in EVENTS.values()} <= {
        row[2:] for row in ROWS
    }


def test_an_event_keeps_what_matching_and_suppressing_need() -> None:
    part = bounce("Permanent", "General", {"emailAddress": "Ada <ada@example.com>", "status": "5.1.1"})
    part["bounce"]["timestamp"] = "2026-03-04T13:28:50.000Z"
    assert read({"eventType": "Bounce", "mail": MAIL, **part}) == [
        ProviderEvent(
            kind=K.BOUNCED,
            provider_event_id=f"{SNS_ID}.0",
            occurred_at=datetime(2026, 3, 4, 13, 28, 50, tzinfo=UTC),
            delivery_id=ID,
            provider_message_id="0102018f-77-000000",
            recipient="ada@example.com",
            bounce_class=HARD,
            status="5.1.1",
            tags=("welcome", "größer"),
        )
    ]


def test_several_recipients_are_several_events() -> None:
    people = [{"emailAddress": f"{name}@example.com", "status": f"5.1.{n}"} for n, name in enumerate("abc", start=1)]
    found = read({"eventType": "Bounce", "mail": MAIL, **bounce("Permanent", "General", *people)})
    assert [(one.recipient, one.status, one.provider_event_id) for one in found] == [
        ("a@example.com", "5.1.1", f"{SNS_ID}.0"),
        ("b@example.com", "5.1.2", f"{SNS_ID}.1"),
        ("c@example.com", "5.1.3", f"{SNS_ID}.2"),
    ]
    everybody = MAIL | {"destination": ["a@example.com", "b@example.com"]}
    for kind in ("Send", "Reject", "Rendering Failure"):
        assert [one.recipient for one in read({"eventType": kind, "mail": everybody})] == everybody["destination"]


def test_an_open_by_one_of_several_is_one_event_about_nobody_in_particular() -> None:
    everybody = MAIL | {"destination": ["a@example.com", "b@example.com"]}
    for kind in ("Open", "Click"):
        (found,) = read({"eventType": kind, "mail": everybody})
        assert found.recipient is None and found.delivery_id == ID
        (one,) = read({"eventType": kind, "mail": MAIL})
        assert one.recipient == "ada@example.com"


def test_the_time_is_the_events_else_the_mails_else_the_posts() -> None:
    def at(part: dict[str, Any], mail: dict[str, Any]) -> datetime | None:
        return read({"eventType": "Open", "mail": mail, "open": part})[0].occurred_at

    own = {"timestamp": "2026-03-04T13:29:00.000Z"}
    assert at(own, MAIL) == datetime(2026, 3, 4, 13, 29, tzinfo=UTC)
    assert at({}, MAIL) == datetime(2026, 3, 4, 13, 28, 0, 500_000, tzinfo=UTC)
    assert at({"timestamp": "never"}, {}) == datetime(2026, 3, 4, 13, 30, tzinfo=UTC)


def test_a_delivery_is_known_by_its_header_where_there_are_no_tags() -> None:
    headers = [{"name": "Subject", "value": "x"}, {"name": "X-Mailglass-Id", "value": str(ID)}]
    for mail in ({"headers": headers}, {"headers": headers, "tags": {"mailglass_id": ["x"]}}):
        assert read({"notificationType": "Bounce", "mail": mail})[0].delivery_id == ID
    assert read({"notificationType": "Bounce", "mail": {"headers": headers[:1]}})[0].delivery_id is None


def test_a_click_keeps_a_digest_of_its_target_only() -> None:
    (found,) = read({"eventType": "Click", "mail": MAIL, "click": {"link": "https://example.com/?token=s3cret"}})
    assert found.click_hash is not None and len(found.click_hash) == 64
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_message_about_a_subscription_holds_no_event(kind: str) -> None:
    assert read("You have chosen to subscribe", Type=kind, Token="t") == []


def test_a_greeting_of_ses_holds_no_event() -> None:
    assert read("Successfully validated SNS topic for Amazon SES event publishing.") == []
    assert read({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have successfully…"}) == []


@pytest.mark.parametrize("content", ["", "Hello", "[]", "7", "null", "[" * 100_000])
def test_a_notification_of_something_else_is_a_body_error(content: str) -> None:
    with pytest.raises(WebhookBodyError):
        read(content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b"\xff",
        b'{"Type":"Notification"}',
        b'{"Type":"x","Message":"{}","MessageId":"1"}',
        b'{"eventType":"Send","mail":{}}',
        b'{"Type":"Notification","Message":"{}"}',
        b'{"Type":"Notification","Message":{},"MessageId":"1"}',
    ],
)
def test_body_that_is_no_message_of_sns_is_an_error(body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        PROVIDER.normalise(body, {})


def test_a_poisoned_recipient_sinks_no_other() -> None:
    good = {"emailAddress": "ada@example.com", "status": "5.1.1"}
    poison: list[Any] = [None, 7, [], {}, {"emailAddress": 7}, {"emailAddress": "<"}, {"status": {"a": 1}}, "x\x00@y"]
    people = [part for bad in poison for part in (good, bad)]
    found = read(
        {"eventType": "Bounce", "mail": MAIL, "bounce": {"bounceType": "Permanent", "bouncedRecipients": people}}
    )
    assert len(found) == len(people)
    assert {one.recipient for one in found[::2]} == {"ada@example.com"}
    assert {one.recipient for one in found[1::2]} == {None}
    assert len({one.provider_event_id for one in found}) == len(people)


@pytest.mark.parametrize("broken", [None, 7, "x", [], {"destination": 7}, {"tags": 7}, {"tags": {"mailglass_id": 7}}])
def test_a_mail_in_another_form_leaves_the_event_standing(broken: Any) -> None:
    (found,) = read({"eventType": "Delivery", "mail": broken, "delivery": {"recipients": ["ada@example.com"]}})
    assert (found.kind, found.recipient, found.delivery_id) == (K.DELIVERED, "ada@example.com", None)


def test_unknown_event_is_warned_of_by_its_name() -> None:
    seen: list[dict[str, telemetry.Value]] = []
    end = telemetry.subscribe(lambda _, fields: seen.append(fields))
    try:
        read({"eventType": "New", "mail": MAIL})
        read({"eventType": "ada@example.com", "mail": MAIL})
        read({"eventType": "Complaint", "mail": MAIL, **complaint("not-spam")})
        read({"eventType": "Open", "mail": MAIL})
    finally:
        end()
    assert [(fields["reason"], fields["account"]) for fields in seen] == [
        ("New", "acme"),
        ("unnamed", "acme"),
        ("Complaint.not-spam", "acme"),
    ]


def test_the_same_message_again_tells_the_same_events() -> None:
    body = wrap({"eventType": "Bounce", "mail": MAIL, **bounce("Transient")})
    assert PROVIDER.normalise(body, {}) == PROVIDER.normalise(body, {})


@given(st.permutations(["a@example.com", "b@example.com", "c@example.com"]))
def test_the_order_of_the_recipients_changes_no_more_than_their_numbers(people: list[str]) -> None:
    found = read({"eventType": "Delivery", "mail": MAIL, "delivery": {"recipients": people}})
    assert {one.recipient for one in found} == set(people)
    assert [one.provider_event_id for one in found] == [f"{SNS_ID}.{number}" for number in range(3)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    "eventType notificationType mail bounce complaint delivery deliveryDelay open click subscription reject "
    "bouncedRecipients complainedRecipients bounceType bounceSubType complaintFeedbackType complaintSubType "
    "destination tags headers messageId timestamp mailglass_id newTopicPreferences topicSubscriptionStatus".split()
)
words = st.sampled_from(sorted({word for pair in EVENTS for word in pair}))
nested = st.recursive(
    words | json_values,
    lambda inner: st.dictionaries(names, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@given(st.binary(max_size=100) | st.text(max_size=50).map(str.encode) | nested.map(wrap))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        found = PROVIDER.normalise(body, {})
    except WebhookBodyError:
        return
    assert all(isinstance(event, ProviderEvent) and event.provider_event_id for event in found)
