"""Providers' answers over HTTP: every status and code has a meaning, and only words about a person suppress them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.refusal import About, Lasting, Refusal, Scope, Stage
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.refusals import consequences
from mailglass.refusals.answer_rows import ANSWERS
from mailglass.refusals.answers import GENERAL, Answer, find
from mailglass.refusals.consequences import Hears
from mailglass.refusals.understand import understand
from tests.refusal_rows import codes_of

PROVIDERS = [*sorted(ANSWERS), "somebody-else"]
STATUSES = [*range(100, 600), 0, 999]
OF_THE_RECIPIENT = {About.RECIPIENT_UNKNOWN, About.RECIPIENT_DISABLED, About.RECIPIENT_POLICY}
TEXTS = {name: ["", *sorted({text for row in ANSWERS.get(name, ()) for text in row.says})] for name in PROVIDERS}


def said(provider: str, status: int, code: str = "", text: str = "") -> Refusal:
    return understand(Stage.API, status, text=text, label=(provider, code))


@cache
def grid() -> frozenset[tuple[str, bool, Refusal]]:
    """Return the meanings of every provider's own codes, and of others', at every status and with its own words.

    Each with whether there was a code at all.
    """
    return frozenset(_grid())


def _grid() -> Iterator[tuple[str, bool, Refusal]]:
    foreign = sorted({code for rows in ANSWERS.values() for code in codes_of(rows)})
    for provider in PROVIDERS:
        own = sorted({"", "new", *codes_of(ANSWERS.get(provider, ()))})
        for code, text, status in itertools.product(own, TEXTS[provider], STATUSES):
            yield provider, bool(code), said(provider, status, code, text)
        for code, status in itertools.product(foreign, (200, 400, 401, 403, 422, 429, 500, 502)):
            yield provider, True, said(provider, status, code)


def test_every_answer_has_a_verdict_and_only_one_about_the_recipient_suppresses() -> None:
    for provider, coded, meaning in grid():
        kind = consequences.outcome_class(meaning)
        assert kind in OutcomeClass and kind is not OutcomeClass.ACCEPTED
        assert (kind is OutcomeClass.UNCERTAIN) == meaning.unsettled
        rule = consequences.suppression(meaning)
        if rule is not None or kind is OutcomeClass.SUPPRESSED:
            assert meaning.about in OF_THE_RECIPIENT, (provider, meaning)
            # the provider has named the recipient's address or its own list; a status alone never does
            assert coded, (provider, meaning)
            assert consequences.hears(meaning) is Hears.NOBODY
        assert consequences.in_words(meaning.code)
        assert consequences.retry(meaning) in consequences.Retry


def test_no_answer_about_one_mail_or_one_sender_stops_its_account() -> None:
    for _, _, meaning in grid():
        if meaning.scope is not Scope.ACCOUNT:
            assert not consequences.breaks_at_once(meaning)
        if consequences.breaks_at_once(meaning):
            assert meaning.about in (About.SENDER_ACCOUNT, About.SENDER_RATE, About.PROTOCOL)
            assert consequences.outcome_class(meaning) in (OutcomeClass.MISCONFIGURED, OutcomeClass.QUOTA)


def test_gateway_that_may_have_lost_an_acceptance_proves_nothing() -> None:
    for provider, status in itertools.product(PROVIDERS, (502, 504, 599)):
        assert said(provider, status).unsettled


def test_every_row_names_its_source_and_can_be_reached() -> None:
    for provider, rows in ANSWERS.items():
        for row in rows:
            assert row.source
            texts = row.says or [""]
            reached = itertools.product(row.statuses or (400,), row.codes or ("",), texts)
            assert any(find(rows, status, code, text) is row for status, code, text in reached), (provider, row)
    assert all(row.source for row in GENERAL)


@pytest.mark.parametrize(
    ("provider", "status", "code", "text", "about"),
    [
        ("postmark", 422, "400", "", About.SENDER_ACCOUNT),
        ("ses", 400, "MailFromDomainNotVerifiedException", "", About.SENDER_ACCOUNT),
        ("ses", 400, "MessageRejected", "Email address is not verified.", About.SENDER_ACCOUNT),
        ("sendgrid", 403, "", "The from address does not match a verified Sender Identity.", About.SENDER_ACCOUNT),
        ("resend", 403, "validation_error", "The example.com domain is not verified.", About.SENDER_ACCOUNT),
        ("mailjet", 400, "send-0008", "", About.SENDER_ACCOUNT),
        ("sparkpost", 400, "7001", "", About.SENDER_ACCOUNT),
        ("mandrill", 200, "unsigned", "", About.SENDER_ACCOUNT),
    ],
)
def test_sender_that_is_not_verified_is_that_senders_and_not_the_accounts(
    provider: str, status: int, code: str, text: str, about: About
) -> None:
    meaning = said(provider, status, code, text)
    assert (meaning.about, meaning.lasting, meaning.scope) == (about, Lasting.PERMANENT, Scope.SENDER)
    assert consequences.outcome_class(meaning) is OutcomeClass.MISCONFIGURED
    assert consequences.retry(meaning) is consequences.Retry.OTHER_ACCOUNT


def test_recipient_that_a_provider_calls_invalid_is_suppressed_and_its_temporary_list_for_a_day() -> None:
    # the facts, reject reasons: `invalid` is the address, `soft-bounce` an entry that ends
    assert consequences.suppression(said("mandrill", 200, "invalid")) is consequences.FIRST
    assert consequences.suppression(said("mandrill", 200, "hard-bounce")) is consequences.FIRST
    assert consequences.suppression(said("mandrill", 200, "soft-bounce")) == consequences.LISTED_FOR_NOW
    assert consequences.suppression(said("mandrill", 200, "spam")) == consequences.LISTED


def test_generation_that_was_rejected_without_a_reason_suppresses_nobody() -> None:
    assert said("sparkpost", 400, "1902").about is About.UNKNOWN
    assert said("sparkpost", 400, "1902", "recipient address suppressed due to customer policy").listed


@given(
    st.sampled_from(PROVIDERS), st.integers(0, 999), st.text(max_size=30), st.text(max_size=2000), st.text(max_size=20)
)
def test_any_answer_is_an_outcome_that_holds_nothing_of_its_text(
    provider: str, status: int, code: str, text: str, wait: str
) -> None:
    outcome = refusal(HTTPAnswer(status, {"retry-after": wait}, b""), provider, code, f"{text} ada@example.net")
    assert isinstance(outcome, Outcome)
    assert "ada@example.net" not in json.dumps([outcome.reason, repr(outcome)])
    assert (outcome.refusal is None) == (outcome.kind is OutcomeClass.UNCERTAIN)


def test_provider_that_is_not_ours_brings_rows_of_its_own() -> None:
    rows = (Answer(About.SENDER_RATE, Lasting.TEMPORARY, "Pigeon, API", frozenset({"no_more_seed"}), used_up=True),)
    outcome = refusal(HTTPAnswer(400, {}, b""), "pigeon", "no_more_seed", rows=rows)
    assert (outcome.kind, outcome.reason) == (OutcomeClass.QUOTA, "pigeon_no_more_seed")
    assert refusal(HTTPAnswer(400, {}, b""), "pigeon", "new", rows=rows).reason == "http_400"
