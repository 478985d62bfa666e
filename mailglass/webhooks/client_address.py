"""The client's address of a request that came through trusted proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from mailglass.providers.base import WebhookRequest

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def with_client_address(request: WebhookRequest, proxies: tuple[str, ...]) -> WebhookRequest:
    """Return a request with the address of the client that spoke to the outermost trusted proxy.

    Each proxy appends the peer's address to `X-Forwarded-For`, and anybody can write what precedes it. So the list is
    read from its end, as long as the writer is trusted.

    Args:
        request: with the address of the connection.
        proxies: addresses and networks in CIDR notation; if there are none, the header is ignored.
    """
    if not proxies:
        return request
    forwarded = request.headers.get("x-forwarded-for", "")
    return replace(request, remote_addr=client_address(request.remote_addr, forwarded, proxies))


def client_address(remote_addr: str, forwarded: str, proxies: tuple[str, ...]) -> str:
    """Return the address of the client that spoke to the outermost trusted proxy, or "" if it is unknown.

    Args:
        remote_addr: the address of the connection.
        forwarded: the value of `X-Forwarded-For`.
        proxies: as for `with_client_address`.
    """
    trusted = _networks(proxies)
    peer = _address(remote_addr)
    hops = forwarded.split(",") if forwarded else []
    while peer is not None and hops and _is_in(peer, trusted):
        peer = _address(hops.pop())
    return "" if peer is None else str(peer)


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_in(address: _Address, networks: Sequence[_Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> _Address | None:
    """Parse an address, with or without the port that some proxies write."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
