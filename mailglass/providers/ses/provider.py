"""The Amazon SES provider: each part of the room in its place."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError
from typing_extensions import override

from mailglass.errors import MessageError, ProviderCallError
from mailglass.mail.events import ProviderEvent
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider, Store, WebhookRequest
from mailglass.providers.copies import with_distinct_copies
from mailglass.providers.http_provider import ROUNDS, Unsendable
from mailglass.providers.ses import sns
from mailglass.providers.ses.certificates import Certificates, Fetch, fetch_certificate
from mailglass.providers.ses.clients import Clients
from mailglass.providers.ses.events import read_events
from mailglass.providers.ses.exchange import call_once
from mailglass.providers.ses.options import TOPIC_ARN, SESOptions
from mailglass.providers.ses.polling import receive
from mailglass.providers.ses.sending import fitting, outcome_of, send_parameters
from mailglass.providers.ses.suppressions import SESSuppressionList
from mailglass.providers.signatures import missing_secret
from mailglass.telemetry import emit


@dataclass(frozen=True, slots=True)
class SendQuota:
    """Quota of the account in its region, counted in recipients. Above it SES refuses and queues nothing.

    Attributes:
        per_second: the most per second.
        per_day: the most in any 24 hours; None for no limit.
        sent_last_day: sent in the last 24 hours.
        enabled: whether the account may send at all at this moment.
    """

    per_second: float
    per_day: float | None
    sent_last_day: float
    enabled: bool


class SESProvider(Provider):
    """One AWS account in one region.

    SES's batch call knows templates only, so every mail is a request; `concurrency` of them are in flight at once.

    Args:
        account: its name.
        options: its options.
        fetch: gets the certificates with which SNS signs.
    """

    name = "ses"
    Options = SESOptions
    keeps_suppressions = True
    polled = True
    grants_rate = True
    retry_status = 503
    signed_headers = (sns.TYPE, sns.MESSAGE_ID, sns.TOPIC)
    options: SESOptions

    def __init__(self, account: str, options: SESOptions, fetch: Fetch = fetch_certificate) -> None:
        super().__init__(account, options)
        self.clients = Clients(account, options)
        self.batch_size = max(self.batch_size, ROUNDS * options.concurrency)
        self._certificates = Certificates(fetch)

    @override
    def fitting(self, mail: Outgoing) -> Outgoing:
        return fitting(mail)

    @override
    def send(self, mails: Sequence[Outgoing], *, deadline: float) -> list[Outcome]:
        return self.clients.each(lambda mail: self._send_one(mail, deadline), mails)

    def send_quota(self) -> SendQuota:
        """Return the account's quota, for the rate limiter.

        Raises:
            ProviderCallError: SES did not say.
        """
        answer = self.clients.manage("get account", lambda: self.clients.manager().get_account())
        quota = answer.get("SendQuota") or {}
        try:
            per_second, per_day = float(quota["MaxSendRate"]), float(quota["Max24HourSend"])
            sent = float(quota.get("SentLast24Hours") or 0.0)
        except (KeyError, TypeError, ValueError):
            raise ProviderCallError(f"{self.account}: get account, without a quota") from None
        return SendQuota(per_second, None if per_day < 0 else per_day, sent, answer.get("SendingEnabled") is not False)

    @override
    def granted_rate(self) -> float | None:
        try:
            quota = self.send_quota()
        except ProviderCallError as error:
            self._tell("mailglass.ses.rate_unknown", logging.WARNING, reason=str(error))
            return None
        if quota.per_day is not None and quota.sent_last_day >= quota.per_day:
            # of a window that moves along nobody knows the end: the breaker opens at the first mail that is refused
            self._tell("mailglass.ses.allowance_spent", logging.WARNING)
        return quota.per_second

    @override
    def verify(self, request: WebhookRequest) -> None:
        if not self.options.topic_arns:
            raise missing_secret(self.account, "topic_arns")
        sns.require_signed(
            request,
            self._certificates,
            topics=self.options.topic_arns,
            allow_v1=self.options.allow_signature_v1,
            tolerance=self.options.webhook_tolerance,
        )

    @override
    def delivery_key(self, request: WebhookRequest) -> str | None:
        # verified to be the body's own; the same at every repetition and in every subscription of the topic
        return request.headers.get(sns.MESSAGE_ID)

    @override
    def normalise(self, body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        return read_events(body, self.account)

    def on_webhook(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Confirm the subscription of one of our topics, when asked to, and say when one ended.

        Confirming goes through the API and never by the URL in the message, so that no message can send this process
        anywhere.
        """
        if headers.get(sns.TYPE, "") == sns.NOTIFICATION:
            return
        message = sns.SNSMessage.parse(body)
        if message.type == sns.UNSUBSCRIBED:
            self._tell("mailglass.ses.unsubscribed", logging.WARNING)
        elif message.type == sns.CONFIRMATION:
            self._confirm(message)

    @override
    def collect(self, store: Store) -> int:
        # a short wait makes SQS ask all of its servers, so that "none" means none
        return poll(self, store, wait=1)

    @override
    def suppression_list(self) -> SESSuppressionList:
        return SESSuppressionList(self.clients, self.options.tenant_name)

    @override
    def close(self) -> None:
        self.clients.close()

    def _send_one(self, mail: Outgoing, deadline: float) -> Outcome:
        if mail.expired:
            return EXPIRED
        try:
            parameters = send_parameters(fitting(with_distinct_copies(mail)), self.options)
        except Unsendable as refusal:
            return Outcome(OutcomeClass.REJECTED, reason=refusal.reason)
        except MessageError:
            return Outcome(OutcomeClass.REJECTED, reason="message_invalid")
        except Exception as error:  # nothing was sent; a fault of ours must not fail the mails beside this one
            self._tell("mailglass.provider.encode_failed", logging.WARNING, error_type=type(error).__name__)
            return Outcome(OutcomeClass.TRANSIENT, reason="encode_failed")
        try:
            client = self.clients.sender()
        except (BotoCoreError, OSError, ValueError) as error:
            self._tell("mailglass.provider.unusable", logging.ERROR, error_type=type(error).__name__)
            return Outcome(OutcomeClass.MISCONFIGURED, reason="client_unavailable")
        answer = call_once(client, parameters, deadline)
        return answer if isinstance(answer, Outcome) else outcome_of(answer)

    def _confirm(self, message: sns.SNSMessage) -> None:
        topic, token = message.topic, message.fields.get("Token", "")
        named = TOPIC_ARN.match(topic)
        if named is None or topic not in self.options.topic_arns:
            # it was one of ours when it was verified
            self._tell("mailglass.ses.subscription_ignored", logging.WARNING)
            return
        self.clients.manage(
            "confirm subscription",
            lambda: self.clients.sns(named["region"]).confirm_subscription(
                TopicArn=topic, Token=token, AuthenticateOnUnsubscribe="true"
            ),
        )
        self._tell("mailglass.ses.subscribed", logging.INFO)

    def _tell(self, event: str, level: int, **fields: Any) -> None:
        emit(event, level=level, provider=self.name, account=self.account, **fields)


def poll(provider: SESProvider, store: Store, *, wait: int = 0) -> int:
    """Take up to ten messages from the account's queue and keep them.

    Args:
        provider: whose queue; without `sqs_queue_url` nothing is done.
        store: `store(account, body, headers, dedupe_key)`.
        wait: seconds to wait for a first message, 0 to 20, and less than the account's `read_timeout`.

    Returns:
        How many were stored; ten mean that more may be waiting.

    Raises:
        ProviderCallError: the queue cannot be read or cleared.
    """
    options = provider.options
    if options.sqs_queue_url is None:
        return 0
    return receive(provider.clients, options.sqs_queue_url, options.topic_arns, provider.account, store, wait=wait)
