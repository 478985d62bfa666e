"""Settings and environment of the demo's processes: the lab's accounts as a settings file, and the environment."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from mailglass.demo import own_settings
from mailglass.errors import StackError
from mailglass.settings import ENVIRONMENT
from mailglass.settings.django import DjangoSettings
from mailglass.stack.directory import write_private

ACCOUNTS = {"acme": "acme-postmark", "globex": "globex-sendgrid", "default": "default-smtp"}
SERVERS = {"MAILGLASS_DATABASE_URL": "PostgreSQL", "MAILGLASS_BROKER_URL": "Valkey"}
_SECRETS = ("LAB_POSTMARK_TOKEN", "LAB_WEBHOOK_PASSWORD", "LAB_SENDGRID_KEY", "LAB_SMTP_PASSWORD")
_USER = "lab"
_OURS = "# end with the run: "

_SETTINGS = """\
# Written by `mailglass {purpose}`, and anew at its next start.

[domains]
watch = false

[accounts.acme-postmark]
provider = "postmark"
from = "Acme Hardware <orders@acme.example>"
base_url = "{http_url}"
read_timeout = 5
server_token = "env:LAB_POSTMARK_TOKEN"
webhook_username = "{user}"
webhook_passwords = ["env:LAB_WEBHOOK_PASSWORD"]

[accounts.globex-sendgrid]
provider = "sendgrid"
from = "Globex Electronics <orders@globex.example>"
base_url = "{http_url}"
read_timeout = 5
api_key = "env:LAB_SENDGRID_KEY"
webhook_public_keys = ["{public_key}"]

[accounts.default-smtp]
provider = "smtp"
from = "The Corner Bookshop <orders@bookshop.example>"
host = "127.0.0.1"
port = {smtp_port}
security = "none"
username = "{user}"
password = "env:LAB_SMTP_PASSWORD"

[accounts.acme-postmark.dns]
dkim_selectors = ["20260101pm"]
return_path = "pm-bounces.acme.example"

[accounts.globex-sendgrid.dns]
dkim_selectors = ["s1"]
return_path = "em1.globex.example"

[accounts.default-smtp.dns]
dkim_selectors = ["s2026"]
return_path = "bounces.bookshop.example"
ips = ["192.0.2.10"]

[[routes]]
tenant = "acme"
accounts = ["acme-postmark"]

[[routes]]
tenant = "globex"
accounts = ["globex-sendgrid"]

[[routes]]
tenant = "*"
accounts = ["default-smtp"]

# in a hurry: what a killed worker held is taken up again within a minute
[engine]
claim_size = 100
lease = 30
task_budget = 8
send_margin = 15

[streams.transactional]
uncertain_hold = 8
backoff_base = 0.5
backoff_max = 4

[streams.operational]
uncertain_hold = 8
backoff_base = 0.5
backoff_max = 4
"""


@dataclass(frozen=True, slots=True)
class LabAddress:
    """URL of the lab, and the key that proves its webhooks."""

    http_url: str
    smtp_port: int
    sendgrid_public_key: str

    @classmethod
    def parse(cls, output: str) -> LabAddress:
        """From what the lab prints when it is ready.

        Raises:
            StackError: there is no such line.
        """
        for line in output.splitlines():
            if line.startswith("{"):
                found = json.loads(line)
                return cls(found["http_url"], int(found["smtp_port"]), found["sendgrid_public_key"])
        raise StackError("the lab did not say where it listens: see its log")


def new_secrets() -> dict[str, str]:
    """Credentials of the lab's accounts, by variable; others at every start."""
    return {name: secrets.token_urlsafe(18) for name in _SECRETS}


def remembered_secrets(file: Path) -> dict[str, str]:
    """Return the same, the same at every start: those in a file, which is made where it is missing."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: str(found[name]) for name in _SECRETS}
    except (OSError, ValueError, KeyError, TypeError):
        made = new_secrets()
        write_private(file, json.dumps(made))
        return made


def lab_command(web_url: str, http_port: int = 0, smtp_port: int = 0) -> list[str]:
    """Return the lab's command line: no weather but what the addresses ask for, and our credentials."""
    return [
        sys.executable,
        "-m",
        "mailglass.testing.lab",
        "--calm",
        "--http-port",
        str(http_port),
        "--smtp-port",
        str(smtp_port),
        "--webhooks",
        f"{web_url}/webhooks",
        "--postmark-account",
        ACCOUNTS["acme"],
        "--postmark-token",
        "env:LAB_POSTMARK_TOKEN",
        "--webhook-username",
        _USER,
        "--webhook-password",
        "env:LAB_WEBHOOK_PASSWORD",
        "--sendgrid-account",
        ACCOUNTS["globex"],
        "--sendgrid-key",
        "env:LAB_SENDGRID_KEY",
        "--smtp-account",
        ACCOUNTS["default"],
        "--smtp-username",
        _USER,
        "--smtp-password",
        "env:LAB_SMTP_PASSWORD",
    ]


def write_settings(path: Path, purpose: str, lab: LabAddress) -> None:
    """Write the settings file."""
    text = _SETTINGS.format(
        purpose=purpose, http_url=lab.http_url, smtp_port=lab.smtp_port, public_key=lab.sendgrid_public_key, user=_USER
    )
    write_private(path, text)


def write_own_settings(path: Path, own: Path | DjangoSettings, lab: LabAddress) -> None:
    """Write the application's own settings, with every account's mail caught by the lab."""
    write_private(path, own_settings.caught(own, lab.smtp_port, _USER, "env:LAB_SMTP_PASSWORD"))


def exports(environment: Mapping[str, str]) -> list[str]:
    """Return the environment as lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def write_environment(path: Path, environment: Mapping[str, str], given: Collection[str] = ()) -> None:
    """Write the environment to a file that a shell can source.

    Args:
        path: the file.
        environment: the variables.
        given: variables that were there before; they outlive the run and are therefore not unset by `tidy`.
    """
    ours = " ".join(name for name in environment if name not in given)
    write_private(path, "\n".join([f"{_OURS}{ours}", *exports(environment)]) + "\n")


def tidy(root: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Unset variables that would mislead.

    A shell may still have those of an earlier run's environment file, whose servers are gone, or those that only
    another settings file refers to.

    Args:
        root: where the environment files are.
        environ: changed.
    """
    for file in root.glob("*.env"):
        first, *lines = file.read_text(encoding="utf-8").splitlines() or [""]
        ours = first.removeprefix(_OURS).split()
        for name in ours:
            if name in environ and exports({name: environ[name]})[0] in lines:
                del environ[name]
    for name in [name for name in environ if name.startswith("MAILGLASS_") and name not in ENVIRONMENT]:
        del environ[name]
