"""Tags and metadata as far as each provider carries them."""

from __future__ import annotations

from typing import Any

import pytest

from mailglass.providers.base import Provider
from mailglass.providers.labels import left_out
from mailglass.providers.registry import provider_class
from mailglass.settings import build_options
from mailglass.testing.provider_suite.mails import plain

OPTIONS: dict[str, dict[str, Any]] = {
    "postmark": {"server_token": "env:KEY"},
    "mailjet": {"api_key": "env:KEY", "secret_key": "env:KEY"},
    "mandrill": {"api_key": "env:KEY"},
    "brevo": {"api_key": "env:KEY"},
    "resend": {"api_key": "env:KEY"},
    "ses": {"region": "eu-central-1"},
    "sparkpost": {"api_key": "env:KEY"},
    "mailgun": {"api_key": "env:KEY", "domain": "mg.example.com"},
    "sendgrid": {"api_key": "env:KEY"},
}


def opened(name: str) -> Provider:
    room = provider_class(name)
    options = build_options(room.Options, OPTIONS[name], f"accounts.{name}", {"KEY": "key-of-a-test"})
    return room(name, options)


@pytest.mark.parametrize(
    ("name", "labels", "kept", "reason"),
    [
        ("postmark", {"tags": ("one", "two")}, {"tags": ("one",)}, "tags"),
        ("mailjet", {"tags": ("one", "two")}, {"tags": ("one",)}, "tags"),
        ("mailjet", {"tags": ("one",), "options": {"mailjet": {"CustomCampaign": "x"}}}, {"tags": ()}, "tags"),
        ("mandrill", {"tags": ("x" * 51, "_internal", "ok")}, {"tags": ("ok",)}, "tags"),
        ("mandrill", {"metadata": {"a": "7" * 250, "b": "1"}}, {"metadata": {"b": "1"}}, "metadata"),
        ("brevo", {"metadata": {"blob": "x" * 900, "b": "1"}}, {"metadata": {"b": "1"}}, "metadata"),
        (
            "resend",
            {"tags": ("two words", "größe", "ok"), "metadata": {"order.no": "1", "a": "", "b": "x" * 257, "c": "1"}},
            {"tags": ("ok",), "metadata": {"c": "1"}},
            "tags_and_metadata",
        ),
        ("ses", {"tags": ("世" * 100, "größe")}, {"tags": ("größe",)}, "tags"),
        ("ses", {"metadata": {"k": "x y" * 300, "l": "1"}}, {"metadata": {"l": "1"}}, "metadata"),
        (
            "sparkpost",
            {"metadata": {f"k{number}": "x" * 1000 for number in range(10)}},
            {"metadata": {f"k{number}": "x" * 1000 for number in range(9)}},
            "metadata",
        ),
        (
            "sendgrid",
            {"metadata": {f"k{number}": "x" * 1000 for number in range(10)}},
            {"metadata": {f"k{number}": "x" * 1000 for number in range(9)}},
            "metadata",
        ),
        ("mailgun", {"tags": ("größe", "ok")}, {"tags": ("ok",)}, "tags"),
    ],
)
def test_label_that_a_provider_cannot_carry_is_left_out_and_the_rest_kept(
    name: str, labels: dict[str, Any], kept: dict[str, Any], reason: str
) -> None:
    mail = plain(**labels)
    fitted = opened(name).fitting(mail)
    assert fitted == plain(**labels | kept)
    assert left_out(mail, fitted) == reason


@pytest.mark.parametrize("name", OPTIONS)
def test_a_mail_that_fits_is_the_mail_itself(name: str) -> None:
    mail = plain(tags=("receipt",), metadata={"order": "77"})
    assert opened(name).fitting(mail) is mail
