"""Accounts whose tokens an application keeps: two tenants, real workers and endpoints, and nothing written down."""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy

from mailglass import Message, deliver_later, tenant
from mailglass.cli import run as command
from mailglass.ledger import deliveries
from mailglass.ledger.lifecycle import Status
from mailglass.preflight.configuration import accounts_open
from mailglass.preflight.findings import Status as Found
from mailglass.preflight.surroundings import Surroundings
from mailglass.settings import configure, get_settings, load_settings
from mailglass.suppressions import sync
from tests.rotation import Postmark, postmark

SHOP = '''
"""An application that keeps its tenants' accounts in a file."""

import json
import os
import time
from pathlib import Path

from mailglass.routing import Account, Tenancy


class Shop(Tenancy):
    def resolve_route(self, context):
        return [context.tenant]

    def resolve_account(self, name):
        row = json.loads(Path(os.environ["SHOP_ACCOUNTS"]).read_text(encoding="utf-8")).get(name)
        if row is None:
            return None
        if row == "raises":
            raise RuntimeError("s3cret-in-an-error")
        if row == "hangs":
            time.sleep(3600)
        return Account(
            "postmark",
            {
                "server_token": row["token"],
                "base_url": os.environ["SHOP_URL"],
                "webhook_username": "hooks",
                "webhook_passwords": row["passwords"],
            },
            sender=f"shop@{name}.example",
            tenant=name,
            suppressions="pull",
        )

    def list_accounts(self):
        return list(json.loads(Path(os.environ["SHOP_ACCOUNTS"]).read_text(encoding="utf-8")))
'''


class Site:
    """The application, with its accounts and what uses them."""

    def __init__(self, cluster: Any, api: Postmark, file: Path) -> None:
        self.cluster, self.api, self.file = cluster, api, file
        self.rows: dict[str, Any] = {}
        self.keep(acme=_row("acme"), other=_row("other"))

    def keep(self, **rows: Any) -> None:
        self.rows.update(rows)
        replacement = self.file.with_name("next.json")
        kept = {name: row for name, row in self.rows.items() if row is not None}
        replacement.write_text(json.dumps(kept), encoding="utf-8")
        os.replace(replacement, self.file)

    def queue(self, owner: str, count: int = 1) -> list[UUID]:
        with tenant(owner):
            return [
                UUID(
                    str(
                        deliver_later.delay(
                            Message(to=f"u{number}@example.com", subject="Receipt", text="Thank you.")
                        ).id
                    )
                )
                for number in range(count)
            ]

    def status(self, key: UUID) -> Status:
        return deliveries.get(self.cluster.runtime.database, key).status

    def sent(self, keys: list[UUID]) -> bool:
        return all(self.status(key) is Status.SENT for key in keys)


def _row(name: str) -> dict[str, Any]:
    return {"token": f"s3cret-token-of-{name}", "passwords": [f"s3cret-hook-of-{name}"]}


@pytest.fixture
def site(cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "shop_accounts.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("shop_accounts", None)
    Path(cluster.environment["MAILGLASS_CONFIG"]).write_text(
        """
tenancy = "shop_accounts:Shop"
log_format = "console"

[engine]
lease = 12
task_budget = 4
send_margin = 6
ring_timeout = 1

[streams.transactional]
backoff_base = 0.1
backoff_max = 0.5
""",
        encoding="utf-8",
    )
    with postmark("s3cret-token-of-acme", "s3cret-token-of-other") as api:
        for name, value in (
            ("SHOP_ACCOUNTS", str(tmp_path / "accounts.json")),
            ("SHOP_URL", api.url),
            ("PYTHONPATH", str(tmp_path)),
        ):
            monkeypatch.setenv(name, value)
            cluster.environment[name] = value
        configure(load_settings())
        yield Site(cluster, api, tmp_path / "accounts.json")
    sys.modules.pop("shop_accounts", None)


def test_each_tenant_sends_by_its_own_token_until_it_is_revoked(site: Site, wait_for: Callable[..., None]) -> None:
    worker = site.cluster.worker()
    ids = site.queue("acme", 5) + site.queue("other", 5)
    wait_for(lambda: site.sent(ids))
    assert set(site.api.used) == {"s3cret-token-of-acme", "s3cret-token-of-other"}
    # one is revoked: its mail waits, and the other's goes on
    site.keep(acme=None)
    while "accounts.acme: unknown account" not in worker.log.read_text(encoding="utf-8"):
        ids += site.queue("acme")
        time.sleep(0.2)
    (waits,) = site.queue("acme")
    others = site.queue("other", 3)
    wait_for(lambda: site.sent(others))
    assert site.api.received[str(waits)] == 0
    # it is back, with another token
    site.api.tokens = {"s3cret-token-new", "s3cret-token-of-other"}
    site.keep(acme={"token": "s3cret-token-new", "passwords": ["s3cret-hook"]})
    keys = [*ids, *others, waits]
    wait_for(lambda: site.sent(keys))
    assert site.api.received == Counter({str(key): 1 for key in keys})
    assert "s3cret" not in worker.log.read_text(encoding="utf-8")
    assert "s3cret" not in written(site)


def written(site: Site) -> str:
    """Return every row of the ledger, as text."""
    with psycopg.connect(site.cluster.environment["MAILGLASS_DATABASE_URL"]) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'mailglass'")
        rows = []
        for (table,) in tables.fetchall():
            query = psycopg.sql.SQL("SELECT t::text FROM mailglass.{} t").format(psycopg.sql.Identifier(table))
            rows += [row[0] for row in connection.execute(query)]
    return "\n".join(rows)


@pytest.mark.parametrize("fault", ["raises", "hangs", {"token": "", "passwords": ["s3cret-hook"]}])
def test_a_hook_that_fails_for_one_account_leaves_the_others_and_its_mail_waits(
    site: Site, fault: Any, wait_for: Callable[..., None]
) -> None:
    site.keep(acme=fault)
    worker = site.cluster.worker()
    (waits,) = site.queue("acme")
    others = site.queue("other", 5)
    wait_for(lambda: site.sent(others))
    wait_for(lambda: "mailglass.account.failed" in worker.log.read_text(encoding="utf-8"))
    assert site.status(waits) in (Status.QUEUED, Status.CLAIMED)
    assert "s3cret" not in worker.log.read_text(encoding="utf-8")
    if fault == "raises":
        site.keep(acme=_row("acme"))
        wait_for(lambda: site.sent([waits]))


class Endpoint:
    """`mailglass web` in a process of its own."""

    def __init__(self, site: Site, port: int) -> None:
        self.port = port
        self.child = site.cluster.web(port)

    def post(self, account: str, password: str = "") -> int:
        credentials = base64.b64encode(f"hooks:{password or f's3cret-hook-of-{account}'}".encode()).decode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            headers = {"authorization": f"Basic {credentials}"}
            connection.request("POST", f"/webhooks/{account}", b'{"RecordType": "Open", "MessageID": "1"}', headers)
            return connection.getresponse().status


def test_webhooks_are_proved_by_the_secrets_that_the_application_keeps(
    site: Site, unused_port: int, wait_for: Callable[..., None]
) -> None:
    endpoint = Endpoint(site, unused_port)
    assert [endpoint.post("acme"), endpoint.post("other"), endpoint.post("acme", "wrong")] == [200, 200, 401]
    assert endpoint.post("nobody") == 404
    # its hook fails: its provider posts again, and nobody else is affected
    site.keep(acme="raises", slow="hangs")
    wait_for(lambda: endpoint.post("acme") == 503, 20)
    assert endpoint.post("slow") == 503
    assert endpoint.post("other") == 200
    # both passwords hold while one is replaced
    site.keep(acme={"token": "t", "passwords": ["s3cret-new", "s3cret-hook-of-acme"]})
    wait_for(lambda: endpoint.post("acme") == 200, 20)
    assert endpoint.post("acme", "s3cret-new") == 200
    site.keep(acme=None)
    wait_for(lambda: endpoint.post("acme") == 404, 20)
    # names that strangers make up are looked up a few a second, and known accounts all the while
    answers = Counter(endpoint.post(f"made-up-{number}") for number in range(100))
    assert set(answers) <= {404, 503}
    assert answers[503] > 0
    assert endpoint.post("other") == 200
    assert "s3cret" not in endpoint.child.log.read_text(encoding="utf-8")
    assert "made-up" not in endpoint.child.log.read_text(encoding="utf-8")
    tenants = site.cluster.runtime.database.query(
        sqlalchemy.text("SELECT DISTINCT account, tenant_id FROM mailglass.webhook_events ORDER BY account")
    )
    assert [(row.account, row.tenant_id) for row in tenants] == [("acme", "acme"), ("other", "other")]


def test_lists_preflight_and_the_check_of_secrets_know_the_accounts(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = site.cluster.runtime
    site.keep(broken="raises")
    assert sync.accounts_to_sync(runtime.settings, runtime.accounts) == ["acme", "other", "broken"]
    report = sync.run(runtime.settings, runtime.database, runtime.accounts, "acme")
    assert report.status is sync.SyncStatus.COMPLETE
    found = {item.id: item for item in accounts_open(Surroundings(get_settings(), online=True))}
    assert found["accounts.acme"].status is Found.PASS
    assert found["accounts.acme"].observed.endswith("the provider accepts the credentials")
    assert found["accounts.broken"].status is Found.FAIL
    # an operator pauses it like any other
    for action in (["pause"], ["resume"], ["close-breaker"], ["show"]):
        assert command(["accounts", *action, "acme"]) == 0
    capsys.readouterr()
    assert command(["secrets", "check", "--account", "acme", "--format", "json"]) == 0
    output = capsys.readouterr().out
    assert {secret["source"] for secret in json.loads(output)["accounts"][0]["secrets"]} == {"application"}
    assert "s3cret" not in output


def test_accounts_in_doubt_are_asked_again_and_searched(site: Site) -> None:
    runtime = site.cluster.runtime
    (key,) = site.queue("acme")
    assert [provider.account for provider in runtime.settler._providers()] == []
    runtime.database.query(
        sqlalchemy.text(
            "UPDATE mailglass.deliveries SET status = 'claimed', due_at = NULL, lease_token = gen_random_uuid(),"
            f" lease_expires_at = now() - interval '1 second' WHERE id = '{key}'"
        )
    )
    runtime.database.query(
        sqlalchemy.text(f"UPDATE mailglass.deliveries SET status = 'sending', account = 'acme' WHERE id = '{key}'")
    )
    assert [provider.account for provider in runtime.settler._providers()] == ["acme"]
    runtime.settler.sweep()
    assert site.status(key) is not Status.SENDING
