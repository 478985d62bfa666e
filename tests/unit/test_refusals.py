"""Refusals are understood once: row by row, and for every combination of codes, texts and labels nobody foresaw."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass import telemetry
from mailglass.cli.deliveries.show import _details
from mailglass.ledger.events import Event, Source
from mailglass.mail.events import BounceClass
from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.refusal import About, Certainty, Lasting, Refusal, Scope, Stage
from mailglass.refusals import consequences, patterns, receivers, texts
from mailglass.refusals.codes import meaning
from mailglass.refusals.consequences import FIRST, SECOND, Hears, Retry
from mailglass.refusals.counting import count_refusals
from mailglass.refusals.labels import LABELS, Weight
from mailglass.refusals.understand import understand
from tests.growth import LINEAR, exponent
from tests.refusal_rows import ROWS, RefusalRow

OF_THE_RECIPIENT = {About.RECIPIENT_UNKNOWN, About.RECIPIENT_DISABLED}
AT_FAULT = {About.SENDER_AUTHENTICATION, About.SENDER_REPUTATION, About.SENDER_ACCOUNT}
# by RFC 3463 and those that extend it: about a recipient, or about nothing in particular
RECIPIENT_CODES = {"1.1", "1.2", "1.3", "1.6", "1.10", "2.1", "7.17", "7.18"}
OPEN_CODES = {"0.0", "1.0", "1.9", "2.0", "3.0", "5.0", "7.0", "7.1"}
# RFC 5321 4.2.3: what a refused recipient is told with; and codes that no standard knows
RECIPIENT_REPLIES = {511, 550, 551, 553, 554, 556, 540, 571}
MOST = {"0": 0, "1": 12, "2": 6, "3": 6, "4": 8, "5": 6, "6": 10, "7": 31}
DETAILS = [f"{subject}.{detail}" for subject, most in MOST.items() for detail in range(most + 1)]
PRIVATE = (
    "1.20 1.90 1.351 2.121 2.122 2.252 3.190 4.300 4.310 4.316 6.11 7.57 7.60 7.124 7.193 7.321 7.501 7.508".split()
)
PRIVATE += "7.509 7.510 7.511 7.512 7.513 7.515 7.606 7.650 7.703 7.705 7.708 7.750 7.860 7.911".split()
REPLIES = [421, 422, 432, 450, 451, 452, 454, 455, *range(500, 505), 521, 523, 524, 525, 530, 534, 535, 538, 540, 541]
REPLIES += [550, 551, 552, 553, 554, 555, 556, 571]


def suppresses(refusal: Refusal) -> str:
    rule = consequences.suppression(refusal)
    return "y" if rule == FIRST else "n*" if rule == SECOND else "n"


def at_fault(refusal: Refusal) -> str:
    return "y" if refusal.about in AT_FAULT or consequences.hears(refusal) is Hears.BREAKER else "n"


def retried(refusal: Refusal) -> str:
    letters = {
        Retry.NEVER: "-",
        Retry.AT_ONCE: "c",
        Retry.AFTER_GREYLISTING: "g",
        Retry.OTHER_ACCOUNT: "a",
    }
    scopes = {
        Scope.MAIL: "n",
        Scope.MAILBOX: "m",
        Scope.SESSION: "c",
        Scope.CONNECTIONS: "d",
        Scope.DESTINATION: "d",
        Scope.SENDER: "a",
        Scope.ACCOUNT: "a",
    }
    return letters.get(consequences.retry(refusal)) or scopes[refusal.scope]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.stage}-{row.reply}-{row.enhanced}-{row.text[:40]}")
def test_row_is_understood_as_published(row: RefusalRow) -> None:
    refusal = row.read()
    said = (refusal.about, refusal.lasting.value[0].upper(), suppresses(refusal), at_fault(refusal), retried(refusal))
    assert said == (row.about, row.lasting, row.suppressed, row.at_fault, row.retry)
    assert refusal.spoke


def code_of(row: RefusalRow) -> tuple[int | None, str | None]:
    return row.reply, row.enhanced or texts.enhanced_in(row.text)


def bare(text: str) -> str:
    return re.sub(r"[#(]*\b[245]\.\d{1,3}\.\d{1,3}\b\)?", "", re.sub(r"\b[245]\d\d\b[- ]?", "", text))


def is_about_the_recipient(reply: int | None, enhanced: str | None) -> bool:
    detail = None if enhanced is None else enhanced.partition(".")[2]
    agrees = detail is None or detail in RECIPIENT_CODES | OPEN_CODES
    return agrees and (reply is None or reply in RECIPIENT_REPLIES)


def test_no_suppression_follows_from_text_beside_a_code_about_anything_else() -> None:
    wrong = []
    codes = sorted({code_of(row) for row in ROWS}, key=str)
    for row, (reply, enhanced) in itertools.product(ROWS, codes):
        text = bare(row.text)
        refusal = understand(Stage.RCPT, reply, enhanced, text)
        if consequences.suppression(refusal) is None or "receiver" in refusal.spoke:
            continue
        # a text that says nothing leaves the code to speak
        telling = row.about is not About.UNKNOWN and texts.comparable(text)
        if row.about not in OF_THE_RECIPIENT and row.suppressed == "n" and telling:
            wrong.append(("text", row.about, text, reply, enhanced))
        detail = (enhanced or "").partition(".")[2]
        full = row.about is About.MAILBOX_FULL and detail == "2.2"
        if not (full or is_about_the_recipient(reply, enhanced) or detail in ("1.4", "1.351", "4.1", "4.310")):
            wrong.append(("code", row.about, text, reply, enhanced))
    assert wrong == []


def test_no_suppression_follows_from_codes_about_anything_else() -> None:
    wrong = []
    for reply, level, detail in itertools.product([None, *REPLIES], "45", [*DETAILS, *PRIVATE]):
        for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT, Stage.REPORT):
            refusal = understand(stage, reply, f"{level}.{detail}")
            if consequences.suppression(refusal) is None:
                continue
            right = detail in RECIPIENT_CODES | {"1.351", "7.504", "7.505", "4.310"} and level == "5"
            right = right and (reply is None or reply in (550, 551, 553, 554, 556))
            right = right and stage in (Stage.RCPT, Stage.DOT, Stage.REPORT)
            # a code that a reply without its own class puts aside leaves what the reply says
            unpublished = meaning(level, detail) is None
            right = right or (reply == 556 and level == "5" and (unpublished or detail in OPEN_CODES | RECIPIENT_CODES))
            if not right:
                wrong.append((stage, reply, level, detail))
    assert wrong == []


def test_no_suppression_follows_from_a_reply_code_alone() -> None:
    for stage, reply in itertools.product(Stage, range(400, 600)):
        assert reply == 556 or consequences.suppression(understand(stage, reply)) is None


def test_no_suppression_follows_before_the_recipient_was_named() -> None:
    early = (Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL)
    for row, stage in itertools.product(ROWS, early):
        refusal = understand(stage, row.reply, row.enhanced, row.text, host=row.host)
        assert consequences.suppression(refusal) is None


def test_no_suppression_follows_where_several_recipients_may_be_meant() -> None:
    for row in ROWS:
        refusal = understand(row.stage, row.reply, row.enhanced, row.text, host=row.host, recipients=2)
        assert consequences.suppression(refusal) is None


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DOT, Stage.REPORT, Stage.PROVIDER_EVENT])
@pytest.mark.parametrize("code", sorted(RECIPIENT_CODES))
@pytest.mark.parametrize(
    "said",
    [
        "Speicher voll",
        "zu viele Nachrichten",
        "Kotak surat penuh",
        "căsuța plină",
        "hộp thư đầy",
        "受信箱がいっぱいです",
        "邮箱空间已满",
        "תיבת הדואר מלאה",
        "Absender abgelehnt",
        "expéditeur refusé",
        "送信元IPアドレスが拒否されました",
        "your network is blocked",
        "no mail for us by policy",
    ],
)
def test_code_beside_words_that_may_mean_another_reason_suppresses_nobody_at_once(
    said: str, code: str, stage: Stage
) -> None:
    refusal = understand(stage, 550, None, f"550 5.{code} {said}")
    assert consequences.suppression(refusal) in (None, SECOND)
    assert consequences.suppression(understand(stage, 550, None, f"550 5.{code} rejected")) == FIRST


@pytest.mark.parametrize("provider", LABELS)
def test_label_beside_words_in_another_language_suppresses_nobody_at_once(provider: str) -> None:
    for label in LABELS[provider]:
        refusal = understand(Stage.PROVIDER_EVENT, 550, None, "550 5.1.1 Ablage erschöpft", label=(provider, label))
        assert consequences.suppression(refusal) in (None, SECOND)


def test_label_that_tells_of_an_unreadable_bounce_suppresses_nobody() -> None:
    said = "The bounce message didn't contain enough information to extract the recipient."
    unread = understand(Stage.PROVIDER_EVENT, None, None, said, label=("resend", "Permanent/NoEmail"))
    assert consequences.suppression(unread) is None
    gone = understand(Stage.PROVIDER_EVENT, None, None, "550 5.1.1 user unknown", label=("resend", "Permanent/NoEmail"))
    assert consequences.suppression(gone) == FIRST


def test_temporary_reply_never_suppresses_and_never_ends_the_mail() -> None:
    for row, reply in itertools.product(ROWS, (421, 450, 451, 452)):
        refusal = understand(Stage.RCPT, reply, row.enhanced, bare(row.text), host=row.host)
        assert consequences.suppression(refusal) is None
        assert consequences.outcome_class(refusal) in (
            OutcomeClass.TRANSIENT,
            OutcomeClass.THROTTLED,
            OutcomeClass.QUOTA,
        )


@pytest.mark.parametrize("provider", LABELS)
def test_label_never_outweighs_a_text_about_the_sender(provider: str) -> None:
    refused = "550 5.7.515 Access denied, sending domain shop.example doesn't meet the required authentication level."
    for label in LABELS[provider]:
        refusal = understand(Stage.PROVIDER_EVENT, None, None, refused, label=(provider, label))
        assert refusal.about is About.SENDER_AUTHENTICATION
        assert consequences.suppression(refusal) is None
        assert consequences.bounce_class(refusal) is BounceClass.SOFT


def test_label_that_the_provider_goes_on_mailing_never_suppresses() -> None:
    for provider, labels in LABELS.items():
        for label, said in labels.items():
            refusal = understand(Stage.PROVIDER_EVENT, 550, "5.1.1", "User unknown", label=(provider, label))
            expected = {Weight.FORBIDS: (None,), Weight.DISABLED: (None,), Weight.DOUBTS: (SECOND,)}.get(
                said.weight, (FIRST, SECOND)
            )
            assert consequences.suppression(refusal) in expected


def test_label_alone_decides_what_the_provider_itself_did() -> None:
    gone = understand(Stage.PROVIDER_EVENT, label=("postmark", "HardBounce"))
    assert consequences.bounce_class(gone) is BounceClass.HARD
    spam = understand(Stage.PROVIDER_EVENT, label=("postmark", "SpamNotification"))
    assert (spam.about, consequences.bounce_class(spam)) == (About.CONTENT, BounceClass.SOFT)
    general = understand(Stage.PROVIDER_EVENT, label=("ses", "Permanent/General"))
    assert consequences.bounce_class(general) is BounceClass.HARD
    silent = understand(Stage.PROVIDER_EVENT, None, None, "550 rejected", label=("ses", "Permanent/General"))
    assert (silent.about, consequences.suppression(silent)) == (About.UNKNOWN, None)


def test_hard_is_exactly_what_suppresses_at_once() -> None:
    values = itertools.product(About, Lasting, Scope, Stage, Certainty, (True, False))
    for about, lasting, scope, stage, certainty, deferred in values:
        refusal = Refusal(about, lasting, scope, stage, (), deferred, False, certainty)
        is_hard = consequences.bounce_class(refusal) is BounceClass.HARD
        assert is_hard == (consequences.suppression(refusal) is FIRST)
        assert consequences.suppression(refusal) is None or about in OF_THE_RECIPIENT | {About.MAILBOX_FULL}
        assert consequences.in_words(refusal.code)
        assert consequences.retry(refusal) in Retry


def test_mailbox_is_never_held_against_account_or_limiter() -> None:
    for row in ROWS:
        if row.about in OF_THE_RECIPIENT | {About.MAILBOX_FULL, About.RECIPIENT_RATE, About.GREYLISTING}:
            assert consequences.hears(row.read()) is Hears.NOBODY


def test_account_is_given_up_at_once_only_before_any_recipient_was_named() -> None:
    for row in ROWS:
        refusal = row.read()
        early = row.stage in (Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL, Stage.CONNECT)
        assert early or not consequences.breaks_at_once(refusal)


def test_every_row_names_its_source_and_bounds_its_length() -> None:
    for row in [*patterns.ORDER, *(item.row for item in receivers.PUBLISHED)]:
        assert row.source
        for says in row.says:
            # an unbounded repetition would make a search take more than linear time
            assert not re.search(r"(?<!\\)[*+]|\{\d+,\}", says), says


@given(st.text(max_size=3000), st.sampled_from(sorted(Stage)), st.integers(0, 999), st.one_of(st.none(), st.text()))
def test_any_text_is_understood_and_leaves_nothing_of_itself(
    text: str, stage: Stage, reply: int, enhanced: str | None
) -> None:
    refusal = understand(stage, reply, enhanced, text)
    assert refusal.receiver is None or refusal.receiver in {*receivers.DOMAINS.values()}
    assert refusal.code.count("/") in (1, 2, 3)


@pytest.mark.parametrize(
    "piece",
    [
        "user ",
        "a",
        "@",
        "x@",
        "5.1.1 ",
        "550-",
        "mailbox a ",
        "unknown unknown ",
        "sender of the ",
        " ",
        "İ",
        "user a b c",
    ],
)
@pytest.mark.parametrize("size", [125, 12_500])
def test_time_grows_no_faster_than_the_text(piece: str, size: int) -> None:
    serial = itertools.count()

    def understand_anew(text: str) -> None:
        for _ in range(8):
            understand(Stage.RCPT, 550, None, f"{next(serial)} {text}")

    assert exponent(understand_anew, lambda size: (piece * size)[:size], size) <= LINEAR


def test_address_is_no_evidence() -> None:
    refused = "550 5.7.1 <unknown.user.mailbox.full@spamhaus.example>: rejected"
    assert understand(Stage.RCPT, 550, None, refused).about is About.UNKNOWN


def test_refusals_are_counted_by_subject_and_receiver() -> None:
    told: list[dict[str, object]] = []
    end = telemetry.subscribe(lambda event, fields: told.append({"event": event, **fields}))
    try:
        count_refusals(
            "main", ["mailbox_full/temporary/gmail", None, "mailbox_full/temporary/gmail", "content/permanent"]
        )
    finally:
        end()
    assert told == [
        {
            "event": "mailglass.refusals.met",
            "account": "main",
            "about": about,
            "lasting": lasting,
            "receiver": receiver,
            "count": count,
        }
        for about, lasting, receiver, count in (
            ("content", "permanent", "other", 1),
            ("mailbox_full", "temporary", "gmail", 2),
        )
    ]


def test_timeline_says_in_words_what_the_receiver_meant() -> None:
    event = Event(
        UUID(int=1), UUID(int=2), "attempted", Source.ENGINE, datetime.now(UTC), refusal="mailbox_full/temporary/gmail"
    )
    assert _details(event).endswith("meaning: gmail: the mailbox is full (for now)")
    assert "meaning" not in _details(replace(event, refusal=None))
