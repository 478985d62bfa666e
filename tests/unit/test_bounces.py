"""Mails that come back: what they say, what they prove, and that no bytes bring their reader down."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailglass.bounces.events import Reading, read_bounce
from mailglass.bounces.proofs import Proofs
from mailglass.bounces.reports import MAX_RECIPIENTS, Kind, read_report
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.settings import Secret
from tests.bounce_mails import (
    ALL,
    COMPLAINT,
    DELIVERY_STATUSES,
    EXCHANGE,
    EXIM,
    GMAIL,
    ORIGINAL_HEADER,
    OUT_OF_OFFICE,
    POSTFIX,
    written,
)
from tests.growth import LINEAR, exponent

ID = UUID("0198c0de-1111-7222-8333-444455556666")
SECRET = "a secret of some length"
PROOFS = Proofs([SECRET], "bounces.example.org")
MAIL = Outgoing(
    delivery_id=ID,
    tenant="acme",
    stream="transactional",
    recipient=Address("Ada@example.com"),
    sender=Address("shop@example.org"),
    subject="Your order",
    created_at=datetime(2026, 11, 20, 11, 59, tzinfo=UTC),
    text="Thank you.",
)
TOKEN = PROOFS.token(MAIL) or ""
VERP = PROOFS.envelope_sender(MAIL)


def shaped(shape: str, *, verp: str = VERP, proof: str = TOKEN, **blanks: Any) -> bytes:
    return written(shape, verp=verp, id=str(ID), proof=proof, **blanks)


def read(raw: bytes, came_to: str = "", proofs: Proofs = PROOFS) -> Reading:
    return read_bounce(raw, proofs, came_to)


def brief(reading: Reading) -> list[tuple[str, str | None, str | None]]:
    return [
        (event.kind.value, event.bounce_class and event.bounce_class.value, event.status) for event in reading.events
    ]


def forged(text: bytes) -> bytes:
    """The mail as somebody writes it who knows the delivery's id and not its proof."""
    return re.sub(rb"\.[a-z2-7]{22}\b", b"." + b"a" * 22, text)


# the shapes


@pytest.mark.parametrize("crlf", [True, False])
@pytest.mark.parametrize(
    ("name", "status"), [("postfix", "5.1.1"), ("exchange", "5.1.10"), ("gmail", "5.1.1"), ("exim", "5.1.1")]
)
def test_a_hard_bounce_in_every_shape(name: str, status: str, crlf: bool) -> None:
    reading = read(shaped(DELIVERY_STATUSES[name], crlf=crlf))
    assert reading.doubt is None
    assert brief(reading) == [("bounced", "hard", status)]
    (event,) = reading.events
    assert event.delivery_id == ID
    assert event.recipient is None
    assert event.occurred_at is not None
    assert (
        datetime(2026, 11, 20, 12, 0, 2, tzinfo=UTC)
        <= event.occurred_at
        <= datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC)
    )


def test_a_complaint_is_known_by_its_header_alone() -> None:
    reading = read(shaped(COMPLAINT))
    assert brief(reading) == [("complained", None, None)]
    assert reading.events[0].delivery_id == ID
    assert reading.events[0].occurred_at == datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("feedback", "kind"),
    [
        ("abuse", "complained"),
        ("FRAUD", "complained"),
        ("abuse (spam)", "complained"),
        ("virus", "unknown"),
        ("other", "unknown"),
        ("not-spam", "unknown"),
        ("auth-failure", "unknown"),
        ("", "unknown"),
    ],
)
def test_only_what_a_person_says_of_a_mail_is_a_complaint(feedback: str, kind: str) -> None:
    assert brief(read(shaped(COMPLAINT.replace("Type: abuse", f"Type: {feedback}")))) == [(kind, None, None)]


@pytest.mark.parametrize(
    "value", ["auto-replied", "auto-generated", "auto-replied (vacation)", "Auto-Notified; owner-email=x"]
)
def test_an_automatic_reply_is_one(value: str) -> None:
    reading = read(shaped(OUT_OF_OFFICE.replace("auto-generated", value)))
    assert brief(reading) == [("autoresponded", None, None)]
    assert reading.doubt is None


@pytest.mark.parametrize("value", ["no", "No (a person)", ""])
def test_a_persons_reply_is_kept_as_unknown(value: str) -> None:
    reading = read(shaped(OUT_OF_OFFICE.replace("auto-generated", value)))
    assert brief(reading) == [("unknown", None, None)]
    assert reading.events[0].delivery_id == ID


def test_a_read_receipt_is_no_automatic_reply() -> None:
    shape = OUT_OF_OFFICE.replace("text/plain; charset", "multipart/report; report-type=disposition-notification; x")
    assert brief(read(shaped(shape))) == [("unknown", None, None)]


# proofs


@pytest.mark.parametrize("name", ALL)
def test_without_a_proof_that_holds_nothing_counts(name: str) -> None:
    reading = read(forged(shaped(ALL[name])))
    assert reading.doubt == "no_proof"
    (event,) = reading.events
    assert (event.kind, event.bounce_class, event.delivery_id) == (EventKind.UNKNOWN, None, ID)


@pytest.mark.parametrize("name", ALL)
def test_without_a_secret_nothing_counts(name: str) -> None:
    reading = read(shaped(ALL[name]), proofs=Proofs([]))
    assert (reading.doubt, reading.events[0].kind) == ("no_secret", EventKind.UNKNOWN)


@pytest.mark.parametrize("name", ALL)
@given(place=st.integers(0, len(TOKEN) - 1), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567890"))
@settings(deadline=None, max_examples=40)
def test_a_token_with_another_letter_anywhere_does_not_hold(name: str, place: int, letter: str) -> None:
    token = TOKEN[:place] + letter + TOKEN[place + 1 :]
    reading = read(shaped(ALL[name], verp=f"bounces+{token}@bounces.example.org", proof=token))
    assert (reading.doubt is None) == (token == TOKEN)


def test_the_proof_is_found_wherever_it_came_back() -> None:
    elsewhere = "bounces@example.org"
    bare = shaped(POSTFIX, verp=elsewhere, proof="gone")
    assert read(bare).doubt == "no_proof"
    for raw in (
        bare.replace(b"Reporting-MTA", f"Original-Envelope-Id: {TOKEN}\r\nReporting-MTA".encode()),
        shaped(POSTFIX, verp=elsewhere),
        shaped(POSTFIX, proof="gone"),
        shaped(COMPLAINT, proof="gone").replace(b"Version: 1\r\n", f"Original-Mail-From: <{VERP}>\r\n".encode()),
        bare.replace(b"X-Original-To: ", f"Delivered-To: {VERP}\r\nX-Original-To: ".encode()),
        bare.replace(b"X-Original-To: ", f"Envelope-To: <{VERP.upper()}>\r\nX-Original-To: ".encode()),
    ):
        assert read(raw).doubt is None
        assert read(raw).events[0].kind in (EventKind.BOUNCED, EventKind.COMPLAINED)
    assert brief(read(bare, came_to=VERP)) == [("bounced", "hard", "5.1.1")]


def test_a_proof_in_a_text_or_in_an_automatic_reply_does_not_count() -> None:
    # a person's answer quotes what was written to somebody else
    assert read(shaped(OUT_OF_OFFICE, verp="shop@example.org") + TOKEN.encode()).doubt == "no_proof"
    assert read(shaped(POSTFIX, verp="a@example.org", proof="gone") + TOKEN.encode()).doubt == "no_proof"


def test_the_envelopes_recipient_goes_before_what_the_header_says() -> None:
    other = replace(MAIL, delivery_id=UUID(int=7))
    reading = read(shaped(POSTFIX), came_to=PROOFS.envelope_sender(other))
    assert reading.events[0].delivery_id == UUID(int=7)


def test_a_report_about_another_address_suppresses_nobody() -> None:
    for shape in DELIVERY_STATUSES.values():
        raw = shaped(shape, to="eve@example.com")
        assert [event.bounce_class for event in read(raw).events] == [BounceClass.UNDETERMINED]


def test_either_recipient_field_may_name_the_recipient_in_any_case() -> None:
    final = shaped(POSTFIX).replace(b"Final-Recipient: rfc822; ada@", b"Final-Recipient: rfc822; ADA@")
    forwarded = shaped(POSTFIX).replace(b"Final-Recipient: rfc822; ada@", b"Final-Recipient: rfc822; forwarded@")
    rewritten = shaped(POSTFIX).replace(b"Original-Recipient: rfc822;ada@", b"Original-Recipient: rfc822;x@")
    for raw in (final, forwarded, rewritten, final.replace(b"ADA@example.com", b"<Ada@EXAMPLE.com>")):
        assert brief(read(raw)) == [("bounced", "hard", "5.1.1")]


def test_a_mail_with_copies_carries_no_proof() -> None:
    for copies in ({"cc": (Address("bob@example.com"),)}, {"bcc": (Address("bob@example.com"),)}):
        letter = replace(MAIL, **copies)
        assert PROOFS.token(letter) is None
        verp = PROOFS.envelope_sender(letter)
        assert verp == f"bounces+{ID.hex}@bounces.example.org"
        reading = read(shaped(POSTFIX, verp=verp, proof=""))
        assert (reading.doubt, reading.events[0].delivery_id) == ("no_proof", ID)


def test_an_address_for_reports_fits_into_its_limits() -> None:
    assert len(VERP.partition("@")[0]) <= 64
    assert re.fullmatch(r"bounces\+[0-9a-f]{32}\.[a-z2-7]{22}@bounces\.example\.org", VERP)
    assert Proofs([SECRET]).envelope_sender(MAIL) == "shop@example.org"


def test_secrets_can_be_changed_one_after_the_other() -> None:
    raw = shaped(POSTFIX)
    assert read(raw, proofs=Proofs(["another secret", SECRET])).doubt is None
    assert read(raw, proofs=Proofs(["another secret"])).doubt == "no_proof"
    assert Proofs(["another secret", SECRET]).token(MAIL) != TOKEN


def test_a_mail_full_of_tokens_is_not_searched_to_its_end() -> None:
    wrong = " ".join(f"{ID.hex}.{'a' * 22}" for _ in range(60))
    assert read(shaped(POSTFIX, verp=f"{wrong} {VERP}", proof="gone")).doubt == "no_proof"


def test_the_delivery_a_mail_speaks_of_is_found_by_what_it_returns() -> None:
    bare = forged(shaped(POSTFIX, verp="bounces@example.org"))
    assert read_report(bare).claimed_delivery() == ID
    assert read_report(bare.replace(b"X-Mailglass-Id: ", b"X-Other: ")).claimed_delivery() == ID
    nothing = re.sub(rb"(?m)^(X-Mailglass-Id|Message-I[Dd]): .*\r\n", b"", bare)
    assert read_report(nothing).claimed_delivery() is None
    assert read(nothing).events[0].delivery_id is None
    assert (
        read_report(forged(shaped(EXCHANGE, verp="bounces@example.org").partition(b"--6f1c")[0])).claimed_delivery()
        == ID
    )


# delivery statuses


def recipient_says(**fields: str) -> bytes:
    """Postfix's report with other fields for its recipient."""
    said = {"Final-Recipient": "rfc822; ada@example.com", "Action": "failed", "Status": "5.1.1", **fields}
    block = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in said.items() if value)
    return shaped(re.sub(r"Final-Recipient: (?s:.*?)\n\n", block.replace("%", "%%") + "\n", POSTFIX, count=1))


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("failed", "bounced"),
        ("Failed (for good)", "bounced"),
        ("delayed", "deferred"),
        ("delivered", "delivered"),
        ("expanded", "delivered"),
        ("relayed", "sent"),
        ("vanished", "unknown"),
    ],
)
def test_actions(action: str, kind: str) -> None:
    assert [event.kind.value for event in read(recipient_says(Action=action)).events] == [kind]


@pytest.mark.parametrize(
    ("status", "diagnosis", "expected", "severity"),
    [
        ("5.1.1", "", "5.1.1", "hard"),
        ("5.1.2 (bad domain)", "", "5.1.2", "hard"),
        ("5.2.2", "smtp; 552 5.2.2 mailbox full", "5.2.2", "soft"),
        ("5.7.1", "smtp; 550 5.7.1 blocked", "5.7.1", "soft"),
        ("5.7.515", "", "5.7.515", "soft"),
        ("5.1.8", "", "5.1.8", "undetermined"),
        ("5.1.0", "", "5.1.0", "undetermined"),
        ("4.4.7", "", "4.4.7", "soft"),
        ("5.4.7", "", "5.4.7", "soft"),
        ("5.6.0", "", "5.6.0", "undetermined"),
        ("5.0.0", "smtp; 550 5.1.1 no", "5.1.1", "hard"),
        ("5.0.0", "smtp; 550 no such user", "5.0.0", "hard"),
        ("5.0.0", "x-unix; 550 5.1.1 no", "5.0.0", "undetermined"),
        ("", "smtp; 550 5.1.1 no", "5.1.1", "hard"),
        ("", "smtp; 550 no", None, "undetermined"),
        ("", "smtp; 451 later", None, "soft"),
        ("nonsense", "", None, "undetermined"),
        ("5.7.13", "smtp; 525 5.7.13 disabled", "5.7.13", "soft"),
        # the relay's guess beside the receiver's own word
        ("5.1.1", "smtp; 550 5.7.1 192.0.2.7 blacklisted", "5.1.1", "soft"),
        ("5.1.1", "smtp; 552 5.2.2 over quota", "5.1.1", "soft"),
        ("5.1.3", "smtp; 553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "5.1.3", "soft"),
        ("5.1.1", "smtp; 550 rejected", "5.1.1", "undetermined"),
        ("5.1.1", "552 5.2.2 over quota", "5.1.1", "soft"),
        ("5.1.1", "550 5.7.1 blocked; see rbl.example", "5.1.1", "soft"),
        ("5.0.0", "550 5.1.1 user unknown", "5.1.1", "hard"),
        ("5.1.1", "smtp; 550 5.1.1 Ablage erschöpft", "5.1.1", "undetermined"),
        ("5.2.2", "smtp; 550 5.1.1 user unknown", "5.2.2", "soft"),
        ("5.4.1", "smtp; 550 5.4.1 Recipient address rejected: Access denied", "5.4.1", "undetermined"),
        ("5.1.1", "smtp; 550 5.1.1 user unknown", "5.1.1", "hard"),
        ("5.7.13", "smtp; 550 5.7.13 disabled", "5.7.13", "soft"),
    ],
)
def test_bounce_classes(status: str, diagnosis: str, expected: str | None, severity: str) -> None:
    raw = recipient_says(Status=status, Diagnostic_Code=diagnosis)
    assert brief(read(raw)) == [("bounced", severity, expected)]


@pytest.mark.parametrize("code", ["1", "2", "3", "6", "10"])
def test_a_recipient_that_does_not_exist_is_hard(code: str) -> None:
    assert brief(read(recipient_says(Status=f"5.1.{code}"))) == [("bounced", "hard", f"5.1.{code}")]
    assert brief(read(recipient_says(Status=f"4.1.{code}"))) == [("bounced", "soft", f"4.1.{code}")]


FORM = """\
Return-Path: <>
X-Original-To: %(verp)s
From: %(sender)s
To: %(verp)s
Subject: %(subject)s
Auto-Submitted: auto-replied
%(more)sContent-Type: text/plain; charset=utf-8

%(text)s
"""
FORMS = {
    "exim": (
        "Mail Delivery System <Mailer-Daemon@relay.example.org>",
        "Mail delivery failed: returning message to sender",
        "X-Failed-Recipients: ada@example.com\n",
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be"
        " delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n"
        "  ada@example.com\n    host mx.example.com [192.0.2.7]\n    SMTP error from remote mail server after RCPT TO:"
        "<ada@example.com>:\n    550 5.1.1 User unknown\n\n------ This is a copy of the message ------\n",
    ),
    "mail.ru": (
        "mailer-daemon@corp.mail.ru",
        "Mail failure.",
        "",
        "This message was created automatically by mail.ru.\nPlease do not reply to this message.\n\nA message that you"
        " sent could not be delivered to one or more of its\nrecipients. The following address failed:\n\n"
        "  ada@example.com\n    user not found\n",
    ),
    "mailenable": (
        "Postmaster@mx.example.com",
        "Message Delivery Failure",
        "",
        "Message Delivery Failure - MailEnable: Invalid mailbox\n\nThe following recipient(s) could not be reached:\n\n"
        " Recipient: [SMTP:ada@example.com]\n Reason: The mailbox does not exist\n",
    ),
}


def form(sender: str, subject: str, more: str, text: str, to: str = VERP) -> bytes:
    return (FORM % {"verp": to, "sender": sender, "subject": subject, "more": more, "text": text}).encode()


@pytest.mark.parametrize("name", FORMS)
def test_bounce_of_a_known_form_is_one_though_it_calls_itself_automatic(name: str) -> None:
    (event,) = read(form(*FORMS[name])).events
    assert (event.kind, event.bounce_class) == (EventKind.BOUNCED, BounceClass.HARD)


def test_bounce_of_a_google_group_says_nothing_lasting() -> None:
    text = (
        "We're writing to let you know that the group you tried to contact (staff) may not exist, or you may not have"
    )
    raw = form(
        "Mail Delivery Subsystem <mailer-daemon@googlemail.com>", "Delivery Status Notification (Failure)", "", text
    )
    (event,) = read(raw).events
    assert (event.kind, event.bounce_class) == (EventKind.BOUNCED, BounceClass.UNDETERMINED)


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ("550 5.7.1 blocked using zen.spamhaus.org", "soft"),
        ("552 mailbox full", "soft"),
        ("550 rejected", "undetermined"),
    ],
)
def test_bounce_of_a_known_form_is_understood_by_what_it_quotes(said: str, severity: str) -> None:
    sender, subject, more, text = FORMS["exim"]
    (event,) = read(form(sender, subject, more, text.replace("550 5.1.1 User unknown", said))).events
    assert (event.kind.value, event.bounce_class) == ("bounced", severity)


def test_bounce_of_a_known_form_about_somebody_else_suppresses_nobody() -> None:
    sender, subject, _, text = FORMS["exim"]
    raw = form(sender, subject, "", text.replace("ada@example.com", "bob@example.net"))
    (event,) = read(raw).events
    assert (event.kind, event.bounce_class) == (EventKind.BOUNCED, BounceClass.UNDETERMINED)


def test_bounce_of_no_known_form_is_unknown_and_no_automatic_reply() -> None:
    raw = form("MAILER-DAEMON@mx.example.com", "Undelivered", "", "Your mail was eaten by the dog.")
    assert [event.kind for event in read(raw).events] == [EventKind.UNKNOWN]


def test_older_form_of_outlooks_complaints_is_a_complaint_where_its_proof_holds() -> None:
    returned = written(ORIGINAL_HEADER, verp=VERP, id=str(ID), proof=TOKEN, to="ada@example.com").decode()
    raw = (
        "From: staff@hotmail.com\nTo: fbl@example.org\nSubject: complaint about message from 192.0.2.7\n"
        'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nSee below.\n'
        f"--b\nContent-Type: message/rfc822\n\nX-HmXmrOriginalRecipient: ada@example.com\n"
        f"{returned}\nThank you.\n--b--\n"
    )
    assert [event.kind for event in read(raw.encode()).events] == [EventKind.COMPLAINED]
    assert [event.kind for event in read(raw.replace(TOKEN, "gone").replace(VERP, "x@y.example").encode()).events] == [
        EventKind.UNKNOWN
    ]


def test_several_recipients_are_several_events() -> None:
    blocks = "Final-Recipient: rfc822; bob@example.com\nAction: delivered\nStatus: 2.0.0\n\n"
    blocks += "Final-Recipient: rfc822; cleo@example.com\nAction: delayed\nStatus: 4.2.2\n\n"
    raw = shaped(POSTFIX.replace("Final-Recipient:", blocks + "Final-Recipient:"))
    reading = read(raw)
    assert brief(reading) == [("delivered", None, "2.0.0"), ("deferred", None, "4.2.2"), ("bounced", "hard", "5.1.1")]
    assert len({event.provider_event_id for event in reading.events}) == 3


def test_recipients_without_end_are_bounded() -> None:
    blocks = "Final-Recipient: rfc822; x@example.com\nAction: failed\nStatus: 5.1.1\n\n" * 1000
    assert len(read(shaped(POSTFIX.replace("Final-Recipient:", blocks + "Final-Recipient:"))).events) == MAX_RECIPIENTS


def test_a_report_that_says_nothing_of_a_recipient_is_unknown() -> None:
    assert brief(read(recipient_says(Action=""))) == [("unknown", None, None)]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_a_report_that_was_encoded_against_the_rules_is_read(encoding: str) -> None:
    plain = shaped(EXIM, crlf=False).decode()
    start = plain.index("Reporting-MTA")
    status, rest = plain[start:].split("\n--1795176005", 1)
    encoded = base64.encodebytes(status.encode()).decode() if encoding == "base64" else status.replace("=", "=3D")
    head = plain[:start].removesuffix("\n") + f"Content-Transfer-Encoding: {encoding}\n\n"
    assert brief(read(f"{head}{encoded}\n--1795176005{rest}".encode())) == [("bounced", "hard", "5.1.1")]


def test_a_boundary_may_begin_like_another() -> None:
    outer, inner = "00000000000077a1b2060a9b1c2d", "00000000000077a3c4060a9b1c2e"
    for raw in (shaped(GMAIL.replace(inner, f"{outer}2")), shaped(GMAIL.replace(f"--{outer}", f"--{outer} \t"))):
        assert brief(read(raw)) == [("bounced", "hard", "5.1.1")]


def test_a_report_that_is_cut_off_is_read_as_far_as_it_goes() -> None:
    raw = shaped(POSTFIX)
    assert brief(read(raw[: raw.index(b"Thank you.")])) == [("bounced", "hard", "5.1.1")]
    assert brief(read(raw[: raw.index(b"Remote-MTA")])) == [("bounced", "hard", "5.1.1")]
    assert brief(read(raw[: raw.index(b"Final-Recipient")])) == [("unknown", None, None)]


def test_text_outside_the_boundaries_is_no_report() -> None:
    status = b"Content-Type: message/delivery-status\n\nAction: failed\n\n"
    head = f"To: {VERP}\nContent-Type: multipart/report; boundary=x\n\n".encode()
    assert read_report(head + status + b"\n--x\n\ntext\n--x--\n" + status).kind is Kind.OTHER
    assert read_report(head + b"--x--\n--x\n" + status).kind is Kind.OTHER
    assert read_report(head + b"--x\n" + status + b"--x--").kind is Kind.DELIVERY_STATUS


def test_a_bounce_that_somebody_attached_to_a_mail_is_not_read() -> None:
    attached = b"From: eve@example.net\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + shaped(POSTFIX)
    assert read_report(attached).kind is Kind.OTHER
    assert read(attached).doubt == "no_proof"


def test_a_mailbox_files_first_line_is_no_header() -> None:
    assert brief(read(b"From MAILER-DAEMON Fri Nov 20 12:00:02 2026\n" + shaped(POSTFIX))) == [
        ("bounced", "hard", "5.1.1")
    ]


# identity


def test_a_mail_that_comes_twice_is_the_same_events() -> None:
    raw = shaped(GMAIL)
    again = b"Received: by other.example.org; Fri, 20 Nov 2026 12:10:00 +0000\r\n" + raw
    assert read(raw) == read(again)
    assert read(raw) != read(raw.replace(b"GMR@mx", b"GMS@mx"))


def test_a_forged_mail_never_has_the_identity_of_a_true_one() -> None:
    for shape in ALL.values():
        (true,), (false,) = read(shaped(shape)).events, read(forged(shaped(shape))).events
        assert true.provider_event_id != false.provider_event_id


def test_an_identity_contains_no_address() -> None:
    for shape in ALL.values():
        for event in read(shaped(shape)).events:
            assert re.fullmatch("[0-9a-f]{64}", event.provider_event_id)
            assert "ada@" not in repr(event)


# any bytes


MIXED = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                b"\r\n",
                b"\n\n",
                b"--x",
                b"--x--",
                b"Content-Type: multipart/report; boundary=x",
                b"\n--x\n",
                b" folded",
                b"Content-Type: message/delivery-status\n\n",
                b"Action: failed\n",
                b"Status: 5.1.1\n",
                b"=?utf-8?q?=FF?=",
                b"Content-Transfer-Encoding: base64\n",
                b"Date: Fri, 99 Nov 20266 12:00:00 +9999\n",
                b"\x00",
                b"\xff",
                VERP.encode(),
                b"Auto-Submitted: auto-replied\n",
                b"Message-ID: \xff\n",
                b"From ",
                b":\n",
                b"\xe2\x84\xaa",
                b"Last-Attempt-Date: -1\n",
                b"Content-Type: message/rfc822\n\n",
                b"Content-Type: message/feedback-report\n\n",
            ]
        ),
    )
).map(b"".join)


@given(st.one_of(st.binary(), MIXED), st.one_of(st.just(""), st.just(VERP), st.text()))
@example(f"To: {ID.hex}.{'ſ' * 22} {ID.hex}.{'K' * 22}".encode(), "")
@settings(deadline=None, max_examples=400)
def test_any_bytes_are_read(raw: bytes, came_to: str) -> None:
    reading = read(raw, came_to)
    assert reading.events
    for event in reading.events:
        assert event.provider_event_id
        assert event.occurred_at is None or event.occurred_at.tzinfo is not None
        assert reading.doubt is None or event.kind is EventKind.UNKNOWN


@given(
    st.sampled_from(sorted(ALL)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=6)), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=300)
def test_a_damaged_report_is_read(name: str, wounds: list[tuple[float, int, bytes]]) -> None:
    raw = shaped(ALL[name])
    for where, length, patch in wounds:
        start = int(where * len(raw))
        raw = raw[:start] + patch + raw[start + length :]
    reading = read(raw)
    assert reading.events
    assert all(event.kind is EventKind.UNKNOWN or event.delivery_id == ID for event in reading.events)


def distinct_parts(size: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(size // 50))


MALICE: dict[str, tuple[bytes, bytes]] = {
    "parts in parts": (b"", b"Content-Type: multipart/mixed; boundary=a\n\n--a\n"),
    "boundaries": (b"Content-Type: multipart/report; boundary=a\n", b"\n--a\n"),
    "a long boundary": (b'Content-Type: multipart/report; boundary="', b"a"),
    "folded lines": (b"X:", b"\n y"),
    "headers": (b"", b"X: y\n"),
    "line ends": (b"", b"\n"),
    "spaces": (b"", b" "),
    "references": (b"References: ", b"0198c0de-"),
    "reports": (b"Content-Type: message/delivery-status\n\n", b"Action: failed\n\n"),
    "diagnoses": (b"Content-Type: message/delivery-status\n\nAction: failed\nDiagnostic-Code: smtp;", b" 5.1"),
    "comments of a date": (b"Date: ", b"("),
    "digits of a date": (b"Date: Fri, ", b"1"),
    "tokens": (b"To: ", TOKEN[:-1].encode()),
}


def repeated(head: bytes, unit: bytes) -> Callable[[int], bytes]:
    return lambda size: head + unit * (size // len(unit))


@pytest.mark.parametrize("came_to", ["", VERP], ids=["to an account", "to its return path"])
@pytest.mark.parametrize(
    "made",
    [*(repeated(*parts) for parts in MALICE.values()), distinct_parts],
    ids=[*MALICE, "parts in parts of other names"],
)
def test_the_work_on_a_mebibyte_of_malice_is_bounded(made: Callable[[int], bytes], came_to: str) -> None:
    assert read(made(1_000_000), came_to=came_to).events
    assert exponent(lambda raw: read(raw, came_to=came_to), made, 130_000) <= LINEAR


# the provider


def test_the_smtp_room_understands_bounce_mails(caplog: pytest.LogCaptureFixture) -> None:
    provider = SMTPProvider("relay", SMTPOptions(host="localhost", security="none", bounce_secret=(Secret(SECRET),)))
    bare = shaped(POSTFIX, verp="bounces@example.org", proof="gone")
    assert [event.kind for event in provider.normalise(bare, {"came-to": VERP})] == [EventKind.BOUNCED]
    assert [event.kind for event in provider.normalise(bare, {})] == [EventKind.UNKNOWN]
    assert "ada@" not in caplog.text
