"""The lab's further accounts: opened by name, refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from mailglass.errors import ConfigError
from mailglass.testing.lab.accounts import PROVIDERS, LabAccount, open_accounts
from mailglass.testing.lab.posting import Packer, Poster
from mailglass.testing.lab.weather import Climate
from mailglass.testing.lab.witness import Witness
from mailglass.testing.lab.world import World


def world() -> World:
    return World(Climate(), Witness(), Poster("http://127.0.0.1:8000/webhooks/"))


def opened(*accounts: LabAccount) -> dict[str, Any]:
    return dict(open_accounts(world(), accounts))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_of_the_table_can_be_opened_twice_under_two_names(provider: str) -> None:
    found = opened(LabAccount(provider, "one"), LabAccount(provider, "two"))
    assert [account.account for account in found.values()] == ["one", "two"]
    assert all(account.routes() for account in found.values())


@pytest.mark.parametrize(
    ("accounts", "word"),
    [
        ([LabAccount("mailgun", "a"), LabAccount("mandrill", "a")], "twice"),
        ([LabAccount("pigeon", "a")], "pigeon"),
        ([LabAccount("mailgun", "a", {"colour": "red"})], "colour"),
    ],
)
def test_account_that_cannot_be_opened_is_named(accounts: list[LabAccount], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        opened(*accounts)


def test_an_accounts_secrets_do_not_show() -> None:
    assert "s3cret" not in repr(LabAccount("mailgun", "a", {"key": "s3cret"}))


def test_a_webhook_is_packed_by_its_account_and_goes_to_its_own_address() -> None:
    found = opened(LabAccount("mandrill", "md"), LabAccount("mailgun", "mg"))
    assert all(isinstance(account, Packer) for account in found.values())
    assert found["md"].public() == {"webhook_url": "http://127.0.0.1:8000/webhooks/md"}
    assert (found["mg"].stop_status, found["md"].stop_status) == (406, None)
    assert Poster(None).url("md") == ""
