"""`[[limits]]`: what is written becomes rules, what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailglass.errors import ConfigError
from mailglass.settings import LimitRule, LimitScope, Settings, load_settings

Load = Callable[[str], Settings]

ACCOUNTS = '[accounts.acme-postmark]\nprovider = "null"\n'


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loader(document: str) -> Settings:
        path = tmp_path / "mailglass.toml"
        path.write_text(ACCOUNTS + document, encoding="utf-8")
        return load_settings({}, path)

    return loader


def test_without_limits_there_are_none(load: Load) -> None:
    assert load("").limits == ()


@pytest.mark.parametrize(
    ("rate", "interval", "burst"),
    [("100/s", 0.01, 200), ("600/m", 0.1, 20), ("5000/h", 0.72, 2), ("100000/d", 0.864, 2), ("1/d", 86400, 1)],
)
def test_a_rate_is_mails_per_second_minute_hour_or_day_with_two_seconds_of_burst(
    load: Load, rate: str, interval: float, burst: int
) -> None:
    (rule,) = load(f'[[limits]]\nscope = "tenant"\nrate = "{rate}"').limits
    assert rule.interval == pytest.approx(interval)
    assert (rule.key, rule.burst) == ("*", burst)


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ("tenant", "acme"),
        ("tenant_domain", "acme/gmail.com"),
        ("domain", "gmail.com"),
        ("sender_domain", "shop.example"),
        ("account", "acme-postmark"),
        ("stream", "bulk"),
        ("stream", "*"),
    ],
)
def test_each_scope_takes_its_own_kind_of_key(load: Load, scope: str, key: str) -> None:
    document = f'[[limits]]\nscope = "{scope}"\nkey = "{key}"\nrate = "10/s"\nburst = 7'
    assert load(document).limits == (LimitRule(LimitScope(scope), key, 10, 1, 7),)


def test_domains_are_compared_in_lower_case_a_labels(load: Load) -> None:
    document = '[[limits]]\nscope = "tenant_domain"\nkey = "acme/Bücher.example"\nrate = "1/s"'
    assert load(document).limits[0].key == "acme/xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('rate = "1/s"', "scope"),
        ('scope = "planet"\nrate = "1/s"', "scope"),
        ('scope = ["tenant"]\nrate = "1/s"', "scope"),
        ('scope = "tenant"', "rate"),
        ('scope = "tenant"\nrate = 100', "rate"),
        ('scope = "tenant"\nrate = "0/s"', "rate"),
        ('scope = "tenant"\nrate = "-5/s"', "rate"),
        ('scope = "tenant"\nrate = "1.5/s"', "rate"),
        ('scope = "tenant"\nrate = "10/w"', "rate"),
        ('scope = "tenant"\nrate = "10/s\\n"', "rate"),
        ('scope = "tenant"\nrate = "1/s"\nburst = 0', "burst"),
        ('scope = "tenant"\nrate = "1/s"\nburst = 1.5', "burst"),
        ('scope = "tenant"\nrate = "1/s"\nburst = true', "burst"),
        ('scope = "tenant"\nrate = "1/s"\nburst = 1000001', "burst"),
        ('scope = "tenant"\nrate = "1/s"\nkey = 5', "key"),
        ('scope = "tenant"\nrate = "1/s"\nkey = "ACME"', "key"),
        ('scope = "tenant_domain"\nrate = "1/s"\nkey = "acme"', "key"),
        ('scope = "tenant_domain"\nrate = "1/s"\nkey = "acme/*"', "key"),
        ('scope = "domain"\nrate = "1/s"\nkey = "a@gmail.com"', "key"),
        ('scope = "domain"\nrate = "1/s"\nkey = ""', "key"),
        ('scope = "account"\nrate = "1/s"\nkey = "unknown"', "key"),
        ('scope = "stream"\nrate = "1/s"\nkey = "spam"', "key"),
        ('scope = "tenant"\nrate = "1/s"\nbursts = 1', "bursts"),
    ],
)
def test_wrong_setting_is_named_by_its_place(load: Load, body: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(f'[[limits]]\nscope = "stream"\nrate = "1/s"\n[[limits]]\n{body}')
    assert raised.value.key == f"limits[1].{key}"


def test_two_limits_for_the_same_mail_are_refused(load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        load('[[limits]]\nscope = "tenant"\nrate = "1/s"\n[[limits]]\nscope = "tenant"\nkey = "*"\nrate = "2/s"')
    assert raised.value.key == "limits[1].key"


def test_a_table_instead_of_an_array_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        load('[limits]\nscope = "tenant"')
    assert raised.value.key == "limits"


@pytest.mark.parametrize("key", [42, None, ""])
def test_a_key_from_code_that_would_match_nobody_is_refused(key: object) -> None:
    with pytest.raises(ConfigError, match="its key is no text"):
        LimitRule.of("tenant", "2/s", key)  # type: ignore[arg-type]


def test_an_unknown_scope_from_code_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tenant_domain"):
        LimitRule.of("tenants", "2/s")


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"burst": 0}, {"scope": "person"}])
def test_a_rule_that_code_got_wrong_does_not_say_its_key_which_may_be_an_address(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"scope": "domain", "key": "ada@example.com", "amount": 1, "period": 1, "burst": 1} | wrong
    with pytest.raises(ConfigError) as caught:
        LimitRule(**fields)
    assert "ada" not in str(caught.value)
