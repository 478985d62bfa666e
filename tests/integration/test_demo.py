"""`mailglass demo` and `mailglass dev` as people run them: real servers, real processes, a real signal."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from mailglass.stack.guardian import start_time

MAILGLASS = [sys.executable, "-m", "mailglass"]
Until = Callable[..., bool]

pytestmark = pytest.mark.timeout(300)


class Run:
    """One `mailglass` in a directory of its own; a terminal's Ctrl-C reaches it as `interrupt()`."""

    def __init__(self, directory: Path, arguments: list[str], env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*MAILGLASS, *arguments],
                cwd=directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # whoever runs the tests in the background may have it ignored, which is inherited
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def said(self) -> str:
        return self._err.read_text(encoding="utf-8")

    @property
    def output(self) -> str:
        return self._out.read_text(encoding="utf-8")

    def json(self) -> Any:
        return json.loads(self.output)

    def environment(self, name: str) -> dict[str, str]:
        lines = (self.directory / ".mailglass" / name).read_text(encoding="utf-8").splitlines()
        pairs = [shlex.split(line)[1].partition("=") for line in lines if line.startswith("export ")]
        return {name: value for name, _, value in pairs}

    def family(self) -> dict[int, str | None]:
        """Its processes of this moment, told apart from later ones of the same number."""
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
        return {item.pid: start_time(item.pid) for item in found}

    def child(self, *words: str) -> psutil.Process:
        """The direct child whose command line has all these words."""
        (found,) = [item for item in psutil.Process(self.process.pid).children() if set(words) <= set(item.cmdline())]
        return found

    def interrupt(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def run(stack_root: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None) -> Run:
        runs.append(Run(stack_root, list(arguments), env))
        return runs[-1]

    yield start
    for item in runs:
        item.clean_up()


def still_there(family: Mapping[int, str | None]) -> list[int]:
    return [pid for pid, started in family.items() if started is not None and start_time(pid) == started]


def nothing_was_lost_or_doubled(summary: Any, orders: int) -> bool:
    faults = [kind for kind, ids in summary["check"].items() if isinstance(ids, list) and ids]
    return summary["ok"] and not faults and sum(summary["deliveries"].values()) == orders


def test_the_demo_confirms_its_orders_and_loses_and_doubles_nothing(run: Callable[..., Run]) -> None:
    demo = run("demo", "--messages", "60", "--burst", "200", "--format", "json")
    assert demo.process.wait(120) == 0, demo.said
    summary = demo.json()
    assert nothing_was_lost_or_doubled(summary, 60)
    assert summary["restarted"] == 0
    assert summary["quiet"]
    assert summary["deliveries"]["sent"] > 50
    assert {"delivered", "bounced", "complained"} <= summary["outcomes"].keys()
    assert summary["check"]["received"] >= summary["deliveries"]["sent"]
    assert summary["suppression"]["refused"]
    assert len(summary["timeline"]) > 3
    assert summary["throughput"]["per_second"] > 0
    assert summary["calm_burst"]["accepted"] == 200
    assert summary["calm_burst"]["per_second"] > summary["throughput"]["per_second"]
    assert [section["status"] for section in summary["go_live"]["sections"]] == ["pass"] * 6 + ["todo"]
    assert "60 of 60 final" in demo.said
    # what is for programs holds ids and counts only
    assert "@" not in demo.output


@pytest.mark.timeout(300)
def test_a_killed_worker_changes_the_time_and_not_the_outcome(run: Callable[..., Run], until: Until) -> None:
    demo = run("demo", "--messages", "300", "--burst", "0", "--json")
    assert until(lambda: "everything runs" in demo.said, 60), demo.said
    url = demo.environment("demo.env")["MAILGLASS_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as ledger:
        in_the_middle = "SELECT count(*) FROM mailglass.deliveries WHERE status IN ('claimed', 'sending')"
        assert until(lambda: ledger.execute(in_the_middle).fetchall()[0][0] > 0)
    demo.child("celery", "worker").kill()
    # its lease, the hold and the retries after it take some forty seconds on a quiet machine
    assert demo.process.wait(240) == 0, demo.said
    assert "worker has ended (SIGKILL)" in demo.said
    assert nothing_was_lost_or_doubled(demo.json(), 300)
    assert demo.json()["restarted"] == 1


def test_on_servers_that_are_given_it_runs_among_older_data_and_stops_everything_but_them(
    run: Callable[..., Run],
    until: Until,
    database_environment: dict[str, str],
    direct_url: str,
    broker_url: str,
) -> None:
    given = {**database_environment, "MAILGLASS_BROKER_URL": broker_url}
    first = run("demo", "--messages", "12", "--burst", "0", "--json", env=given)
    assert first.process.wait(120) == 0, first.said
    second = run("demo", "--messages", "12", "--burst", "0", "--json", "--keep", env=given)
    assert until(lambda: "until Ctrl-C" in second.said, 120), second.said
    summary = second.json()
    assert nothing_was_lost_or_doubled(summary, 12)
    assert summary["suppression"]["refused"]
    with psycopg.connect(direct_url) as ledger:
        # both runs, and the mail to the bounced address of each
        assert ledger.execute("SELECT count(*) FROM mailglass.deliveries").fetchall()[0][0] == 2 * (12 + 1)
        assert "***" in summary["places"]["database"]
        assert not (second.directory / ".mailglass" / "postgres").exists()
        ping = [sys.executable, "-m", "celery", "-A", "mailglass", "inspect", "ping"]
        env = {**os.environ, **second.environment("demo.env")}
        assert subprocess.run(ping, env=env, capture_output=True, timeout=60).returncode == 0
        family = second.family()
        assert len(family) > 4
        assert second.interrupt() == 130
        assert until(lambda: not still_there(family))
        assert ledger.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [("postgres", signal.SIGINT, 130), ("mailglass.testing.lab", signal.SIGTERM, 143), ("celery", signal.SIGINT, 130)],
)
def test_a_signal_while_it_starts_leaves_nothing_behind(
    run: Callable[..., Run], until: Until, moment: str, number: int, code: int
) -> None:
    demo = run("demo")

    def has_started(what: str) -> bool:
        with suppress(psutil.Error):
            children = psutil.Process(demo.process.pid).children()
            return any(what in " ".join(child.cmdline()) for child in children)
        return False

    assert until(lambda: has_started(moment), 60), demo.said
    family = demo.family()
    assert demo.interrupt(number) == code
    assert until(lambda: not still_there(family))
    assert demo.output == ""


OWN = """
default_from = "Shop <shop@shop.example>"
[accounts.live]
provider = "postmark"
server_token = "env:THERE_IS_NO_SUCH_TOKEN"
[accounts.bulk]
provider = "ses"
region = "eu-west-1"
from = "news@shop.example"
[[routes]]
stream = "bulk"
accounts = ["bulk"]
queue = "mailglass.bulk"
[[routes]]
accounts = ["live"]
"""
SHOP = """
import sys
from mailglass import Message, deliver_later
for stream in ("transactional", "bulk"):
    mail = Message(to="ada@example.com", subject=sys.argv[1], text="Hi.", html="<b>Hi</b><script>x</script>",
                   stream=stream)
    print(deliver_later.delay(mail).get(timeout=30).account)
"""


def test_mailglass_dev_runs_the_directorys_settings_catches_every_mail_and_reloads(
    run: Callable[..., Run], until: Until, stack_root: Path
) -> None:
    settings = stack_root / "mailglass.toml"
    settings.write_text(OWN, encoding="utf-8")
    dev = run("dev")
    assert until(lambda: "Ctrl-C" in dev.said, 60), dev.said
    environment = dev.environment("dev.env")
    (mails,) = [line.split()[1] for line in dev.said.splitlines() if line.startswith("mails ")]

    def sent(subject: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SHOP, subject], env={**os.environ, **environment}, capture_output=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().split()

    def page(path: str = "") -> str:
        return urllib.request.urlopen(f"{mails}{path}", timeout=10).read().decode()

    assert sent("Before") == ["live", "bulk"]
    assert page().count("Before") == 2
    shown = page("/1")
    assert "ada@example.com" in shown and "Hi." in shown and "<script>" not in shown
    settings.write_text(OWN.replace("Shop <shop@", "Boutique <shop@"), encoding="utf-8")
    assert until(lambda: "mailglass.toml has changed" in dev.said), dev.said
    ready = "ready."
    log = stack_root / ".mailglass" / "logs" / "worker.log"
    assert until(lambda: ready in log.read_text(encoding="utf-8"), 60)
    assert sent("After")
    assert until(lambda: "Boutique" in page("/3") + page("/4"))
    settings.write_text("accounts = 5\n", encoding="utf-8")
    assert until(lambda: "What ran before goes on" in dev.said), dev.said
    settings.write_text(OWN, encoding="utf-8")
    assert dev.interrupt() == 130
    again = run("dev")
    assert until(lambda: "Ctrl-C" in again.said, 60), again.said
    assert again.environment("dev.env") == environment
    assert again.interrupt() == 130


APPLICATION = """
from mailglass import Message, deliver_later, tenant
for name in ("acme", "globex", "anybody"):
    with tenant(name):
        print(deliver_later.delay(Message(to="ada@example.com", subject="Hello", text="Hi.")).get(timeout=30).account)
"""


def test_an_application_works_against_mailglass_dev_until_ctrl_c(run: Callable[..., Run], until: Until) -> None:
    dev = run("dev")
    assert until(lambda: "Ctrl-C" in dev.said, 60), dev.said
    environment = dev.environment("dev.env")
    assert all(f"export {name}=" in dev.output for name in environment)
    assert environment["MAILGLASS_CONFIG"].endswith(".mailglass/mailglass.toml")
    sent = subprocess.run(
        [sys.executable, "-c", APPLICATION], env={**os.environ, **environment}, capture_output=True, timeout=90
    )
    assert sent.stdout.decode().split() == ["acme-postmark", "globex-sendgrid", "default-smtp"], sent.stderr
    assert until(lambda: "mailglass.dispatch.batch" in dev.said)
    family = dev.family()
    assert dev.interrupt() == 130
    assert until(lambda: not still_there(family))
