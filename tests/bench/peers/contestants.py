"""Who takes part, how each is configured for throughput, and what it runs: two worker processes each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.environment import python_of

SMTP, HTTP = "smtp", "http"
_THEIRS = "tests.bench.peers.theirs"

MAILGLASS_TOML = """
default_from = "shop@example.com"
log_level = "error"
{account}{haste}"""
# the stand-in finds a mail at once, Postmark after a while
_SEARCH_IN_HASTE = "search_lag = 1\n"
_ACCOUNTS = {
    SMTP: """
[accounts.relay]
provider = "smtp"
host = "127.0.0.1"
port = {PEERS_SMTP_PORT}
security = "none"
max_connections = 8
max_messages_per_connection = 1000
""",
    HTTP: """
[accounts.postmark]
provider = "postmark"
server_token = "env:PEERS_TOKEN"
base_url = "{PEERS_POSTMARK_URL}"
concurrency = 16
""",
}
# so that a run of a minute sees what takes ten otherwise: the peers' visibility timeout is as short
_HASTE = """
[engine]
lease = 10
task_budget = 3
send_margin = 6
ring_timeout = 1

[streams.transactional]
uncertain = "{uncertain}"
uncertain_hold = 6
"""
VISIBILITY_IN_HASTE = 5
_VISIBILITY = 3600


@dataclass(frozen=True)
class Contestant:
    """One way of sending mail.

    Attributes:
        name: in the table and for `--only`.
        how: what a reader of the table must know.
        way: which of `theirs.queue` it is; None: mailglass.
        transports: what it can send by.
        worker: what follows the interpreter to run its workers.
        nudged: whether a schedule would start it again after a crash, which the run does in its place.
        uncertain: mailglass's policy for mails that may have been sent.
        only_killed: takes part in the round with the kill only.
    """

    name: str
    how: str
    way: str | None
    transports: tuple[str, ...]
    worker: tuple[str, ...]
    nudged: bool = False
    uncertain: str = "resend"
    only_killed: bool = False

    @property
    def ours(self) -> bool:
        return self.way is None

    def worker_argv(self) -> list[str | Path]:
        return [python_of(self.ours), *self.worker]

    def queue_argv(self, *arguments: str) -> list[str | Path]:
        module = "tests.bench.peers.ours" if self.ours else f"{_THEIRS}.queue"
        return [python_of(self.ours), "-m", module, *arguments]

    def environment(self, transport: str, servers: Mapping[str, str], scratch: Path, *, haste: bool) -> dict[str, str]:
        """What its processes need to find the servers.

        Args:
            transport: `smtp` or `http`.
            servers: database, broker and receiver, as `PEERS_...`.
            scratch: where a configuration file may be laid.
            haste: with short time-outs, for the round with the kill.
        """
        if not self.ours:
            return {
                **servers,
                "PEERS_WAY": str(self.way),
                "PEERS_TRANSPORT": transport,
                "PEERS_VISIBILITY": str(VISIBILITY_IN_HASTE if haste else _VISIBILITY),
                "TMPDIR": str(scratch),
            }
        config = scratch / "peers.toml"
        account = _ACCOUNTS[transport].format_map(servers)
        if haste and transport == HTTP:
            account += _SEARCH_IN_HASTE
        config.write_text(
            MAILGLASS_TOML.format(account=account, haste=_HASTE.format(uncertain=self.uncertain) if haste else ""),
            encoding="utf-8",
        )
        return {
            "MAILGLASS_DATABASE_URL": servers["PEERS_DATABASE_URL"],
            "MAILGLASS_BROKER_URL": servers["PEERS_BROKER_URL"],
            "MAILGLASS_CONFIG": str(config),
            "PEERS_TOKEN": "token",
        }


def _celery(app: str) -> tuple[str, ...]:
    return ("-m", "celery", "-A", app, "worker", "-c", "2", "-l", "error")


CONTESTANTS = (
    Contestant(
        "mailglass",
        "defaults; 8 SMTP sessions a process, HTTP concurrency 16",
        None,
        (SMTP, HTTP),
        _celery("mailglass"),
    ),
    Contestant(
        "mailglass, hold",
        "uncertain mails are kept for a person",
        None,
        (SMTP, HTTP),
        _celery("mailglass"),
        uncertain="hold",
        only_killed=True,
    ),
    Contestant(
        "by hand",
        "Celery task a mail: row, late acknowledgement, kept connection",
        "by_hand",
        (SMTP, HTTP),
        _celery(f"{_THEIRS}.by_hand"),
    ),
    Contestant(
        "celery-email",
        "django-celery-email, 50 mails a task, late acknowledgement",
        "celery_email",
        (SMTP,),
        _celery(f"{_THEIRS}.site"),
    ),
    Contestant(
        "post_office",
        "django-post_office with its Celery task, batches of 1,000, 5 threads",
        "post_office",
        (SMTP,),
        _celery(f"{_THEIRS}.site"),
        nudged=True,
    ),
    Contestant(
        "post_office, 2 processes",
        "the same by send_queued_mail --processes 2, no Celery",
        "post_office",
        (SMTP,),
        ("-m", f"{_THEIRS}.office"),
    ),
    Contestant(
        "anymail",
        "django-anymail in a Celery task a mail, late acknowledgement, kept connection",
        "anymail",
        (HTTP,),
        _celery(f"{_THEIRS}.site"),
    ),
)
