"""The plugin of pytest in small projects of their own: costs nothing unused, and leaves nothing between tests."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin import PLUGIN, plugin_options

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Run:
    """Runs pytest in a project of these files."""

    def run(*options: str, **files: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin_options(), *options]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


SHOP = """
    from mailglass import Mailable, Message, deliver, deliver_later

    class Welcome(Mailable):
        subject = "Welcome, {{ name }}"
        text = "Hello."

    def sign_up(address, name="Ada"):
        return deliver_later.delay(Welcome(to=address, context={"name": name}))

    def log_in(address):
        return deliver(Message(to=address, subject="Your code", text="123456"))
"""
TESTS = """
    import pytest
    from mailglass import deliver_later, Message
    from shop import Welcome, log_in, sign_up

    @pytest.mark.parametrize("number", range(20))
    def test_sign_up(outbox, number):
        outbox.assert_nothing_sent()
        result = sign_up(f"u{number}@example.com", f"Ada {number}")
        outbox.assert_sent(to=f"u{number}@example.com", subject=f"Welcome, Ada {number}", mailable=Welcome, count=1)
        assert result.state == "sent"
        assert len(outbox.sent) == 1

    def test_log_in(outbox):
        assert log_in("ada@example.com").status == "sent"
        outbox.assert_part("text", contains="123456")
"""


def test_entry_point_of_the_plugin_is_declared() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["entry-points"]
    assert declared["pytest11"] == {"mailglass": PLUGIN}


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "2"), ("-p", "no:xdist", "-p", "no:randomly")])
def test_mails_of_a_projects_tests_are_their_own(project: Run, options: tuple[str, ...]) -> None:
    done = project(*options, shop=SHOP, test_shop=TESTS)
    assert "21 passed" in done.stdout, done.stdout + done.stderr


def test_unused_plugin_loads_nothing_and_changes_nothing(project: Run) -> None:
    done = project(
        "-p",
        "no:xdist",
        conftest="""
            import sys
            started = sorted(name for name in sys.modules if name.startswith("mailglass"))
        """,
        test_own="""
            import sys
            import pytest
            from conftest import started

            @pytest.fixture
            def mailbox():
                return "my own"

            def test_nothing_is_loaded(mailbox):
                heavy = {"celery", "sqlalchemy", "psycopg", "jinja2", "structlog", "redis", "mailglass.settings"}
                assert not heavy & sys.modules.keys()
                assert set(started) <= {"mailglass", "mailglass.testing", "mailglass.testing.pytest_plugin"}
                assert mailbox == "my own"
        """,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_failure_of_a_projects_test_says_what_was_sent(project: Run) -> None:
    done = project(
        "-p",
        "no:xdist",
        shop=SHOP,
        test_shop="""
            from shop import sign_up

            def test_sign_up(outbox):
                sign_up("ada@example.com")
                outbox.assert_sent(to="bob@example.com")
        """,
    )
    assert "1 failed" in done.stdout
    assert "expected a mail to bob@example.com, found 0. Sent:" in done.stdout
    assert "ada@example.com: 'Welcome, Ada' (shop:Welcome)" in done.stdout


def test_real_sends_are_refused_whatever_the_code_tries(project: Run) -> None:
    done = project(
        "-p",
        "no:xdist",
        test_shop="""
            import pytest
            from mailglass import Message, cancel_many, deliver_later
            from mailglass.runtime import get_runtime
            from mailglass.testing import OutboxError

            def test_engine(outbox):
                for refused in (lambda: get_runtime().accounts, lambda: cancel_many(stream="bulk")):
                    with pytest.raises(OutboxError):
                        refused()

            def test_a_thread_that_outlives_its_test(outbox):
                global thread, errors
                import contextvars, threading
                errors, go = [], threading.Event()

                def late():
                    go.wait()
                    try:
                        deliver_later.delay(Message(to="ada@example.com", subject="s", text="t"))
                    except OutboxError as error:
                        errors.append(error)

                thread = threading.Thread(target=contextvars.copy_context().run, args=(late,))
                thread.go = go
                thread.start()

            def test_next(outbox):
                thread.go.set()
                thread.join()
                assert len(errors) == 1
                outbox.assert_nothing_sent()
        """,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
