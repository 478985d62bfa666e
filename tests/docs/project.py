"""The project that the examples of a page run in, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import SkipTest

import dns.zonefile
import psycopg
import sqlalchemy
from sybil import Example
from sybil.evaluators.python import PythonEvaluator

from mailglass.ids import uuid7
from mailglass.ledger.database import Database
from mailglass.ledger.lanes import lanes_due
from mailglass.ledger.submit import Item, content_id, submit
from mailglass.mail.addresses import Address
from mailglass.routing import Lane
from mailglass.runtime import get_runtime
from mailglass.testing.dns_server import DNSServer
from tests.docs.parsing import assumed, blocks, parse, slug
from tests.docs.shell import Shell
from tests.plugin import plugin_options
from tests.provider_lab import LabProcess

LANE = Lane("mailglass", "acme", "transactional")
CONTENT = json.dumps({"v": 1, "subject": "Receipt 1001", "text": "Thank you."})
SECRETS = {
    "LAB_POSTMARK_TOKEN": "postmark-token",
    "LAB_WEBHOOK_PASSWORD": "webhook-password",
    "LAB_SENDGRID_KEY": "sendgrid-key",
}
LAB_ARGUMENTS = (
    *("--postmark-account", "acme-postmark", "--postmark-token", "env:LAB_POSTMARK_TOKEN"),
    *("--webhook-username", "lab", "--webhook-password", "env:LAB_WEBHOOK_PASSWORD"),
    *("--sendgrid-account", "globex-sendgrid", "--sendgrid-key", "env:LAB_SENDGRID_KEY"),
)
SETTINGS = """
default_from = "Shop <shop@shop.example>"
show_content = true
queues = ["mailglass.bulk", "mailglass.acme"]

[accounts.relay]
provider = "smtp"
host = "127.0.0.1"
port = {smtp_port}
security = "none"

[accounts.acme-smtp]
provider = "smtp"
host = "127.0.0.1"
port = {smtp_port}
security = "none"

[accounts.shared-ses]
provider = "null"

[accounts.acme-mailgun]
provider = "null"
tenant = "acme"

[accounts.acme-postmark]
provider = "postmark"
tenant = "acme"
base_url = "{lab_url}"
server_token = "env:LAB_POSTMARK_TOKEN"
webhook_username = "lab"
webhook_passwords = ["env:LAB_WEBHOOK_PASSWORD"]
suppressions = "both"

[accounts.globex-sendgrid]
provider = "sendgrid"
base_url = "{lab_url}"
api_key = "env:LAB_SENDGRID_KEY"
webhook_public_keys = ["{sendgrid_public_key}"]

[[routes]]
accounts = ["relay", "acme-smtp"]
"""
FILES = {
    "templates/receipt.html": "<p>Order {{ order.number }}</p>",
    "addresses.txt": "grace@example.com\n",
    "postmark.csv": (
        "EmailAddress,SuppressionReason,Origin,CreatedAt\ngrace@example.com,HardBounce,Recipient,2026-01-02T03:04:05Z\n"
    ),
    "message": """\
From: MAILER-DAEMON@mx.example.net
To: bounces@shop.example.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; ada@example.com
Action: failed
Status: 5.1.1
--b--
""",
}
"""Files that pages speak of, by their names."""
# the state that a subcommand of `mailglass deliveries` works on
_STATES = {"release": "held", "settle": "uncertain", "search": "uncertain", "cancel": "queued", "reschedule": "queued"}


@dataclass
class Project:
    """Surroundings in which examples run.

    Attributes:
        directory: the page's own.
        database_url: past every pooler.
        ledger: of this test.
        shell: runs commands.
        server: answers for the records that pages show.
        modules: those that were made of pages.
    """

    directory: Path
    database_url: str
    ledger: Database
    shell: Shell
    server: DNSServer
    modules: list[str] = field(default_factory=list)

    def run(self, page: str) -> None:
        """Run the examples of a page in their order, and see to it that what they sent is sent."""
        is_suite = "def test_" in "".join(blocks(page))
        if is_suite:
            self._run_suite(page)
        module = self._module(page)
        document = parse(page, _nothing if is_suite else self._run_python, self._run_shell)
        document.namespace = vars(module)
        try:
            for example in document.examples():
                with suppress(SkipTest):
                    example.evaluate()
            if "check" in vars(module):
                module.check(vars(module))
        finally:
            if "close" in vars(module):
                module.close()

    def delivery(self, action: str) -> str:
        """Return the id of a delivery in the state that a subcommand works on."""
        wanted = _STATES.get(action, "queued")
        delivery_id = uuid7()
        item = Item(delivery_id, LANE, content_id(delivery_id), CONTENT, Address("ada@example.com"), delay=3600)
        submit(self.ledger.run, [item])
        for step in _WAYS[wanted]:
            self.execute(f"UPDATE mailglass.deliveries SET {step} WHERE id = '{delivery_id}'")
        return str(delivery_id)

    def execute(self, statement: str) -> None:
        """Run a statement of the test's own."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _run_python(self, example: Example) -> None:
        with self._worker():
            PythonEvaluator()(example)

    def _run_shell(self, example: Example) -> None:
        self.shell.run(str(example.parsed))

    def _run_suite(self, page: str) -> None:
        """Run a page's Python as the tests of an application."""
        file = self.directory / f"test_{slug(page)}.py"
        file.write_text("\n".join([assumed(page), *blocks(page)]), encoding="utf-8")
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *plugin_options(),
            file.name,
        ]
        done = subprocess.run(argv, cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout

    def _module(self, page: str) -> ModuleType:
        """Return a module for a page's Python, with what the page takes for granted."""
        module = ModuleType(f"page_{slug(page)}")
        module.__file__ = str(self.directory / f"{module.__name__}.py")
        sys.modules[module.__name__] = module
        self.modules.append(module.__name__)
        exec(compile(assumed(page), f"assumed for {page}", "exec"), vars(module))
        return module

    @contextmanager
    def _worker(self) -> Iterator[None]:
        """Work on what is due, as a worker does, in a thread; and at the end until nothing is due."""
        ended = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                while not ended.is_set():
                    if not self._work():
                        ended.wait(0.05)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(60)
        while self._work():
            pass
        assert failures == []
        counted = self.ledger.query(
            sqlalchemy.text(
                "SELECT status, last_error FROM mailglass.deliveries "
                "WHERE status IN ('failed', 'held') AND attempts > 0"
            )
        )
        assert counted == []

    def _work(self) -> bool:
        lanes = lanes_due(self.ledger)
        for lane in lanes:
            get_runtime().engine.run(lane)
        return bool(lanes)


_LEASED = "lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 hour'"
_CLAIMED = f"status = 'claimed', due_at = NULL, {_LEASED}"
_SENDING = "status = 'sending', attempts = 1, account = 'acme-smtp', provider = 'smtp'"
_WAYS = {
    "queued": (),
    "held": (_CLAIMED, "status = 'held', lease_token = NULL, lease_expires_at = NULL"),
    "uncertain": (_CLAIMED, _SENDING, "status = 'uncertain', in_doubt = true, lease_token = NULL"),
}


def _nothing(example: Example) -> None:
    """Run nothing: pytest has."""


def settings(lab: LabProcess, smtp_port: int) -> str:
    """Return the settings of a project, with every account that a page names."""
    return SETTINGS.format(lab_url=lab.url, smtp_port=smtp_port, sendgrid_public_key=lab.ready["sendgrid_public_key"])


def serve_zones(server: DNSServer, texts: list[str]) -> None:
    """Serve the records of a page."""
    for text in texts:
        for rrset in dns.zonefile.read_rrsets(text, default_ttl=300, origin=".", rdclass="IN"):
            server.add_rdatas(rrset.name, rrset)
