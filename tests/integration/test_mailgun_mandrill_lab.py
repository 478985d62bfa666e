"""Mailgun and Mandrill against the lab: sent to over HTTP, and listened to as mailglass would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.base import Provider
from mailglass.providers.mailgun import MailgunOptions, MailgunProvider
from mailglass.providers.mandrill import MandrillOptions, MandrillProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from tests.provider_lab import Lab, attempt, mail, provider_lab, pulled, send

SECRETS = {"LAB_PW": "pw", "MG_KEY": "mg-key-77", "MG_SIGN": "mg-sign-77", "MD_KEY": "md-key-77", "MD_SIGN": "md-77"}
ARGUMENTS = [
    "--webhook-password",
    "env:LAB_PW",
    "--account",
    "acme-mg=mailgun",
    "--secret",
    "acme-mg.key=env:MG_KEY",
    "--secret",
    "acme-mg.signing_key=env:MG_SIGN",
    "--account",
    "acme-md=mandrill",
    "--secret",
    "acme-md.key=env:MD_KEY",
    "--secret",
    "acme-md.webhook_key=env:MD_SIGN",
]
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["mailgun", "mandrill"])


def mailgun(url: str, key: str = "mg-key-77", **more: Any) -> MailgunProvider:
    signing = (Secret("mg-sign-77"),)
    options = MailgunOptions(
        api_key=Secret(key), domain="mg.example.org", base_url=f"{url}/acme-mg", webhook_signing_keys=signing, **more
    )
    return MailgunProvider("acme-mg", options)


def mandrill(url: str, webhook_url: str, key: str = "md-key-77") -> MandrillProvider:
    options = MandrillOptions(
        api_key=Secret(key), base_url=f"{url}/acme-md", webhook_keys=(Secret("md-77"),), webhook_url=webhook_url
    )
    return MandrillProvider("acme-md", options)


def opened(ready: dict[str, Any]) -> dict[str, Provider]:
    url = ready["http_url"]
    return {"mailgun": mailgun(url), "mandrill": mandrill(url, ready["accounts"]["acme-md"]["webhook_url"])}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with provider_lab(*ARGUMENTS, secrets=SECRETS, accounts=opened) as lab:
        yield lab


@NAMES
def test_mails_are_accepted_once_and_their_events_come_back_to_them(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    files = (Attachment("a ü.bin", bytes(range(256)) * 50), Attachment("logo.png", b"png", "image/png", "logo"))
    mails = [mail(f"sunny.{number}@example.com", attachments=files, html="<p>é</p>") for number in range(12)]
    outcomes = send(provider, *mails)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    received = lab.received()
    assert received == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for account, event in lab.events:
        assert account == provider.account
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None and event.recipient is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, BounceClass.SOFT),
        ("complains@example.com", K.COMPLAINED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Lab, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    one = mail(recipient)
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = [event for _, event in lab.events if event.kind is expected]
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)


@NAMES
@pytest.mark.parametrize(("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.y.z", O.TRANSIENT)])
def test_a_refusal_meets_the_first_attempt_only(lab: Lab, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = send(lab.providers[name], one)
    assert outcome.kind is first
    assert (outcome.retry_after is not None) == (first is O.THROTTLED)
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 1


@NAMES
def test_a_lost_answer_is_uncertain_and_settled_by_its_events(lab: Lab, name: str) -> None:
    one = mail("silence@x.example")
    assert attempt(lab.providers[name], one, mail("sunny@x.example")) == [O.UNCERTAIN, O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


@NAMES
def test_refused_mail_leaves_its_neighbours_alone(lab: Lab, name: str) -> None:
    poisoned = mail("sunny@x.example", headers=(("X-A", "1"), ("x-a", "2")))
    outcomes = send(lab.providers[name], mail("sunny.1@x.example"), poisoned, mail("sunny.2@x.example"))
    assert [outcome.kind for outcome in outcomes] == [O.ACCEPTED, O.REJECTED, O.ACCEPTED]
    assert outcomes[1].reason == "unsupported_repeated_headers"


def test_mailgun_accepts_and_drops_a_recipient_on_its_list_where_mandrill_refuses_it(lab: Lab) -> None:
    one = mail("suppressed@x.example")
    assert attempt(lab.providers["mailgun"], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.REJECTED in lab.kinds(one.delivery_id))
    assert attempt(lab.providers["mandrill"], one) == [O.SUPPRESSED]


def test_wrong_credentials_and_wrong_addresses_are_misconfigured(lab: Lab) -> None:
    wrong: list[Provider] = [
        mailgun(lab.url, "other"),
        mandrill(lab.url, "https://hooks.example.org", "other"),
        MailgunProvider(
            "mg", MailgunOptions(api_key=Secret("k"), domain="mg.example.org", base_url=f"{lab.url}/acme-mg/typo")
        ),
    ]
    for provider in wrong:
        assert attempt(provider, mail("sunny@x.example")) == [O.MISCONFIGURED]
        provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Lab, name: str) -> None:
    assert attempt(lab.providers[name], mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


@NAMES
def test_a_webhook_that_is_not_acknowledged_is_posted_again(lab: Lab, name: str) -> None:
    answers = iter([503, 500])
    lab.status = lambda posted: next(answers, 200)
    one = mail("sunny@x.example")
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    assert lab.refused == 0


def test_mailgun_signs_every_try_anew_and_stops_at_406(lab: Lab) -> None:
    answers = iter([503])
    lab.status = lambda posted: next(answers, 406)
    assert attempt(lab.providers["mailgun"], mail("sunny@x.example")) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert (counts["webhooks_refused"], counts["webhooks_posted"]) == (2, 3)
    keys = [lab.providers["mailgun"].delivery_key(posted.request) for posted in lab.requests]
    assert len(set(keys)) == 3


@NAMES
def test_a_webhook_of_another_account_is_refused(lab: Lab, name: str) -> None:
    assert attempt(lab.providers[name], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: bool(lab.requests))
    stranger: Provider = (
        MailgunProvider("x", MailgunOptions(api_key=Secret("k"), domain="x.y", webhook_signing_keys=(Secret("s"),)))
        if name == "mailgun"
        else mandrill(lab.url, "https://elsewhere.example.org/webhooks/acme-md")
    )
    for posted in lab.requests:
        lab.providers[name].verify(posted.request)
        with pytest.raises(SignatureError):
            stranger.verify(posted.request)
    stranger.close()


# --- suppression lists


def test_mailguns_three_lists_are_filled_read_page_by_page_and_emptied_as_one(lab: Lab) -> None:
    provider = lab.providers["mailgun"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    reasons = ["hard_bounce", "complaint", "unsubscribe", "manual", "provider"]
    entries = [ListedAddress(f"a+{number:04}@example.com", reasons[number % 5], moment) for number in range(4000)]
    assert lists.push(entries) == [True] * 4000
    found = pulled(provider)
    assert sorted(entry.address for entry in found) == [entry.address for entry in entries]
    assert {entry.created_at for entry in found} == {moment}
    assert Counter((entry.reason, entry.origin) for entry in found) == {
        ("hard_bounce", "bounces"): 800,
        ("provider", "bounces"): 800,
        ("manual", "bounces"): 800,
        ("unsubscribe", "unsubscribes"): 800,
        ("complaint", "complaints"): 800,
    }
    assert lists.remove([entry.address for entry in entries[:5]] + ["nobody@example.com"]) == [True] * 6
    assert len(pulled(provider)) == 3995


def test_address_that_mailgun_refuses_sinks_no_other_entry(lab: Lab) -> None:
    lists = lab.providers["mailgun"].suppression_list()
    assert lists is not None
    entries = [ListedAddress(f"a{number}@example.com", "complaint") for number in range(9)]
    entries[4] = ListedAddress("no address", "complaint")
    assert lists.push(entries) == [True] * 4 + [False] + [True] * 4
    assert len(pulled(lab.providers["mailgun"])) == 8


def test_mandrills_list_is_filled_read_and_emptied(lab: Lab) -> None:
    provider = lab.providers["mandrill"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    entries = [ListedAddress("a@example.com", "hard_bounce"), ListedAddress("none", "manual")]
    assert lists.push(entries) == [True, False]
    (entry,) = pulled(provider)
    assert (entry.address, entry.reason) == ("a@example.com", "hard_bounce")
    assert entry.created_at is not None and entry.created_at.tzinfo is UTC
    assert attempt(provider, mail("a@example.com")) == [O.SUPPRESSED]
    assert lists.remove(["a@example.com", "b@example.com", "none"]) == [True, True, False]
    assert pulled(provider) == []


def test_a_list_that_cannot_be_had_is_an_error_that_names_the_remedy(lab: Lab) -> None:
    wrong: list[Provider] = [mailgun(lab.url, "other"), mandrill(lab.url, "https://hooks.example.org", "other")]
    for provider in wrong:
        lists = provider.suppression_list()
        assert lists is not None
        calls: list[Callable[[], object]] = [
            lambda lists=lists: lists.pull(None),
            lambda lists=lists: lists.push([ListedAddress("ada@example.com", "manual")]),
            lambda lists=lists: lists.remove(["ada@example.com"]),
        ]
        for call in calls:
            with pytest.raises(ProviderCallError, match=r"acme-m[gd]: .*credentials") as caught:
                call()
            assert (caught.value.status, caught.value.retryable) == (401, False)
            assert "ada" not in str(caught.value)
        provider.close()


def test_a_list_at_a_server_that_is_gone_may_be_had_later() -> None:
    provider = mailgun("http://127.0.0.1:1")
    with pytest.raises(ProviderCallError) as caught:
        provider.suppression_list().pull(None)
    assert (caught.value.status, caught.value.retryable) == (None, True)
    provider.close()
