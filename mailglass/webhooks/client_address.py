"""Who is at the other end of a request that came through proxies of ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from mailglass.providers.base import WebhookRequest

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def seen_through(request: WebhookRequest, proxies: tuple[str, ...]) -> WebhookRequest:
    """The request with the address of whoever spoke to the outermost of these proxies.

    Each proxy adds at the end of `X-Forwarded-For` whom it had the request from, and anybody may write what stands
    before that. So the list is read from its end, only as far as those who wrote it are trusted.

    Args:
        proxies: addresses and networks in CIDR notation; none: the header is nobody's word, and is not looked at.
    """
    if not proxies:
        return request
    forwarded = request.headers.get("x-forwarded-for", "")
    return replace(request, remote_addr=peer_through(request.remote_addr, forwarded, proxies))


def peer_through(remote_addr: str, forwarded: str, proxies: tuple[str, ...]) -> str:
    """The address of whoever spoke to the outermost of these proxies; "" where it cannot be told.

    Args:
        remote_addr: of the connection.
        forwarded: all of `X-Forwarded-For`.
        proxies: as in `seen_through`.
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
    """An address, perhaps with a port after it as some proxies write it."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
