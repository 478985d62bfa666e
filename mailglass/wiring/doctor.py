"""Diagnose a project: every framework that it uses, or the reason why nothing can be told."""

from __future__ import annotations

from pathlib import Path

from mailglass.wiring import asgi, django, flask
from mailglass.wiring.findings import Diagnosis, Finding, Status
from mailglass.wiring.project import Project


def diagnose(root: Path) -> Diagnosis:
    """Read the source below a directory and tell whether webhooks reach mailglass.

    Args:
        root: the directory of the application's source. Tests, dependencies and hidden directories are left out.

    Raises:
        ConfigError: it is no directory, or holds too many files.
    """
    project = Project(root)
    findings = [finding for room in (django, flask, asgi) for finding in room.diagnose(project)]
    if not findings:
        findings.append(
            Finding(
                "application",
                Status.CANNOT_DIAGNOSE,
                "no application of Django, Flask, FastAPI, Starlette or Litestar was found",
                remedy="Name its directory. If you serve `mailglass web` by itself, run `mailglass preflight`",
            )
        )
    if project.unreadable:
        findings.append(
            Finding(
                "source",
                Status.WARN,
                f"{len(project.unreadable)} files could not be parsed, {project.unreadable[0]} among them",
                remedy="Run the doctor by the Python that runs your application",
                file=project.unreadable[0],
            )
        )
    return Diagnosis(findings)
