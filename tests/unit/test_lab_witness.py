"""The lab's witness and stories: what later tests rest their claims on."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.errors import ConfigError
from mailglass.testing.lab.fates import Fates, Happening
from mailglass.testing.lab.posting import Poster
from mailglass.testing.lab.sendgrid import signing_key
from mailglass.testing.lab.weather import LabMail, Weather
from mailglass.testing.lab.witness import Witness


def mail(delivery_id: str, account: str = "pm") -> LabMail:
    return LabMail(account, delivery_id, "ada@example.com", "S", 10)


def test_mails_deliveries_and_repetitions_are_counted_apart() -> None:
    witness = Witness()
    witness.accept([mail("one"), mail("two"), mail("one", "sg")])
    witness.accept([mail("one"), mail("")])
    assert witness.counts() == {"accepted": 5, "deliveries": 2, "repeated": 1, "unnamed": 1}
    assert dict(witness.received) == {"one": 3, "two": 1}
    assert dict(witness.accounts) == {"pm": 4, "sg": 1}


def test_a_new_witness_continues_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    first = Witness(path)
    first.accept([mail("one"), mail("two")])
    first.deactivate("pm", "Ada@example.com")
    # not closed: what a killed process leaves behind
    second = Witness(path)
    second.accept([mail("one")])
    assert second.counts() == {"accepted": 3, "deliveries": 2, "repeated": 1, "unnamed": 0}
    assert second.inactive("pm", "ada@EXAMPLE.com")
    assert not second.inactive("sg", "ada@example.com")
    assert "ada" not in path.read_text().lower()
    first.close()
    second.close()


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"accepted\tpm\tone\naccepted\tpm\ttw")
    witness = Witness(path)
    witness.accept([mail("three")])
    witness.close()
    assert dict(Witness(path).received) == {"one": 1, "three": 1}


@given(ids=st.lists(st.text(max_size=8), max_size=12))
def test_file_says_what_the_memory_says_for_any_id(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("witness") / "state"
    witness = Witness(path)
    witness.accept([mail(name) for name in ids])
    witness.close()
    assert Witness(path).accounts == witness.accounts


@pytest.mark.parametrize("weather", list(Weather))
def test_every_weather_has_a_story_told_in_full(weather: Weather) -> None:
    steps = Fates(open_rate=1.0, click_rate=1.0, random=Random(1)).steps(weather)
    whats = {step.what for step in steps}
    assert Happening.QUEUED in whats
    ends = {Happening.DELIVERED, Happening.HARD_BOUNCED, Happening.SOFT_BOUNCED, Happening.DROPPED}
    assert len(whats & ends) == 1
    assert (Happening.OPENED in whats) == (Happening.DELIVERED in whats and weather is not Weather.DEFER)


def test_late_events_are_told_backwards_and_duplicates_twice() -> None:
    fates = Fates(open_rate=1.0, random=Random(1))
    late = fates.steps(Weather.LATE_EVENT)
    assert [step.after for step in late] == sorted(step.after for step in late)
    assert [step.told for step in late] == sorted((step.told for step in late), reverse=True)
    assert all(step.told >= 0 for step in late)
    assert all(step.again is not None and step.again > step.told for step in fates.steps(Weather.DUPLICATE_EVENT))
    assert all(step.again is None for step in fates.steps(Weather.DELIVER))


@pytest.mark.parametrize("url", ["http://example.com/hooks", "http://10.0.0.1/", "https://127.0.0.1/", "hooks"])
def test_webhooks_are_posted_on_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Poster(url)


def test_a_signing_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="P-256"):
        signing_key("no key")
