"""Secrets and rotation: every account's secrets, and which need a restart."""

from __future__ import annotations

from mailglass.go_live.report import Answer, Status, counted, judged
from mailglass.go_live.site import Site
from mailglass.preflight.findings import Status as FindingStatus
from mailglass.preflight.secrets import check_secrets, with_uses


def secrets_and_rotation(site: Site) -> Answer:
    """Check that each secret is there, of the right form and accepted, as far as the ledger has seen."""
    names = site.accounts.names()
    if not names:
        return Answer(Status.FAIL, "there is no account", "Add [accounts.NAME] to mailglass.toml")
    checked = [with_uses(check_secrets(site.accounts, name, site.environ), site.database) for name in names]
    secrets = [secret for account in checked for secret in account.secrets]
    reread = sum(secret.rereads for secret in secrets)
    findings = [finding for account in checked for finding in account.findings]
    return judged(
        f"{counted(len(secrets), 'secret')} in order, {reread} of them change without a restart",
        [f"{finding.id}: {finding.observed}" for finding in findings if finding.status is FindingStatus.FAIL],
        "`mailglass secrets check` names each secret and its remedy",
        [f"{finding.id}: {finding.observed}" for finding in findings if finding.status is FindingStatus.WARN],
    )
