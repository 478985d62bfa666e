"""Run the checklist, each section apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mailglass.errors import MailglassError
from mailglass.go_live.deliverability import deliverability
from mailglass.go_live.queues import queue_sizing
from mailglass.go_live.report import Answer, Report, Section, Status
from mailglass.go_live.routing import tenant_routing
from mailglass.go_live.secrets import secrets_and_rotation
from mailglass.go_live.site import Site
from mailglass.go_live.suppressions import suppression_handling
from mailglass.go_live.telemetry import telemetry_subscribers
from mailglass.go_live.webhooks import webhook_wiring


class Check(NamedTuple):
    """A section's check, with the command that shows more."""

    id: str
    title: str
    command: str
    run: Callable[[Site], Answer]


SECTIONS: Final[Sequence[Check]] = (
    Check("deliverability", "Deliverability", "mailglass mail-doctor", deliverability),
    Check("webhooks", "Webhook wiring", "mailglass doctor", webhook_wiring),
    Check("secrets", "Secrets and rotation", "mailglass secrets check", secrets_and_rotation),
    Check("queues", "Queue sizing", "mailglass preflight", queue_sizing),
    Check("routing", "Per-tenant routing", "mailglass config check", tenant_routing),
    Check("suppressions", "Suppression handling", "mailglass suppressions sync --dry-run", suppression_handling),
    Check("telemetry", "Telemetry", "", telemetry_subscribers),
)
"""The sections in their order."""


def run(site: Site, on_section: Callable[[Section], object] = lambda section: None) -> Report:
    """Run every section. A check that cannot be made fails its own section and no other.

    Args:
        site: the deployment.
        on_section: called with each section as soon as it is there.
    """
    found: list[Section] = []
    try:
        for check in SECTIONS:
            section = Section(check.id, check.title, check.command, _apart(check, site))
            found.append(section)
            on_section(section)
    finally:
        site.close()
    return Report(found)


def _apart(check: Check, site: Site) -> Answer:
    try:
        return check.run(site)
    except MailglassError as error:
        return Answer(Status.FAIL, f"cannot be checked: {error}", "`mailglass preflight` checks what it needs")
    except Exception as error:
        # of the broker's or the driver's library, whose text may quote a URL
        return Answer(
            Status.FAIL, f"cannot be checked: {type(error).__name__}", "`mailglass preflight` checks what it needs"
        )
