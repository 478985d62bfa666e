"""Outside production: whom mail may go to, and that no mail reaches anybody else, however it is written."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailglass.mail.addresses import Address
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.recipients import ORIGINAL_TO, RecipientPolicy, ShowRecipient, parse_pattern

DEV = Address("dev@redirect.example", "Developers")
ALLOWED = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@example\.com|dev@redirect\.example", re.IGNORECASE)
OUTSIDERS = (
    "ada@customer.test",
    "ADA@CUSTOMER.TEST",
    "ada@example.com.customer.test",
    "ada@notexample.com",
    "ada@sub.example.com",
    "ada@xn--bcher-kva.example",
    "ada@bücher.example",
    "jürgen@customer.test",
    '"ada@customer.test"@example.com',
    '"x, ada@customer.test"@example.com',
    "ada@customer.test,x@example.com",
    "x@example.com,ada@customer.test",
    "x@example.com\r\nBcc: ada@customer.test",
    "Ada <ada@customer.test>",
    "ada＠customer.test@example.com",
    "ada@customer.test@example.com",
    "ada%customer.test",
    "@customer.test:x@example.com",
    "",
    "@",
)
INSIDERS = ("x@example.com", "X@Example.COM", "x.y+z@example.com", "dev@redirect.example", "Dev@Redirect.Example")
ADDRESSES = st.builds(Address, st.sampled_from(OUTSIDERS + INSIDERS), st.sampled_from(["", "Ada", "ada@customer.test"]))
WRITTEN = st.sampled_from(
    [
        *(text for text in OUTSIDERS if "%" not in text),
        *INSIDERS,
        "on",
        '{"to": ["ada\\u0040customer.test"]}',
        "=?utf-8?q?ada=40customer.test?=",
        "ada%40customer.test",
        "to ada@customer.test and x@example.com",
    ]
)
OPTIONS = st.dictionaries(
    st.sampled_from(["bcc_address", "mail_settings", "merge_vars", "track", "ada@customer.test"]),
    st.recursive(WRITTEN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WRITTEN, inner, max_size=2)),
    max_size=3,
)


@st.composite
def mails(draw: st.DrawFn) -> Outgoing:
    addresses = st.lists(ADDRESSES, max_size=4).map(tuple)
    return mail(
        recipient=draw(ADDRESSES),
        cc=draw(addresses),
        bcc=draw(addresses),
        reply_to=draw(addresses),
        headers=tuple(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(["X-SMTPAPI", "X-MC-BccAddress", "X-Original-To", "X-Order"]), WRITTEN),
                    max_size=4,
                )
            )
        ),
        options={"mandrill": draw(OPTIONS)},
    )


def mail(**changes: Any) -> Outgoing:
    fields: dict[str, Any] = {
        "delivery_id": UUID(int=7),
        "tenant": "acme",
        "stream": "transactional",
        "recipient": Address("ada@customer.test", "Ada"),
        "sender": Address("shop@shop.example"),
        "subject": "Receipt 1001",
        "created_at": datetime(2026, 3, 4, tzinfo=UTC),
        "text": "Thank you.",
    }
    return Outgoing(**(fields | changes))


def policy(*allow: str, redirect_to: Address | None = None, **more: Any) -> RecipientPolicy:
    return RecipientPolicy(tuple(map(parse_pattern, allow)), redirect_to, **more)


@given(mails(), st.sampled_from([None, DEV]), st.sampled_from([[], ["*@example.com"]]))
@example(mail(cc=(Address("ada@customer.test"),)), DEV, ["*@example.com"])
def test_no_recipient_outside_the_policy_stands_anywhere_but_in_the_bodies(
    whole: Outgoing, redirect_to: Address | None, allow: list[str]
) -> None:
    restricted = policy(*allow, redirect_to=redirect_to, show_recipient=ShowRecipient.NOWHERE).restrict(whole).mail
    if restricted is None:
        assert redirect_to is None
        assert not (allow and ALLOWED.fullmatch(whole.recipient.email) and "redirect" not in whole.recipient.email)
        return
    people = (restricted.recipient, *restricted.cc, *restricted.bcc, *restricted.reply_to)
    for address in people:
        assert ALLOWED.fullmatch(address.email)
        assert allow or address.key == "dev@redirect.example"
    assert "customer" not in repr((restricted.headers, restricted.options))
    assert restricted.subject == whole.subject


@given(mails())
def test_a_mail_all_of_whose_people_are_allowed_is_not_changed(whole: Outgoing) -> None:
    people = (whole.recipient, *whole.cc, *whole.bcc, *whole.reply_to)
    restricted = policy("*@example.com", redirect_to=DEV).restrict(whole)
    if all(ALLOWED.fullmatch(address.email) for address in people):
        assert not restricted.redirected
        assert restricted.mail is not None
        assert len(restricted.mail.cc) == len(whole.cc)


def test_a_redirected_mail_names_its_recipient_in_a_header_in_the_subject_or_nowhere() -> None:
    shown = {
        place: policy(redirect_to=DEV, subject_mark="[staging]", show_recipient=place).restrict(mail()).mail
        for place in ShowRecipient
    }
    assert {place: (made.subject, made.headers) for place, made in shown.items() if made} == {
        ShowRecipient.HEADER: ("[staging] Receipt 1001", ((ORIGINAL_TO, "ada@customer.test"),)),
        ShowRecipient.SUBJECT: ("[staging] (to ada@customer.test) Receipt 1001", ()),
        ShowRecipient.NOWHERE: ("[staging] Receipt 1001", ()),
    }
    assert all(made is not None and made.recipient == DEV for made in shown.values())


def test_mail_that_is_left_out_or_redirected_is_told() -> None:
    guard = policy("*@example.com", redirect_to=DEV)
    inside = Address("x@example.com")
    told = [
        (made.redirected, made.left_out)
        for made in (
            guard.restrict(mail()),
            guard.restrict(mail(recipient=inside)),
            guard.restrict(mail(recipient=inside, bcc=(Address("ada@customer.test"),))),
            guard.restrict(mail(recipient=inside, reply_to=(Address("ada@customer.test"),))),
            guard.restrict(mail(recipient=inside, headers=(("X-MC-BccAddress", "ada@customer.test"),))),
            guard.restrict(mail(recipient=inside, options={"sendgrid": {"mail_settings": {"bcc": "a@customer.test"}}})),
        )
    ]
    assert told == [(True, False), (False, False), *[(False, True)] * 4]


def test_headers_of_the_list_and_message_ids_stay() -> None:
    headers = (
        ("List-Unsubscribe", "<mailto:leave@shop.example>"),
        ("Message-ID", "<1@shop.example>"),
        ("References", "<0@shop.example>"),
        ("X-Order", "1001"),
    )
    restricted = policy("*@customer.test").restrict(mail(headers=headers))
    assert restricted.mail is not None
    assert restricted.mail.headers == headers


@pytest.mark.parametrize(
    ("written", "pattern", "matches", "does_not"),
    [
        ("*@Example.COM", "*@example.com", "ADA@example.com", "ada@sub.example.com"),
        ("Ada@example.com", "ada@example.com", "aDa@EXAMPLE.com", "adam@example.com"),
        ("ada+*@example.com", "ada+*@example.com", "ada+1@example.com", "ada@example.com"),
        ("*@*.example.com", "*@*.example.com", "ada@a.b.example.com", "ada@example.com"),
        ("*@bücher.example", "*@xn--bcher-kva.example", "ada@BÜCHER.example", "ada@bucher.example"),
        ("*@xn--bcher-kva.example", "*@xn--bcher-kva.example", "ada@bücher.example", "ada@example.com"),
        ("JÜRGEN@example.com", "jürgen@example.com", "jürgen@example.com", "jurgen@example.com"),
        ("*@*", "*@*", "ada@anywhere.example", '"a b"@anywhere.example'),
        ("q?@example.com", "q?@example.com", "qa@example.com", "q@example.com"),
    ],
)
def test_patterns_are_compared_in_one_spelling(written: str, pattern: str, matches: str, does_not: str) -> None:
    assert parse_pattern(written) == pattern
    guard = policy(written)
    assert guard.allows(matches)
    assert not guard.allows(does_not)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "example.com",
        "@example.com",
        "ada@",
        "*@*example.com",
        "*@example.*om",
        "*@[a-z].com",
        "*@localhost",
        "[ab]@example.com",
        '"a b"@example.com',
        "Ada <ada@example.com>",
        "a@example.com, b@example.com",
        "a@b@example.com",
        "*@exa mple.com",
        "*@*..com",
        "*@example。com",
    ],
)
def test_text_that_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write|In a domain"):
        parse_pattern(text)


def test_a_provider_is_searched_by_the_address_that_it_was_given() -> None:
    assert policy("*@example.com").search_recipient("ada@customer.test") == "ada@customer.test"
    guard = policy("*@example.com", redirect_to=DEV)
    assert guard.search_recipient("ada@customer.test") == "dev@redirect.example"
    assert guard.search_recipient("x@example.com") == "x@example.com"
