"""Examples of README and docs, run as they stand against a ledger, a broker and a worker."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from starlette.testclient import TestClient

from mailglass import Message, deliver_later, telemetry, tenant
from mailglass.ledger import deliveries
from mailglass.ledger.database import sqlalchemy_url
from mailglass.ledger.suppressions import Suppression, suppress
from mailglass.routing import LimitContext
from tests.cluster import Cluster, Outside
from tests.unit.test_examples import BLOCK, ROOT


class Shop(Session):
    """A session of an application whose orders are no tables."""

    def add(self, instance: object, _warn: bool = True) -> None:
        pass


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Runs the examples of a page as one module that a worker can import, with what the page takes for granted."""
    monkeypatch.syspath_prepend(str(cluster.directory))
    names: list[str] = []

    def runner(source: str, **assumed: Any) -> ModuleType:
        name = f"example_{len(names)}"
        names.append(name)
        text = "\n".join(BLOCK.findall(page(source)))
        (cluster.directory / f"{name}.py").write_text(f"from {name}_assumed import *\n{text}", encoding="utf-8")
        sys.modules[f"{name}_assumed"] = ModuleType(f"{name}_assumed")
        vars(sys.modules[f"{name}_assumed"]).update(assumed)
        return importlib.import_module(name)

    yield runner
    for name in names:
        sys.modules.pop(name, None)
        sys.modules.pop(f"{name}_assumed", None)


def test_examples_of_readme_and_getting_started_send_their_mails(
    cluster: Cluster, outside: Outside, run: Callable[..., ModuleType], wait_for: Callable[..., None]
) -> None:
    (cluster.directory / "templates").mkdir()
    (cluster.directory / "templates" / "receipt.html").write_text("<p>Order {{ order.number }}</p>")
    engine = create_engine(sqlalchemy_url(cluster.environment["MAILGLASS_DATABASE_URL"]))
    order = SimpleNamespace(email="order@example.com", number=1001)
    maker = sessionmaker(engine, class_=Shop)
    module = run("docs/getting-started.md", order=order, addresses=["a@example.com", "b@example.com"], Session=maker)
    engine.dispose()
    # a worker that imports the module needs its mailable, and is not to send the mails again
    mailable = next(block for block in BLOCK.findall(page("docs/getting-started.md")) if "class Receipt" in block)
    Path(module.__file__ or "").write_text(mailable.partition("deliver_later")[0], encoding="utf-8")
    cluster.worker("-P", "threads", "-c", "2")
    assert run("README.md").result.state == "sent"
    sent = {"acme": {"sent": 5}, "default": {"sent": 2}}
    wait_for(lambda: deliveries.counts(cluster.runtime.database) == sent)
    assert len(outside.mails) == 7


def test_examples_of_testing_pass_in_a_suite_of_their_own(cluster: Cluster, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page("docs/guides/testing.md"))
    fixture = next(block for block in blocks if "@pytest.fixture" in block)
    tests = [block for block in blocks if block is not fixture]
    (tmp_path / "conftest.py").write_text(fixture, encoding="utf-8")
    imports = "from mailglass.stack.local import LocalStack\n"
    (tmp_path / "test_shop.py").write_text("\n".join([tests[0], imports, *tests[1:]]), encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_example_of_operating_cancels_what_it_says(cluster: Cluster, run: Callable[..., ModuleType]) -> None:
    with tenant("acme"):
        group = deliver_later.apply_async(
            (Message(to=["a@example.com", "b@example.com"], subject="s", text="t"),), countdown=600
        )
        deliver_later.delay(Message(to="c@example.com", subject="s", text="t", stream="bulk"))
    done = run("docs/guides/operating.md", tenant=tenant, moment=datetime.now(UTC), group=group)
    assert done.counts.canceled == 1
    assert deliveries.counts(cluster.runtime.database) == {"acme": {"canceled": 3}}


def test_examples_of_limits_webhooks_and_metrics_run(cluster: Cluster, run: Callable[..., ModuleType]) -> None:
    plans = SimpleNamespace(is_free=lambda name: name == "acme")
    tenancy = run("docs/guides/rate-limits.md", plans=plans).ShopTenancy()
    context = LimitContext("acme", "bulk", "example.com")
    assert len(tenancy.resolve_limits(context)) == 2
    assert run("docs/guides/webhooks.md").application.routes
    metrics = run("docs/architecture.md")
    telemetry.emit("mailglass.dispatch.batch", lane="mailglass/acme/bulk", sent=3)
    metrics.unsubscribe()
    assert metrics.sent == {"mailglass/acme/bulk": 3}


def test_examples_of_fastapi_commit_an_order_with_its_mail(
    cluster: Cluster, run: Callable[..., ModuleType], database_url: str
) -> None:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        user: Mapped[str] = mapped_column(unique=True)

    class User(SimpleNamespace):
        pass

    async def get_user() -> User:
        return User(name="ada", email="ada@example.com", company="acme")

    def all_states() -> dict[str, dict[str, int]]:
        return deliveries.counts(cluster.runtime.database)

    own = create_engine(sqlalchemy_url(database_url))
    Base.metadata.create_all(own)
    own.dispose()
    engine = create_async_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    shop = run("docs/guides/fastapi.md", engine=engine, User=User, Order=Order, get_user=get_user)
    suppress(cluster.runtime.database, [Suppression("default", "gone@example.com", "hard_bounce", "webhook")])
    for application in (shop.starlette_app, shop.litestar_app):
        with TestClient(application) as client:
            assert client.get("/mailglass/readyz").status_code == 200
    override = shop.app.dependency_overrides.pop(shop.get_mailer)
    assert override().tenant == "test"
    with TestClient(shop.app, raise_server_exceptions=False) as client:
        assert client.get("/mailglass/readyz").status_code == 200
        assert client.post("/welcome?email=gone@example.com").status_code == 422
        assert client.post("/welcome?email=ada@example.com").status_code == 200
        order = client.post("/orders")
        assert order.status_code == 200
        assert client.get(f"/mails/{order.json()}").json() == "queued"
        before = all_states()
        # the second order of one user cannot be committed, and its mail exists no more than the order
        assert client.post("/orders").status_code == 500
        assert all_states() == before == {"acme": {"queued": 1}, "default": {"queued": 1, "suppressed": 1}}
