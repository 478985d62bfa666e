"""The demo's parts: its orders, its settings, its pace, and what it says."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from mailglass.cli import cli, run
from mailglass.demo import surroundings
from mailglass.demo.check import Check
from mailglass.demo.facts import Facts
from mailglass.demo.keeping import without_password
from mailglass.demo.load import split
from mailglass.demo.mails import Confirmation, confirmation
from mailglass.demo.narrator import PlainNarrator, narrator
from mailglass.demo.orders import TENANTS, read_orders
from mailglass.demo.report import lines, values
from mailglass.demo.scenario import run_name
from mailglass.demo.summary import Pace, Summary, pace
from mailglass.demo.surroundings import LabAddress, exports, new_secrets, tidy, write_environment, write_settings
from mailglass.demo.tail import Tail, worth_telling
from mailglass.errors import StackError
from mailglass.go_live import Report
from mailglass.ledger.lifecycle import Status
from mailglass.mail.addresses import parse_address
from mailglass.providers.registry import Accounts
from mailglass.rendering.content import render_content
from mailglass.routing import RouteContext, Router
from mailglass.settings import load_settings
from mailglass.testing.lab.sendgrid import SendGridLab, signing_key
from mailglass.testing.lab.weather import Climate, Weather

RESERVED = re.compile(r"@(?:.+\.)?(?:example\.(?:com|org|net)|[^.@]+\.(?:example|test|xn--zckzah))\Z")
START = datetime(2026, 3, 1, tzinfo=UTC)


def test_no_order_has_an_address_that_could_belong_to_somebody() -> None:
    for order in read_orders(300, "t"):
        assert RESERVED.search(parse_address(order.email, "to").email)


def test_orders_beyond_the_file_have_numbers_and_addresses_of_their_own() -> None:
    orders = read_orders(1000, "t")
    assert len({order.number for order in orders}) == 1000
    assert len({parse_address(order.email, "to").key for order in orders}) == 1000


def test_two_runs_share_no_address() -> None:
    first, second = ({order.email for order in read_orders(250, run)} for run in ("a", "b"))
    assert not first & second


def test_a_day_of_orders_meets_every_weather_and_every_tenant() -> None:
    orders = read_orders(250, "t")
    assert {order.tenant for order in orders} == set(TENANTS)
    assert {Climate()(parse_address(order.email, "to").email) for order in orders} == set(Weather)


def test_the_first_orders_have_a_hard_bounce_among_them() -> None:
    assert Weather.HARD_BOUNCE in {Climate()(order.email) for order in read_orders(6, "t")}


def test_every_order_becomes_a_mail_with_the_customers_name_and_amount() -> None:
    templated = 0
    for order in read_orders(204, "t"):
        mail = confirmation(order, "t")
        templated += isinstance(mail, Confirmation)
        content = render_content(mail.content())
        assert str(order.number) in content["subject"]
        assert order.amount in content["text"]
        assert mail.to[0].name == order.name
        assert mail.idempotency_key
    assert templated == 51


@pytest.mark.parametrize("number", [1, 2, 6, 7, 50, 5000])
def test_every_order_goes_by_exactly_one_way(number: int) -> None:
    orders = read_orders(number, "t")
    singles, batch, last = split(orders)
    assert sorted(order.number for order in (*singles, *batch, last)) == [order.number for order in orders]
    assert {order.tenant for order in batch} <= {"globex"}
    assert len(batch) == min(100, (number - 1) // 6)


@pytest.fixture
def lab() -> LabAddress:
    key = SendGridLab(None, "", signer=signing_key(None)).public_key  # type: ignore[arg-type]
    return LabAddress("http://127.0.0.1:4711", 2525, key)


@pytest.mark.parametrize("purpose", ["demo", "dev"])
def test_the_generated_settings_open_every_account(tmp_path: Path, purpose: str, lab: LabAddress) -> None:
    file = tmp_path / "settings.toml"
    write_settings(file, purpose, lab)
    secrets = new_secrets()
    settings = load_settings(secrets, file)
    Accounts(settings, secrets).check()
    assert {name: Router(settings).resolve(RouteContext(name, "transactional")).accounts[0] for name in TENANTS} == (
        surroundings.ACCOUNTS
    )
    for secret in secrets.values():
        assert secret not in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o077 == 0


def test_the_lab_is_given_secrets_by_reference_only() -> None:
    assert not [
        part for part in surroundings.lab_command("http://127.0.0.1:1") if "LAB_" in part and "env:" not in part
    ]


def test_a_lab_that_does_not_say_where_it_listens_is_an_error() -> None:
    with pytest.raises(StackError, match="see its log"):
        LabAddress.parse("warming up\n")


def test_the_environment_file_reads_in_a_shell(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    write_environment(file, {"A": "it's", "B": "two words"})
    printed = os.popen(f'. {file}; echo "$A|$B"').read()
    assert printed == "it's|two words\n"
    assert file.stat().st_mode & 0o077 == 0


def test_environment_of_an_earlier_run_is_not_taken_for_given(tmp_path: Path) -> None:
    earlier = {"MAILGLASS_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x", "LAB_SENDGRID_KEY": "k y"}
    write_environment(tmp_path / "dev.env", earlier)
    environ = {**earlier, "MAILGLASS_BROKER_URL": "redis://own", "HOME": "/"}
    tidy(tmp_path, environ)
    assert environ == {"MAILGLASS_BROKER_URL": "redis://own", "HOME": "/"}


def test_a_database_given_anew_is_kept_though_an_earlier_run_had_another(tmp_path: Path) -> None:
    write_environment(tmp_path / "dev.env", {"MAILGLASS_DATABASE_URL": "postgresql://old/x"})
    environ = {"MAILGLASS_DATABASE_URL": "postgresql://new/x"}
    tidy(tmp_path, environ)
    assert environ == {"MAILGLASS_DATABASE_URL": "postgresql://new/x"}


def test_servers_that_were_given_stay_given_in_the_next_run(tmp_path: Path) -> None:
    environ = {"MAILGLASS_DATABASE_URL": "postgresql://own/x"}
    write_environment(tmp_path / "demo.env", {**environ, "LAB_SENDGRID_KEY": "k"}, environ)
    tidy(tmp_path, environ)
    assert environ == {"MAILGLASS_DATABASE_URL": "postgresql://own/x"}


def test_variables_that_only_another_settings_file_knows_are_unset(tmp_path: Path) -> None:
    environ = {"MAILGLASS_SES_KEY": "x", "MAILGLASS_LOG_LEVEL": "debug"}
    tidy(tmp_path, environ)
    assert environ == {"MAILGLASS_LOG_LEVEL": "debug"}


def test_exports_are_quoted() -> None:
    assert exports({"A": "x y"}) == ["export A='x y'"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:p%40ss@localhost:5432/x", "postgresql://user:***@localhost:5432/x"),
        ("redis://:secret@127.0.0.1:6379/1", "redis://:***@127.0.0.1:6379/1"),
        ("postgresql://localhost/x", "postgresql://localhost/x"),
    ],
)
def test_addresses_are_shown_without_passwords(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_run_names_differ_from_second_to_second() -> None:
    assert run_name(1_700_000_000.5) == "s44we8"
    assert run_name(1_700_000_001.5) == "s44we9"


def facts(sent: float | None) -> Facts:
    sent_at = None if sent is None else START + timedelta(seconds=sent)
    return Facts(uuid4(), "acme", Status.SENT, START, sent_at, None)


def test_the_pace_counts_from_the_first_call_to_the_last_acceptance() -> None:
    found = pace([*(facts(second / 10) for second in range(1, 20)), facts(10.0), facts(None)])
    assert found == Pace(20, 10.0, 1.9)
    assert found.per_second == 2.0
    assert found.most_per_second == 10.0


def test_the_pace_of_nothing_is_none() -> None:
    assert pace([]) == pace([facts(None)]) == Pace()
    assert Pace().per_second == Pace().most_per_second == 0.0


SUMMARY = Summary(
    orders=3,
    by_status={"sent": 2, "failed": 1},
    by_outcome={"delivered": 2},
    by_tenant={"acme": 3},
    check=Check(),
    pace=Pace(2, 1.0, 0.5),
    burst=Pace(),
    received=2,
    resent=0,
    example=(),
    bounced=None,
    outside={
        "throttled": 0,
        "faults": 0,
        "lost_answers": 0,
        "suppressed": 0,
        "webhooks_acknowledged": 2,
    },
    quiet=True,
    restarted=0,
)


def told(summary: Summary) -> str:
    return "\n".join(" ".join(pair) for pair in lines(summary))


def test_a_good_run_is_told_so() -> None:
    assert "nothing was lost" in told(SUMMARY)
    assert values(SUMMARY)["ok"] is True


def test_a_calm_burst_is_told_with_its_own_pace() -> None:
    assert "burst" not in told(SUMMARY)
    summary = replace(SUMMARY, burst=Pace(5000, 5.0, 4.0))
    assert "1000 mails/s in a calm burst (5000 in 5.0 s)" in told(summary)
    assert values(summary)["calm_burst"] == {"accepted": 5000, "seconds": 5.0, "per_second": 1000.0}


def test_difference_is_told_by_id_and_count() -> None:
    lost = tuple(uuid4() for _ in range(12))
    summary = replace(SUMMARY, check=Check(lost=lost))
    assert "FAILED" in told(summary)
    assert f"12 sent by the ledger, never received: {lost[0]}" in told(summary)
    assert "and 2 more" in told(summary)
    assert values(summary)["ok"] is False
    assert values(summary)["check"]["lost"] == [str(key) for key in lost]
    assert json.loads(json.dumps(values(summary))) == values(summary)


def test_elsewhere_than_on_a_terminal_counts_are_lines_now_and_then() -> None:
    stream = io.StringIO()
    plain = narrator(stream=stream)
    assert isinstance(plain, PlainNarrator)
    plain.say("hello")
    plain.show(1, 3, {"sent": 1, "queued": 2, "failed": 0})
    plain.show(2, 3, {"sent": 2, "queued": 1})
    plain.show(3, 3, {"sent": 3})
    plain.close()
    assert [line.partition("] ")[2] for line in stream.getvalue().splitlines()] == [
        "hello",
        "1 of 3 final: 2 queued, 1 sent",
        "3 of 3 final: 3 sent",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    live = narrator(stream=stream)
    live.say("[hello]")
    live.show(1, 2, {"sent": 1, "queued": 1})
    live.close()
    assert "[hello]" in stream.getvalue()
    assert "1/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"event": "mailglass.dispatch.batch", "level": "info", "lane": "a/b/c"}',
            "mailglass.dispatch.batch lane=a/b/c",
        ),
        ('{"event": "mailglass.pump", "level": "info", "rung": 1}', None),
        ('{"event": "Task x received", "level": "info"}', None),
        ('{"event": "mailglass.pump", "level": "error"}', "error mailglass.pump"),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ("", None),
        ('["an", "array"]', '["an", "array"]'),
    ],
)
def test_of_a_log_what_matters_is_told(line: str, expected: str | None) -> None:
    assert worth_telling(line) == expected


def test_only_what_is_appended_is_told_and_only_whole_lines(tmp_path: Path) -> None:
    log, late, said = tmp_path / "worker.log", tmp_path / "beat.log", list[str]()
    log.write_text("old\n", encoding="utf-8")
    tail = Tail([log, late], said.append)
    with log.open("a", encoding="utf-8") as stream:
        stream.write("new\nhalf")
    tail.look()
    assert said == ["worker  new"]
    with log.open("a", encoding="utf-8") as stream:
        stream.write(" line\n")
    late.write_text("born\n", encoding="utf-8")
    tail.look()
    assert said == ["worker  new", "worker  half line", "beat    born"]


@pytest.mark.parametrize(
    "arguments", [["demo", "--messages", "0"], ["demo", "--format", "xml"], ["dev", "--web-port", "0"]]
)
def test_wrong_usage_starts_nothing(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("check", "code"), [(Check(), 0), (Check(twice=(uuid4(),)), 1)])
def test_the_exit_code_says_whether_the_check_held(
    check: Check, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started:
        def __init__(self, *arguments: object) -> None:
            pass

        def __enter__(self) -> Started:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mailglass.demo.assembly.Platform", Started)
    monkeypatch.setattr("mailglass.demo.scenario.play", lambda *arguments: replace(SUMMARY, check=check))
    monkeypatch.setattr("mailglass.demo.checklist.checklist", lambda platform: Report(()))
    monkeypatch.setattr("mailglass.demo.keeping.end_on_sigterm", lambda: None)
    assert run(["demo", "--json"]) == code
