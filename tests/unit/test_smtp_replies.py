"""What SMTP replies mean for a mail."""

from __future__ import annotations

import pytest

from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.smtp.replies import Reply, Stage, is_hard_recipient_failure, refusal

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
        (Stage.SESSION, 421, "4.3.2 shutting down", TRANSIENT),
        (Stage.SESSION, 421, "4.7.0 Too many connections", THROTTLED),
        (Stage.SESSION, 554, "5.7.1 no service for you", MISCONFIGURED),
        (Stage.SESSION, 535, "5.7.8 wrong password", MISCONFIGURED),
        (Stage.SESSION, 454, "4.7.0 try again", TRANSIENT),
        (Stage.SESSION, 504, "5.5.4 unknown mechanism", MISCONFIGURED),
        (Stage.MAIL, 530, "5.7.0 authenticate first", MISCONFIGURED),
        (Stage.MAIL, 550, "5.1.7 bad sender", MISCONFIGURED),
        (Stage.MAIL, 550, "5.1.8 bad sender domain", MISCONFIGURED),
        (Stage.MAIL, 550, "5.7.27 null MX of the sender", MISCONFIGURED),
        (Stage.MAIL, 552, "5.3.4 too large", REJECTED),
        (Stage.MAIL, 451, "4.3.0 later", TRANSIENT),
        (Stage.RCPT, 550, "5.1.8 Sender address rejected", MISCONFIGURED),
        (Stage.RCPT, 450, "4.2.1 receiving mail at a rate that is too high", THROTTLED),
        (Stage.RCPT, 450, "4.7.1 THROTTLED", THROTTLED),
        (Stage.RCPT, 452, "4.5.3 too many recipients", THROTTLED),
        (Stage.RCPT, 451, "4.7.1 we operate, generate and iterate", TRANSIENT),
        (Stage.RCPT, 550, "5.1.1 no such user", REJECTED),
        (Stage.RCPT, 552, "5.2.2 daily limit of this mailbox", REJECTED),
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


@pytest.mark.parametrize(
    ("status", "enhanced", "expected"),
    [
        *((550, code, True) for code in ("5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10", "5.2.1")),
        *((550, code, True) for code in ("5.7.17", "5.7.18")),
        (525, "5.7.13", True),
        (550, "5.7.13", False),
        (550, "5.7.1", False),
        (550, "5.1.8", False),
        (552, "5.2.2", False),
        (550, None, False),
        (451, "4.1.1", False),
        (451, "5.1.1", False),
        (None, "5.1.1", False),
    ],
)
def test_only_an_address_that_will_never_work_is_a_hard_failure(
    status: int | None, enhanced: str | None, expected: bool
) -> None:
    assert is_hard_recipient_failure(status, enhanced) is expected


def test_a_refused_recipient_keeps_the_enhanced_status_that_suppresses_it() -> None:
    outcome = refusal(Stage.RCPT, Reply(550, ("5.1.1 no such user",)))

    assert is_hard_recipient_failure(outcome.status, outcome.enhanced_status)


@pytest.mark.parametrize(("stage", "recipients"), [(Stage.MAIL, 1), (Stage.DOT, 2)])
def test_a_hard_code_that_may_mean_somebody_else_never_suppresses_the_recipient(stage: Stage, recipients: int) -> None:
    outcome = refusal(stage, Reply(550, ("5.1.1 unknown",)), recipients=recipients)

    assert outcome.kind is REJECTED
    assert outcome.enhanced_status is None


def test_server_text_is_in_no_outcome_and_no_repr() -> None:
    reply = Reply(550, ("5.1.1 <ada@example.com> unknown",))

    assert "ada" not in repr(reply)
    assert "ada" not in repr(refusal(Stage.RCPT, reply))
