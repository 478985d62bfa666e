"""What SMTP replies mean for a mail."""

from __future__ import annotations

import pytest

from mailglass.mail.outcomes import OutcomeClass
from mailglass.mail.refusal import About, Scope, Stage
from mailglass.providers.smtp.replies import Reply, refusal

MISCONFIGURED, REJECTED, THROTTLED, TRANSIENT, QUOTA = (
    OutcomeClass.MISCONFIGURED,
    OutcomeClass.REJECTED,
    OutcomeClass.THROTTLED,
    OutcomeClass.TRANSIENT,
    OutcomeClass.QUOTA,
)


@pytest.mark.parametrize(
    ("stage", "code", "text", "expected"),
    [
        (Stage.GREETING, 421, "4.3.2 shutting down", TRANSIENT),
        (Stage.GREETING, 421, "4.7.0 Too many connections", THROTTLED),
        (Stage.GREETING, 554, "5.7.1 no service for you", MISCONFIGURED),
        (Stage.AUTH, 535, "5.7.8 wrong password", MISCONFIGURED),
        (Stage.AUTH, 454, "4.7.0 try again", TRANSIENT),
        (Stage.AUTH, 504, "5.5.4 unknown mechanism", MISCONFIGURED),
        (Stage.MAIL, 530, "5.7.0 authenticate first", MISCONFIGURED),
        (Stage.MAIL, 550, "5.1.7 bad sender", MISCONFIGURED),
        (Stage.MAIL, 550, "5.1.8 bad sender domain", MISCONFIGURED),
        (Stage.MAIL, 550, "5.7.27 null MX of the sender", MISCONFIGURED),
        (Stage.MAIL, 552, "5.3.4 too large", REJECTED),
        (Stage.MAIL, 451, "4.3.0 later", TRANSIENT),
        (Stage.RCPT, 550, "5.1.8 Sender address rejected", MISCONFIGURED),
        (Stage.RCPT, 450, "4.2.1 receiving mail at a rate that is too high", TRANSIENT),
        (Stage.RCPT, 450, "4.7.1 THROTTLED", THROTTLED),
        (Stage.RCPT, 452, "4.5.3 too many recipients", TRANSIENT),
        (Stage.RCPT, 451, "4.7.1 we operate, generate and iterate", TRANSIENT),
        (Stage.RCPT, 550, "5.1.1 no such user", REJECTED),
        (Stage.RCPT, 552, "5.2.2 daily limit of this mailbox", TRANSIENT),
        (Stage.RCPT, 554, "5.7.1 Relay access denied", MISCONFIGURED),
        (Stage.RCPT, 553, "5.7.1 Sender address rejected: not owned by user relay", MISCONFIGURED),
        (Stage.RCPT, 504, "5.5.2 Helo command rejected: need fully-qualified hostname", MISCONFIGURED),
        (Stage.RCPT, 550, "5.7.25 no PTR record", MISCONFIGURED),
        (Stage.DOT, 554, "5.2.252 SendAsDenied", MISCONFIGURED),
        (Stage.MAIL, 550, "5.7.60 Client does not have permissions to send as this sender", MISCONFIGURED),
        (Stage.DOT, 554, "Message rejected: Email address is not verified", MISCONFIGURED),
        (Stage.DOT, 554, "Sending paused for this account", MISCONFIGURED),
        (Stage.DOT, 550, "5.7.26 This mail is unauthenticated", MISCONFIGURED),
        (Stage.DOT, 550, "5.7.27", MISCONFIGURED),
        (Stage.DOT, 550, "5.7.509 Access denied, sending domain does not pass DMARC", MISCONFIGURED),
        (Stage.DOT, 550, "5.7.515 Access denied", MISCONFIGURED),
        (Stage.DOT, 554, "5.2.0 submission quota exceeded", QUOTA),
        (Stage.RCPT, 550, "", REJECTED),
        (Stage.DOT, 451, "4.3.0 later", TRANSIENT),
        (Stage.DOT, 454, "Throttling failure: Maximum sending rate exceeded", THROTTLED),
        (Stage.DOT, 454, "Throttling failure: Daily message quota exceeded", QUOTA),
        (Stage.DOT, 550, "5.4.5 Daily user sending limit exceeded.", QUOTA),
        (Stage.DOT, 554, "5.6.0 content refused", REJECTED),
    ],
)
def test_a_refusal_has_the_class_of_its_stage_code_and_text(
    stage: Stage, code: int, text: str, expected: OutcomeClass
) -> None:
    outcome = refusal(stage, Reply(code, (text,)))

    assert outcome.kind is expected
    assert outcome.reason == f"smtp_{code}"
    assert outcome.status == code


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("5.1.1 no such user",), "5.1.1"),
        (("5.1.10",), "5.1.10"),
        (("no code here", "5.2.1 but here"), "5.2.1"),
        (("4.1.1 of another class than the reply",), None),
        (("5.1.1x not a code",), None),
        (("see 5.1.1 in the middle",), None),
        ((), None),
    ],
)
def test_an_enhanced_status_stands_at_the_start_of_a_line_and_agrees_with_the_code(
    lines: tuple[str, ...], expected: str | None
) -> None:
    assert Reply(550, lines).enhanced == expected


def test_refused_recipient_is_a_hard_bounce_with_its_meaning() -> None:
    outcome = refusal(Stage.RCPT, Reply(550, ("5.1.1 no such user",)))

    assert outcome.hard_bounce
    assert outcome.refusal is not None
    assert (outcome.refusal.about, outcome.refusal.scope) == (About.RECIPIENT_UNKNOWN, Scope.MAILBOX)


@pytest.mark.parametrize(("stage", "recipients"), [(Stage.MAIL, 1), (Stage.DOT, 2)])
def test_a_hard_code_that_may_mean_somebody_else_never_suppresses_the_recipient(stage: Stage, recipients: int) -> None:
    outcome = refusal(stage, Reply(550, ("5.1.1 unknown",)), recipients=recipients)

    assert outcome.kind is REJECTED
    assert not outcome.hard_bounce


def test_server_text_is_in_no_outcome_and_no_repr() -> None:
    reply = Reply(550, ("5.1.1 <ada@example.com> unknown",))

    assert "ada" not in repr(reply)
    assert "ada" not in repr(refusal(Stage.RCPT, reply))
