"""`mailglass secrets check`: which secrets accounts have, which are used, and which may go."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlalchemy

from mailglass import Message, clock, deliver_later, tenant
from mailglass.cli import run as command
from mailglass.ledger import secret_uses
from mailglass.ledger.database import Database
from mailglass.ledger.secret_uses import SecretNote, SecretUse, fingerprint, known
from mailglass.preflight.configuration import accounts_open
from mailglass.preflight.surroundings import Surroundings
from mailglass.providers.base import WebhookRequest
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass.settings import configure, get_settings, load_settings
from mailglass.webhooks.ingress import IncomingWebhook, handle_all
from tests.rotation import postmark

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "secrets-check.json"
VALUES = {"PM_TOKEN": "pm-token-71", "HOOK_NEW": "hook-new-72", "HOOK_OLD": "hook-old-73"}
ACCOUNT = """
[accounts.shop]
provider = "postmark"
server_token = "env:PM_TOKEN"
webhook_username = "hooks"
webhook_passwords = ["env:HOOK_NEW", "env:HOOK_OLD"]
"""
Check = Callable[..., tuple[int, Any]]


@pytest.fixture
def use(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Database]:
    """Let these be the accounts."""

    def write(accounts: str = ACCOUNT, **values: str) -> Database:
        for name, value in {**VALUES, **values}.items():
            monkeypatch.setenv(name, value)
        Path(cluster.environment["MAILGLASS_CONFIG"]).write_text(accounts, encoding="utf-8")
        configure(load_settings())
        database: Database = get_runtime().database
        return database

    return write


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command for programs."""

    def run_command(*options: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = command(["secrets", "check", "--format", "json", *options])
        output = capsys.readouterr().out
        printed = json.loads(output)
        jsonschema.validate(printed, json.loads(SCHEMA.read_text(encoding="utf-8")))
        assert not any(value in output for value in VALUES.values())
        return code, printed

    return run_command


def post(*passwords: str) -> list[int]:
    def webhook(number: int, password: str) -> IncomingWebhook:
        credentials = base64.b64encode(f"hooks:{password}".encode()).decode()
        body = b'{"RecordType": "Open", "MessageID": "%d"}' % number
        return IncomingWebhook("shop", WebhookRequest({"authorization": f"Basic {credentials}"}, body))

    context = get_runtime().ingress_context(lambda task: None)
    webhooks = [webhook(number, password) for number, password in enumerate(passwords)]
    return [response.status for response in handle_all(webhooks, context)]


def age(database: Database, **days: float) -> None:
    """Let everything that is known of secrets have happened so long ago."""
    changes = ", ".join(f"{column} = {column} - make_interval(hours => {24 * past})" for column, past in days.items())
    database.query(sqlalchemy.text(f"UPDATE mailglass.secret_uses SET {changes}"))


def secrets_of(printed: Any, name: str = "shop") -> dict[str, Any]:
    (account,) = [item for item in printed["accounts"] if item["account"] == name]
    return {secret["option"]: secret for secret in account["secrets"]}


def findings_of(printed: Any, status: str) -> list[str]:
    return [
        f"{item['observed']} | {item['remedy']}"
        for account in printed["accounts"]
        for item in account["findings"]
        if item["status"] == status
    ]


def test_secrets_are_listed_with_where_they_stand_and_whether_they_are_reread(
    use: Callable[..., Database], check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("pm-token-71", encoding="utf-8")
    use(ACCOUNT.replace("env:PM_TOKEN", f"file:{tmp_path / 'token'}"))
    code, printed = check()
    assert (code, printed["ok"], printed["uses_known"]) == (0, True, True)
    found = secrets_of(printed)
    assert {name: (item["purpose"], item["source"], item["rereads"]) for name, item in found.items()} == {
        "server_token": ("credential", "file", True),
        "webhook_passwords[0]": ("webhook", "env", False),
        "webhook_passwords[1]": ("webhook", "env", False),
    }
    assert printed["accounts"][0]["webhook_secrets"] == 2
    assert {item["state"] for item in found.values()} == {"ok"}
    assert command(["secrets", "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "mailglass secrets check: pass=1 warn=0 fail=0"
    assert "env:HOOK_OLD" in "\n".join(lines)


def test_missing_secrets_fail_each_by_its_option(use: Callable[..., Database], check: Check, tmp_path: Path) -> None:
    use(
        ACCOUNT.replace("env:HOOK_OLD", f"file:{tmp_path / 'gone'}").replace("env:PM_TOKEN", "env:NOT_THERE")
        + '\n[accounts.other]\nprovider = "postmark"\nserver_token = "env:PM_TOKEN"\n'
    )
    code, printed = check()
    assert (code, printed["ok"]) == (1, False)
    states = {name: item["state"] for name, item in secrets_of(printed).items()}
    assert states == {"server_token": "missing", "webhook_passwords[0]": "ok", "webhook_passwords[1]": "missing"}
    first, second = findings_of(printed, "fail")
    assert "NOT_THERE is not set" in first
    assert "cannot be read" in second
    assert check("--account", "other")[0] == 0


def test_a_secret_of_the_wrong_form_fails(use: Callable[..., Database], check: Check) -> None:
    use(
        '[accounts.shop]\nprovider = "resend"\napi_key = "env:PM_TOKEN"\nwebhook_secrets = ["env:HOOK_NEW"]\n',
        HOOK_NEW="no base64!",
    )
    code, printed = check()
    assert code == 1
    states = {name: item["state"] for name, item in secrets_of(printed).items()}
    assert states == {"api_key": "ok", "webhook_secrets[0]": "wrong_form"}


def test_preflight_says_the_same_of_the_accounts(use: Callable[..., Database], check: Check) -> None:
    use(ACCOUNT.replace("env:PM_TOKEN", "env:NOT_THERE"))
    _, printed = check()
    found = [f"{item.observed} | {item.remedy}" for item in accounts_open(Surroundings(get_settings()))]
    assert found == findings_of(printed, "fail")


def test_keys_of_sendgrid_stand_in_the_settings(use: Callable[..., Database], check: Check) -> None:
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglS"
        "I8eNEc6wEA3F+g=="
    )
    use(
        '[accounts.shop]\nprovider = "sendgrid"\napi_key = "env:PM_TOKEN"\n'
        f'webhook_public_keys = ["{key}"]\n[accounts.relay]\nprovider = "smtp"\nhost = "127.0.0.1"\nsecurity = "none"\n'
    )
    code, printed = check()
    assert code == 0, printed
    assert secrets_of(printed)["webhook_public_keys[0]"]["source"] == "settings"
    assert secrets_of(printed, "relay") == {}


def test_an_old_secret_that_no_webhook_uses_any_more_is_a_warning(use: Callable[..., Database], check: Check) -> None:
    database = use()
    assert post("hook-old-73") == [200]
    found = secrets_of(check()[1])
    assert found["webhook_passwords[1]"]["last_used"] is not None
    assert found["webhook_passwords[0]"]["last_used"] is None
    assert found["webhook_passwords[0]"]["known_since"] is not None
    age(database, seen_at=9, used_at=8)
    # the provider still posts with none: then nobody can tell
    assert findings_of(check()[1], "warn") == []
    assert post("hook-new-72", "wrong") == [200, 401]
    code, printed = check()
    (warning,) = findings_of(printed, "warn")
    assert code == 0
    assert warning.startswith("webhook_passwords[1] was used last")
    assert findings_of(check("--days", "30")[1], "warn") == []


def test_last_use_of_a_secret_does_not_pass_to_another_in_its_place(use: Callable[..., Database], check: Check) -> None:
    database = use()
    assert post("hook-old-73") == [200]
    age(database, seen_at=30, used_at=20)
    # rotated: what was new is old
    use(HOOK_NEW="hook-newest-74", HOOK_OLD="hook-new-72")
    assert post("hook-new-72") == [200]
    found = secrets_of(check()[1])
    assert found["webhook_passwords[1]"]["last_used"] is not None
    assert found["webhook_passwords[0]"]["last_used"] is None
    assert findings_of(check()[1], "warn") == []


def test_a_use_is_written_once_an_hour_for_each_secret(
    use: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = use()
    written: list[int] = []
    note = secret_uses.note

    def count(*arguments: Any) -> None:
        written.append(1)
        note(*arguments)

    monkeypatch.setattr(secret_uses, "note", count)
    for _ in range(5):
        assert post(*["hook-old-73"] * 20) == [200] * 20
    assert len(written) == 1
    passed = clock.monotonic() + 3700
    monkeypatch.setattr(clock, "monotonic", lambda: passed)
    assert post("hook-old-73") == [200]
    assert len(written) == 2
    assert len(known(database, ["shop"])) == 2


def test_webhooks_do_not_depend_on_what_is_written_of_their_secrets(
    use: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    use()
    monkeypatch.setattr(secret_uses, "note", _fails)
    assert post("hook-old-73") == [200]


def _fails(*arguments: Any) -> None:
    raise RuntimeError


def test_no_secret_and_no_plain_hash_of_one_stands_in_the_ledger(use: Callable[..., Database]) -> None:
    database = use()
    assert post("hook-old-73") == [200]
    rows = database.query(sqlalchemy.text("SELECT account, fingerprint FROM mailglass.secret_uses"))
    assert {len(bytes(row.fingerprint)) for row in rows} == {8}
    assert fingerprint(database, "shop", "hook-old-73") != fingerprint(database, "other", "hook-old-73")


def test_notes_of_one_secret_from_many_processes_keep_the_latest(use: Callable[..., Database]) -> None:
    database = use()
    key = fingerprint(database, "shop", "s")

    def use_now() -> SecretUse:
        return known(database, ["shop"])["shop", key]

    secret_uses.note(database, [SecretNote("shop", key)])
    assert use_now().used_at is None
    secret_uses.note(database, [SecretNote("shop", key), SecretNote("shop", key, used=True)])
    first = use_now().used_at
    assert first is not None
    secret_uses.note(database, [SecretNote("shop", key, used=True)])
    assert use_now().used_at == first
    secret_uses.note(database, [SecretNote("shop", key, refused=True)])
    assert use_now().refused
    secret_uses.note(database, [SecretNote("shop", key, used=True)])
    assert not use_now().refused
    age(database, used_at=1, refused_at=1)
    secret_uses.note(database, [SecretNote("shop", key, used=True)])
    assert (use_now().used_at or clock.now()) - first < timedelta(minutes=5)


def send_one() -> None:
    with tenant("acme"):
        deliver_later.delay(Message(to="ada@example.com", subject="Receipt", text="Thank you."))
    get_runtime().engine.run(Lane("mailglass", "acme", "transactional"))


def test_a_key_that_its_provider_refused_fails_until_it_is_accepted(use: Callable[..., Database], check: Check) -> None:
    with postmark("pm-old-75") as api:
        use(
            f"""
default_from = "shop@example.com"
[accounts.shop]
provider = "postmark"
server_token = ["env:PM_TOKEN", "env:PM_OLD"]
base_url = "{api.url}"
[[routes]]
accounts = ["shop"]
""",
            PM_OLD="pm-old-75",
        )
        runtime = get_runtime()
        send_one()
        assert sum(api.received.values()) == 1
        code, printed = check()
        (failure,) = findings_of(printed, "fail")
        assert code == 1
        assert "refused the new credentials" in failure
        # the second one is withdrawn, and the first one taken after all
        api.tokens = {"pm-token-71"}
        configure(runtime.settings)
        send_one()
        assert sum(api.received.values()) == 2
        assert check()[0] == 0


@pytest.mark.parametrize("options", [["--account", "nobody"], ["--days", "0"], ["--days", "x"], ["extra"]])
def test_wrong_usage_exits_with_64(use: Callable[..., Database], options: Sequence[str]) -> None:
    use()
    assert command(["secrets", "check", *options]) == 64


def test_without_the_ledger_the_rest_is_still_checked(
    use: Callable[..., Database], check: Check, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    use()
    monkeypatch.setenv("MAILGLASS_DATABASE_URL", f"postgresql://app:s3cret@127.0.0.1:{unused_port}/mail")
    configure(load_settings())
    code, printed = check()
    assert (code, printed["uses_known"]) == (0, False)
