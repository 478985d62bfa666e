"""SES end to end against the lab: signed requests in, events by SNS back, verified with the lab's own certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.providers.base import Provider
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from tests.provider_lab import Lab, mail, provider_lab, send

K, O = EventKind, OutcomeClass  # noqa: E741
SECRETS = {"LAB_ID": "AKIALAB", "LAB_KEY": "lab/secret+key", "LAB_PW": "hook-pw-51"}
ARGUMENTS = [
    "--open-rate",
    "0",
    "--webhook-password",
    "env:LAB_PW",
    "--account",
    "acme-ses=ses",
    "--secret",
    "acme-ses.access_key_id=env:LAB_ID",
    "--secret",
    "acme-ses.secret_access_key=env:LAB_KEY",
]


def account(ready: dict[str, Any], secret: str = SECRETS["LAB_KEY"]) -> SESProvider:
    told = ready["accounts"]["acme-ses"]
    options = SESOptions(
        region="us-east-1",
        access_key_id=Secret(SECRETS["LAB_ID"]),
        secret_access_key=Secret(secret),
        endpoint_url=f"{ready['http_url']}/acme-ses",
        topic_arns=(told["topic_arn"],),
        read_timeout=30.0,
    )
    return SESProvider("acme-ses", options, {told["certificate_url"]: told["certificate"].encode()}.__getitem__)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    def accounts(ready: dict[str, Any]) -> dict[str, Provider]:
        return {"ses": account(ready)}

    with provider_lab(*ARGUMENTS, secrets=SECRETS, accounts=accounts) as lab:
        yield lab


@pytest.fixture
def ses(lab: Lab) -> SESProvider:
    provider = lab.providers["ses"]
    assert isinstance(provider, SESProvider)
    return provider


@pytest.fixture
def stranger(lab: Lab) -> Iterator[SESProvider]:
    """The account with another key."""
    provider = account(lab.process.ready, secret="another")
    yield provider
    provider.close()


def send_one(lab: Lab, recipient: str, **more: Any) -> tuple[UUID, Outcome]:
    one = mail(recipient, **more)
    (outcome,) = send(lab.providers["ses"], one)
    return one.delivery_id, outcome


def events_of(lab: Lab, delivery_id: UUID, *kinds: EventKind) -> list[ProviderEvent]:
    """Return a mail's events, once these are among them."""
    lab.wait_for(lambda: set(kinds) <= set(lab.kinds(delivery_id)))
    return lab.about(delivery_id)


def test_a_mail_is_accepted_and_its_events_come_back_by_its_id(lab: Lab) -> None:
    delivery_id, outcome = send_one(
        lab,
        "sunny@example.com",
        html="<p>ü</p>",
        tags=("wälcome",),
        metadata={"order": "7 7"},
        attachments=(Attachment("ä.txt", b"x"),),
        bcc=(Address("b@example.com"),),
    )
    assert outcome.kind is O.ACCEPTED
    events = events_of(lab, delivery_id, K.SENT, K.DELIVERED)
    assert {event.provider_message_id for event in events} == {outcome.provider_message_id}
    assert {event.recipient for event in events} == {"sunny@example.com"}
    assert lab.refused == 0


@pytest.mark.parametrize(
    ("marker", "kind", "bounce_class"),
    [
        ("bounce", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox", K.BOUNCED, BounceClass.SOFT),
        ("slow", K.DEFERRED, None),
        ("complains", K.COMPLAINED, None),
        ("suppressed", K.REJECTED, None),
    ],
)
def test_fate_of_a_mail_is_told(lab: Lab, marker: str, kind: EventKind, bounce_class: BounceClass | None) -> None:
    delivery_id, outcome = send_one(lab, f"{marker}.{uuid4().hex}@example.com")
    assert outcome.kind is O.ACCEPTED
    events = events_of(lab, delivery_id, kind)
    assert {event.bounce_class for event in events if event.kind is kind} == {bounce_class}


def test_an_event_posted_twice_is_one_event(lab: Lab) -> None:
    delivery_id, _ = send_one(lab, f"twice.{uuid4().hex}@example.com")
    lab.wait_for(lambda: len(lab.about(delivery_id)) >= 4)
    events = lab.about(delivery_id)
    assert len(events) == 4 and len({event.provider_event_id for event in events}) == 2


def test_weather_is_classed(lab: Lab) -> None:
    name = uuid4().hex
    assert send_one(lab, f"throttled.{name}@example.com")[1].kind is O.THROTTLED
    assert send_one(lab, f"outage.{name}@example.com")[1].kind is O.TRANSIENT
    delivery_id, lost = send_one(lab, f"silence.{name}@example.com")
    assert (lost.kind, lost.reason) == (O.UNCERTAIN, "answer_lost")
    # the evidence that settles it
    assert events_of(lab, delivery_id, K.SENT)


def test_a_request_signed_with_another_key_is_refused(stranger: SESProvider) -> None:
    (outcome,) = send(stranger, mail("sunny@example.com"))
    assert (outcome.kind, outcome.reason) == (O.MISCONFIGURED, "ses_InvalidSignatureException")
    with pytest.raises(ProviderCallError) as error:
        stranger.send_quota()
    assert (error.value.status, error.value.retryable) == (403, False)


def test_a_webhook_changed_on_its_way_is_refused(lab: Lab, ses: SESProvider) -> None:
    delivery_id, _ = send_one(lab, "sunny@example.com")
    events_of(lab, delivery_id, K.DELIVERED)
    request = next(posted.request for posted in lab.requests if b"sunny@" in posted.request.body)
    ses.verify(request)
    with pytest.raises(SignatureError):
        ses.verify(replace(request, body=request.body.replace(b"sunny@", b"rainy@")))


def test_the_quota_is_read(ses: SESProvider) -> None:
    quota = ses.send_quota()
    assert (quota.per_second, quota.per_day, quota.enabled) == (14.0, 50000.0, True)


def test_the_granted_rate_is_told_and_never_raises(ses: SESProvider, stranger: SESProvider) -> None:
    assert ses.granted_rate() == 14.0
    assert stranger.granted_rate() is None


def test_the_suppression_list_is_read_page_by_page_and_changed(ses: SESProvider) -> None:
    listed = ses.suppression_list()
    entries = [
        ListedAddress("ada@example.com", "hard_bounce"),
        ListedAddress("o'brien+x/y@example.com", "complaint"),
        ListedAddress("carl@example.com", "hard_bounce"),
        ListedAddress("dora@example.com", "unsubscribe"),
        ListedAddress("nobody", "hard_bounce"),
    ]
    assert listed.push(entries) == [True, True, True, False, False]
    first, cursor = listed.pull(None)
    assert len(first) == 2 and cursor
    second, end = listed.pull(cursor)
    assert end is None
    assert {(entry.address, entry.reason) for entry in first + second} == {
        ("ada@example.com", "hard_bounce"),
        ("o'brien+x/y@example.com", "complaint"),
        ("carl@example.com", "hard_bounce"),
    }
    assert all(entry.created_at and entry.created_at.tzinfo for entry in first)
    assert listed.remove(["o'brien+x/y@example.com", "ada@example.com", "never@example.com"]) == [True, True, True]
    left, _ = listed.pull(None)
    assert [entry.address for entry in left] == ["carl@example.com"]
