"""Every room's suppression list against the lab, over HTTP: added to, read to its end, taken from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailglass.providers.registry import Accounts
from mailglass.providers.suppression_list import ListedAddress, SuppressionList
from mailglass.settings import AccountSettings, Settings
from tests.listed import ENVIRON, LISTING, lab_of_lists

# what else than the pushed reason comes back: providers that let nobody say why
TOLD = {"postmark": "manual", "sendgrid": "unsubscribe", "resend": "manual", "brevo": "manual"}
NAMES = pytest.mark.parametrize("name", sorted(LISTING))


@pytest.fixture(scope="module")
def lab() -> Iterator[dict[str, AccountSettings]]:
    with lab_of_lists() as accounts:
        yield accounts


@pytest.fixture
def accounts(lab: dict[str, AccountSettings]) -> Iterator[Accounts]:
    opened = Accounts(Settings(accounts=lab), ENVIRON)
    yield opened
    opened.close()


def list_of(accounts: Accounts, name: str) -> SuppressionList:
    found = accounts.open(name).suppression_list()
    assert found is not None
    return found


def read(listed: SuppressionList) -> list[ListedAddress]:
    entries, cursor = listed.pull(None)
    while cursor is not None:
        page, cursor = listed.pull(cursor)
        entries += page
    return entries


def test_every_provider_that_keeps_a_list_is_in_the_lab() -> None:
    assert set(LISTING) == {"brevo", "mailgun", "mandrill", "postmark", "resend", "sendgrid", "ses", "sparkpost"}


@NAMES
def test_pushed_address_is_read_back_and_can_be_taken_off(accounts: Accounts, name: str) -> None:
    listed = list_of(accounts, name)
    addresses = [f"{name}-{number}@listed.example" for number in range(120)]
    pushed = listed.push([ListedAddress(address, "hard_bounce") for address in addresses])
    assert pushed == [True] * len(addresses)
    found = {entry.address: entry.reason for entry in read(listed)}
    assert found == dict.fromkeys(addresses, TOLD.get(name, "hard_bounce"))
    assert listed.remove(addresses[:100]) == [True] * 100
    assert {entry.address for entry in read(listed)} == set(addresses[100:])
    assert listed.remove(addresses[100:]) == [True] * 20
    assert read(listed) == []


@NAMES
def test_pushing_twice_is_pushing_once(accounts: Accounts, name: str) -> None:
    listed, entry = list_of(accounts, name), ListedAddress(f"twice-{name}@listed.example", "hard_bounce")
    assert [*listed.push([entry]), *listed.push([entry])] == [True, True]
    assert {found.address for found in read(listed)} == {entry.address}
    assert listed.remove([entry.address, entry.address])[0] is True
    assert read(listed) == []


@NAMES
def test_an_address_that_is_none_sinks_no_other(accounts: Accounts, name: str) -> None:
    listed, good = list_of(accounts, name), f"good-{name}@listed.example"
    assert listed.push([ListedAddress(address, "hard_bounce") for address in (good, "none")]) == [True, False]
    assert {entry.address for entry in read(listed)} == {good}
    listed.remove([good])
