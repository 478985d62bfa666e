"""Resend and Brevo against the lab: sent to over HTTP, asked again after a lost answer, and listened to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mailglass.errors import ProviderCallError, SignatureError
from mailglass.mail.events import BounceClass, EventKind
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import OutcomeClass
from mailglass.providers.base import Provider
from mailglass.providers.base import WebhookRequest as Request
from mailglass.providers.brevo import BrevoOptions, BrevoProvider
from mailglass.providers.resend import ResendOptions, ResendProvider
from mailglass.providers.suppression_list import ListedAddress
from mailglass.settings import Secret
from tests.provider_lab import Lab, Posted, attempt, mail, provider_lab, send

SECRETS = {"LAB_PW": "pw", "RE_KEY": "re-key-77", "BR_KEY": "br-key-77", "BR_PW": "br-pw-77"}
ARGUMENTS = [
    "--webhook-password",
    "env:LAB_PW",
    "--account",
    "acme-re=resend",
    "--secret",
    "acme-re.key=env:RE_KEY",
    "--account",
    "acme-br=brevo",
    "--secret",
    "acme-br.key=env:BR_KEY",
    "--secret",
    "acme-br.password=env:BR_PW",
]
K, O = EventKind, OutcomeClass  # noqa: E741
NAMES = pytest.mark.parametrize("name", ["resend", "brevo"])


def resend(url: str, secret: str, key: str = "re-key-77", **more: Any) -> ResendProvider:
    options = ResendOptions(
        api_key=Secret(key), base_url=f"{url}/acme-re", webhook_secrets=(Secret("whsec_AAAA"), Secret(secret)), **more
    )
    return ResendProvider("acme-re", options)


def brevo(url: str, key: str = "br-key-77", **more: Any) -> BrevoProvider:
    options = BrevoOptions(
        api_key=Secret(key),
        base_url=f"{url}/acme-br",
        webhook_username="lab",
        webhook_passwords=(Secret("older"), Secret("br-pw-77")),
        webhook_networks=("127.0.0.0/8",),
        blocked_senders=("shop@example.org",),
        **more,
    )
    return BrevoProvider("acme-br", options)


def opened(ready: dict[str, Any]) -> dict[str, Provider]:
    url, secret = ready["http_url"], ready["accounts"]["acme-re"]["webhook_secret"]
    return {"batch": resend(url, secret, batch=True), "resend": resend(url, secret), "brevo": brevo(url)}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with provider_lab(*ARGUMENTS, secrets=SECRETS, accounts=opened) as lab:
        yield lab


@pytest.mark.parametrize("name", ["resend", "batch", "brevo"])
def test_mails_are_accepted_counted_once_and_their_events_come_back_to_them(lab: Lab, name: str) -> None:
    mails = [mail(f"sunny.{number}@example.com") for number in range(12)]
    outcomes = send(lab.providers[name], *mails)
    assert {outcome.kind for outcome in outcomes} == {O.ACCEPTED}
    assert lab.received() == {str(one.delivery_id): 1 for one in mails}
    lab.wait_for(lambda: all(K.DELIVERED in lab.kinds(one.delivery_id) for one in mails))
    ids = {one.delivery_id: outcome.provider_message_id for one, outcome in zip(mails, outcomes, strict=True)}
    assert len(set(ids.values())) == len(mails)
    for _, event in lab.events:
        assert event.delivery_id is not None and event.provider_message_id == ids[event.delivery_id]
        assert event.occurred_at is not None
    assert lab.refused == 0


@NAMES
@pytest.mark.parametrize(
    ("recipient", "expected", "bounce_class"),
    [
        ("bounce@example.com", K.BOUNCED, BounceClass.HARD),
        ("full.mailbox@example.com", K.BOUNCED, BounceClass.SOFT),
        ("slow@example.com", K.DEFERRED, None),
        ("complains@example.com", K.COMPLAINED, None),
        ("suppressed@example.com", K.REJECTED, None),
    ],
)
def test_the_weather_of_a_recipient_becomes_its_events(
    lab: Lab, name: str, recipient: str, expected: EventKind, bounce_class: BounceClass | None
) -> None:
    one = mail(recipient)
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    lab.wait_for(lambda: expected in lab.kinds(one.delivery_id))
    (event,) = (event for event in lab.about(one.delivery_id) if event.kind is expected)
    assert (event.recipient, event.bounce_class) == (recipient, bounce_class)


@NAMES
@pytest.mark.parametrize(
    ("recipient", "first"), [("throttled@x.example", O.THROTTLED), ("outage@x.example", O.TRANSIENT)]
)
def test_a_refusal_meets_the_first_attempt_only(lab: Lab, name: str, recipient: str, first: OutcomeClass) -> None:
    one = mail(recipient)
    (outcome,) = send(lab.providers[name], one)
    assert (outcome.kind, outcome.retry_after is not None) == (first, first is O.THROTTLED)
    assert lab.counts()["accepted"] == 0
    assert attempt(lab.providers[name], one) == [O.ACCEPTED]
    assert lab.received() == {str(one.delivery_id): 1}


@NAMES
def test_a_mail_whose_answer_was_lost_is_asked_again_and_not_sent_again(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    assert provider.idempotent
    one = mail("silence@x.example")
    assert attempt(provider, one) == [O.UNCERTAIN]
    (outcome,) = send(provider, one)
    # Resend answers as the first time, Brevo says only that it had the request before: that is settled by its webhook
    assert outcome.kind is (O.ACCEPTED if name == "resend" else O.UNCERTAIN)
    assert (outcome.provider_message_id is not None) == (name == "resend")
    assert lab.received() == {str(one.delivery_id): 1}
    lab.wait_for(lambda: K.DELIVERED in lab.kinds(one.delivery_id))


def test_resend_answers_a_repeated_mail_with_the_same_id_and_refuses_another_under_its_key(lab: Lab) -> None:
    provider = lab.providers["resend"]
    one = mail("sunny@x.example")
    (first,), (again,) = send(provider, one), send(provider, one)
    assert first == again
    (changed,) = send(provider, replace(one, subject="Another"))
    assert (changed.kind, changed.reason) == (O.REJECTED, "resend_invalid_idempotent_request")
    assert lab.received() == {str(one.delivery_id): 1}


def test_a_batch_whose_answer_was_lost_is_one_request_again_only_as_a_whole(lab: Lab) -> None:
    provider = lab.providers["batch"]
    mails = [mail("sunny@x.example"), mail("silence@x.example")]
    assert attempt(provider, *mails) == [O.UNCERTAIN, O.UNCERTAIN]
    assert attempt(provider, *mails) == [O.ACCEPTED, O.ACCEPTED]
    assert set(lab.received().values()) == {1}
    # why such an account is not idempotent: one of them alone is another request
    assert not provider.idempotent
    assert attempt(provider, mails[0]) == [O.ACCEPTED]
    assert lab.received()[str(mails[0].delivery_id)] == 2


def test_poisoned_mail_of_a_batch_is_rejected_alone(lab: Lab) -> None:
    poisoned = mail("ada@x.example", text=None, html="")
    with_file = mail("sunny@x.example", attachments=(Attachment("a.txt", b"x", "text/plain"),))
    good = [mail("sunny@x.example") for _ in range(3)]
    outcomes = send(lab.providers["batch"], good[0], poisoned, good[1], with_file, good[2])
    assert [outcome.kind for outcome in outcomes] == [O.ACCEPTED, O.REJECTED, O.ACCEPTED, O.ACCEPTED, O.ACCEPTED]
    assert outcomes[1].reason == "resend_validation_error"
    assert lab.received() == {str(one.delivery_id): 1 for one in (*good, with_file)}


def test_brevo_refuses_by_name_what_it_cannot_carry_and_sends_the_rest(lab: Lab) -> None:
    inline = mail("a@x.example", attachments=(Attachment("a.png", b"x", "image/png", "logo"),))
    outcomes = send(lab.providers["brevo"], inline, mail("sunny@x.example"))
    assert [outcome.kind for outcome in outcomes] == [O.REJECTED, O.ACCEPTED]
    assert outcomes[0].reason == "unsupported_inline_images"


@NAMES
def test_wrong_credentials_are_misconfigured_and_nothing_is_accepted(lab: Lab, name: str) -> None:
    provider: Provider = resend(lab.url, "whsec_AAAA", "other") if name == "resend" else brevo(lab.url, "other")
    assert attempt(provider, mail("sunny@x.example"), mail("sunny@x.example")) == [O.MISCONFIGURED] * 2
    suppressions = provider.suppression_list()
    assert suppressions is not None
    with pytest.raises(ProviderCallError) as caught:
        suppressions.pull(None)
    assert caught.value.status in (401, 403) and not caught.value.retryable
    provider.close()
    assert lab.counts()["accepted"] == 0


@NAMES
def test_a_duplicated_event_keeps_its_identity(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    assert attempt(provider, mail("twice@x.example"), mail("sunny@x.example")) == [O.ACCEPTED] * 2
    lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    seen = Counter(event.provider_event_id for _, event in lab.events if event.kind is K.DELIVERED)
    assert sorted(seen.values()) == [1, 2]


def test_a_webhook_that_resend_posts_again_keeps_its_id(lab: Lab) -> None:
    provider = lab.providers["resend"]
    lab.status = lambda posted: 503 if posted.number == 1 else 200
    assert attempt(provider, mail("sunny@x.example")) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_posted"] == counts["webhooks_acknowledged"] + 1
    keys = Counter(provider.delivery_key(posted.request) for posted in lab.requests)
    assert sorted(keys.values())[-2:] == [1, 2]


@pytest.mark.parametrize(("status", "dropped"), [(429, False), (503, True), (500, True), (401, True)])
def test_brevo_posts_again_after_a_429_and_drops_the_event_after_anything_else(
    lab: Lab, status: int, dropped: bool
) -> None:
    provider = lab.providers["brevo"]

    def answer(posted: Posted) -> int:
        (event,) = provider.normalise(posted.request.body, posted.request.headers)
        return status if event.kind is K.QUEUED and posted.tries == 1 else 200

    lab.status = answer
    one = mail("sunny@x.example")
    assert attempt(provider, one) == [O.ACCEPTED]
    counts = lab.wait_for_counts(lambda counts: counts["webhooks_pending"] == 0)
    assert counts["webhooks_refused"] == int(dropped)
    assert (K.QUEUED in lab.kinds(one.delivery_id)) is not dropped


def test_a_forged_webhook_is_refused(lab: Lab) -> None:
    assert attempt(lab.providers["resend"], mail("sunny@x.example")) == [O.ACCEPTED]
    lab.wait_for(lambda: len(lab.requests) > 0)
    request = lab.requests[0].request
    forged = request.body.replace(b"email.", b"e-mail.")
    with pytest.raises(SignatureError):
        lab.providers["resend"].verify(Request(request.headers, forged))


@NAMES
def test_bounced_or_complaining_address_is_pulled_from_the_providers_list(lab: Lab, name: str) -> None:
    provider = lab.providers[name]
    suppressions = provider.suppression_list()
    assert suppressions is not None
    assert suppressions.pull(None) == ([], None)
    assert attempt(provider, mail("bounce@x.example"), mail("complains@x.example")) == [O.ACCEPTED] * 2
    entries, cursor = suppressions.pull(None)
    assert cursor is None
    found = {entry.address: entry.reason for entry in entries}
    assert found == {"bounce@x.example": "hard_bounce", "complains@x.example": "complaint"}
    assert all(entry.created_at is not None and entry.origin for entry in entries)
    assert suppressions.remove(["bounce@x.example", "stranger+a/b@x.example"]) == [True, True]
    assert [entry.address for entry in suppressions.pull(None)[0]] == ["complains@x.example"]


@NAMES
def test_a_list_is_pulled_page_by_page_and_each_entry_once(lab: Lab, name: str) -> None:
    suppressions = lab.providers[name].suppression_list()
    assert suppressions is not None
    pushed = [ListedAddress(f"p{number:03}@x.example", "manual") for number in range(205)]
    assert suppressions.push(pushed) == [True] * 205
    pages, cursor = 0, None
    seen: list[str] = []
    while pages < 10:
        entries, cursor = suppressions.pull(cursor)
        seen += [entry.address for entry in entries]
        pages += 1
        if cursor is None:
            break
    assert (pages, seen) == (3, [entry.address for entry in pushed])


@NAMES
def test_of_a_push_only_the_address_that_is_none_fails(lab: Lab, name: str) -> None:
    suppressions = lab.providers[name].suppression_list()
    assert suppressions is not None
    entries = [ListedAddress(address, "hard_bounce") for address in ("a@x.example", "nobody", "b@x.example")]
    assert suppressions.push(entries) == [True, False, True]
    assert [entry.address for entry in suppressions.pull(None)[0]] == ["a@x.example", "b@x.example"]


def test_without_a_sender_to_block_nothing_is_pushed_to_brevo(lab: Lab) -> None:
    provider = BrevoProvider("acme-br", BrevoOptions(api_key=Secret("br-key-77"), base_url=f"{lab.url}/acme-br"))
    suppressions = provider.suppression_list()
    assert suppressions.push([ListedAddress("a@x.example", "manual")]) == [False]
    assert suppressions.pull(None) == ([], None)
    provider.close()


@NAMES
def test_a_provider_that_does_not_answer_may_be_asked_again(unused_port: int, name: str) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    provider: Provider = resend(url, "whsec_AAAA") if name == "resend" else brevo(url)
    suppressions = provider.suppression_list()
    assert suppressions is not None
    entry = ListedAddress("ada@x.example", "manual")
    for ask in (
        lambda: suppressions.pull(None),
        lambda: suppressions.push([entry]),
        lambda: suppressions.remove(["a@b"]),
    ):
        with pytest.raises(ProviderCallError) as caught:
            ask()
        assert caught.value.retryable and caught.value.status is None
        assert "ada" not in str(caught.value)
    provider.close()
