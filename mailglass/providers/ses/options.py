"""The options of an Amazon SES account, checked when the account is opened."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from mailglass.errors import ConfigError
from mailglass.providers.http import check_base_url
from mailglass.settings import Secret

TOPIC_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:sns:(?P<region>[a-z]{2}[a-z0-9-]{1,30}):\d{1,12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?\Z"
)
_REGION = re.compile(r"[a-z]{2}[a-z0-9-]{1,30}\Z")
_TOPICS = "Name the topics' ARNs, arn:aws:sns:REGION:ACCOUNT:TOPIC"


@dataclass(frozen=True, kw_only=True)
class SESOptions:
    """The options of an Amazon SES account.

    Attributes:
        region: the AWS region that sends, for example `eu-west-1`.
        access_key_id: with `secret_access_key`; without both, botocore's own chain finds credentials: environment,
            profile, web identity, container, instance.
        secret_access_key: as above.
        session_token: for temporary credentials.
        configuration_set: publishes the events of every mail; without one SES tells of bounces and complaints only.
        tenant_name: the SES tenant that sends, and whose suppression list is kept.
        endpoint_url: another address of the SES API: a VPC endpoint, FIPS, or a stand-in on this machine.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds without a byte of the answer.
        concurrency: requests in flight at once per process; SES takes one mail per request (1 to 64).
        topic_arns: the SNS topics whose messages are believed. Needed to receive events: a valid signature only
            proves that some AWS customer published the message.
        allow_signature_v1: also believe SHA-1 signatures, the default of a topic whose SignatureVersion was not
            set to 2.
        webhook_tolerance: seconds a message's time may lie from now; SNS tries for an hour at most.
        sqs_queue_url: a queue subscribed to the topics, from which events are fetched as well or instead.
    """

    region: str
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    configuration_set: str | None = None
    tenant_name: str | None = None
    endpoint_url: str | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    concurrency: int = 8
    topic_arns: tuple[str, ...] = ()
    allow_signature_v1: bool = False
    webhook_tolerance: float = 3600.0
    sqs_queue_url: str | None = None

    def __post_init__(self) -> None:
        if not _REGION.match(self.region):
            raise ConfigError("region", "not an AWS region", "Write it as AWS does, for example eu-west-1")
        self._check_credentials()
        for name in ("configuration_set", "tenant_name"):
            if getattr(self, name) == "":
                raise ConfigError(name, "empty", "Name it, or leave it out")
        for name in ("endpoint_url", "sqs_queue_url"):
            _check_url(name, getattr(self, name))
        for name in ("connect_timeout", "read_timeout", "webhook_tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(name, "not a duration", "Give seconds above zero")
        if not 1 <= self.concurrency <= 64:
            raise ConfigError("concurrency", "out of range", "Give 1 to 64")
        if not all(TOPIC_ARN.match(topic) for topic in self.topic_arns):
            raise ConfigError("topic_arns", "not the ARN of an SNS topic", _TOPICS)
        if self.sqs_queue_url and not self.topic_arns:
            raise ConfigError("topic_arns", "missing, so nothing in the queue could be believed", _TOPICS)

    def _check_credentials(self) -> None:
        if (self.access_key_id is None) is not (self.secret_access_key is None):
            missing = "access_key_id" if self.access_key_id is None else "secret_access_key"
            raise ConfigError(missing, "missing", "Give access_key_id and secret_access_key together, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ConfigError("access_key_id", "missing beside session_token", "Give all three, or none")


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    try:
        check_base_url(url)
    except ConfigError as error:
        raise ConfigError(name, error.problem, error.remedy) from None
