"""Secrets behind `file:` follow their files, and what cannot be used leaves an account as it was."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mailglass import clock, telemetry
from mailglass.errors import ConfigError
from mailglass.providers import secret_files
from mailglass.providers.postmark import PostmarkProvider
from mailglass.providers.registry import Accounts
from mailglass.providers.secret_files import LOOK_EVERY, SecretFiles
from mailglass.settings import AccountSettings, Settings
from tests.rotation import Mount


class Time:
    """The clock, moved on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monotonic, now = clock.monotonic, clock.now
        monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + self.passed)
        monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=self.passed))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    end = telemetry.subscribe(lambda event, fields: found.append((event, dict(fields))))
    yield found
    end()


def accounts(environ: dict[str, str] | None = None, provider: str = "postmark", **options: Any) -> Accounts:
    return Accounts(Settings(accounts={"main": AccountSettings("main", provider, options=options)}), environ or {})


def token(found: Accounts) -> str:
    provider = found.open("main")
    assert isinstance(provider, PostmarkProvider)
    return provider.credentials()["x-postmark-server-token"]


def later(time: Time, found: Accounts, looks: int = 1) -> str:
    """Return the token after some looks."""
    for _ in range(looks):
        time.passed += LOOK_EVERY
        current = token(found)
    return current


def refusals(told: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [fields["reason"] for event, fields in told if event == "mailglass.secrets.refused"]


def test_a_swapped_mount_is_read_within_ten_seconds(tmp_path: Path, time: Time) -> None:
    mount = Mount(tmp_path / "mount", token="old-token")
    found = accounts(server_token=mount.reference("token"))
    assert token(found) == "old-token"
    mount.swap(token="new-token")
    looks = int(10 / LOOK_EVERY)
    assert "new-token" in [later(time, found) for _ in range(looks)]


def test_a_process_that_was_idle_takes_the_new_secret_at_its_next_use(tmp_path: Path, time: Time) -> None:
    mount = Mount(tmp_path / "mount", token="old-token")
    found = accounts(server_token=mount.reference("token"))
    token(found)
    mount.swap(token="new-token")
    time.passed += 3600
    assert token(found) == "new-token"


def test_no_file_is_looked_at_between_two_looks(tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("a-token", encoding="utf-8")
    found = accounts(server_token=f"file:{file}")
    token(found)
    looks: list[str] = []
    version = secret_files._version

    def look(path: str) -> Any:
        looks.append(path)
        return version(path)

    monkeypatch.setattr(secret_files, "_version", look)
    for _ in range(1000):
        found.open("main")
    assert looks == []
    later(time, found)
    assert looks == [str(file)]


def _empty(file: Path) -> None:
    file.write_text(" \n", encoding="utf-8")


def _binary(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


def _huge(file: Path) -> None:
    file.write_text("x" * 100_000, encoding="utf-8")


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoil", [_empty, _binary, _huge, _directory, Path.unlink])
def test_a_file_that_cannot_be_used_leaves_the_old_secret_and_is_told_once(
    tmp_path: Path, time: Time, told: list[tuple[str, dict[str, Any]]], spoil: Callable[[Path], None]
) -> None:
    file = tmp_path / "token"
    file.write_text("old-token", encoding="utf-8")
    found = accounts(server_token=f"file:{file}")
    token(found)
    spoil(file)
    assert later(time, found, 10) == "old-token"
    (reason,) = refusals(told)
    assert str(file) in reason
    if file.is_dir():
        file.rmdir()
    file.write_text("new-token", encoding="utf-8")
    assert later(time, found, 4) == "new-token"


def test_a_file_that_is_being_written_is_not_read(tmp_path: Path, time: Time) -> None:
    file = tmp_path / "token"
    file.write_text("old-token", encoding="utf-8")
    found = accounts(server_token=f"file:{file}")
    token(found)
    time.passed += LOOK_EVERY
    # as the file system's clock tells, it was written just now
    ahead = time.passed
    time.passed = 0.0
    with file.open("w", encoding="utf-8") as stream:
        stream.write("new-")
        stream.flush()
        found._open["main"].look_at = 0.0
        assert token(found) == "old-token"
        stream.write("token")
    time.passed = ahead
    assert later(time, found, 3) == "new-token"


def test_a_secret_of_the_wrong_form_leaves_the_old_one_and_takes_the_good_one_beside_it(
    tmp_path: Path, time: Time, told: list[tuple[str, dict[str, Any]]]
) -> None:
    mount = Mount(tmp_path / "mount", key="re_old", hook="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = accounts(provider="resend", api_key=mount.reference("key"), webhook_secrets=[mount.reference("hook")])
    found.open("main")
    mount.swap(key="re_new", hook="not base64!")
    time.passed += 60
    options = found.open("main").options
    assert options.api_key.reveal() == "re_new"
    assert options.webhook_secrets[0].reveal().startswith("whsec_")
    (reason,) = refusals(told)
    assert "webhook_secrets" in reason
    assert "not base64" not in reason


def test_credentials_before_a_rotation_are_kept_until_the_new_ones_are_accepted(tmp_path: Path, time: Time) -> None:
    mount = Mount(tmp_path / "mount", token="old-token", hook="old-hook")
    found = accounts(
        server_token=mount.reference("token"), webhook_username="hooks", webhook_passwords=[mount.reference("hook")]
    )
    assert found.other(found.open("main")) is None
    mount.swap(token="new-token", hook="new-hook")
    time.passed += 60
    new = found.open("main")
    old = found.other(new)
    assert old is not None
    # the webhooks' secrets are no credentials: the new ones hold beside both
    assert [one.options.server_token.reveal() for one in (new, old)] == ["new-token", "old-token"]
    assert [one.options.webhook_passwords[0].reveal() for one in (new, old)] == ["new-hook", "new-hook"]
    assert found.confirm(old) is False
    assert found.confirm(new) is True
    assert found.other(found.open("main")) is None


def test_refused_credentials_give_way_until_their_file_changes_again(tmp_path: Path, time: Time) -> None:
    mount = Mount(tmp_path / "mount", token="old-token", hook="hook-1")
    found = accounts(
        server_token=mount.reference("token"), webhook_username="hooks", webhook_passwords=[mount.reference("hook")]
    )
    token(found)
    mount.swap(token="wrong-token", hook="hook-1")
    time.passed += 60
    wrong = found.open("main")
    old = found.other(wrong)
    assert old is not None
    assert found.prefer(old) is True
    assert token(found) == "old-token"
    assert found.preferred(wrong) is old
    # what another file says changes nothing in that
    mount.swap(token="wrong-token", hook="hook-2")
    time.passed += 60
    assert token(found) == "old-token"
    assert found.open("main").options.webhook_passwords[0].reveal() == "hook-2"
    mount.swap(token="right-token", hook="hook-2")
    time.passed += 60
    assert token(found) == "right-token"
    kept = found.other(found.open("main"))
    assert kept is not None
    assert kept.options.server_token.reveal() == "old-token"
    # back to what was accepted: nothing is on trial
    mount.swap(token="old-token", hook="hook-2")
    time.passed += 60
    assert token(found) == "old-token"
    assert found.other(found.open("main")) is None


@pytest.mark.parametrize("accepted", [True, False])
def test_a_batch_begun_before_a_rotation_has_the_credentials_in_use_as_others(
    tmp_path: Path, time: Time, accepted: bool
) -> None:
    mount = Mount(tmp_path / "mount", token="old-token", hook="hook-1")
    found = accounts(
        server_token=mount.reference("token"), webhook_username="hooks", webhook_passwords=[mount.reference("hook")]
    )
    begun = found.open("main")
    mount.swap(token="new-token", hook="hook-1")
    time.passed += 60
    new = found.open("main")
    if accepted:
        assert found.confirm(new) is True
    # its own are revoked: without the others its account would be taken for misconfigured, and its mails held
    assert found.other(begun) is new
    # with the same credentials nothing is asked twice
    mount.swap(token="new-token", hook="hook-2")
    time.passed += 60
    assert found.open("main") is not new
    other = found.other(new)
    assert other is None or other.options.server_token.reveal() == "old-token"
    assert (other is None) == accepted


def test_an_account_may_list_a_second_credential(tmp_path: Path) -> None:
    environ = {"NEW": "new-token", "OLD": "old-token"}
    found = accounts(environ, server_token=["env:NEW", "env:OLD"])
    new = found.open("main")
    old = found.other(new)
    assert old is not None
    assert [one.options.server_token.reveal() for one in (new, old)] == ["new-token", "old-token"]
    assert found.confirm(new) is True
    assert found.other(new) is old


def test_pairs_of_credentials_are_listed_side_by_side() -> None:
    environ = {"K1": "key-1", "K2": "key-2", "S1": "secret-1", "S2": "secret-2"}
    found = accounts(environ, "mailjet", api_key=["env:K1", "env:K2"], secret_key=["env:S1", "env:S2"])
    first = found.open("main")
    second = found.other(first)
    assert second is not None
    pairs = [(one.options.api_key.reveal(), one.options.secret_key.reveal()) for one in (first, second)]
    assert pairs == [("key-1", "secret-1"), ("key-2", "secret-2")]


def test_a_second_credential_that_is_missing_leaves_the_first_and_is_told(
    told: list[tuple[str, dict[str, Any]]],
) -> None:
    found = accounts({"NEW": "new-token"}, server_token=["env:NEW", "env:OLD"])
    assert token(found) == "new-token"
    assert found.other(found.open("main")) is None
    (reason,) = refusals(told)
    assert "OLD" in reason


@pytest.mark.parametrize("listed", [[], ["env:A", "env:B", "env:C"]])
def test_an_account_lists_one_or_two_credentials_and_no_other_number(listed: list[str]) -> None:
    with pytest.raises(ConfigError, match="server_token"):
        accounts({"A": "a", "B": "b", "C": "c"}, server_token=listed).open("main")


def test_a_provider_that_was_replaced_is_closed_after_a_lease(tmp_path: Path, time: Time) -> None:
    mount = Mount(tmp_path / "mount", token="old-token")
    found = accounts(server_token=mount.reference("token"))
    closed: list[bool] = []
    old = found.open("main")
    old.close = lambda: closed.append(True)  # type: ignore[method-assign]
    mount.swap(token="new-token")
    assert later(time, found, 5) == "new-token"
    assert closed == []
    time.passed += Settings().engine.lease
    later(time, found)
    assert closed == [True]


def test_threads_that_open_an_account_while_its_file_changes_get_one_or_the_other(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "mount", token="token-0")
    found = accounts(server_token=mount.reference("token"))
    seen: set[str] = set()
    ended = threading.Event()
    errors: list[Exception] = []

    def use() -> None:
        try:
            while not ended.is_set():
                seen.add(token(found))
                found._open["main"].look_at = 0.0
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 100):
        mount.swap(token=f"token-{number}")
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert seen <= {f"token-{number}" for number in range(100)}


CONTENTS = st.one_of(st.sampled_from(["token-a", "token-b", "", "  "]), st.text(max_size=20))
STEPS = st.lists(st.tuples(st.sampled_from(["swap", "write", "remove", "look"]), CONTENTS), max_size=12)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_after_any_changes_the_last_usable_content_that_rested_is_in_use(
    steps: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory, time: Time
) -> None:
    file = tmp_path_factory.mktemp("files") / "token"
    file.write_text("first", encoding="utf-8")
    files = SecretFiles({})
    files.resolver()(f"file:{file}", "key", lambda *problem: None)
    in_use = {"first"}
    for action, content in [*steps, ("look", "")]:
        if action == "remove":
            file.unlink(missing_ok=True)
        elif action == "look":
            time.passed += 60
            look = files.look()
            if file.exists() and (text := file.read_bytes().decode().strip()):
                in_use = {text}
                assert look.values in ({}, {str(file): text})
            files.keep(look.values)
        else:
            replacement = file.with_name("next") if action == "swap" else file
            replacement.write_text(content, encoding="utf-8", newline="")
            if action == "swap":
                os.replace(replacement, file)
        assert files.value(str(file)) in in_use
