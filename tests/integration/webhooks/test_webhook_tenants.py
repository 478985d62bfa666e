"""Whose a webhook is: told by account, path or application, kept with it, and held to when it is applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from mailglass.errors import ConfigError, RouteError, TenantError
from mailglass.ledger import webhooks
from mailglass.providers.base import WebhookRequest
from mailglass.routing import Router, Tenancy
from mailglass.settings import AccountSettings, Settings, load_settings
from mailglass.webhooks import reconcile
from mailglass.webhooks.tenants import tenant_of
from tests.ingress import handle as one_webhook

SHARED = AccountSettings("main", "notes")
OWNED = AccountSettings("main", "notes", tenant="acme")


class Answering(Tenancy):
    """An application that resolves tenants by code."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def resolve_webhook_tenant(self, account: str, path_tenant: str | None) -> str | None:
        self.asked.append((account, path_tenant))
        if isinstance(self.answer, Exception):
            raise self.answer
        found: str | None = self.answer
        return found


class OnlyRoutes(Tenancy):
    """An application that brings another hook."""


@pytest.mark.parametrize(
    ("account", "path", "tenancy", "tenant"),
    [
        (SHARED, None, None, None),
        (SHARED, "acme", None, "acme"),
        (OWNED, None, None, "acme"),
        (OWNED, "acme", None, "acme"),
        (SHARED, None, OnlyRoutes(), None),
        (SHARED, "acme", OnlyRoutes(), "acme"),
        (SHARED, None, Answering("acme"), "acme"),
        (SHARED, "other", Answering("acme"), "acme"),
        (SHARED, "acme", Answering(None), "acme"),
        (OWNED, None, Answering(None), "acme"),
    ],
)
def test_a_tenant_is_told_by_code_then_by_the_path_then_by_the_account(
    account: AccountSettings, path: str | None, tenancy: Tenancy | None, tenant: str | None
) -> None:
    assert tenant_of(account, path, tenancy) == tenant


@pytest.mark.parametrize(
    ("account", "path", "tenancy"),
    [
        (OWNED, "other", None),
        (OWNED, None, Answering("other")),
        (SHARED, None, Answering(None)),
        (SHARED, None, Answering(TenantError("nobody's"))),
        (SHARED, "No Tenant", None),
        (SHARED, "x" * 64, None),
    ],
)
def test_a_tenant_that_cannot_be_told_is_never_guessed(
    account: AccountSettings, path: str | None, tenancy: Tenancy | None
) -> None:
    with pytest.raises(TenantError):
        tenant_of(account, path, tenancy)


@pytest.mark.parametrize("answer", [RuntimeError("a bug"), "No Tenant", 7, ""])
def test_a_hook_that_misbehaves_is_an_error_and_no_fallback(answer: Any) -> None:
    with pytest.raises((RouteError, TenantError)):
        tenant_of(SHARED, None, Answering(answer))


@pytest.fixture
def take(desk: Any) -> Callable[..., int]:
    """Post a webhook of these events; answers the status."""

    class Believing(desk.NotesProvider):
        def verify(self, request: WebhookRequest) -> None:
            pass

    def post(*events: dict[str, Any], tenancy: Tenancy | None = None, tenant: str | None = None, **owner: Any) -> int:
        settings = replace(desk.SETTINGS, accounts={"main": AccountSettings("main", "notes", **owner)})
        accounts = desk.accounts(settings, main=Believing())
        request = WebhookRequest({}, json.dumps(events).encode())
        answer = one_webhook(
            "main",
            request,
            settings=settings,
            database=desk.ledger,
            accounts=accounts,
            ring=lambda task: None,
            tenant=tenant,
            router=Router(settings, tenancy),
        )
        return answer.status

    return post


def tenants(desk: Any) -> list[str | None]:
    return [row.tenant_id for row in desk.rows("SELECT tenant_id FROM mailglass.webhook_events ORDER BY id")]


def test_a_webhook_is_kept_with_its_tenant(desk: Any, take: Callable[..., int]) -> None:
    for number, options in enumerate(({}, {"tenant": "acme"}, {"tenancy": Answering("news")})):
        assert take(desk.event("delivered", click_hash=str(number)), **options) == 200
    assert tenants(desk) == [None, "acme", "news"]


def test_a_webhook_whose_tenant_cannot_be_told_is_answered_422_and_not_kept(
    desk: Any, take: Callable[..., int]
) -> None:
    assert take(desk.event("delivered"), tenancy=Answering(None)) == 422
    assert tenants(desk) == []


def test_a_hook_that_fails_has_the_provider_post_again(desk: Any, take: Callable[..., int]) -> None:
    assert take(desk.event("delivered"), tenancy=Answering(RuntimeError("a bug"))) == 503
    assert tenants(desk) == []
    assert take(desk.event("delivered"), tenancy=Answering("acme")) == 200


@pytest.mark.parametrize("named", ["by our id", "by the provider's"])
@pytest.mark.parametrize("tenant", [None, "acme", "other"])
def test_an_event_is_applied_to_no_delivery_of_another_tenant(desk: Any, named: str, tenant: str | None) -> None:
    (delivery_id,) = desk.sent()
    identity = {"delivery_id": delivery_id} if named == "by our id" else {"provider_message_id": "p-0"}
    event = desk.event("complained", recipient="u0@example.com", **identity)
    body = json.dumps([event]).encode()
    webhooks.store(desk.ledger, "main", "notes", uuid4().hex, body, {}, tenant)
    report = desk.work()
    theirs = tenant == "other"
    assert (report.matched, report.orphans) == ((0, 1) if theirs else (1, 0))
    assert desk.delivery(delivery_id).outcome == (None if theirs else "complained")
    assert desk.reasons() == ([] if theirs else [("address", "", "complaint")])
    # nor later, when orphans look for their delivery
    reconcile.run(desk.ledger)
    assert desk.delivery(delivery_id).outcome == (None if theirs else "complained")


def test_event_posted_to_the_urls_of_two_tenants_reaches_its_own(desk: Any, take: Callable[..., int]) -> None:
    (delivery_id,) = desk.sent()
    event = desk.event("complained", recipient="u0@example.com", provider_message_id="p-0")
    for tenant in ("other", "acme", "acme"):
        assert take(event, tenant=tenant) == 200
    assert tenants(desk) == ["other", "acme"]
    desk.work()
    assert desk.delivery(delivery_id).outcome == "complained"
    assert desk.reasons() == [("address", "", "complaint")]


def test_an_orphan_finds_a_delivery_of_its_own_tenant(desk: Any) -> None:
    for tenant in ("acme", "other"):
        body = json.dumps([desk.event("delivered", provider_message_id="p-0", click_hash=tenant)]).encode()
        webhooks.store(desk.ledger, "main", "notes", uuid4().hex, body, {}, tenant)
    assert desk.work().orphans == 2
    (delivery_id,) = desk.sent()
    reconcile.run(desk.ledger)
    assert desk.kinds(delivery_id).count("delivered") == 1
    assert [row.tenant for row in desk.rows("SELECT event ->> 'tenant' AS tenant FROM mailglass.orphans")] == ["other"]


def test_an_account_is_given_a_tenant_in_its_settings(load_toml: Callable[[str], Settings]) -> None:
    settings = load_toml('[accounts.main]\nprovider = "null"\ntenant = "acme"\n')
    assert (settings.accounts["main"].tenant, dict(settings.accounts["main"].options)) == ("acme", {})
    with pytest.raises(ConfigError, match=r"accounts\.main\.tenant"):
        load_toml('[accounts.main]\nprovider = "null"\ntenant = "No Tenant"\n')


@pytest.fixture
def load_toml(tmp_path: Any) -> Callable[[str], Settings]:
    def load(text: str) -> Settings:
        file = tmp_path / "mailglass.toml"
        file.write_text(text, encoding="utf-8")
        return load_settings({}, file)

    return load
