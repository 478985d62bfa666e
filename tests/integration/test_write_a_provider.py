"""The guide's eleventh provider: its code is the code tested here, it passes the suite, and it is found by name."""

from __future__ import annotations

import importlib
import inspect
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from mailglass.errors import ConfigError
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.providers.registry import Accounts, provider_class
from mailglass.settings import load_settings
from mailglass.testing.provider_suite import ProviderSuite

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "pigeon"
GUIDE = ROOT / "docs" / "guides" / "write-a-provider.md"

if str(PACKAGE) not in sys.path:
    sys.path.append(str(PACKAGE))
ROOM = importlib.import_module("mailglass_pigeon")
TestPigeon: type[ProviderSuite] = importlib.import_module("pigeon_suite").TestPigeon


@pytest.mark.parametrize("name", ["mailglass_pigeon.py", "pyproject.toml", "pigeon_suite.py"])
def test_the_guide_shows_the_code_that_is_tested(name: str) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    blocks = [block.partition("\n")[2] for block in guide.split("```")[1::2]]
    text = (PACKAGE / name).read_text(encoding="utf-8")
    shown = "".join(block for block in blocks if block and block in text)
    missing = [
        line for line in text.splitlines() if line.strip() and not line.startswith("# ruff:") and line not in shown
    ]
    assert missing == []


def test_an_installed_package_is_found_by_the_name_of_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="unknown provider"):
        provider_class("pigeon")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = tmp_path / "mailglass_pigeon-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mailglass-pigeon\nVersion: 1.0\n")
    group, points = next(iter(project["entry-points"].items()))
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (installed / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert provider_class("pigeon") is ROOM.PigeonProvider
    config = tmp_path / "mailglass.toml"
    config.write_text('[accounts.loft]\nprovider = "pigeon"\napi_key = "env:PIGEON_KEY"\n')
    settings = load_settings({}, config)
    opened = Accounts(settings, {"PIGEON_KEY": "k"}).open("loft")
    assert isinstance(opened, ROOM.PigeonProvider)


# --- the suite sees what is wrong ---


class Shuffled(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Answers in another order."""

    def send(self, mails: list[Outgoing], *, deadline: float) -> list[Outcome]:
        return list(reversed(super().send(mails, deadline=deadline)))


class Optimist(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Takes a lost answer for a good one."""

    def send(self, mails: list[Outgoing], *, deadline: float) -> list[Outcome]:
        return [Outcome(OutcomeClass.ACCEPTED) for _ in super().send(mails, deadline=deadline)]


class Stubborn(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Asks again by itself."""

    def send(self, mails: list[Outgoing], *, deadline: float) -> list[Outcome]:
        super().send(mails, deadline=deadline)
        found: list[Outcome] = super().send(mails, deadline=deadline)
        return found


class Believer(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Believes everybody."""

    def verify(self, request: object) -> None:
        return None


class Chatty(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Shows its key."""

    def __repr__(self) -> str:
        return f"<Pigeon {self.options.api_key.reveal()}>"


class Forgetful(ROOM.PigeonProvider):  # type: ignore[misc, name-defined]
    """Sends an id of its own along."""

    def encode(self, mail: Outgoing) -> bytes:
        found: bytes = super().encode(replace(mail, delivery_id=UUID(int=7)))
        return found


@pytest.mark.parametrize(
    ("defect", "test"),
    [
        (Shuffled, "test_every_mail_gets_one_outcome_in_its_place"),
        (Optimist, "test_a_lost_answer_is_uncertain_and_not_asked_for_again"),
        (Optimist, "test_a_passed_deadline_starts_nothing"),
        (Stubborn, "test_no_mail_is_sent_twice_in_one_call"),
        (Forgetful, "test_the_delivery_id_reaches_the_wire"),
        (Believer, "test_a_body_that_was_altered_is_refused"),
        (Believer, "test_a_proof_that_is_missing_or_altered_is_refused"),
        (Believer, "test_without_a_webhook_secret_nothing_is_believed"),
        (Chatty, "test_no_repr_shows_a_secret"),
    ],
)
def test_the_suite_sees_a_defect(defect: type[Provider], test: str) -> None:
    room = type("Defective", (TestPigeon,), {"provider_class": defect})()
    with room.open_wire() as wire:
        provider = room.build(room.at(wire.port))
        asked = inspect.signature(getattr(room, test)).parameters
        values = {"provider": provider, "wire": wire, "nowhere": provider, "samples": room.webhooks()}
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            getattr(room, test)(**{name: values[name] for name in asked})
        provider.close()
