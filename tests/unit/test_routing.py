"""Routes: the first match counts, hooks are checked, nothing falls back silently."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from mailglass.errors import ConfigError, RouteError
from mailglass.ids import uuid7
from mailglass.routing import Lane, RouteContext, Router, Tenancy, ordered_accounts
from mailglass.settings import AccountSettings, Route, Settings, load_settings

ACCOUNTS = {name: AccountSettings(name, "null") for name in ("a", "b", "c")}


def router(*routes: Route, tenancy: Tenancy | None = None) -> Router:
    return Router(Settings(accounts=ACCOUNTS, routes=routes), tenancy)


def queue_of(found: Router, tenant: str, stream: str) -> str:
    return found.resolve(RouteContext(tenant, stream)).queue


def accounts(found: Router, **context: object) -> tuple[str, ...]:
    return found.resolve(RouteContext(**{"tenant": "acme", "stream": "bulk", **context})).accounts  # type: ignore[arg-type]


def test_the_first_route_that_matches_counts() -> None:
    found = router(
        Route(("a",), tenant="acme", stream="transactional"),
        Route(("b",), domain="gmail.com"),
        Route(("c",), tag="invoice"),
        Route(("a", "b")),
    )
    assert accounts(found, stream="transactional") == ("a",)
    assert accounts(found, domain="gmail.com") == ("b",)
    assert accounts(found, domain="example.com", tags=("invoice",)) == ("c",)
    assert accounts(found, tenant="globex", domain="example.com") == ("a", "b")


def test_a_lanes_queue_is_that_of_the_first_route_without_domain_and_tag() -> None:
    found = router(Route(("b",), domain="gmail.com", queue="mailglass.gmail"), Route(("a",), queue="mailglass.acme"))
    assert queue_of(found, "acme", "bulk") == "mailglass.acme"


def test_without_a_match_there_is_an_error_and_no_fallback() -> None:
    with pytest.raises(RouteError, match="acme"):
        accounts(router(Route(("a",), tenant="globex")))


@pytest.mark.parametrize(
    "answer",
    [
        ["unknown"],
        [],
        "a",
        [1],
        5,
        Route("a"),  # type: ignore[arg-type]
        Route(("a",), queue="elsewhere"),
        Route(("a",), queue=None),  # type: ignore[arg-type]
        Route(("a",), failover_after="3"),  # type: ignore[arg-type]
        Route(("a",), concurrency=0),
        Route(("a",), concurrency="many"),  # type: ignore[arg-type]
        Route(("a", "b"), weights=(1,)),
        Route(("a", "b"), weights=(1, -1)),
        Route(("a", "b"), weights=5),  # type: ignore[arg-type]
    ],
)
def test_a_hook_that_answers_nonsense_is_an_error_and_never_a_fallback(answer: object) -> None:
    class Hook(Tenancy):
        def resolve_route(self, context: RouteContext):
            return answer

    with pytest.raises(RouteError):
        accounts(router(Route(("a",)), tenancy=Hook()))


def test_a_hook_that_raises_is_an_error_without_its_text() -> None:
    class Hook(Tenancy):
        def resolve_route(self, context: RouteContext):
            raise KeyError("ada@example.com")

    with pytest.raises(RouteError, match="KeyError") as caught:
        accounts(router(Route(("a",)), tenancy=Hook()))
    assert "ada@" not in str(caught.value)


def test_a_hook_may_choose_any_queue_that_is_declared_and_no_other() -> None:
    class Hook(Tenancy):
        def resolve_route(self, context: RouteContext):
            return Route(["a"], queue=f"mailglass.{context.tenant}")  # type: ignore[arg-type]

    found = Router(
        Settings(accounts=ACCOUNTS, routes=(Route(("a",), queue="mailglass.acme"),), queues=("mailglass.globex",)),
        Hook(),
    )
    assert [queue_of(found, tenant, "bulk") for tenant in ("acme", "globex")] == ["mailglass.acme", "mailglass.globex"]
    with pytest.raises(RouteError, match="add it to `queues`"):
        queue_of(found, "initech", "bulk")


def test_a_route_from_code_is_kept_as_one_that_batches_can_be_grouped_by() -> None:
    class Hook(Tenancy):
        def resolve_route(self, context: RouteContext):
            return Route(["a", "b"], weights=[1, 2])  # type: ignore[arg-type]

    found = router(Route(("c",)), tenancy=Hook()).resolve(RouteContext("acme", "bulk"))
    assert hash(found) == hash(Route(("a", "b"), weights=(1, 2)))


def test_a_hook_may_answer_accounts_in_order_or_leave_it_to_the_settings() -> None:
    class Hook(Tenancy):
        def resolve_route(self, context: RouteContext):
            return ["c", "b"] if context.domain == "gmail.com" else None

    found = router(Route(("a",)), tenancy=Hook())
    assert accounts(found, domain="gmail.com") == ("c", "b")
    assert accounts(found, domain="example.com") == ("a",)


class Unready(Tenancy):
    """Needs something that is not there."""

    def __init__(self) -> None:
        raise LookupError


@pytest.mark.parametrize(
    "path",
    [
        "no.such.module:Tenancy",
        "mailglass.routing:Nothing",
        "mailglass.routing:Lane",
        "unready_tenancy:Unready",
        "unimportable_tenancy:Unready",
    ],
)
def test_a_tenancy_that_cannot_be_opened_is_an_error(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "unready_tenancy", sys.modules[__name__])
    (tmp_path / "unimportable_tenancy.py").write_text("1 / 0")
    with pytest.raises(RouteError):
        queue_of(Router(Settings(accounts=ACCOUNTS, routes=(Route(("a",)),), tenancy=path)), "acme", "bulk")


def test_weights_share_the_first_place_and_keep_it_for_a_delivery() -> None:
    route = Route(("a", "b", "c"), weights=(70, 20, 10))
    ids = [uuid7() for _ in range(4000)]
    first = Counter(ordered_accounts(route, delivery_id)[0] for delivery_id in ids)
    assert 0.65 < first["a"] / 4000 < 0.75
    assert 0.16 < first["b"] / 4000 < 0.24
    assert all(set(ordered_accounts(route, delivery_id)) == {"a", "b", "c"} for delivery_id in ids[:50])
    assert [ordered_accounts(route, ids[0]) for _ in range(3)] == [ordered_accounts(route, ids[0])] * 3


def test_a_lane_reads_back_what_it_wrote() -> None:
    lane = Lane("mailglass.bulk", "acme", "transactional")
    assert Lane.parse(str(lane)) == lane
    with pytest.raises(ValueError):
        Lane.parse("mailglass")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('weights = [1]\naccounts = ["a", "b"]', "weights"),
        ('weights = ["x", "y"]\naccounts = ["a", "b"]', "weights"),
        ('failover_after = 0\naccounts = ["a"]', "failover_after"),
        ('concurrency = 1.5\naccounts = ["a"]', "concurrency"),
        ('domain = 5\naccounts = ["a"]', "domain"),
    ],
)
def test_a_wrong_route_names_its_key(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "mailglass.toml"
    path.write_text(f'[accounts.a]\nprovider = "null"\n[accounts.b]\nprovider = "null"\n[[routes]]\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load_settings({}, path)
    assert caught.value.key == f"routes[0].{key}"


@pytest.mark.parametrize("written", ["Müller.example", "XN--MLLER-KVA.example"])
def test_a_routes_domain_is_compared_as_recipients_domains_are(tmp_path: Path, written: str) -> None:
    document = tmp_path / "mailglass.toml"
    document.write_text(
        f'[accounts.a]\nprovider = "null"\n[accounts.b]\nprovider = "null"\n'
        f'[[routes]]\naccounts = ["b"]\ndomain = "{written}"\n[[routes]]\naccounts = ["a"]\n',
        encoding="utf-8",
    )
    found = Router(load_settings({}, document))
    assert accounts(found, domain="xn--mller-kva.example") == ("b",)
    assert accounts(found, domain="example.com") == ("a",)


@pytest.mark.parametrize("written", ["gmail.com ", "@gmail.com", "someone@gmail.com", ""])
def test_a_routes_domain_that_no_recipient_can_have_is_refused(tmp_path: Path, written: str) -> None:
    document = tmp_path / "mailglass.toml"
    document.write_text(
        f'[accounts.a]\nprovider = "null"\n[[routes]]\naccounts = ["a"]\ndomain = "{written}"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"routes\[0\]\.domain: not a domain"):
        load_settings({}, document)
