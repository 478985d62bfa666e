"""Sections of plain values: `[engine]`, `[webhooks]`, `[streams.NAME]`."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from mailglass.mail.streams import DEFAULT_POLICIES, Stream, StreamPolicy, UncertainPolicy
from mailglass.settings.problems import Problems

T = TypeVar("T")
# half of what the ingress holds at once
MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of the engine. Durations are seconds.

    Attributes:
        claim_size: deliveries claimed at once at the most.
        claim_bytes: of content claimed at once, about: a claim ends before the mail that would exceed it.
        slice: how long one batch should take, so that lanes take turns; claims are sized by what was seen.
        lease: how long a claim is kept; longer than a task may run.
        task_budget: a task starts no further batch after this long.
        send_margin: no send starts when less than this is left of the lease; longer than a provider may take to answer.
        ring_timeout: a ring that nobody answered for this long is rung again by the pump.
    """

    claim_size: int = 500
    claim_bytes: int = 64 * 1024 * 1024
    slice: float = 0.5
    lease: float = 120.0
    task_budget: float = 20.0
    send_margin: float = 65.0
    ring_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The webhook ingress.

    Attributes:
        max_body: bytes, up to 64 MiB; a larger request is answered 413.
        batch_size: stored webhooks that one task takes at a time.
        max_attempts: how often a webhook that fails for our own reasons is processed before it is `dead`.
        trusted_proxies: addresses and networks (CIDR) of proxies in front of the endpoint, whose `X-Forwarded-For` says
            where a request comes from; for accounts with `webhook_networks`.
    """

    max_body: int = 5 * 1024 * 1024
    batch_size: int = 100
    max_attempts: int = 5
    trusted_proxies: tuple[str, ...] = ()


def parse_streams(value: object, problems: Problems) -> dict[Stream, StreamPolicy]:
    """Return the policy of every stream."""
    policies = dict(DEFAULT_POLICIES)
    if not isinstance(value, dict):
        problems.add("streams", "wrong type", "Write tables: [streams.transactional]")
        return policies
    for name, body in value.items():
        if name not in list(Stream):
            problems.add(f"streams.{name}", "unknown stream", f"Known are: {', '.join(Stream)}")
            continue
        policies[Stream(name)] = parse_section(policies[Stream(name)], f"streams.{name}", body, problems)
    return policies


def check_engine(engine: EngineSettings, problems: Problems) -> None:
    """Check the engine's figures against each other."""
    if engine.lease < engine.task_budget + engine.send_margin:
        problems.add(
            "engine.lease",
            "shorter than task_budget + send_margin",
            "Make the lease longer: it must outlive a task",
        )


def check_webhooks(webhooks: WebhookSettings, problems: Problems) -> None:
    """Check the bounds of the ingress against each other."""
    if webhooks.max_body > MAX_BODY:
        problems.add("webhooks.max_body", "more than the ingress has room for", f"Give at most {MAX_BODY} bytes")


def parse_section(default: T, key: str, body: object, problems: Problems) -> T:
    """Override the fields of a flat dataclass of numbers, strings and enums."""
    if not isinstance(body, dict):
        problems.add(key, "wrong type", f"Write a table: [{key}]")
        return default
    known = {item.name: item for item in fields(default)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name not in known:
            problems.add(f"{key}.{name}", "unknown setting", f"Known are: {', '.join(known)}")
            continue
        current = getattr(default, name)
        try:
            changes[name] = _like(current, value)
        except (TypeError, ValueError) as error:
            problems.add(f"{key}.{name}", "wrong type or value", str(error))
    return replace(default, **changes)  # type: ignore[type-var]


def _like(current: object, value: object) -> object:
    if isinstance(current, UncertainPolicy):
        if value not in list(UncertainPolicy):
            raise ValueError(f"Use one of {', '.join(UncertainPolicy)}")
        return UncertainPolicy(str(value))
    if isinstance(current, tuple):
        return _networks(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("Give a number")
    if not math.isfinite(value):
        raise ValueError("Give a finite number")
    if value <= 0:
        raise ValueError("Give a number above zero")
    if isinstance(current, int):
        if int(value) != value:
            raise TypeError("Give a whole number")
        return int(value)
    return float(value)


def _networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("Give a list of addresses or networks, for example 10.0.0.0/8")
    try:
        return tuple(str(ipaddress.ip_network(item)) for item in value)
    except ValueError:
        raise ValueError("Write addresses, or networks in CIDR notation such as 10.0.0.0/8") from None
