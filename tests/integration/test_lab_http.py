"""The lab as a real child process: sent to by the provider rooms, and listened to as mailglass would."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.base import Provider
from mailglass.providers.postmark import PostmarkOptions, PostmarkProvider
from mailglass.providers.sendgrid import SendGridOptions, SendGridProvider
from mailglass.settings import Secret
from tests.provider_lab import PATIENCE, Lab, attempt, lab_process, mail, provider_lab, send

SECRETS = {"LAB_PM": "pm-token", "LAB_SG": "sg-key", "LAB_PW": "hook-pw-51"}
ARGUMENTS = [
    "--postmark-account",
    "acme-postmark",
    "--postmark-token",
    "env:LAB_PM",
    "--webhook-username",
    "hooks",
    "--webhook-password",
    "env:LAB_PW",
    "--sendgrid-account",
    "acme-sendgrid",
    "--sendgrid-key",
    "env:LAB_SG",
]
K, O = EventKind, OutcomeClass  # noqa: E741


def opened(ready: dict[str, Any]) -> dict[str, Provider]:
    postmark = PostmarkOptions(
        server_token=Secret("pm-token"),
        base_url=ready["http_url"],
        webhook_username="hooks",
        webhook_passwords=(Secret("hook-pw-51"),),
    )
    sendgrid = SendGridOptions(
        api_key=Secret("sg-key"), base_url=ready["http_url"], webhook_public_keys=(ready["sendgrid_public_key"],)
    )
    return {
        "postmark": PostmarkProvider("acme-postmark", postmark),
        "sendgrid": SendGridProvider("acme-sendgrid", sendgrid),
    }


def running(*arguments: str) -> AbstractContextManager[Lab]:
    return provider_lab(*ARGUMENTS, *arguments, secrets=SECRETS, accounts=opened)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running() as lab:
        yield lab


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_mails_are_accepted_counted_once_and_their_events_come_back_to_them(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    mails = [mail(f"sunny.{number}@example.com") for number in range(12)]
    outcomes = send(provider, *mails)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}

    def told() -> bool:
        return all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails)

    lab.wait_for(told)
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for _, event in lab.events:
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None
    assert lab.refused == 0
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert (counts["accepted"], counts["deliveries"], counts["repeated"]) == (12, 12, 0)
    assert counts["accounts"] == {provider.account: 12}


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, None),
        ("complains@example.com", K.COMPLAINED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Lab, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    provider = lab.providers[name]
    one = mail(recipient)
    assert attempt(provider, one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = [event for _, event in lab.events if event.kind is expected]
    assert event.recipient == recipient
    if bounce_class is not None:
        assert event.bounce_class is bounce_class


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
@pytest.mark.parametrize(
    ("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.example", O.TRANSIENT)]
)
def test_a_refusal_meets_the_first_attempt_only(lab: Lab, name: str, recipient: str, first: OutcomeClass) -> None:
    provider = lab.providers[name]
    one = mail(recipient)
    (outcome,) = send(provider, one)
    assert outcome.kind is first
    assert (outcome.retry_after is not None) == (first is O.THROTTLED)
    assert lab.counts()["accepted"] == 0
    assert attempt(provider, one) == [O.ACCEPTED]
    assert lab.received() == {str(one.delivery_id): 1}


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_lost_answer_is_uncertain_although_the_mail_was_accepted(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    one, other = mail("silence@x.example"), mail("sunny@x.example")
    assert attempt(provider, one) == [O.UNCERTAIN]
    assert lab.received() == {str(one.delivery_id): 1}
    # evidence: the mail's own events tell that it was sent
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    assert attempt(provider, other) == [O.ACCEPTED]


def test_a_lost_answer_makes_every_mail_of_the_batch_uncertain(lab: Lab) -> None:
    mails = [mail("sunny@x.example"), mail("silence@x.example")]
    assert attempt(lab.providers["postmark"], *mails) == [O.UNCERTAIN, O.UNCERTAIN]
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}


def test_postmark_refuses_a_recipient_that_bounced_hard_before(lab: Lab) -> None:
    assert attempt(lab.providers["postmark"], mail("bounce@x.example"), mail("sunny@x.example")) == [
        O.ACCEPTED,
        O.ACCEPTED,
    ]
    assert attempt(lab.providers["postmark"], mail("bounce@x.example"), mail("sunny@x.example")) == [
        O.SUPPRESSED,
        O.ACCEPTED,
    ]
    assert attempt(lab.providers["postmark"], mail("bounce@x.example")) == [O.SUPPRESSED]
    assert attempt(lab.providers["postmark"], mail("suppressed@x.example")) == [O.SUPPRESSED]


def test_sendgrid_accepts_and_drops_a_recipient_on_its_list(lab: Lab) -> None:
    one = mail("suppressed@x.example")
    assert attempt(lab.providers["sendgrid"], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.REJECTED in lab.kinds(one.delivery_id))


def test_mail_that_a_batch_cannot_carry_is_rejected_alone(lab: Lab) -> None:
    bad = mail("a@x.example", cc=tuple(Address(f"c{number}@example.com") for number in range(60)))
    assert attempt(lab.providers["postmark"], mail("sunny@x.example"), bad) == [O.ACCEPTED, O.REJECTED]
    refused = mail("a@x.example", options={"postmark": {"Tag": "two"}})
    outcomes = send(lab.providers["postmark"], refused, mail("sunny@x.example"))
    assert [outcome.kind for outcome in outcomes] == [O.REJECTED, O.ACCEPTED]
    assert outcomes[0].reason == "option_conflict"


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_wrong_credentials_are_misconfigured_and_nothing_is_accepted(lab: Lab, name: str) -> None:
    provider: Provider
    if name == "postmark":
        provider = PostmarkProvider("p", PostmarkOptions(server_token=Secret("other"), base_url=lab.url))
    else:
        provider = SendGridProvider("s", SendGridOptions(api_key=Secret("other"), base_url=lab.url))
    assert attempt(provider, mail("sunny@x.example"), mail("sunny@x.example")) == [O.MISCONFIGURED] * 2
    provider.close()
    assert lab.counts()["accepted"] == 0


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_duplicated_event_keeps_its_identity(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    assert attempt(provider, mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_late_events_come_in_the_wrong_order_with_the_right_times(name: str) -> None:
    with running("--open-rate", "1", "--event-delay", "0.2") as lab:
        provider = lab.providers[name]
        one = mail("late@x.example")
        assert attempt(provider, one) == [O.ACCEPTED]
        lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
        events = [event for _, event in lab.events if event.kind in (K.OPENED, K.DELIVERED)]
        assert [event.kind for event in events] == [K.OPENED, K.DELIVERED]
        assert events[0].occurred_at is not None and events[1].occurred_at is not None
        assert events[0].occurred_at >= events[1].occurred_at


@pytest.mark.parametrize("name", ["postmark", "sendgrid"])
def test_a_webhook_that_is_not_acknowledged_is_posted_again(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    lab.status = lambda posted: 503 if posted.tries == 1 else 200
    one = mail("sunny@x.example")
    assert attempt(provider, one) == [O.ACCEPTED]
    if name == "postmark":
        lab.wait_for(lambda: any(posted.tries >= 2 for posted in lab.requests))
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_posted"] > counts["webhooks_acknowledged"]


def test_a_403_stops_a_webhook_as_postmark_does(lab: Lab) -> None:
    lab.status = lambda posted: 403
    assert attempt(lab.providers["postmark"], mail("sunny@x.example")) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_refused"] > 0 and counts["webhooks_pending"] == 0)
    assert counts["webhooks_acknowledged"] == 0


def test_paused_webhooks_are_held_back_and_come_later(lab: Lab) -> None:
    httpx.post(f"{lab.url}/lab/pause", trust_env=False)
    one = mail("bounce@x.example")
    assert attempt(lab.providers["postmark"], one) == [O.ACCEPTED]
    assert lab.counts()["webhooks_pending"] > 0
    assert lab.counts()["webhooks_posted"] == 0
    httpx.post(f"{lab.url}/lab/resume", trust_env=False)
    lab.wait_for(lambda: K.BOUNCED in lab.kinds(one.delivery_id))


def test_a_forged_webhook_is_refused(lab: Lab) -> None:
    assert attempt(lab.providers["sendgrid"], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: bool(lab.events))
    body = lab.requests[0].request.body
    forged = {"x-twilio-email-event-webhook-signature": "MAUCAQECAQE=", "x-twilio-email-event-webhook-timestamp": "1"}
    assert httpx.post(f"{lab.webhooks}/acme-sendgrid", content=body, headers=forged, trust_env=False).status_code == 401


def test_the_smtp_server_counts_in_the_same_book() -> None:
    import smtplib

    with running("--smtp-port", "0", "--smtp-account", "acme-smtp") as lab:
        with smtplib.SMTP("127.0.0.1", lab.process.ready["smtp_port"], timeout=10) as connection:
            text = "Subject: S\r\nX-Mailglass-Id: the-id\r\n\r\nHello.\r\n"
            connection.sendmail("s@example.org", ["ada@example.com"], text)
        assert lab.received() == {"the-id": 1}
        assert lab.counts()["accounts"] == {"acme-smtp": 1}


def test_a_lab_that_was_killed_goes_on_with_what_it_accepted(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    one = mail("bounce@x.example")
    with running("--state-file", state) as lab:
        assert attempt(lab.providers["postmark"], one) == [O.ACCEPTED]
        lab.process.process.kill()
        lab.process.process.wait(PATIENCE)
    with running("--state-file", state) as lab:
        assert attempt(lab.providers["postmark"], mail("bounce@x.example")) == [O.SUPPRESSED]
        assert attempt(lab.providers["sendgrid"], one) == [O.ACCEPTED]
        counts = lab.counts()
        assert (counts["accepted"], counts["deliveries"], counts["repeated"]) == (2, 1, 1)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_promptly_even_with_webhooks_that_nobody_takes(signal_number: signal.Signals) -> None:
    with running() as lab:
        lab.status = lambda posted: 500
        mails = [mail(f"sunny.{number}@x.example") for number in range(20)]
        assert set(attempt(lab.providers["postmark"], *mails)) == {O.ACCEPTED}
        lab.process.process.send_signal(signal_number)
        assert lab.process.process.wait(PATIENCE) == 0


def test_lab_ends_when_its_standard_input_closes() -> None:
    with lab_process(*ARGUMENTS, secrets=SECRETS) as lab:
        assert lab.process.stdin
        lab.process.stdin.close()
        assert lab.process.wait(PATIENCE) == 0


def test_no_secret_stands_in_its_arguments_and_a_missing_one_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mailglass.testing.lab", "--postmark-token", "env:LAB_NOT_SET"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "LAB_NOT_SET" in done.stderr and "--postmark-token" in done.stderr
    with lab_process(*ARGUMENTS, secrets=SECRETS) as lab:
        arguments = Path(f"/proc/{lab.process.pid}/cmdline").read_bytes().decode()
        assert not any(secret in arguments for secret in SECRETS.values())
