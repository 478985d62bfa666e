"""`--explain`: what a receiver meant, and the checks of the doctor that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mailglass.cli import run
from mailglass.domains import (
    alignment,
    dkim,
    dmarc,
    hosts,
    mail_hosts,
    spf,
)
from mailglass.domains.explain import BY_CODE, BY_SUBJECT, explain
from mailglass.domains.receivers import RECEIVERS
from mailglass.errors import ConfigError
from mailglass.mail.refusal import About
from mailglass.refusals.codes import PRIVATE, STANDARD
from mailglass.refusals.receivers import PUBLISHED

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "mail-doctor.json").read_text("utf-8"))
CHECKS = {
    f"{area}.{check}"
    for area, room in (
        ("spf", spf),
        ("dkim", dkim),
        ("dmarc", dmarc),
        ("alignment", alignment),
        ("ptr", hosts),
        ("mx", mail_hosts),
    )
    for check in room._WHY
}


@pytest.mark.parametrize(
    ("said", "about", "findings"),
    [
        ("5.7.515", About.SENDER_AUTHENTICATION, {"spf.record", "dkim.key", "dmarc.record", "alignment.dmarc"}),
        (
            "550 5.7.515 Access denied, sending domain example.com doesn't meet the required authentication level.",
            About.SENDER_AUTHENTICATION,
            {"spf.record", "dkim.key", "dmarc.record", "alignment.dmarc"},
        ),
        (
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated. gsmtp",
            About.SENDER_AUTHENTICATION,
            {"spf.record", "dkim.key", "alignment.dmarc"},
        ),
        ("5.7.25", About.SENDER_AUTHENTICATION, {"ptr.reverse"}),
        ("4.7.25", About.SENDER_AUTHENTICATION, {"ptr.reverse"}),
        ("5.7.23", About.SENDER_AUTHENTICATION, {"spf.record"}),
        ("5.7.20", About.SENDER_AUTHENTICATION, {"dkim.key"}),
        ("5.7.27", About.SENDER_ACCOUNT, {"mx.record", "spf.record"}),
        ("5.1.1", About.RECIPIENT_UNKNOWN, set()),
        ("4.2.2", About.MAILBOX_FULL, set()),
        ("550 no such user here", About.RECIPIENT_UNKNOWN, set()),
    ],
)
def test_a_refusal_belongs_to_the_checks_that_would_find_its_cause(said: str, about: About, findings: set[str]) -> None:
    explanation = explain(said)
    assert explanation.refusal.about is about
    assert findings <= set(explanation.findings)
    assert bool(findings) is bool(explanation.findings)
    assert explanation.text


def test_every_check_that_a_table_names_is_one_of_the_doctor() -> None:
    named = {check for meaning in BY_CODE.values() for check in meaning.findings}
    named |= {check for checks in BY_SUBJECT.values() for check in checks}
    named |= {check for receiver in RECEIVERS for rule in receiver.requirements for check in rule.checks}
    assert named <= CHECKS


@pytest.mark.parametrize("level", ["4", "5"])
def test_every_known_code_is_explained(level: str) -> None:
    published = {code for item in PUBLISHED for code in item.row.codes}
    for detail in {*STANDARD, *PRIVATE, *published, *BY_CODE}:
        explanation = explain(f"{level}.{detail}")
        assert explanation.status == f"{level}.{detail}"
        assert explanation.text
        jsonschema.Draft202012Validator(SCHEMA).validate({"schema_version": 1, "explanation": explanation.as_json()})


def test_lack_of_authentication_always_names_checks() -> None:
    for detail in {*STANDARD, *PRIVATE}:
        explanation = explain(f"5.{detail}")
        if explanation.refusal.about is About.SENDER_AUTHENTICATION and detail != "7.29":
            assert explanation.findings, detail


@pytest.mark.parametrize("said", ["", " ", "5", "5.7", "5.7.x", "....", "7.7.7"])
def test_text_without_a_code_is_wrong_usage(said: str) -> None:
    with pytest.raises(ConfigError, match="no status code"):
        explain(said)


def test_the_command_prints_meaning_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mail-doctor", "--explain", "550 5.7.515 \x1b[31mAccess denied"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5.7.515: ")
    assert "dmarc.record" in said
    assert "\x1b" not in said
    assert run(["mail-doctor", "--explain", "5.1.1"]) == 0
    assert "Findings: none" in capsys.readouterr().out
    assert run(["mail-doctor", "--explain", "5.7.26", "--json"]) == 0
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(capsys.readouterr().out))
