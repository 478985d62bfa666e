"""The outbox of a test: what its code sends is checked, kept and listed, and nothing leaves."""

from __future__ import annotations

import asyncio
import re
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import group
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from mailglass import (
    Attachment,
    DeliveryGroup,
    DeliveryNotFoundError,
    DeliveryResult,
    IdempotencyError,
    Mailable,
    Message,
    MessageError,
    RouteError,
    SuppressedError,
    TemplateError,
    adeliver_many,
    cancel_many,
    clock,
    deliver,
    deliver_later,
    deliver_many,
    deliver_many_or_raise,
    suppressions,
    tenant,
)
from mailglass.ledger import arrays
from mailglass.routing import RouteContext, Tenancy
from mailglass.runtime import get_runtime
from mailglass.settings import configure, load_settings
from mailglass.testing import Outbox, OutboxError, outbox
from mailglass.testing.array_literals import elements

# nobody listens there
NOWHERE = "postgresql+psycopg://127.0.0.1:1/none"


class Receipt(Mailable):
    subject = "Receipt {{ number }}"
    html = (
        "<style>p { color: red }</style><p>Thank you, {{ name }}.</p>"
        '<a href="https://shop.example/orders?id={{ number }}&amp;x=1">Your order</a>'
    )


class Broken(Mailable):
    subject = "Receipt"
    text = "{{ missing }}"


def message(to: Any = "ada@example.com", **fields: Any) -> Message:
    return Message(**{"to": to, "subject": "Receipt 1001", "text": "Thank you.", **fields})


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    configure(None)
    yield
    configure(None)


@pytest.fixture
def box() -> Iterator[Outbox]:
    with outbox() as caught:
        yield caught


# --- every way to send


def test_mails_of_every_call_are_caught_without_a_server(box: Outbox) -> None:
    calls: list[Callable[[str], object]] = [
        lambda to: deliver_later.delay(message(to)),
        lambda to: deliver_later.apply_async((message(to),), countdown=60),
        lambda to: deliver_later(message(to)),
        lambda to: deliver_later.s(message(to)).apply_async(),
        lambda to: group([deliver_later.s(message(to))])(),
        lambda to: deliver(message(to)),
        lambda to: deliver_many([message(to)]),
        lambda to: deliver_many_or_raise(iter([message(to)])),
        lambda to: deliver_later.delay(message(to), session=Session(create_engine(NOWHERE))),
        lambda to: deliver_many([message(to)], session=create_engine("sqlite://").connect()),
    ]
    for number, call in enumerate(calls):
        call(f"u{number}@example.com")
    assert [mail.to.email for mail in box.sent] == [f"u{number}@example.com" for number in range(len(calls))]


def test_a_mailable_is_rendered_at_the_call_and_its_links_are_found(box: Outbox) -> None:
    deliver_later.delay(Receipt(to="Ada <ada@example.com>", context={"number": 4711, "name": "<Ada>"}))
    mail = box.assert_sent(to="ADA@example.com", subject="Receipt 4711", mailable=Receipt, count=1)
    mail.assert_part("html", contains='<p style="color: red;">Thank you, &lt;Ada&gt;.</p>')
    mail.assert_part("text", contains="Thank you, <Ada>.", lacks="color")
    assert box.links == mail.links == ["https://shop.example/orders?id=4711&x=1"]
    assert box.assert_sent(subject=re.compile(r"\d{4}$")) == mail
    assert mail.to.name == "Ada"


def test_urls_of_a_text_are_links_without_the_sentences_ends(box: Outbox) -> None:
    deliver_later.delay(message(text="See https://a.example/x?y=1, (http://b.example/z). And https://a.example/x?y=1!"))
    assert box.links == ["https://a.example/x?y=1", "http://b.example/z"]


def test_a_mail_holds_what_its_message_says(box: Outbox) -> None:
    with tenant("acme"):
        deliver_later.apply_async(
            (
                message(
                    cc="bob@example.com",
                    bcc=["eve@example.com"],
                    reply_to="help@example.com",
                    from_="shop@example.com",
                    headers={"X-Order": "1001"},
                    tags=["receipt"],
                    metadata={"order": "1001"},
                    attachments=[Attachment("invoice.pdf", b"%PDF")],
                    stream="operational",
                    idempotency_key="order-1001",
                ),
            ),
            priority=9,
        )
    mail = box.assert_sent()
    assert (mail.tenant, mail.stream, mail.priority, mail.account) == ("acme", "operational", 9, "outbox")
    assert [mail.cc[0].email, mail.bcc[0].email, mail.reply_to[0].email] == [
        "bob@example.com",
        "eve@example.com",
        "help@example.com",
    ]
    assert (mail.sender.email, mail.headers, mail.tags) == ("shop@example.com", (("X-Order", "1001"),), ("receipt",))
    assert (mail.metadata, mail.idempotency_key) == ({"order": "1001"}, "order-1001")
    assert mail.attachment("invoice.pdf").content == b"%PDF"
    with pytest.raises(AssertionError, match=r"has no attachment bill.pdf. It has: invoice.pdf"):
        mail.attachment("bill.pdf")


def test_mails_of_coroutines_are_caught_with_a_session_and_without(box: Outbox) -> None:
    async def send() -> list[str]:
        engine = create_async_engine(NOWHERE)
        async with AsyncSession(engine) as session:
            await deliver_later.adelay(message("lost@example.com"), session=session)
            await session.rollback()
            await deliver_later.adelay(message("kept@example.com"), session=session)
            await adeliver_many([message("many@example.com")], session=session)
        result = await deliver_later.adelay(message("own@example.com"))
        assert isinstance(result, DeliveryResult)
        assert (await result.aget(timeout=1)).status == await result.astate() == "sent"
        return [mail.to.email for mail in box.sent]

    assert asyncio.run(send()) == ["kept@example.com", "many@example.com", "own@example.com"]


# --- what is refused


def test_a_mail_that_cannot_go_fails_the_call_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").write_text(
        'default_from = "shop@example.com"\n[accounts.main]\nprovider = "smtp"\nhost = "mail.internal"\n'
        '[[routes]]\ntenant = "acme"\naccounts = ["main"]\n',
        encoding="utf-8",
    )
    configure(None)
    with outbox() as box, tenant("acme"):
        with pytest.raises(TemplateError):
            deliver_later.delay(Broken(to="ada@example.com"))
        with pytest.raises(MessageError):
            message("ada")
        with tenant("globex"), pytest.raises(RouteError):
            deliver_later.delay(message())
        box.assert_nothing_sent()
        deliver(message())
        assert box.assert_sent().account == "main"


class Kept(Tenancy):
    """An application that keeps its accounts."""

    def resolve_route(self, context: RouteContext) -> list[str]:
        return [f"{context.tenant}-main"]

    def resolve_account(self, name: str) -> None:
        raise AssertionError("the outbox opens no account")


def test_accounts_that_the_application_keeps_are_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "mailglass.toml").write_text(f'tenancy = "{__name__}:Kept"\n', encoding="utf-8")
    configure(None)
    with outbox() as box, tenant("acme"):
        deliver_later.delay(message())
        assert (box.assert_sent().account, box.sent[0].sender.email) == ("acme-main", "sender@example.com")


def test_nothing_is_really_sent_and_no_database_is_asked(box: Outbox) -> None:
    runtime = get_runtime()
    with pytest.raises(OutboxError, match="use the mailbox"):
        cancel_many(stream="bulk")
    with pytest.raises(OutboxError, match="sends nothing"):
        _ = runtime.accounts
    with pytest.raises(OutboxError, match="sends nothing"):
        runtime.engine.run(None)  # type: ignore[arg-type]


def test_a_session_that_is_none_is_an_error_as_everywhere(box: Outbox) -> None:
    with pytest.raises(TypeError, match="session is None"):
        deliver_later.delay(message(), session=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a SQLAlchemy Session"):
        deliver_later.delay(message(), session="no session")  # type: ignore[arg-type]


# --- results


def test_results_behave_as_those_of_a_mail_that_was_sent(box: Outbox) -> None:
    result = deliver_later.delay(message())
    assert isinstance(result, DeliveryResult)
    assert (result.state, result.ready(), result.successful(), result.failed()) == ("sent", True, True, False)
    delivery = result.get(timeout=1)
    assert delivery.provider_message_id == result.result == f"outbox-{result.id}"
    assert (delivery.recipient, delivery.facts.sent_at is not None) == ("ada@example.com", True)
    assert not result.cancel()
    with pytest.raises(DeliveryNotFoundError):
        _ = DeliveryResult(result.id, "globex").state


def test_a_mail_that_is_due_later_waits_until_the_time_is_moved_on(box: Outbox) -> None:
    later = deliver_later.apply_async((message(["a@example.com", "b@example.com"]),), countdown=3600)
    tomorrow = deliver_later.apply_async((message(),), eta=clock.now() + timedelta(days=1))
    assert isinstance(later, DeliveryGroup)
    assert (later.state, tomorrow.state, len(box)) == ("queued", "queued", 3)
    assert later[0].cancel()
    assert [mail.to.email for mail in box.sent] == ["b@example.com", "ada@example.com"]
    box.advance(hours=2)
    assert (later[1].state, tomorrow.state) == ("sent", "queued")
    assert [box.state(mail) for mail in box.sent] == ["sent", "queued"]
    with pytest.raises(MessageError, match="expires"):
        deliver_later.apply_async((message(),), eta=clock.now(), expires=clock.now() - timedelta(seconds=1))


def test_idempotency_keys_and_task_ids_tell_the_same_call_from_another(box: Outbox) -> None:
    keyed = message(idempotency_key="order-1001")
    assert deliver_later.delay(keyed).id == deliver_later.delay(keyed).id == str(deliver(keyed).id)
    with pytest.raises(IdempotencyError):
        deliver_later.delay(message("bob@example.com", idempotency_key="order-1001"))
    with tenant("acme"):
        deliver_later.delay(keyed)
    name = "0199c6f2-0000-7000-8000-000000000000"
    first = deliver_later.apply_async((message(["c@example.com", "d@example.com"]),), task_id=name)
    again = deliver_later.apply_async((message(["c@example.com", "d@example.com"]),), task_id=name)
    assert isinstance(first, DeliveryGroup) and isinstance(again, DeliveryGroup)
    assert [result.id for result in first] == [result.id for result in again]
    with pytest.raises(IdempotencyError):
        deliver_later.apply_async((message(),), task_id=name)
    assert len(box) == 4


def test_a_suppressed_recipient_raises_and_a_suppressed_copy_is_left_out(box: Outbox) -> None:
    box.suppress("Ada@example.com")
    box.suppress("@blocked.example", tenant="*")
    for call in (deliver, deliver_later.delay):
        with pytest.raises(SuppressedError):
            call(message())
    with tenant("acme"), pytest.raises(SuppressedError):
        deliver_later.delay(message("x@blocked.example"))
    results = deliver_many([message(), message("bob@example.com", cc=["ada@example.com", "eve@example.com"])])
    assert [result.outcome.value for result in results] == ["suppressed", "queued"]
    assert [copy.email for copy in box.assert_sent(count=1).cc] == ["eve@example.com"]
    with tenant("acme"):
        assert deliver_later.delay(message()).state == "sent"


def test_suppressions_of_the_application_count_in_the_outbox(box: Outbox) -> None:
    assert suppressions.add("ada@example.com", stream="bulk") == 1
    assert suppressions.add("ada@example.com", stream="bulk") == 0
    assert [entry.stream for entry in suppressions.check("ada@example.com")] == ["bulk"]
    assert deliver_later.delay(message()).state == "sent"
    with pytest.raises(SuppressedError):
        deliver_later.delay(message(stream="bulk"))
    suppressions.add("bob@example.com", reason="complaint")
    assert suppressions.remove("bob@example.com").removed == 0
    assert suppressions.remove("bob@example.com", force=True).removed == 1
    deliver_later.delay(message("bob@example.com"))
    suppressions.add("eve@example.com", expires_at=clock.now() + timedelta(hours=1))
    with pytest.raises(SuppressedError):
        deliver_later.delay(message("eve@example.com"))
    box.advance(hours=2)
    assert deliver_later.delay(message("eve@example.com")).state == "sent"
    with tenant("acme"):
        assert suppressions.check("bob@example.com") == []


# --- transactions of the caller


@pytest.mark.parametrize("scoped", [True, False])
def test_a_mail_goes_with_the_transaction_or_savepoint_that_rolls_back(box: Outbox, scoped: bool) -> None:
    maker = sessionmaker(create_engine("sqlite://"))
    session: Any = scoped_session(maker) if scoped else maker()

    def send(to: str) -> None:
        deliver_later.delay(message(f"{to}@example.com"), session=session)

    send("lost")
    with session.begin_nested():
        send("lost-too")
    box.assert_sent(to="lost@example.com")
    session.rollback()
    box.assert_nothing_sent()
    send("kept")
    savepoint = session.begin_nested()
    send("undone")
    savepoint.rollback()
    session.commit()
    session.execute(text("SELECT 1"))
    session.rollback()
    assert [mail.to.email for mail in box.sent] == ["kept@example.com"]


# --- tests beside and after one another


def test_threads_with_and_without_the_context_are_caught_by_the_one_test_under_way(box: Outbox) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            pool.submit(deliver_later.delay, message(f"u{number}@example.com")).result()
        pool.submit(copy_context().run, deliver_later.delay, message()).result()
    assert len(box) == 21


def test_tasks_of_a_loop_are_caught_by_the_outbox_around_them() -> None:
    async def test(number: int) -> list[str]:
        with outbox() as box:
            await asyncio.sleep(0)
            deliver_later.delay(message(f"u{number}@example.com"))
            await asyncio.to_thread(deliver_later.delay, message(f"t{number}@example.com"))
            return [mail.to.email for mail in box.sent]

    async def both() -> list[list[str]]:
        return await asyncio.gather(*(test(number) for number in range(5)))

    assert asyncio.run(both()) == [[f"u{number}@example.com", f"t{number}@example.com"] for number in range(5)]


def test_tests_in_threads_each_have_their_own_mails() -> None:
    together = threading.Barrier(4)

    def test(number: int) -> list[str]:
        with outbox() as box:
            together.wait()
            deliver_later.delay(message(f"u{number}@example.com"))
            together.wait()
            return [mail.to.email for mail in box.sent]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(test, range(4))) == [[f"u{number}@example.com"] for number in range(4)]


def test_a_stray_thread_is_refused_while_several_tests_are_under_way() -> None:
    entered, over = threading.Barrier(3), threading.Barrier(3)

    def test() -> None:
        with outbox():
            entered.wait()
            over.wait()

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(test) for _ in range(2)]
        entered.wait()
        with pytest.raises(OutboxError, match="copy_context"):
            deliver_later.delay(message())
        over.wait()
        for one in waiting:
            one.result()


def test_code_that_outlives_its_test_is_refused_and_reaches_no_other_test() -> None:
    with outbox() as first:
        context = copy_context()
    with outbox() as second:
        with pytest.raises(OutboxError, match="over"):
            context.run(deliver_later.delay, message())
        assert (len(first), len(second)) == (0, 0)
    with pytest.raises(OutboxError, match="over"):
        context.run(deliver_later.delay, message())


def test_loop_that_serves_several_tests_sends_into_the_one_under_way() -> None:
    async def send(name: str) -> None:
        deliver_later.delay(message(f"{name}@example.com"))
        await deliver_later.adelay(message(f"{name}@example.com"))
        await asyncio.to_thread(deliver_later.delay, message(f"{name}@example.com"))

    # it takes its context when it runs for the first time
    runner = asyncio.Runner()
    try:
        for name in ("first", "second"):
            with outbox() as box:
                runner.run(send(name))
                assert [mail.to.email for mail in box.sent] == [f"{name}@example.com"] * 3
        with pytest.raises(OutboxError, match="over"):
            runner.run(send("late"))
    finally:
        runner.close()


def test_outboxes_nest_and_the_inner_one_catches() -> None:
    with outbox() as outer:
        with outbox() as inner:
            deliver_later.delay(message())
        assert (len(outer), len(inner)) == (0, 1)
        deliver_later.delay(message())
        assert (len(outer), len(inner)) == (1, 1)


def test_after_the_outbox_the_process_has_its_own_runtime_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with outbox():
        inside = get_runtime()
    assert get_runtime() is not inside
    monkeypatch.delenv("MAILGLASS_DATABASE_URL", raising=False)
    configure(load_settings({"MAILGLASS_DEFAULT_FROM": "shop@example.com"}))
    with pytest.raises(RouteError):
        deliver_later.delay(message())


def test_unittest_enters_the_outbox_as_a_context() -> None:
    class Shop(unittest.TestCase):
        def setUp(self) -> None:
            self.outbox = self.enterContext(outbox())

        def test_first(self) -> None:
            deliver_later.delay(message())
            self.outbox.assert_sent(count=1)

        def test_second(self) -> None:
            self.outbox.assert_nothing_sent()

    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        done = unittest.TextTestRunner(stream=nowhere).run(unittest.TestLoader().loadTestsFromTestCase(Shop))
    assert (done.testsRun, done.failures, done.errors) == (2, [], [])


# --- failures


def test_failures_list_what_was_sent(box: Outbox) -> None:
    with pytest.raises(AssertionError) as empty:
        box.assert_sent()
    assert str(empty.value) == "expected a mail, found 0. Nothing was sent."
    deliver_later.delay(message())
    deliver_later.delay(Receipt(to="bob@example.com", context={"number": 1, "name": "Bob"}))
    with pytest.raises(AssertionError) as missing:
        box.assert_sent(to="eve@example.com", subject=re.compile("Re"), mailable=Receipt, count=2)
    assert str(missing.value) == (
        f"expected 2 mails to eve@example.com with the subject /Re/ of {Receipt.__module__}:Receipt, found 0. Sent:\n"
        "  ada@example.com: 'Receipt 1001'\n"
        f"  bob@example.com: 'Receipt 1' ({Receipt.__module__}:Receipt)"
    )
    with pytest.raises(AssertionError, match=r"expected no mail to bob@example.com, found 1"):
        box.assert_nothing_sent(to="bob@example.com")
    with pytest.raises(AssertionError, match=r"expected 1 mail, found 2"):
        box.assert_part("text", contains="Thank you.")
    with pytest.raises(AssertionError, match="has no html part"):
        box.assert_sent(to="ada@example.com").assert_part("html", contains="x")
    with pytest.raises(AssertionError, match=r"(?s)does not contain 'Goodbye':\nThank you\."):
        box.assert_sent(to="ada@example.com").assert_part("text", contains="Goodbye")
    with pytest.raises(ValueError, match="assert_nothing_sent"):
        box.assert_sent(count=0)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)))
def test_arrays_of_the_statements_are_read_back_as_they_were_written(values: list[str | None]) -> None:
    assert elements(arrays.texts(values)) == values
