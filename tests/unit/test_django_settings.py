"""Settings of a Django project, its system checks, and the command of `manage.py`, without any server."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test.utils import override_settings
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from mailglass import ConfigError
from mailglass.demo import own_settings
from mailglass.integrations.django.management.commands.mailglass import _own
from mailglass.settings import get_settings, load_settings
from mailglass.settings.django import DjangoSettings, database_url
from tests.django_project import BACKEND, HAS_MAILERS, project

POSTGRES = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "db.example.com"}
MAILGLASS: dict[str, Any] = {
    "default_from": lazystr("Shop <shop@example.com>"),
    "templates": (Path("/srv/templates"),),
    "accounts": {"nowhere": {"provider": "null"}},
    "routes": ({"accounts": ("nowhere",)},),
}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)


def found(**options: Any) -> dict[str | None, str]:
    """The messages of our checks by their ids."""
    return {item.id: item.msg for item in run_checks(**options) if str(item.id).startswith("mailglass")}


def test_mailglass_of_djangos_settings_is_read_in_pythons_own_types() -> None:
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        settings = get_settings()
    assert (str(settings.default_from), settings.templates) == ("<Address at example.com>", ("/srv/templates",))
    assert settings.routes[0].accounts == ("nowhere",)
    assert settings.source == "MAILGLASS of settings.configure()"
    assert settings.database_url.reveal() == "postgresql://db.example.com/shop"
    assert "db.example.com" not in repr(settings.database_url)


def test_without_django_settings_nothing_of_django_is_read() -> None:
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        pass
    assert load_settings().accounts == {}


def test_an_environment_or_file_of_ones_own_leaves_djangos_settings_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('log_level = "error"\n')
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        assert load_settings({}).accounts == {}
        assert load_settings(path=tmp_path / "own.toml").log_level == "error"


def test_a_project_that_sets_no_mailglass_has_the_file_and_its_own_database(tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").write_text('log_level = "error"\n')
    with project({"default": POSTGRES}):
        settings = load_settings()
    assert (settings.log_level, settings.file) == ("error", tmp_path / "mailglass.toml")
    assert settings.database_url.reveal().endswith("/shop")


def test_a_project_without_the_app_and_without_mailglass_is_not_asked() -> None:
    with project({"default": POSTGRES}, INSTALLED_APPS=["django.contrib.auth"]):
        assert load_settings().database_url.reveal() == ""


def test_variables_go_before_djangos_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", "postgresql://other/ledger")
    monkeypatch.setenv("MAILGLASS_LOG_LEVEL", "error")
    with project({"default": POSTGRES}, MAILGLASS={**MAILGLASS, "log_level": "debug"}):
        settings = load_settings()
    assert (settings.database_url.reveal(), settings.log_level) == ("postgresql://other/ledger", "error")


WRONG = {
    "an unknown key": ({"accounts": {}, "acounts": {}}, "acounts: unknown setting"),
    "an unknown account": ({**MAILGLASS, "routes": [{"accounts": ["gone"]}]}, "gone"),
    "no dict": ([], "MAILGLASS: wrong type"),
    "an unknown database": ({"database": "mail"}, "Known are: default"),
    "a secret": ({"broker_url": "redis://:hunter2@x"}, "env:NAME"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_setting_is_a_warning_of_the_checks_that_names_it(what: str) -> None:
    document, named = WRONG[what]
    with project({"default": POSTGRES}, MAILGLASS=document):
        with pytest.raises(ConfigError, match=named):
            load_settings()
        text = found()["mailglass.W006"]
    assert named in text
    assert "hunter2" not in text


def test_a_wrong_setting_does_not_stop_migrate() -> None:
    from mailglass.integrations.django.checks import settings_are_valid

    with project({"default": POSTGRES}, MAILGLASS={"acounts": {}}):
        (message,) = settings_are_valid(None)
    assert (message.id, message.is_serious()) == ("mailglass.W006", False)


def test_two_sources_at_once_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mailglass.toml").write_text('log_level = "error"\n')
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        assert "not read" in found()["mailglass.W002"]
        monkeypatch.setenv("MAILGLASS_CONFIG", "mailglass.toml")
        with pytest.raises(ConfigError, match="Keep one"):
            load_settings()


def test_the_file_of_mailglass_dev_goes_before_the_settings_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".mailglass" / "mailglass.toml"
    file.parent.mkdir()
    file.write_text('log_level = "error"\n')
    monkeypatch.setenv("MAILGLASS_CONFIG", str(file))
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        settings = load_settings()
        assert "mailglass.W006" not in found()
    assert (settings.log_level, settings.source) == ("error", str(file))


def test_mailglass_dev_catches_the_mail_of_a_project_by_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").touch()
    with project({"default": POSTGRES}, MAILGLASS={**MAILGLASS, "database": "default", "default_from": None}):
        own = own_settings.find({}, tmp_path)
        assert isinstance(own, DjangoSettings)
        caught = tomllib.loads(own_settings.caught(own, 8027, "lab", "env:PASSWORD"))
    assert {account["provider"] for account in caught["accounts"].values()} == {"smtp"}
    assert caught["routes"] == [{"accounts": ["nowhere"]}]
    assert not {"database", "database_url", "broker_url"} & caught.keys()


def test_overridden_settings_are_read_at_the_next_use() -> None:
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        assert get_settings().log_level == "info"
        with override_settings(MAILGLASS={**MAILGLASS, "log_level": "error"}):
            assert get_settings().log_level == "error"
        assert get_settings().log_level == "info"


def test_settings_that_cannot_be_imported_are_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nowhere.settings")
    with pytest.raises(ConfigError, match=r"cannot be imported \(ModuleNotFoundError\).*manage.py"):
        load_settings()


def test_a_process_without_django_reads_the_file_whatever_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mailglass.toml").write_text('log_level = "error"\n')
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nowhere.settings")
    monkeypatch.setitem(sys.modules, "django.conf", None)
    assert load_settings().log_level == "error"


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ({**POSTGRES, "PORT": 5433, "USER": "shop"}, "postgresql://shop@db.example.com:5433/shop"),
        ({**POSTGRES, "HOST": "", "PORT": "5433"}, "postgresql:///shop?port=5433"),
        ({**POSTGRES, "HOST": "/run/db", "PORT": ""}, "postgresql:///shop?host=%2Frun%2Fdb"),
        ({**POSTGRES, "HOST": "::1"}, "postgresql://[::1]/shop"),
        (
            {**POSTGRES, "OPTIONS": {"sslmode": "require", "pool": True, "server_side_binding": True}},
            "postgresql://db.example.com/shop?sslmode=require",
        ),
        ({**POSTGRES, "ENGINE": "django.contrib.gis.db.backends.postgis"}, "postgresql://db.example.com/shop"),
        ({**POSTGRES, "ENGINE": "django.db.backends.mysql"}, None),
        ({}, None),
    ],
)
def test_a_database_of_django_has_a_url(database: dict[str, Any], url: str | None) -> None:
    secret = database_url("default", database)
    assert (None if secret is None else secret.reveal()) == url


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(NAMES, NAMES, NAMES.filter(bool))
def test_any_name_and_password_come_through_the_url(user: str, password: str, name: str) -> None:
    secret = database_url("default", {**POSTGRES, "USER": user, "PASSWORD": password, "NAME": name})
    assert secret is not None
    parts = psycopg.conninfo.conninfo_to_dict(secret.reveal())
    assert parts["dbname"] == name
    if user:
        assert (parts["user"], parts.get("password", "")) == (user, password)


def backend(name: str) -> dict[str, Any]:
    path = f"django.core.mail.backends.{name}.EmailBackend"
    return {"MAILERS": {"default": {"BACKEND": path}}} if HAS_MAILERS else {"EMAIL_BACKEND": path}


def test_checks_hint_at_a_backend_that_was_never_set() -> None:
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        assert found() == {}
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS, **backend("smtp")):
        assert list(found()) == ["mailglass.I001"]
        (item,) = [item for item in run_checks() if item.id == "mailglass.I001"]
        assert BACKEND in str(item.hint)
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS, **backend("locmem")):
        assert found() == {}


def test_the_ledger_is_asked_with_databases_alone() -> None:
    unreachable = {**POSTGRES, "HOST": "127.0.0.1", "PORT": 1}
    with project({"default": unreachable}, MAILGLASS=MAILGLASS):
        assert found() == {}
        assert list(found(databases=["default"])) == ["mailglass.W004"]
    with project({}, MAILGLASS=MAILGLASS):
        assert "MAILGLASS_DATABASE_URL" in found(databases=["default"])["mailglass.W005"]


def test_an_unknown_variable_is_a_warning_of_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE", "x")
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        assert "MAILGLASS_DATABASE_URL" in found()["mailglass.W001"]


def test_call_command_runs_a_command_and_raises_what_it_exits_with(capsys: pytest.CaptureFixture[str]) -> None:
    with project({"default": POSTGRES}, MAILGLASS=MAILGLASS):
        call_command("mailglass", "config", "env")
        assert "MAILGLASS_DATABASE_URL" in capsys.readouterr().out
        with pytest.raises(CommandError) as error:
            call_command("mailglass", "nonsense")
    assert error.value.returncode == 64


@pytest.mark.parametrize(
    ("given_words", "own"),
    [
        (["--settings", "a", "--pythonpath=b", "db", "check", "--json"], ["db", "check", "--json"]),
        (
            ["--config", "x.toml", "--settings=a", "doctor", "--settings"],
            ["--config", "x.toml", "doctor", "--settings"],
        ),
        ([], []),
    ],
)
def test_djangos_own_options_are_taken_out_before_the_command(given_words: list[str], own: list[str]) -> None:
    assert _own(given_words) == own


def test_the_environment_is_left_as_it_was() -> None:
    assert "DJANGO_SETTINGS_MODULE" not in os.environ
