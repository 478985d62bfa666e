"""SES, SNS and SQS as moto understands them: an implementation by others of what AWS accepts."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import botocore.session
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ses.models import ses_backends

from mailglass import telemetry
from mailglass.clock import monotonic
from mailglass.errors import ProviderCallError
from mailglass.mail.addresses import Address
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.ses import SESOptions, SESProvider, poll
from mailglass.settings import Secret

REGION = "eu-west-1"
OPTIONS: dict[str, Any] = {"region": REGION, "access_key_id": Secret("AKIA"), "secret_access_key": Secret("x")}


@pytest.fixture
def aws() -> Iterator[Any]:
    with mock_aws():
        session = botocore.session.Session()
        session.set_credentials("AKIA", "x")
        yield lambda service: session.create_client(service, region_name=REGION)


def test_a_raw_mail_is_understood_with_all_its_recipients(aws: Any) -> None:
    aws("sesv2").create_email_identity(EmailIdentity="example.org")
    provider = SESProvider("acme", SESOptions(**OPTIONS))
    mail = Outgoing(
        uuid4(),
        "acme",
        "transactional",
        Address("ada@example.com", "Ada Ü"),
        Address("shop@example.org", "Shop"),
        "Größe",
        datetime.now(UTC),
        text="Hello.",
        html="<p>Hello.</p>",
        cc=(Address("c@example.com"),),
        bcc=(Address("b@example.com"),),
        attachments=(Attachment("ä.txt", b"x"),),
        tags=("a b",),
        metadata={"order": "7"},
    )
    (found,) = provider.send([mail], deadline=monotonic() + 30)
    assert found.kind is OutcomeClass.ACCEPTED and found.provider_message_id
    (sent,) = ses_backends[DEFAULT_ACCOUNT_ID][REGION].sent_messages
    assert sent.id == found.provider_message_id
    assert {"ada@example.com", "b@example.com", "c@example.com"} <= set(sent.destinations)
    message = email.message_from_string(sent.raw_data, policy=email.policy.default)
    assert str(message["Subject"]) == "Größe"
    provider.close()


def test_a_sender_that_is_not_verified_is_refused(aws: Any) -> None:
    provider = SESProvider("acme", SESOptions(**OPTIONS))
    mail = Outgoing(
        uuid4(),
        "acme",
        "transactional",
        Address("ada@example.com"),
        Address("shop@example.net"),
        "S",
        datetime.now(UTC),
        text="Hello.",
    )
    (found,) = provider.send([mail], deadline=monotonic() + 30)
    assert (found.kind, found.status) == (OutcomeClass.REJECTED, 400)
    provider.close()


class Desk:
    """A topic with a queue subscribed to it, and what was kept from there."""

    def __init__(self, aws: Any) -> None:
        self.sns, self.sqs = aws("sns"), aws("sqs")
        self.topic = self.sns.create_topic(Name="ses-events")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName="ses-events", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        names = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        self.queue_arn = names["Attributes"]["QueueArn"]
        self.subscribe(self.topic)
        options = SESOptions(**OPTIONS, topic_arns=(self.topic,), sqs_queue_url=self.queue)
        self.provider = SESProvider("acme", options)
        self.kept: list[tuple[str, bytes, Mapping[str, str], str]] = []

    def subscribe(self, topic: str, **attributes: str) -> None:
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.queue_arn, Attributes=attributes)

    def publish(self, number: int, topic: str = "") -> str:
        event = {"eventType": "Delivery", "mail": {}, "delivery": {"recipients": [f"p{number}@example.com"]}}
        found: str = self.sns.publish(TopicArn=topic or self.topic, Message=json.dumps(event))["MessageId"]
        return found

    def store(self, account: str, body: bytes, headers: Mapping[str, str], key: str) -> None:
        self.kept.append((account, body, headers, key))

    def waiting(self) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["ApproximateNumberOfMessages"])
        return int(found["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture
def desk(aws: Any) -> Iterator[Desk]:
    found = Desk(aws)
    yield found
    found.provider.close()


def test_queued_notification_is_kept_and_then_deleted(desk: Desk) -> None:
    ids = {desk.publish(number) for number in range(12)}
    taken = [poll(desk.provider, desk.store) for _ in range(3)]
    assert sum(taken) == 12 and max(taken) == 10 and desk.waiting() == 0
    assert {key for _, _, _, key in desk.kept} == ids and {account for account, *_ in desk.kept} == {"acme"}
    events = [event for _, body, headers, _ in desk.kept for event in desk.provider.normalise(body, headers)]
    assert {event.recipient for event in events} == {f"p{number}@example.com" for number in range(12)}
    assert {headers["x-amz-sns-message-type"] for _, _, headers, _ in desk.kept} == {"Notification"}


def test_the_provider_collects_through_the_seam_that_the_task_knows(desk: Desk) -> None:
    desk.publish(1)
    assert desk.provider.collect(desk.store) == 1
    assert SESProvider("other", SESOptions(**OPTIONS)).collect(desk.store) == 0


def test_unkept_notification_stays_in_the_queue(desk: Desk) -> None:
    for number in range(3):
        desk.publish(number)

    def store(account: str, body: bytes, headers: Mapping[str, str], key: str) -> None:
        if len(desk.kept) == 1:
            raise RuntimeError("no database")
        desk.store(account, body, headers, key)

    with pytest.raises(RuntimeError):
        poll(desk.provider, store)
    assert len(desk.kept) == 1 and desk.waiting() == 2
    assert poll(desk.provider, desk.store) == 2
    assert len({key for *_, key in desk.kept}) == 3 and desk.waiting() == 0


def test_notification_of_a_foreign_topic_is_neither_believed_nor_deleted(desk: Desk) -> None:
    other = desk.sns.create_topic(Name="somebody-elses")["TopicArn"]
    desk.subscribe(other)
    desk.subscribe(other, RawMessageDelivery="true")
    desk.publish(1, other)
    desk.sqs.send_message(QueueUrl=desk.queue, MessageBody="Hello")
    desk.sqs.send_message(QueueUrl=desk.queue, MessageBody='{"Type":"Notification","Message":"{}","MessageId":"1"}')
    before = desk.waiting()
    good = desk.publish(2)
    reasons: list[telemetry.Value] = []
    end = telemetry.subscribe(lambda _, fields: reasons.append(fields["reason"]))
    try:
        assert poll(desk.provider, desk.store) == 1
    finally:
        end()
    assert [key for *_, key in desk.kept] == [good]
    assert desk.waiting() == before >= 3
    assert set(reasons) == {"other_topic", "no_sns_message"}


def test_an_empty_queue_has_nothing(desk: Desk) -> None:
    assert poll(desk.provider, desk.store) == 0


def test_a_queue_that_is_not_there_is_said_to_be_at_fault(desk: Desk) -> None:
    options = SESOptions(**OPTIONS, topic_arns=(desk.topic,), sqs_queue_url=f"{desk.queue}-gone")
    with pytest.raises(ProviderCallError) as error:
        poll(SESProvider("acme", options), desk.store)
    assert error.value.status == 400 and not error.value.retryable


def test_a_subscription_is_confirmed_by_api(desk: Desk) -> None:
    body = {"Type": "SubscriptionConfirmation", "MessageId": "1", "Message": "m", "TopicArn": desk.topic, "Token": "t"}
    seen: list[str] = []
    end = telemetry.subscribe(lambda event, _: seen.append(event))
    try:
        desk.provider.on_webhook(json.dumps(body).encode(), {"x-amz-sns-message-type": "SubscriptionConfirmation"})
    finally:
        end()
    assert seen == ["mailglass.ses.subscribed"]
