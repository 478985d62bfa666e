"""The command `mailglass`: quick to start, data apart from talk, and errors as sentences."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mailglass import __version__, cli
from mailglass.cli import COMMANDS, Row, load, run
from mailglass.cli.output import format_option, print_json
from mailglass.errors import ConfigError, MailglassError
from mailglass.settings import configure

SETTINGS = """
database_url = "env:DB"
default_from = "Ada <ada@example.com>"

[accounts.primary]
provider = "null"
from = "ada@example.com"

[accounts.second]
provider = "null"

[[routes]]
tenant = "acme"
stream = "bulk"
accounts = ["second", "primary"]
queue = "mailglass.acme"

[[routes]]
accounts = ["primary"]
"""


def mailglass(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mailglass", *arguments]
    return subprocess.run(argv, env={**os.environ, **environ}, capture_output=True, text=True, check=False)


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds a command of the test's own to the table."""

    def adder(name: str, command: click.Command) -> None:
        monkeypatch.setitem(sys.modules, "tests_own_command", type(sys)("tests_own_command"))
        setattr(sys.modules["tests_own_command"], name, command)
        monkeypatch.setitem(COMMANDS, name, Row(f"tests_own_command:{name}", "A test's own."))

    return adder


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mailglass.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("DB", "postgresql://ada:hunter2@db.example.com:5433/mail?password=hunter3")
    return path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mailglass.cli import run; run(['--help']); "
        "heavy = {'sqlalchemy', 'celery', 'kombu', 'rich', 'psycopg', 'redis', 'httpx', 'jinja2', 'structlog', "
        "'mailglass.settings', 'cryptography', 'dns', 'alembic', 'email_validator'}; "
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    said = " ".join(done.stdout.split())
    for name, row in COMMANDS.items():
        assert f"{name} {row.summary}" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_each_command_says_of_itself(name: str) -> None:
    if importlib.util.find_spec(COMMANDS[name].target.partition(":")[0]) is None:
        with pytest.raises(click.ClickException, match="not part of this installation"):
            load(name, COMMANDS[name])
        return
    command = load(name, COMMANDS[name])
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name].summary


def test_an_error_of_ours_is_one_paragraph_on_stderr(add: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fail() -> None:
        raise ConfigError("engine.lease", "too short", "Make it longer")

    add("fail", fail)
    assert run(["fail"]) == 1
    assert capsys.readouterr() == ("", "mailglass: engine.lease: too short. Make it longer\n")


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (click.Abort(), 1), (click.exceptions.Exit(3), 3), (click.UsageError("no"), 64)],
)
def test_exit_codes(add: Any, raised: BaseException, code: int) -> None:
    @click.command()
    def end() -> None:
        raise raised

    add("end", end)
    assert run(["end"]) == code


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (4, 4)])
def test_a_command_may_return_its_exit_code(add: Any, returned: int | None, code: int) -> None:
    @click.command()
    def end() -> int | None:
        return returned

    add("end", end)
    assert run(["end"]) == code


def test_a_defect_is_not_hidden(add: Any) -> None:
    @click.command()
    def defect() -> None:
        raise ZeroDivisionError

    add("defect", defect)
    with pytest.raises(ZeroDivisionError):
        run(["defect"])


def test_the_program_exits_with_the_code_and_without_a_traceback(tmp_path: Path) -> None:
    done = mailglass("--config", str(tmp_path / "missing.toml"), "config", "check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("mailglass: MAILGLASS_CONFIG: no file at ")
    assert "Traceback" not in done.stderr
    assert mailglass("no-such-command").returncode == 64


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mailglass {__version__}\n"


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


def test_no_line_of_any_help_is_cut_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    every = [(), *commands(cli.cli)]
    assert len(every) > 25
    for names in every:
        assert run([*names, "--help"]) == 0
        listed = capsys.readouterr().out.partition("\nCommands:\n")[2]
        assert "..." not in listed, names


def test_help_shows_no_mark_of_its_own_layout(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(cli.cli):
        run([*words, "--help"])
        assert "\\b" not in capsys.readouterr().out, words


def test_wrong_usage_exits_with_the_code_of_sysexits_in_every_command() -> None:
    for names in commands(cli.cli):
        assert run([*names, "--no-such-option"]) == 64, names


def test_output_that_cannot_be_written_is_one_line_and_not_a_success() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        for arguments in (["--help"], ["version"], ["config", "env"]):
            command = [sys.executable, "-m", "mailglass", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert done.returncode == 1
            assert done.stderr == "mailglass: cannot write the output: No space left on device\n"


def test_a_reader_that_has_left_ends_the_command_quietly() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "mailglass", "config", "env"]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_command_that_is_not_installed_is_an_error_only_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "gone", Row("mailglass.cli.gone:gone", "Gone."))
    assert run(["--help"]) == 0
    assert run(["version"]) == 0
    capsys.readouterr()
    assert run(["gone"]) == 1
    assert capsys.readouterr().err == "Error: `mailglass gone` is not part of this installation of mailglass\n"


def test_a_command_whose_extra_is_missing_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_library\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(COMMANDS, "more", Row("needs_more:more", "More.", "web"))
    assert run(["more"]) == 1
    assert 'no_such_library, which is not installed: pip install "mailglass[web]"' in capsys.readouterr().err


def test_config_check_shows_accounts_and_routes_and_no_secret(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--config", str(settings_file), "config", "check"]) == 0
    human = capsys.readouterr()
    assert "database  db.example.com  5433  mail" in human.out
    assert "acme    bulk    second, primary  mailglass.acme" in human.out
    assert human.err == "The settings are in order.\n"
    cli_output = human.out + human.err
    assert run(["--config", str(settings_file), "config", "check", "--json"]) == 0
    machine = capsys.readouterr()
    data = json.loads(machine.out)
    assert machine.err == ""
    assert (data["tasks"], data["queues"]) == ({}, ["mailglass", "mailglass.acme"])
    assert data["schema_version"] == 1
    assert data["database"] == [{"host": "db.example.com", "port": 5433, "database": "mail"}]
    assert data["broker"] == []
    assert [account["name"] for account in data["accounts"]] == ["primary", "second"]
    assert data["routes"][0] == {
        "tenant": "acme",
        "stream": "bulk",
        "accounts": ["second", "primary"],
        "queue": "mailglass.acme",
    }
    for hidden in ("hunter2", "hunter3", "ada"):
        assert hidden not in cli_output + machine.out


def test_config_check_opens_every_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mailglass.toml"
    path.write_text('[accounts.a]\nprovider = "null"\n[accounts.b]\nprovider = "pigeon"\n', encoding="utf-8")
    assert run(["--config", str(path), "config", "check"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "accounts.b.provider: unknown provider 'pigeon'" in said.err


COMPLETE = """
database_url = "env:THE_DATABASE"
[accounts.main]
provider = "null"
[[routes]]
accounts = ["main"]
"""


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (COMPLETE, []),
        (COMPLETE.replace("database_url", "redis_url").replace("env:THE_DATABASE", "env:THE_REDIS"), ["no database"]),
        (COMPLETE.partition("[[routes]]")[0] + '[accounts.other]\nprovider = "null"\n', ["no route"]),
        ("", ["no account", "no route", "no database"]),
        (None, ["no account", "no route", "no database"]),
    ],
)
def test_config_check_names_its_file_and_fails_where_nothing_can_be_sent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    missing: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THE_DATABASE", "postgresql://db/x")
    monkeypatch.setenv("THE_REDIS", "redis://cache/0")
    if text is not None:
        (tmp_path / "mailglass.toml").write_text(text, encoding="utf-8")
    assert run(["config", "check"]) == (1 if missing else 0)
    said = capsys.readouterr()
    assert f"Settings file: {tmp_path / 'mailglass.toml' if text is not None else 'none'}" in said.out
    assert [word for word in ("no account", "no route", "no database") if word in said.err] == missing
    assert run(["config", "check", "--json"]) == (1 if missing else 0)
    data = json.loads(capsys.readouterr().out)
    assert (data["ok"], len(data["problems"])) == (not missing, len(missing))


def test_config_check_fails_on_an_unknown_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mailglass.toml").write_text(COMPLETE, encoding="utf-8")
    monkeypatch.setenv("THE_DATABASE", "postgresql://db/x")
    monkeypatch.setenv("MAILGLASS_SERVICE_HOST", "10.0.0.1")
    assert run(["config", "check"]) == 0
    capsys.readouterr()
    configure(None)
    monkeypatch.setenv("MAILGLASS_BROKER", "redis://:hunter2@x/0")
    assert run(["config", "check"]) == 1
    err = capsys.readouterr().err
    assert "MAILGLASS_BROKER:" in err and "MAILGLASS_BROKER_URL" in err and "hunter2" not in err


def test_config_env_lists_the_variables_and_never_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", "postgresql://hunter2@db/x")
    assert run(["config", "env", "--format", "json"]) == 0
    out = capsys.readouterr().out
    is_set = {item["name"]: item["set"] for item in json.loads(out)["variables"]}
    assert is_set["MAILGLASS_DATABASE_URL"] is True
    assert is_set["MAILGLASS_BROKER_URL"] is False
    assert run(["config", "env"]) == 0
    assert "hunter2" not in out + capsys.readouterr().out


def test_version_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    version = capsys.readouterr().out.split()
    assert version[0] == "mailglass"
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version[1]


@pytest.mark.parametrize(
    ("environ", "color"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"TERM": "dumb"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_follows_the_environment(environ: dict[str, str], color: bool | None) -> None:
    assert cli.wants_color(environ) is color


def test_colour_never_goes_into_a_pipe_unless_it_is_asked_for() -> None:
    plain = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm"}
    assert "\x1b" not in mailglass("config", "env", **plain).stdout
    assert "\x1b" in mailglass("config", "env", **{**plain, "FORCE_COLOR": "1"}).stdout
    assert "\x1b" in mailglass("--color", "config", "env", **plain).stdout
    assert "\x1b" not in mailglass("--no-color", "config", "env", **{**plain, "FORCE_COLOR": "1"}).stdout


def test_a_reader_that_stops_reading_is_no_error(add: Any) -> None:
    argv = [sys.executable, "-m", "mailglass", "config", "env"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(argv, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_of_the_shell(shell: str) -> None:
    done = mailglass("completion", shell)
    assert done.returncode == 0
    assert "_MAILGLASS_COMPLETE" in done.stdout


def test_completion_knows_commands_and_options_without_loading_commands() -> None:
    def completed(line: str, position: int) -> set[str]:
        done = mailglass(_MAILGLASS_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(position))
        return {entry.partition(",")[2] for entry in done.stdout.splitlines()}

    assert completed("mailglass de", 1) == {"deliveries", "demo", "dev"}
    assert completed("mailglass config ", 2) == {"check", "env"}
    assert "--format" in completed("mailglass config check --f", 3)


def test_format_is_human_or_json(add: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @format_option
    def show(output_format: str) -> None:
        print_json(format=output_format, name="Zoë")

    add("show", show)
    formats = []
    for arguments in ([], ["--format", "human"], ["--format", "json"], ["--json"]):
        assert run(["show", *arguments]) == 0
        data = json.loads(capsys.readouterr().out)
        assert (data["schema_version"], data["name"]) == (1, "Zoë")
        formats.append(data["format"])
    assert formats == ["human", "human", "json", "json"]
    assert run(["show", "--format", "xml"]) == 64


def test_several_problems_are_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mailglass.toml"
    path.write_text('colour = "red"\ntaste = "sweet"\n', encoding="utf-8")
    assert run(["--config", str(path), "config", "check"]) == 1
    err = capsys.readouterr().err
    assert "colour: unknown setting" in err
    assert "taste: unknown setting" in err


def test_every_error_class_reaches_the_user_as_a_sentence(add: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fail() -> None:
        raise MailglassError("it is so: do this")

    add("fail", fail)
    assert run(["fail"]) == 1
    assert capsys.readouterr().err == "mailglass: it is so: do this\n"


@pytest.mark.parametrize("words", [[], ["--sent", "--resend"], ["--resend", "--give-up"]])
def test_settling_by_no_word_or_by_two_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deliveries", "settle", "--status", "held", "--yes", *words]) == 64
    assert "by one of --sent, --resend and --give-up" in capsys.readouterr().err
