"""Checks of the broker and of Redis: reachable, and safe for what is kept there."""

from __future__ import annotations

from collections.abc import Iterator

from mailglass.celery import app, transport_options, use_settings
from mailglass.errors import MailglassError
from mailglass.preflight.findings import Finding, failed, passed, unchecked, warned
from mailglass.preflight.surroundings import Surroundings
from mailglass.settings.redis_client import redis_client
from mailglass.settings.servers import broker_servers, redis_server

_NOEVICTION = "Set `maxmemory-policy noeviction` on that server, or give mailglass one of its own"


def broker_is_reached(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the broker takes a connection."""
    settings = surroundings.settings
    url = settings.require_broker()
    where = ", ".join(str(server) for server in broker_servers(url))
    use_settings(settings)
    timeout = surroundings.timeout
    try:
        options = transport_options(url, settings)
        with app.connection_for_write(connect_timeout=timeout, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=timeout)
    except Exception as error:
        # its text may quote the URL
        yield failed("broker", f"{where}: {type(error).__name__}", "Check MAILGLASS_BROKER_URL and the network")
    else:
        yield passed("broker", where)


def eviction_is_safe(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that neither Redis server may drop keys to make room."""
    settings = surroundings.settings
    urls = {"redis": settings.redis_url.reveal() if settings.redis_url else ""}
    if settings.broker_url.reveal().startswith("redis"):
        urls["broker"] = settings.broker_url.reveal().split(";")[0]
    for role, url in urls.items():
        if url:
            yield _eviction(role, url)


def _eviction(role: str, url: str) -> Finding:
    check = f"{role}.eviction"
    try:
        where, client = str(redis_server(url)), redis_client(url)
        policy = str(client.info("memory").get("maxmemory_policy", ""))
    except MailglassError as error:
        return failed(check, str(error), "Correct the URL")
    except Exception as error:
        return unchecked(check, f"{role}: {type(error).__name__}", "Check the URL, the network and the login's rights")
    if policy == "noeviction":
        return passed(check, f"{where}: {policy}")
    if policy.startswith("allkeys"):
        return failed(check, f"{where}: {policy} may drop queues and rate limits", _NOEVICTION)
    if policy.startswith("volatile"):
        return warned(check, f"{where}: {policy} may drop rate limits, which expire", _NOEVICTION)
    return unchecked(check, f"{where}: the server does not say its policy", _NOEVICTION)
