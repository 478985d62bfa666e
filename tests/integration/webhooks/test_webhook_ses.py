"""What webhooks ask of us beside being read, and Amazon SES's own way through ingress and processing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mailglass import clock
from mailglass.errors import ProviderCallError, WebhookBodyError
from mailglass.ledger import webhooks
from mailglass.mail.addresses import Address
from mailglass.mail.events import ProviderEvent
from mailglass.providers.base import WebhookRequest
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.settings import AccountSettings, Route, Settings, WebhookSettings
from mailglass.testing.lab.ses import CERTIFICATE_URL, certificate
from mailglass.testing.provider import FixedAccounts
from mailglass.webhooks import process
from mailglass.webhooks.store import arrival, store
from tests.ingress import handle as one_webhook

KEY = rsa.generate_private_key(65537, 2048)
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"


def asking(desk: Any, error: Exception | None) -> Any:
    calls: list[str] = []

    class Asking(desk.NotesProvider):
        def on_webhook(self, body: bytes, headers: Mapping[str, str]) -> None:
            calls.append("asked")
            if error:
                raise error

        def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
            calls.append("read")
            found: list[ProviderEvent] = super().normalise(body, headers)
            return found

    provider = Asking()
    provider.calls = calls
    return provider


def test_a_webhook_is_asked_before_it_is_read(desk: Any) -> None:
    (delivery_id,) = desk.sent()
    desk.post(desk.event("delivered", delivery_id))
    provider = asking(desk, None)
    desk.work(main=provider)
    assert provider.calls == ["asked", "read"]
    assert desk.delivery(delivery_id).outcome == "delivered"


def test_confirmation_that_fails_is_tried_again_and_not_for_ever(desk: Any) -> None:
    settings = replace(desk.SETTINGS, webhooks=WebhookSettings(max_attempts=2))
    key = desk.post()
    provider = asking(desk, ProviderCallError("main: confirm", retryable=True))
    desk.work(settings, main=provider)
    assert desk.stands(key) == ("received", "provider_call_failed")
    assert not process.waiting(desk.ledger)
    desk.end_leases()
    desk.work(settings, main=provider)
    assert desk.stands(key) == ("dead", "provider_call_failed")
    assert webhooks.replay(desk.ledger, [key]) == {key}
    desk.work(settings, main=asking(desk, None))
    assert desk.stands(key) == ("processed", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderCallError("main: confirm", status=400), "provider_call_failed"),
        (WebhookBodyError("no"), "body_not_understood"),
        (RuntimeError("a bug"), "normaliser_failed:RuntimeError"),
    ],
)
def test_confirmation_that_can_never_succeed_is_dead(desk: Any, error: Exception, reason: str) -> None:
    key, other = desk.post(), desk.post(account="other")
    desk.work(main=asking(desk, error))
    assert desk.stands(key) == ("dead", reason)
    assert desk.stands(other) == ("processed", None)


class Setup:
    """An SES account behind the endpoint."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.settings = Settings(
            accounts={"main": AccountSettings("main", "ses", Address("shop@example.com"))}, routes=(Route(("main",)),)
        )
        options = SESOptions(region="eu-west-1", topic_arns=(TOPIC,))
        self.provider = SESProvider("main", options, {CERTIFICATE_URL: certificate(KEY).encode()}.__getitem__)
        self.accounts = FixedAccounts(self.settings, {"main": self.provider})
        self.rung: list[str] = []

    def post(self, kind: str = "Notification", **change: Any) -> int:
        fields: dict[str, Any] = {
            "Type": kind,
            "MessageId": str(uuid4()),
            "TopicArn": TOPIC,
            "Message": "{}",
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE_URL,
            "Timestamp": clock.now().isoformat(),
            **change,
        }
        names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        signed = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()
        fields["Signature"] = base64.b64encode(KEY.sign(signed, PKCS1v15(), SHA256())).decode()
        headers = {
            "x-amz-sns-message-type": kind,
            "x-amz-sns-message-id": fields["MessageId"],
            "x-amz-sns-topic-arn": fields["TopicArn"],
            "authorization": "not kept",
        }
        answer = one_webhook(
            "main",
            WebhookRequest(headers, json.dumps(fields).encode()),
            settings=self.settings,
            database=self.desk.ledger,
            accounts=self.accounts,
            ring=self.rung.append,
        )
        return answer.status

    def work(self) -> process.WebhookReport:
        return process.run(self.settings, self.desk.ledger, self.accounts, after_claim=lambda more: None)


def bounce(delivery_id: UUID) -> str:
    mail = {"messageId": "p-0", "destination": ["u0@example.com"], "tags": {"mailglass_id": [str(delivery_id)]}}
    people = [{"emailAddress": "u0@example.com", "status": "5.1.1"}]
    part = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": people}
    return json.dumps({"eventType": "Bounce", "mail": mail, "bounce": part})


def test_a_bounce_told_by_sns_twice_is_known_once_and_suppresses(desk: Any) -> None:
    setup = Setup(desk)
    (delivery_id,) = desk.sent()
    same = {"Message": bounce(delivery_id), "MessageId": str(uuid4())}
    assert [setup.post(**same) for _ in range(2)] == [200, 200]
    report = setup.work()
    assert (report.claimed, report.events, report.matched) == (1, 1, 1)
    assert desk.delivery(delivery_id).outcome == "bounced"
    assert desk.reasons() == [("address", "", "hard_bounce")]
    (row,) = desk.rows("SELECT headers FROM mailglass.webhook_events")
    assert set(row.headers) == {"x-amz-sns-message-type", "x-amz-sns-message-id", "x-amz-sns-topic-arn"}


def test_a_strangers_topic_is_not_kept(desk: Any) -> None:
    setup = Setup(desk)
    assert setup.post(TopicArn=TOPIC + "-x") == 401
    assert setup.work().claimed == 0


def test_a_confirmation_is_kept_first_and_made_by_the_task(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(desk)
    calls: list[dict[str, str]] = []

    class SNS:
        def confirm_subscription(self, **parameters: str) -> None:
            calls.append(parameters)

    monkeypatch.setattr(setup.provider.clients, "sns", lambda region: SNS())
    assert setup.post("SubscriptionConfirmation", Token="t0k3n", SubscribeURL="https://example.com/") == 200
    assert calls == []
    assert setup.work().dead == 0
    assert calls == [{"TopicArn": TOPIC, "Token": "t0k3n", "AuthenticateOnUnsubscribe": "true"}]


def test_an_outage_of_the_certificates_makes_sns_post_again(desk: Any) -> None:
    setup = Setup(desk)

    def down(url: str) -> bytes:
        raise ProviderCallError("fetch", retryable=True)

    setup.provider = SESProvider("main", setup.provider.options, down)
    setup.accounts = FixedAccounts(setup.settings, {"main": setup.provider})
    assert setup.post() >= 500
    assert setup.work().claimed == 0


def test_queued_notification_is_kept_under_the_key_of_a_posted_one(desk: Any) -> None:
    setup = Setup(desk)
    (delivery_id,) = desk.sent()
    message_id = str(uuid4())
    setup.post(Message=bounce(delivery_id), MessageId=message_id)
    queued = arrival("main", setup.provider, message_id, b"{}", {}, None)
    assert store(desk.ledger, [queued], lambda task: None) == [False]
