"""The options of an SMTP account."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mailglass.errors import ConfigError
from mailglass.providers.registry import provider_class
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.rendering.dkim import DKIMKey
from mailglass.settings import Secret, build_options

SECRET = Secret("sixteen letters!")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("host", {"host": ""}),
        ("host", {"host": "smtp://example.com"}),
        ("host", {"host": "a..b"}),
        ("host", {"host": "a b"}),
        ("port", {"port": 0}),
        ("port", {"port": 65536}),
        ("security", {"security": "ssl"}),
        ("pipelining", {"pipelining": "some"}),
        ("max_connections", {"max_connections": 0}),
        ("max_messages_per_connection", {"max_messages_per_connection": 0}),
        ("connect_timeout", {"connect_timeout": 0.0}),
        ("timeout", {"timeout": -1.0}),
        ("timeout", {"timeout": float("nan")}),
        ("helo_name", {"helo_name": "a\r\nMAIL"}),
        ("password", {"username": "ada"}),
        ("username", {"password": Secret("x")}),
        ("username", {"username": "", "password": Secret("x")}),
        ("password", {"username": "ada", "password": Secret("a\x00b")}),
        ("security", {"username": "ada", "password": Secret("x"), "security": "none"}),
        ("ca_file", {"ca_file": "/nowhere.pem"}),
        ("ca_file", {"ca_file": "/nowhere.pem", "security": "none"}),
        ("bounce_secret", {"bounce_domain": "bounces.example.com"}),
        ("bounce_secret", {"bounce_secret": (SECRET, Secret("short"))}),
        ("bounce_domain", {"bounce_domain": "bounces", "bounce_secret": (SECRET,)}),
        ("bounce_domain", {"bounce_domain": "a b.example.com", "bounce_secret": (SECRET,)}),
        ("bounce_domain", {"bounce_domain": f"{'a.' * 92}example", "bounce_secret": (SECRET,)}),
    ],
)
def test_a_wrong_option_is_named(key: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        SMTPOptions(**{"host": "smtp.example.com", **values})

    assert caught.value.key == key


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(ConfigError, match="ca_file"):
        SMTPOptions(host="smtp.example.com", ca_file=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_a_password_may_go_to_this_machine_without_tls(host: str) -> None:
    SMTPOptions(host=host, security="none", username="ada", password=Secret("x"))


def test_a_password_may_go_anywhere_without_tls_when_that_is_asked_for() -> None:
    SMTPOptions(host="relay.internal", security="none", username="ada", password=Secret("x"), allow_insecure_auth=True)


def test_options_are_built_from_an_accounts_table_and_show_no_credentials() -> None:
    raw = {"host": "smtp.example.com", "username": "ada@example.com", "password": "env:PW", "timeout": 10}

    options = build_options(SMTPOptions, raw, "accounts.relay", {"PW": "hunter2"})

    assert (options.port, options.security, options.timeout) == (587, "starttls", 10.0)
    assert "hunter2" not in repr(options)
    assert "ada" not in repr(options)


def test_an_error_names_the_account() -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(SMTPOptions, {"host": "smtp.example.com", "port": 0}, "accounts.relay", {})

    assert caught.value.key == "accounts.relay.port"


def test_the_name_smtp_opens_this_room() -> None:
    assert provider_class("smtp") is SMTPProvider


ED25519 = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="


def test_keys_and_secrets_of_bounces_are_built_from_an_accounts_table_and_not_shown() -> None:
    account = tomllib.loads(
        """
        host = "smtp.example.com"
        bounce_domain = "bounces.example.com"
        bounce_secret = ["env:NEW", "env:OLD"]
        [[dkim]]
        domain = "example.com"
        selector = "e1"
        key = "env:KEY"
        [[dkim]]
        domain = "Example.NET"
        selector = "e1"
        key = "env:KEY"
        """
    )
    environ = {"KEY": ED25519, "NEW": "hunter2" * 3, "OLD": "hunter3" * 3}
    options = build_options(SMTPOptions, account, "accounts.relay", environ)
    assert [key.domain for key in options.dkim] == ["example.com", "example.net"]
    assert [secret.reveal()[:7] for secret in options.bounce_secret] == ["hunter2", "hunter3"]
    shown = repr(options)
    assert not any(secret in shown for secret in ("hunter2", "hunter3", ED25519))


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"domain": "example.com", "selector": "e1", "key": "env:GONE"}, "dkim[0].key"),
        ({"domain": "example.com", "selector": "e1", "key": "env:WRONG"}, "dkim[0].key"),
        ({"domain": "example.com", "key": "env:KEY"}, "dkim[0].selector"),
        ({"domain": "", "selector": "e1", "key": "env:KEY"}, "dkim[0].domain"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(table: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(
            SMTPOptions, {"host": "smtp.example.com", "dkim": [table]}, "accounts.a", {"KEY": ED25519, "WRONG": "x"}
        )
    assert caught.value.key == f"accounts.a.{key}"


def test_two_keys_of_one_algorithm_for_one_domain_are_refused() -> None:
    key = DKIMKey("example.com", "e1", Secret(ED25519))
    with pytest.raises(ConfigError, match="two ed25519-sha256 keys") as caught:
        SMTPOptions(host="smtp.example.com", dkim=(key, key))
    assert caught.value.key == "dkim"
