"""The receiver matrix: what Gmail, Yahoo and Microsoft ask for, answered by findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mailglass.domains.receivers import RequirementStatus, Verdict
from tests.domain_zones import DOMAIN, doctor, selector

KEY = f"s1._domainkey.{DOMAIN}"
SECOND = f"s2._domainkey.{DOMAIN}"
BOTH = (selector(), selector("s2"))


@pytest.mark.parametrize(
    ("changes", "server", "verdict"),
    [
        # s1 is published and s2 is not: one key is enough
        ({}, {}, Verdict.READY),
        ({f"{KEY} TXT": None}, {}, Verdict.NOT_READY),
        ({f"{KEY} TXT": ["v=DKIM1; p="]}, {}, Verdict.NOT_READY),
        ({f"{KEY} TXT": None}, {"servfail": [SECOND]}, Verdict.CANNOT_VERIFY),
        ({}, {"servfail": [SECOND]}, Verdict.READY),
        ({f"{DOMAIN} TXT": None}, {}, Verdict.NOT_READY),
        ({f"_dmarc.{DOMAIN} TXT": None}, {}, Verdict.NOT_READY),
        ({f"_dmarc.{DOMAIN} TXT": ["v=DMARC1; p=none"]}, {}, Verdict.READY),
        ({}, {"servfail": [DOMAIN]}, Verdict.CANNOT_VERIFY),
    ],
)
def test_every_receiver_is_ready_where_spf_dmarc_and_one_key_hold(
    changes: Mapping[str, Sequence[str] | None], server: Mapping[str, Any], verdict: Verdict
) -> None:
    report = doctor(changes, server=server, selectors=BOTH, return_path=DOMAIN)
    assert {row.receiver: row.verdict for row in report.receivers} == dict.fromkeys(
        ("Gmail", "Yahoo", "Microsoft"), verdict
    )
    ids = {finding.id for finding in report.findings}
    for row in report.receivers:
        assert row.findings
        assert set(row.findings) <= ids


@pytest.mark.parametrize(
    ("pointer", "status"),
    [
        ([f"mail.{DOMAIN}."], RequirementStatus.MET),
        (["gone.example."], RequirementStatus.NOT_MET),
    ],
)
def test_gmails_dns_records_are_those_of_the_sending_address(pointer: list[str], status: RequirementStatus) -> None:
    report = doctor({"1.2.0.192.in-addr.arpa PTR": pointer}, addresses=("192.0.2.1",))
    (gmail,) = [row for row in report.receivers if row.receiver == "Gmail"]
    answers = {answer.name: answer.status for answer in gmail.answers}
    assert answers["DNS_RECORDS"] is status
    assert answers["ENCRYPTION"] is RequirementStatus.NOT_CHECKED


def test_gmails_requirements_have_the_names_of_postmaster_tools() -> None:
    (gmail,) = [row for row in doctor().receivers if row.receiver == "Gmail"]
    assert {answer.name for answer in gmail.answers} == {
        "SPF",
        "DKIM",
        "SPF_AND_DKIM",
        "DMARC_POLICY",
        "DMARC_ALIGNMENT",
        "MESSAGE_FORMATTING",
        "DNS_RECORDS",
        "ENCRYPTION",
        "USER_REPORTED_SPAM_RATE",
        "ONE_CLICK_UNSUBSCRIBE",
        "HONOR_UNSUBSCRIBE",
    }
