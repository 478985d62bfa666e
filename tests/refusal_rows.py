"""Rows of refusals as receivers and providers say them, and what each of them means.

A line holds the subject, the refusal and the right reading. The refusal begins with its stage: C greeting, H EHLO, T
STARTTLS, A AUTH, M MAIL, R RCPT, D DATA, E end of data, N a report by mail, V a provider's event, X no reply; a name in
brackets is the receiver, known from its host. The reading is lasting (P, T, U), suppressed (y, n, n*: at the second
one), the account's fault (y, n), and how it is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailglass.mail.refusal import About, Refusal, Stage
from mailglass.refusals.answers import ANY, Answer
from mailglass.refusals.understand import understand

STAGES: Final = {
    "C": Stage.GREETING,
    "H": Stage.EHLO,
    "T": Stage.TLS,
    "A": Stage.AUTH,
    "M": Stage.MAIL,
    "R": Stage.RCPT,
    "D": Stage.DATA,
    "E": Stage.DOT,
    "N": Stage.REPORT,
    "V": Stage.PROVIDER_EVENT,
    "X": Stage.CONNECT,
}
HOSTS: Final = {
    "Microsoft": "shop-example.mail.protection.outlook.com",
    "Exchange": "shop-example.mail.protection.outlook.com",
    "outlook.com": "outlook-com.olc.protection.outlook.com",
    "Yahoo": "mta7.am0.yahoodns.net",
    "AT&T": "al-ip4-mx-vip1.prodigy.net",
    "Yandex": "mx.yandex.ru",
    "mail.ru": "mxs.mail.ru",
    "free.fr": "mx1.free.fr",
    "Rambler": "inmx.rambler.ru",
    "iCloud": "mx01.mail.icloud.com",
    "Comcast": "mx1.comcast.net",
    "Gmail": "gmail-smtp-in.l.google.com",
    "QQ": "mx3.qq.com",
    "Mimecast": "eu-smtp-inbound-1.mimecast.com",
    "163": "163mx00.mxmail.netease.com",
    "T-Online": "mx00.t-online.de",
    "SES": "email-smtp.eu-west-1.amazonaws.com",
    "GMX": "mx00.gmx.net",
    "Orange": "smtp-in.orange.fr",
}
_NAMES: Final = re.compile(r" \[(" + "|".join(map(re.escape, HOSTS)) + r")\]$")
_SAID: Final = re.compile(r"(?:([245]\.\d+\.\d+);? )?(?:diagnostic )?(?:([2-5]\d\d)\b ?)?(.*)\Z")


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """A refusal and what is right to make of it."""

    about: About
    stage: Stage
    reply: int | None
    enhanced: str | None
    text: str
    host: str
    named: bool
    lasting: str
    suppressed: str
    at_fault: str
    retry: str

    def read(self) -> Refusal:
        """Return what the row is understood as."""
        return understand(self.stage, self.reply, self.enhanced, self.text, host=self.host, named=self.named)


def _row(line: str) -> RefusalRow:
    about, said, right = (part.strip() for part in line.split(" | "))
    receiver = _NAMES.search(said)
    words = _NAMES.sub("", said)
    found = _SAID.match(words[2:])
    assert found is not None
    text = f"{found[2]} {found[3]}" if found[2] else found[3]
    host = HOSTS[receiver[1]] if receiver else ""
    named = "naming another address" not in said
    reply = int(found[2]) if found[2] else None
    return RefusalRow(About(about), STAGES[words[0]], reply, found[1], text, host, named, *right.split())


ROWS: Final = [
    _row(line) for line in Path(__file__).with_name("refusals.txt").read_text("utf-8").splitlines() if line.strip()
]


def codes_of(rows: Sequence[Answer]) -> frozenset[str]:
    """Return the codes that a provider's rows name."""
    return frozenset().union(*(row.codes for row in rows)) - {ANY}
