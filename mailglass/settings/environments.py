"""Environments: `[environments.NAME]`, of which `environment` names one. Whatever is not clear refuses to start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.recipients import RecipientPolicy, ShowRecipient, parse_pattern
from mailglass.settings.environment import UnknownVariable
from mailglass.settings.problems import Problems
from mailglass.settings.values import NAME, NAME_REMEDY, address, choice

PRODUCTION: Final = "production"
"""The environment that needs no table: without one its mail goes to everybody."""
_MAX_MARK: Final = 60
_KEYS: Final = ("allow", "redirect_to", "subject_mark", "show_recipient")
# variables that keep mail from people, and take the place of the table's key
_VARIABLES: Final = {
    "MAILGLASS_ALLOW": "allow",
    "MAILGLASS_REDIRECT_TO": "redirect_to",
    "MAILGLASS_SUBJECT_MARK": "subject_mark",
}
_GUARDS: Final = ("MAILGLASS_ENVIRONMENT", *_VARIABLES)


def parse_environments(
    document: Mapping[str, Any], environ: Mapping[str, str], problems: Problems
) -> tuple[str | None, RecipientPolicy | None]:
    """Return the name of this environment, and who may get mail in it; None for everybody.

    Args:
        document: the settings file.
        environ: the environment's variables, which go before the file.
        problems: where what is wrong is noted.
    """
    tables = document.get("environments", {})
    if not isinstance(tables, dict) or not all(isinstance(body, dict) for body in tables.values()):
        problems.add("environments", "wrong type", "Write tables: [environments.staging]")
        return None, None
    for name, body in tables.items():
        _policy(f"environments.{name}", body, problems)
    name = _name(document, environ, tables, problems)
    given = _given(environ, problems)
    table = tables.get(name, {}) if name is not None else {}
    if not given:
        return name, _policy("", table, Problems()) if name in tables else None
    return name, _policy("environment", {**table, **given}, problems)


def check_variables(unknown: Collection[UnknownVariable], problems: Problems) -> None:
    """Refuse variables that are nearly one that keeps mail from people: ignoring it would let the mail go."""
    from difflib import get_close_matches

    for variable in unknown:
        if meant := get_close_matches(variable.name.upper(), _GUARDS, n=1, cutoff=0.85):
            problems.add(variable.name, "unknown environment variable", f"Write {meant[0]}, or remove it")


def _name(
    document: Mapping[str, Any], environ: Mapping[str, str], tables: Mapping[str, Any], problems: Problems
) -> str | None:
    key = "MAILGLASS_ENVIRONMENT" if "MAILGLASS_ENVIRONMENT" in environ else "environment"
    name: object = environ.get("MAILGLASS_ENVIRONMENT", document.get("environment"))
    known = ", ".join(sorted({PRODUCTION, *tables}))
    if name is None:
        if tables:
            problems.add(
                key, "missing, though there are [environments]", f"Set MAILGLASS_ENVIRONMENT to one of {known}"
            )
        return None
    if not isinstance(name, str) or not NAME.match(name):
        problems.add(key, "not the name of an environment", NAME_REMEDY)
        return None
    if name != PRODUCTION and name not in tables:
        problems.add(key, "an environment without a table", f"Add [environments.{name}], or use one of {known}")
    return name


def _given(environ: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    """Return what the variables say. An empty one is refused, because a value that went missing must not open it."""
    given: dict[str, Any] = {}
    for variable, key in _VARIABLES.items():
        value = environ.get(variable)
        if value is None:
            continue
        if not value.strip():
            problems.add(variable, "empty", "Give it a value, or unset it")
        given[key] = [part.strip() for part in value.split(",")] if key == "allow" else value
    return given


def _policy(key: str, body: Mapping[str, Any], problems: Problems) -> RecipientPolicy:
    for unknown in sorted(body.keys() - set(_KEYS)):
        problems.add(f"{key}.{unknown}", "unknown setting", f"Known are: {', '.join(_KEYS)}")
    if "allow" not in body and not body.get("redirect_to"):
        problems.add(
            f"{key}.allow",
            "missing, and there is no redirect_to",
            'Name who may get mail: allow = ["*@example.com"], or allow = [] for nobody',
        )
    return RecipientPolicy(
        _patterns(f"{key}.allow", body.get("allow", []), problems),
        _redirect_to(f"{key}.redirect_to", body.get("redirect_to"), problems),
        _mark(f"{key}.subject_mark", body.get("subject_mark", ""), problems),
        ShowRecipient(
            choice(
                f"{key}.show_recipient",
                body.get("show_recipient", ShowRecipient.HEADER.value),
                tuple(place.value for place in ShowRecipient),
                problems,
            )
        ),
    )


def _patterns(key: str, value: object, problems: Problems) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.add(key, "wrong type", 'Give a list of patterns: ["*@example.com"]')
        return ()
    patterns: list[str] = []
    for index, text in enumerate(value):
        try:
            patterns.append(parse_pattern(text))
        except ValueError as error:
            problems.add(f"{key}[{index}]", "not a pattern of addresses", str(error))
    return tuple(patterns)


def _redirect_to(key: str, value: object, problems: Problems) -> Address | None:
    if value is not None and not value:
        problems.add(key, "empty", 'Write "dev@example.com", or leave it out')
    mailbox = address(key, value, problems)
    if mailbox is not None and '"' in mailbox.email:
        problems.add(key, "a quoted address", 'Write it without quotes: "dev@example.com"')
    return mailbox


def _mark(key: str, value: object, problems: Problems) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_MARK:
        problems.add(key, "not a short text on one line", f'Give up to {_MAX_MARK} characters, such as "[staging]"')
        return ""
    return value.strip()
