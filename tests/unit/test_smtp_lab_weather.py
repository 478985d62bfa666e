"""The lab's weather."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError
from mailglass.testing.lab.weather import Climate, LabMail, Weather


@pytest.mark.parametrize(
    ("local_part", "expected"),
    [
        ("bounce", Weather.HARD_BOUNCE),
        ("bounce+7", Weather.HARD_BOUNCE),
        ("no.such.user", Weather.HARD_BOUNCE),
        ("full.mailbox", Weather.SOFT_BOUNCE),
        ("full.mailbox9", Weather.SOFT_BOUNCE),
        ("slow", Weather.DEFER),
        ("Slow.Joe", Weather.DEFER),
        ("ada+slow", Weather.DEFER),
        ("ada+x+complains", Weather.COMPLAINT),
        ("complains", Weather.COMPLAINT),
        ("throttled", Weather.THROTTLE_ONCE),
        ("silence", Weather.LOST_ANSWER),
        ("suppressed", Weather.SUPPRESSED),
        ("slowik", Weather.DELIVER),
        ("ada.slow", Weather.DELIVER),
        ("ada", Weather.DELIVER),
    ],
)
def test_a_marker_in_the_local_part_decides(local_part: str, expected: Weather) -> None:
    assert Climate()(f"{local_part}@example.com") is expected


def test_a_marker_counts_more_than_the_ratios() -> None:
    assert Climate(ratios={Weather.DEFER: 1.0})("sunny@example.com") is Weather.DELIVER


def test_the_domain_marks_nothing() -> None:
    assert Climate()("ada@slow.example") is Weather.DELIVER


def test_the_ratios_are_met_over_many_recipients() -> None:
    climate = Climate(seed=3, ratios={Weather.HARD_BOUNCE: 0.1, Weather.DEFER: 0.2})

    met = Counter(climate(f"user{number}@example.com") for number in range(20_000))

    assert met[Weather.HARD_BOUNCE] == pytest.approx(2000, rel=0.1)
    assert met[Weather.DEFER] == pytest.approx(4000, rel=0.1)
    assert met[Weather.DELIVER] == 20_000 - met[Weather.HARD_BOUNCE] - met[Weather.DEFER]


@given(st.integers(), st.emails())
def test_the_weather_of_a_recipient_never_changes(seed: int, address: str) -> None:
    ratios = {weather: 1 / len(Weather) for weather in Weather}

    assert Climate(seed, ratios)(address) is Climate(seed, dict(reversed(ratios.items())))(address.lower())


def test_another_seed_is_another_climate() -> None:
    addresses = [f"user{number}@example.com" for number in range(200)]

    skies = {tuple(Climate(seed, {Weather.DEFER: 0.5})(address) for address in addresses) for seed in range(5)}

    assert len(skies) == 5


@pytest.mark.parametrize("ratios", [{Weather.DEFER: -0.1}, {Weather.DEFER: 0.6, Weather.COMPLAINT: 0.5}])
def test_ratios_that_are_no_shares_of_a_whole_are_refused(ratios: dict[Weather, float]) -> None:
    with pytest.raises(ConfigError):
        Climate(ratios=ratios)


def test_a_recorded_mail_does_not_show_whom_it_was_for() -> None:
    assert "ada" not in repr(LabMail("smtp", "id", "ada@example.com", "for ada", 10))
