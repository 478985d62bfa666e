"""Mailjet and SparkPost against the lab: sent to over HTTP, and listened to as mailglass would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest

from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.addresses import Address
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.base import Provider
from mailglass.providers.base import WebhookRequest as Request
from mailglass.providers.mailjet import MailjetOptions, MailjetProvider
from mailglass.providers.sparkpost import SparkPostOptions, SparkPostProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from tests.provider_lab import Lab, attempt, mail, provider_lab, pulled, send

SECRETS = {
    "LAB_PW": "pw",
    "MJ_KEY": "mj-key-88",
    "MJ_SEC": "mj-sec-88",
    "MJ_PW": "mj-pw-88",
    "ONE": "1",
    "SP_KEY": "sp-key-88",
    "SP_PW": "sp-pw-88",
    "SP_TOKEN": "sp-token-88",
    "SP_VALUE": "sp-value-88",
}
ARGUMENTS = [
    "--webhook-password",
    "env:LAB_PW",
    "--account",
    "acme-mj=mailjet",
    "--secret",
    "acme-mj.key=env:MJ_KEY",
    "--secret",
    "acme-mj.secret=env:MJ_SEC",
    "--secret",
    "acme-mj.password=env:MJ_PW",
    "--account",
    "acme-mj1=mailjet",
    "--secret",
    "acme-mj1.version=env:ONE",
    "--account",
    "acme-sp=sparkpost",
    "--secret",
    "acme-sp.key=env:SP_KEY",
    "--secret",
    "acme-sp.password=env:SP_PW",
    "--account",
    "acme-sp-token=sparkpost",
    "--secret",
    "acme-sp-token.token=env:SP_TOKEN",
    "--account",
    "acme-sp-header=sparkpost",
    "--secret",
    "acme-sp-header.header_value=env:SP_VALUE",
]
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["acme-mj", "acme-sp"])


def mailjet(url: str, name: str = "acme-mj", password: str = "mj-pw-88", **more: Any) -> MailjetProvider:
    given = {"api_key": Secret("mj-key-88"), "secret_key": Secret("mj-sec-88"), **more}
    return MailjetProvider(
        name,
        MailjetOptions(
            base_url=f"{url}/{name}", webhook_username="lab", webhook_passwords=(Secret(password),), **given
        ),
    )


def sparkpost(url: str, name: str = "acme-sp", **more: Any) -> SparkPostProvider:
    given = {"api_key": Secret("sp-key-88"), **more}
    if name == "acme-sp":
        given = {"webhook_username": "lab", "webhook_passwords": (Secret("sp-pw-88"),), **given}
    return SparkPostProvider(name, SparkPostOptions(base_url=f"{url}/{name}", **given))


def opened(ready: dict[str, Any]) -> dict[str, Provider]:
    url = ready["http_url"]
    accounts: list[Provider] = [
        mailjet(url),
        mailjet(url, "acme-mj1", "lab-webhook-password"),
        sparkpost(url),
        sparkpost(url, "acme-sp-token", webhook_tokens=(Secret("sp-token-88"),)),
        sparkpost(url, "acme-sp-header", webhook_header_values=(Secret("sp-value-88"),)),
    ]
    return {provider.account: provider for provider in accounts}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with provider_lab(*ARGUMENTS, secrets=SECRETS, accounts=opened) as lab:
        yield lab


@pytest.mark.parametrize("name", ["acme-mj", "acme-mj1", "acme-sp", "acme-sp-token", "acme-sp-header"])
def test_mails_are_accepted_once_and_their_events_come_back_to_them(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    files = (Attachment("a ü.bin", bytes(range(256)) * 50), Attachment("logo.png", b"png", "image/png", "logo"))
    copies = (Address("copy@example.org"),)
    mails = [mail(f"sunny.{number}@example.com", attachments=files, html="<p>é</p>", cc=copies) for number in range(12)]
    outcomes = send(provider, *mails)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    received = lab.received()
    assert received == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    for account, event in lab.events:
        assert account == name
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None and event.recipient is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class", "status"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD, "5.1.1"),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT, "5.2.2"),
        ("slow@example.com", K.DEFERRED, BounceClass.SOFT, None),
        ("complains@example.com", K.COMPLAINED, None, None),
        ("suppressed@example.com", K.REJECTED, None, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Lab,
    name: str,
    recipient: str,
    expected: EventKind,
    bounce_class: BounceClass | None,
    status: str | None,
) -> None:
    one = mail(recipient)
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = [event for _, event in lab.events if event.kind is expected]
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)
    assert status is None or event.status == status


@NAMES
@pytest.mark.parametrize(("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.y.z", O.TRANSIENT)])
def test_a_refusal_meets_the_first_attempt_only(lab: Lab, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = send(lab.providers[name], one)
    assert outcome.kind is first
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 1


def test_a_lost_answer_leaves_all_mails_of_its_request_uncertain_and_events_settle_them(lab: Lab) -> None:
    one, other = mail("silence@x.example"), mail("sunny@x.example")
    assert attempt(lab.providers["acme-mj"], one, other) == [O.UNCERTAIN, O.UNCERTAIN]
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(each.delivery_id) for each in (one, other)))
    one = mail("silence@x.example")
    assert attempt(lab.providers["acme-sp"], one, mail("sunny@x.example")) == [O.UNCERTAIN, O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


def test_message_that_mailjet_refuses_costs_no_other_of_its_batch(lab: Lab) -> None:
    poisoned = mail("no address")
    mails = [mail("sunny.1@x.example"), poisoned, mail("sunny.2@x.example")]
    outcomes = send(lab.providers["acme-mj"], *mails)
    assert [(outcome.kind, outcome.reason, outcome.status) for outcome in outcomes] == [
        (O.ACCEPTED, None, 400),
        (O.REJECTED, "mailjet_mj-0013", 400),
        (O.ACCEPTED, None, 400),
    ]
    assert lab.counts()["accepted"] == 2


def test_a_mailjet_account_in_its_sandbox_delivers_nothing(lab: Lab) -> None:
    provider = mailjet(lab.url, sandbox=True)
    assert attempt(provider, mail("sunny@x.example")) == [O.ACCEPTED]
    assert lab.counts()["accepted"] == 0
    provider.close()


def test_wrong_credentials_are_misconfigured(lab: Lab) -> None:
    wrong: list[Provider] = [
        mailjet(lab.url, secret_key=Secret("other")),
        mailjet(lab.url, api_key=Secret("other")),
        mailjet(f"{lab.url}/typo"),
        sparkpost(lab.url, api_key=Secret("other")),
    ]
    for provider in wrong:
        assert attempt(provider, mail("sunny@x.example"), mail("sunny@x.example")) == [O.MISCONFIGURED] * 2
        provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Lab, name: str) -> None:
    assert attempt(lab.providers[name], mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


@NAMES
def test_a_webhook_that_is_not_acknowledged_is_posted_again_as_the_same(lab: Lab, name: str) -> None:
    # none of these stops the provider
    answers = iter([503, 403, 406, 500])
    lab.status = lambda posted: next(answers, 200)
    one = mail("sunny@x.example")
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))
    assert lab.refused == 0
    requests = [posted.request for posted in lab.requests]
    keys = Counter((lab.providers[name].delivery_key(request) or request.body) for request in requests)
    assert sum(keys.values()) == len(keys) + 4


@NAMES
def test_a_webhook_with_another_accounts_credentials_is_refused(lab: Lab, name: str) -> None:
    assert attempt(lab.providers[name], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: bool(lab.requests))
    strangers: list[Provider] = [mailjet(lab.url, password="x"), lab.providers["acme-sp-token"]]
    for _, request, *_ in lab.requests:
        for stranger in strangers:
            with pytest.raises(SignatureError):
                stranger.verify(request)
        for header in request.headers:
            if header == "authorization":
                continue
            lab.providers[name].verify(Request({**request.headers, header: "changed"}, request.body))
    strangers[0].close()


# --- SparkPost's suppression list


def test_the_list_is_filled_read_page_by_page_and_emptied(lab: Lab) -> None:
    provider = lab.providers["acme-sp"]
    lists = provider.suppression_list()
    assert lists is not None and pulled(provider) == []
    reasons = ["hard_bounce", "complaint", "unsubscribe", "manual", "provider"]
    entries = [ListedAddress(f"a+{number:04}@example.com", reasons[number % 5]) for number in range(2500)]
    assert lists.push(entries) == [True] * 2500
    found = pulled(provider)
    assert Counter((entry.reason, entry.origin) for entry in found) == {
        (reason, kind): 500
        for reason in reasons
        for kind in ("transactional", "non_transactional")
        if reason != "unsubscribe" or kind == "non_transactional"
    }
    assert {entry.address for entry in found} == {entry.address for entry in entries}
    assert all(entry.created_at is not None and entry.created_at.tzinfo is UTC for entry in found)
    assert lists.remove([entry.address for entry in entries[:5]] + ["nobody@example.com"]) == [True] * 6
    assert len(pulled(provider)) == len(found) - 9


def test_a_recipient_on_the_list_is_suppressed_for_the_mail_it_left(lab: Lab) -> None:
    provider = lab.providers["acme-sp"]
    lists = provider.suppression_list()
    assert lists is not None
    assert lists.push([ListedAddress("a@example.com", "unsubscribe"), ListedAddress("none", "manual")]) == [True, False]
    one = mail("a@example.com")
    assert attempt(provider, one) == [O.ACCEPTED]
    assert attempt(provider, mail("a@example.com", stream="bulk")) == [O.SUPPRESSED]


def test_a_list_that_cannot_be_had_is_an_error_that_names_the_remedy(lab: Lab) -> None:
    provider = sparkpost(lab.url, api_key=Secret("other"))
    lists = provider.suppression_list()
    calls: list[Callable[[], object]] = [
        lambda: lists.pull(None),
        lambda: lists.push([ListedAddress("ada@example.com", "manual")]),
        lambda: lists.remove(["ada@example.com"]),
    ]
    for call in calls:
        with pytest.raises(ProviderCallError, match=r"acme-sp: .*credentials") as caught:
            call()
        assert (caught.value.status, caught.value.retryable) == (401, False)
        assert "ada" not in str(caught.value)
    provider.close()
