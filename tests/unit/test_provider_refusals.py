"""Providers' events of refusals: the receiver's words count more than the label, and the label more than the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mailglass.mail.events import BounceClass, EventKind, ProviderEvent
from mailglass.mail.refusal import About
from mailglass.providers.brevo import events as brevo
from mailglass.providers.mailgun import events as mailgun
from mailglass.providers.mailjet.events import _event as mailjet_event
from mailglass.providers.mandrill import events as mandrill
from mailglass.providers.postmark import sending as postmark
from mailglass.providers.postmark.events import _event as postmark_event
from mailglass.providers.resend import events as resend
from mailglass.providers.sendgrid.events import _event as sendgrid_event
from mailglass.providers.ses import events as ses
from mailglass.providers.sparkpost import events as sparkpost
from mailglass.refusals.consequences import FIRST, SECOND, suppression

WHO = "ada@example.net"


def ses_bounce(said: str, status: str) -> ProviderEvent:
    person = {"emailAddress": WHO, "status": status, "diagnosticCode": f"smtp; {said}"}
    part = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [person]}
    item = {"id": "m.0", "type": "Bounce", "part": part, "mail": {}, "recipient": person, "posted": None}
    return ses._event(item)


def resend_bounce(said: str, status: str) -> ProviderEvent:
    bounce = {"type": "Permanent", "subType": "General", "diagnosticCode": [f"smtp; {said}"]}
    return resend._event("id", {"type": "email.bounced", "data": {"to": [WHO], "bounce": bounce}})


def sendgrid_bounce(said: str, status: str) -> ProviderEvent:
    return sendgrid_event({"event": "bounce", "type": "bounce", "email": WHO, "status": status, "reason": said})


def postmark_bounce(said: str, status: str) -> ProviderEvent:
    details = f"smtp;{said}"
    return postmark_event({"RecordType": "Bounce", "Type": "HardBounce", "Email": WHO, "Details": details, "ID": 7})


def mailgun_bounce(said: str, status: str) -> ProviderEvent:
    answer = {"code": int(said[:3]), "message": said[4:], "enhanced-code": status}
    item = {"event": "failed", "severity": "permanent", "reason": "bounce", "recipient": WHO, "delivery-status": answer}
    return mailgun.read([item], "mg")[0]


def sparkpost_bounce(said: str, status: str) -> ProviderEvent:
    item = {"type": "bounce", "bounce_class": "10", "error_code": said[:3], "raw_reason": said, "rcpt_to": WHO}
    return sparkpost.read([item], "sp")[0]


def brevo_bounce(said: str, status: str) -> ProviderEvent:
    item = {"event": "hard_bounce", "email": WHO, "reason": f" RecipientError: {said}"}
    return brevo.normalise(json.dumps(item).encode(), "br")[0]


def mailjet_bounce(said: str, status: str) -> ProviderEvent:
    return mailjet_event(
        {"event": "bounce", "email": WHO, "error": "user unknown", "hard_bounce": True, "comment": said}
    )


def mandrill_bounce(said: str, status: str) -> ProviderEvent:
    message = {"email": WHO, "diag": f"smtp; {said}", "bounce_description": "bad_mailbox", "metadata": {}}
    return mandrill._event({"event": "hard_bounce", "msg": message, "_id": "x", "ts": 1})


BOUNCES: list[Callable[[str, str], ProviderEvent]] = [
    ses_bounce,
    resend_bounce,
    sendgrid_bounce,
    postmark_bounce,
    mailgun_bounce,
    sparkpost_bounce,
    brevo_bounce,
    mailjet_bounce,
    mandrill_bounce,
]
INNOCENT = [
    (
        "550 5.7.515 Access denied, sending domain shop.example doesn't meet the required authentication level.",
        "5.7.515",
        About.SENDER_AUTHENTICATION,
    ),
    (
        "550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
        "5.7.26",
        About.SENDER_AUTHENTICATION,
    ),
    (
        "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
        "5.2.1",
        About.RECIPIENT_RATE,
    ),
    ("552 5.1.1 Mailbox full", "5.1.1", About.MAILBOX_FULL),
    ("552 5.1.1 Postfach ist voll", "5.1.1", About.MAILBOX_FULL),
    ("550 5.1.1 too many messages from your server", "5.1.1", About.SENDER_RATE),
    ("550 5.2.1 Client host [192.0.2.7] blocked using Spamhaus", "5.2.1", About.SENDER_REPUTATION),
    ("550 5.2.1 quarantined by content filter", "5.2.1", About.CONTENT),
    ("550 5.7.1 192.0.2.7 blacklisted", "5.1.1", About.SENDER_REPUTATION),
    ("552 5.2.2 user over quota", "5.1.1", About.MAILBOX_FULL),
]


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda bounce: bounce.__name__)
@pytest.mark.parametrize(("said", "status", "about"), INNOCENT, ids=lambda value: str(value)[:30])
def test_permanent_label_suppresses_nobody_for_what_is_not_about_the_recipient(
    bounce: Callable[[str, str], ProviderEvent], said: str, status: str, about: About
) -> None:
    event = bounce(said, status)
    assert event.refusal is not None
    assert (event.kind, event.bounce_class, event.refusal.about) == (EventKind.BOUNCED, BounceClass.SOFT, about)
    assert suppression(event.refusal) is None


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda bounce: bounce.__name__)
@pytest.mark.parametrize(
    "said",
    [
        "550 5.1.1 The email account that you tried to reach does not exist.",
        "550 5.5.0 Requested action not taken: mailbox unavailable.",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
    ],
)
def test_mailbox_that_does_not_exist_is_a_hard_bounce(bounce: Callable[[str, str], ProviderEvent], said: str) -> None:
    event = bounce(said, said[4:].split()[0])
    assert event.refusal is not None and suppression(event.refusal) is FIRST
    assert event.bounce_class is BounceClass.HARD


@pytest.mark.parametrize("bounce", BOUNCES, ids=lambda bounce: bounce.__name__)
@pytest.mark.parametrize(
    "said",
    [
        "550 5.4.1 Recipient address rejected: Access denied. [x.eop-nam11.prod.protection.outlook.com]",
        "550 5.1.351 Remote server returned unknown recipient or mailbox unavailable [x.protection.outlook.com]",
    ],
)
def test_refusal_that_a_moving_domain_shows_counts_at_the_second_time(
    bounce: Callable[[str, str], ProviderEvent], said: str
) -> None:
    event = bounce(said, said[4:].split()[0])
    assert event.refusal is not None and suppression(event.refusal) is SECOND
    assert event.bounce_class is BounceClass.UNDETERMINED


def test_postmark_takes_a_mail_whose_delivery_may_be_delayed() -> None:
    from mailglass.mail.outcomes import OutcomeClass
    from mailglass.providers.http import HTTPAnswer
    from tests.smtp_script import mail

    said = {"MessageID": "0a1b", "Message": "Message accepted, but delivery may be delayed.", "To": WHO}
    answer = HTTPAnswer(200, {}, json.dumps(said).encode())
    outcome = postmark._item(answer, said, mail())
    assert (outcome.kind, outcome.provider_message_id) == (OutcomeClass.ACCEPTED, "0a1b")
    without: dict[str, Any] = {**said, "MessageID": None}
    assert postmark._item(answer, without, mail()).kind is OutcomeClass.UNCERTAIN
