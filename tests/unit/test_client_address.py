"""Whose address a provider's allow-list is asked about: behind proxies, the one that they vouch for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError, SignatureError
from mailglass.providers.base import WebhookRequest
from mailglass.providers.signatures import networks_of, require_ip
from mailglass.settings import load_settings
from mailglass.webhooks.client_address import with_client_address

PROXIES = ("10.0.0.0/8", "2001:db8::/32")


def peer(remote: str, forwarded: str | None = None, proxies: tuple[str, ...] = PROXIES) -> str:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return with_client_address(WebhookRequest(headers, b"", remote_addr=remote), proxies).remote_addr


@pytest.mark.parametrize(
    ("remote", "forwarded", "found"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "[2001:dead::1]:4711", "2001:dead::1"),
        ("::ffff:10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.9, unknown", ""),
        ("10.0.0.1", "198.51.100.9,", ""),
        ("", "198.51.100.9", ""),
    ],
)
def test_the_list_is_read_from_its_end_as_far_as_its_writers_are_trusted(
    remote: str, forwarded: str | None, found: str
) -> None:
    assert peer(remote, forwarded) == found


def test_without_trusted_proxies_the_header_is_nobodys_word() -> None:
    assert peer("10.0.0.1", "192.0.2.1", ()) == "10.0.0.1"


@given(st.text(max_size=60))
def test_client_that_is_no_proxy_cannot_name_another_address(forwarded: str) -> None:
    assert peer("192.0.2.1", forwarded) == "192.0.2.1"
    assert peer("10.0.0.1", f"{forwarded}, 192.0.2.1") == "192.0.2.1"


def test_a_forged_list_does_not_pass_an_allow_list() -> None:
    allowed = networks_of("webhook_networks", ["198.51.100.0/24"])
    forged = WebhookRequest({"x-forwarded-for": "198.51.100.9, 192.0.2.1"}, b"", remote_addr="10.0.0.1")
    with pytest.raises(SignatureError):
        require_ip(with_client_address(forged, PROXIES), allowed)
    genuine = WebhookRequest({"x-forwarded-for": "192.0.2.1, 198.51.100.9"}, b"", remote_addr="10.0.0.1")
    require_ip(with_client_address(genuine, PROXIES), allowed)


def test_proxies_are_configured_as_networks(tmp_path: Path) -> None:
    assert _load(tmp_path, '["10.0.0.0/8", "192.0.2.7"]').webhooks.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32")
    for wrong in ('"10.0.0.0/8"', "[7]", '["10.0.0.1/8"]', '["everybody"]'):
        with pytest.raises(ConfigError, match=r"webhooks\.trusted_proxies"):
            _load(tmp_path, wrong)


def _load(tmp_path: Path, value: str) -> Any:
    file = tmp_path / "m.toml"
    file.write_text(f"[webhooks]\ntrusted_proxies = {value}\n")
    return load_settings({}, file)
