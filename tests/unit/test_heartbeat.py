"""Heartbeats as files, and the watch over a worker's pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from celery.worker import state

from mailglass import heartbeat
from mailglass.cli import run
from mailglass.heartbeat import LIMIT, Heartbeat, path_of, read
from mailglass_workers.heartbeats import PoolWatch, named

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "probe.json"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(heartbeat.VARIABLE, str(tmp_path))
    return tmp_path


def aged(directory: Path, kind: str, seconds: float, *parts: str) -> None:
    """Let parts have been silent for so long."""
    Heartbeat(kind).beat(*parts)
    file = path_of(kind)
    data = json.loads(file.read_text())
    data["beats"] = {part: at - seconds for part, at in data["beats"].items()}
    file.write_text(json.dumps(data))


def test_a_beat_is_read_by_another_process(directory: Path) -> None:
    Heartbeat("worker", "mail@host").beat("loop", "pool")
    program = "from mailglass import heartbeat; r = heartbeat.read('worker', 'mail@host'); print(r.pid, sorted(r.ages))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == f"{os.getpid()} ['loop', 'pool']\n"


def test_an_ended_process_has_no_heartbeat() -> None:
    beating = Heartbeat("beat")
    beating.beat("loop")
    assert run(["probe", "beat"]) == 0
    beating.end()
    assert run(["probe", "beat"]) == 1
    beating.end()


@pytest.mark.parametrize(
    ("kind", "parts", "live", "ready"),
    [
        ("worker", ("loop", "pool", "broker", "database"), 0, 0),
        ("worker", ("loop", "pool"), 0, 1),
        ("worker", ("loop", "pool", "broker"), 0, 1),
        ("worker", ("loop",), 1, 1),
        ("worker", ("pool", "broker", "database"), 1, 1),
        ("beat", ("loop", "database"), 0, 0),
        ("beat", ("loop",), 0, 1),
    ],
)
def test_probes_need_their_parts(kind: str, parts: tuple[str, ...], live: int, ready: int) -> None:
    Heartbeat(kind).beat(*parts)
    assert (run(["probe", kind, "--live"]), run(["probe", kind, "--ready"])) == (live, ready)


def test_silence_beyond_the_limit_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aged(directory, "worker", LIMIT + 5, "loop", "pool")
    assert run(["probe", "worker", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, json.loads(SCHEMA.read_text("utf-8")))
    assert found == {
        "schema_version": 1,
        "kind": "worker",
        "probe": "live",
        "ok": False,
        "problem": "loop silent for 25 s, pool silent for 25 s",
    }


def test_beats_of_another_boot_are_not_alive(directory: Path) -> None:
    aged(directory, "worker", -3600, "loop", "pool")
    assert run(["probe", "worker"]) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"pid": 1}', b'{"pid": 1, "beats": {"loop": "x"}}', b"[" * 70_000]
)
def test_a_heartbeat_that_cannot_be_read_is_none(directory: Path, content: bytes) -> None:
    Heartbeat("worker").beat("loop", "pool")
    path_of("worker").write_bytes(content)
    assert read("worker") is None
    assert run(["probe", "worker"]) == 1


def test_a_directory_that_everybody_writes_to_is_not_believed(directory: Path) -> None:
    Heartbeat("worker").beat("loop", "pool")
    path_of("worker").parent.chmod(0o777)
    assert run(["probe", "worker"]) == 1


def test_a_volume_that_everybody_writes_to_holds_a_directory_of_its_user(directory: Path) -> None:
    # as Kubernetes mounts an empty one
    directory.chmod(0o777)
    Heartbeat("worker").beat("loop", "pool")
    assert run(["probe", "worker"]) == 0
    (own,) = directory.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_written_ends_no_worker(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heartbeat.VARIABLE, "/proc/none")
    Heartbeat("worker").beat("loop")
    assert read("worker") is None


def test_names_that_leave_the_directory_are_refused() -> None:
    assert run(["probe", "worker", "--name", "../beat"]) == 64
    with pytest.raises(ValueError, match="name"):
        Heartbeat("worker", "a/b")


def test_the_default_node_name_needs_none() -> None:
    assert named("celery@host") == ""
    assert named("bulk@host") == "bulk@host"


def request(key: str) -> SimpleNamespace:
    class Request(SimpleNamespace):
        __hash__ = object.__hash__

    return Request(id=key)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> tuple[set[object], set[object]]:
    active: set[object] = set()
    reserved: set[object] = set()
    monkeypatch.setattr(state, "active_requests", active)
    monkeypatch.setattr(state, "reserved_requests", reserved)
    return active, reserved


def test_a_busy_pool_is_alive_and_one_whose_task_outlives_its_limit_is_not(
    requests: tuple[set[object], set[object]],
) -> None:
    active, reserved = requests
    pool = PoolWatch(40.0)
    for second in range(600):
        # a new task every half minute, and others behind it
        active.clear()
        active.add(request(f"t{second // 30}"))
        reserved.update({request("next"), *active})
        assert pool.is_alive(float(second))
    assert pool.is_alive(620.0)
    assert not pool.is_alive(660.0)


def test_a_pool_that_takes_no_task_is_not_alive(requests: tuple[set[object], set[object]]) -> None:
    active, reserved = requests
    pool = PoolWatch(40.0)
    reserved.add(request("waits"))
    assert pool.is_alive(0.0)
    assert pool.is_alive(14.0)
    assert not pool.is_alive(16.0)
    active.add(request("waits"))
    assert pool.is_alive(17.0)
