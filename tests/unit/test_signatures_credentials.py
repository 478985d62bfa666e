"""Bearer tokens, headers of one's own and allowed networks: who is let in, who is not, and with which word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError, SignatureError, SignatureErrorType
from mailglass.providers.base import WebhookRequest
from mailglass.providers.signatures import networks_of, require_bearer, require_header, require_ip
from mailglass.settings import Secret

T = SignatureErrorType
SECRETS = (Secret("old-token"), Secret("new-tökén"))
NETWORKS = networks_of("networks", ("203.0.113.0/24", "198.51.100.7", "2001:db8::/32"))


def refused(call: Callable[[], object]) -> SignatureErrorType:
    with pytest.raises(SignatureError) as caught:
        call()
    return caught.value.type


def with_header(value: str, name: str = "authorization") -> WebhookRequest:
    return WebhookRequest({name: value}, b"{}")


@pytest.mark.parametrize("value", ["Bearer old-token", "bEARER old-token", "Bearer  old-token ", "Bearer new-tökén"])
def test_any_of_several_tokens_is_accepted(value: str) -> None:
    require_bearer(with_header(value), SECRETS)


@pytest.mark.parametrize("value", ["Bearer old-toke", "Bearer old-tokenx", "Bearer OLD-TOKEN", "Bearer old-token,"])
def test_another_token_is_refused(value: str) -> None:
    assert refused(lambda: require_bearer(with_header(value), SECRETS)) is T.BAD_CREDENTIALS


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic b2xkLXRva2Vu", "old-token"])
def test_header_without_a_bearer_token_is_malformed(value: str) -> None:
    assert refused(lambda: require_bearer(with_header(value), SECRETS)) is T.MALFORMED_HEADER


def test_no_token_lets_nobody_in_and_a_missing_header_is_named() -> None:
    assert refused(lambda: require_bearer(with_header("Bearer x"), ())) is T.BAD_CREDENTIALS
    assert refused(lambda: require_bearer(WebhookRequest({}, b""), SECRETS)) is T.MISSING_HEADER


def test_a_header_of_ones_own_holds_one_of_its_values() -> None:
    require_header(with_header("old-token", "x-hook"), "X-Hook", SECRETS)
    require_header(with_header(" new-tökén ", "x-hook"), "X-Hook", SECRETS)
    for wrong in ("", "old-toke", "old-token new-tökén"):
        assert refused(lambda wrong=wrong: require_header(with_header(wrong, "x-hook"), "X-Hook", SECRETS)) is (
            T.BAD_CREDENTIALS
        )
    assert refused(lambda: require_header(with_header("old-token", "y-hook"), "X-Hook", SECRETS)) is T.MISSING_HEADER


@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_header_is_answered_by_a_signature_error(value: str) -> None:
    assert refused(lambda: require_header(with_header(value, "x-hook"), "x-hook", SECRETS)) is T.BAD_CREDENTIALS
    refused(lambda: require_bearer(with_header(value), SECRETS))


def test_a_lone_surrogate_in_a_header_is_refused_and_not_an_error_of_ours() -> None:
    assert refused(lambda: require_header(with_header("\ud800", "x-hook"), "x-hook", SECRETS)) is T.BAD_CREDENTIALS


@pytest.mark.parametrize("peer", ["203.0.113.1", "203.0.113.255", "198.51.100.7", "2001:db8::9", "::ffff:203.0.113.4"])
def test_a_peer_in_an_allowed_network_is_let_in(peer: str) -> None:
    require_ip(WebhookRequest({}, b"", remote_addr=peer), NETWORKS)


@pytest.mark.parametrize(
    "peer", ["203.0.114.1", "198.51.100.8", "2001:db9::1", "::1", "::ffff:198.51.100.8", "", "unix:"]
)
def test_any_other_peer_is_refused(peer: str) -> None:
    assert refused(lambda: require_ip(WebhookRequest({}, b"", remote_addr=peer), NETWORKS)) is T.IP_DISALLOWED
    assert refused(lambda: require_ip(WebhookRequest({}, b"", remote_addr="203.0.113.1"), ())) is T.IP_DISALLOWED


@given(st.text(max_size=40))
def test_any_text_is_a_peer_that_is_refused(peer: str) -> None:
    assert refused(lambda: require_ip(WebhookRequest({}, b"", remote_addr=peer), NETWORKS[:1])) is T.IP_DISALLOWED


@pytest.mark.parametrize("text", ["", "203.0.113.0/33", "203.0.113.1/24", "example.com", "203.0.113"])
def test_invalid_network_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        networks_of("webhook_networks", ("203.0.113.0/24", text))
    assert caught.value.key == "webhook_networks"
