"""`[accounts.NAME.warmup]`: what is written becomes a plan, what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from mailglass.errors import ConfigError
from mailglass.settings import Settings, WarmupPlan, load_settings

Load = Callable[[str], Settings]
START = "start = 2026-12-01\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loader(warmup: str) -> Settings:
        path = tmp_path / "mailglass.toml"
        path.write_text(f'[accounts.new]\nprovider = "null"\n{warmup}', encoding="utf-8")
        return load_settings({}, path)

    return loader


def table(body: str) -> str:
    return f"[accounts.new.warmup]\n{body}"


def test_an_account_has_no_plan_unless_it_is_given_one(load: Load) -> None:
    assert load("").accounts["new"].warmup is None


def test_a_plan_lists_the_mails_of_each_day(load: Load) -> None:
    account = load(table(f"{START}plan = [50, 100, 500, 1000, 5000]")).accounts["new"]
    assert account.warmup == WarmupPlan(date(2026, 12, 1), (50, 100, 500, 1000, 5000), "UTC")
    assert account.options == {}


@pytest.mark.parametrize(
    ("plan", "caps"),
    [
        ("{ 1 = 50, 3 = 200 }", (50, 50, 200)),
        ("{ 1 = 50, 2 = 0, 4 = 200, 5 = 200 }", (50, 0, 0, 200, 200)),
        ("{ 1 = 7 }", (7,)),
    ],
)
def test_a_plan_may_name_the_days_on_which_it_changes(load: Load, plan: str, caps: tuple[int, ...]) -> None:
    found = load(table(f"{START}plan = {plan}")).accounts["new"].warmup
    assert found is not None
    assert found.caps == caps


def test_a_plan_may_go_by_the_days_of_a_time_zone(load: Load) -> None:
    found = load(table(f'{START}plan = [50]\ntimezone = "America/New_York"')).accounts["new"].warmup
    assert found is not None
    assert found.timezone == "America/New_York"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ("plan = [50]", "start"),
        ('start = "2026-12-01"\nplan = [50]', "start"),
        ("start = 2026-12-01T00:00:00Z\nplan = [50]", "start"),
        (START, "plan"),
        (f"{START}plan = []", "plan"),
        (f"{START}plan = 50", "plan"),
        (f"{START}plan = [50, -1]", "plan"),
        (f"{START}plan = [true]", "plan"),
        (f"{START}plan = [1.5]", "plan"),
        (f"{START}plan = [1000001]", "plan"),
        (f"{START}plan = {[1] * 367}", "plan"),
        (f"{START}plan = {{ 2 = 50 }}", "plan"),
        (f"{START}plan = {{ 0 = 50, 1 = 50 }}", "plan"),
        (f"{START}plan = {{ 1 = 50, 367 = 50 }}", "plan"),
        (f"{START}plan = {{ 1 = 50, monday = 50 }}", "plan"),
        (f'{START}plan = [50]\ntimezone = "Mars/Olympus"', "timezone"),
        (f'{START}plan = [50]\ntimezone = "../etc/passwd"', "timezone"),
        (f"{START}plan = [50]\ntimezone = 1", "timezone"),
        (f"{START}plan = [50]\ncap = 1", "cap"),
    ],
)
def test_wrong_setting_is_named_by_its_place(load: Load, body: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(table(body))
    assert raised.value.key == f"accounts.new.warmup.{key}"


def test_something_else_than_a_table_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        load("warmup = [50, 100]")
    assert raised.value.key == "accounts.new.warmup"
