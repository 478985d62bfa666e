"""The examples of README and docs, as two type checkers read them; and what they must not let pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.parsing import assumed, blocks, slug

ROOT = Path(__file__).parents[2]
# its test of a provider is run as it stands, in test_write_a_provider; Celery has no types
APART = {"docs/guides/write-a-provider.md": 4, "docs/guides/celery.md": 0}
REFUSED = """
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from mailglass import Mailable, Message, adeliver_many, deliver_later, deliver_many

class Receipt(Mailable):
    subject = "Receipt"
    text = "Thank you."

Message(to=42, subject="s", text="t")  # REFUSED
Message(to=["ada@example.com", 4], subject="s", text="t")  # REFUSED
Message(to=("Ada", 4), subject="s", text="t")  # REFUSED
Message(to="ada@example.com", subject=5, text="t")  # REFUSED
Message(to="ada@example.com", subject="s", text=b"t")  # REFUSED
Message(to="ada@example.com", subject="s", text="t", stream="marketing")  # REFUSED
Receipt(to=b"ada@example.com")  # REFUSED
Receipt(to="ada@example.com", stream="marketing")  # REFUSED
deliver_later.delay("ada@example.com")  # REFUSED
deliver_later.delay(Receipt(to="ada@example.com"), session=None)  # REFUSED
deliver_many(Receipt(to="ada@example.com"))  # REFUSED

async def refused(session: Session, later: AsyncSession) -> None:
    await deliver_later.adelay("ada@example.com")  # REFUSED
    await deliver_later.adelay(Receipt(to="ada@example.com"), session=None)  # REFUSED
    await deliver_later.adelay(Receipt(to="ada@example.com"), session=session)  # REFUSED
    await adeliver_many(Receipt(to="ada@example.com"), session=later)  # REFUSED
    deliver_later.delay(Receipt(to="ada@example.com"), session=later)  # REFUSED
"""
ACCEPTED = """
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncSession

from mailglass import ANY_TENANT, Address, Attachment, DeliveryGroup, Mailable, Message, deliver, deliver_later
from mailglass import acancel_many, adeliver, adeliver_many
from mailglass.mail.texts import LazyText

class Receipt(Mailable):
    subject = "Receipt"
    text = "Thank you."
    stream = "bulk"

def send(name: LazyText, *people: str) -> str:
    message = Message(
        to=[*people, Address("ada@example.com"), ("Ada", "ada@example.com"), (name, "grace@example.com")],
        subject=name, text=name, tags=[name], headers={"X-A": name}, metadata={"key": name}, stream="operational",
        attachments=[Attachment("a.pdf", b"", "application/pdf")],
    )
    result = deliver_later.apply_async((message,), countdown=60, priority=9)
    print(result.id, result.state, result.ready(), result.successful(), result.failed())
    if isinstance(result, DeliveryGroup):
        return result[0].get(timeout=30).status.value
    print(deliver_later.AsyncResult(result.id, tenant=ANY_TENANT).cancel())
    return deliver(Receipt(to=people, context={"name": name}, stream="transactional")).status.value

async def send_from_a_coroutine(session: AsyncSession, messages: AsyncIterator[Message]) -> list[str]:
    result = await deliver_later.adelay(Receipt(to="ada@example.com"), session=session)
    if isinstance(result, DeliveryGroup):
        return [str(delivery.id) for delivery in await result.aget(timeout=30)]
    print(await result.astate(), await result.aready(), (await result.acancel()).value)
    print(await acancel_many(stream="bulk"))
    again = await deliver_later.aapply_async((Receipt(to="ada@example.com"),), countdown=60)
    results = await adeliver_many(messages, session=session, priority=9)
    sent = await adeliver(Receipt(to="ada@example.com"))
    return [again.id, results[0].outcome, (await result.aget(timeout=30)).status.value, sent.status.value]
"""


def pages() -> list[str]:
    paths = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    return [page for page in (str(path.relative_to(ROOT)) for path in paths) if blocks(page)]


def module_of(page: str) -> str:
    """All examples of a page as one module, in their order, after what the page takes for granted."""
    return "\n".join([assumed(page), *blocks(page)[: APART.get(page)]])


def stub(directory: Path, module: str) -> None:
    """Everything in a module of Django is Any: it has no types of its own, and checkers infer wrong ones."""
    for part in module.split("."):
        directory /= part
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "__init__.pyi").write_text("from typing import Any\ndef __getattr__(name: str) -> Any: ...\n")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("examples")
    for page in pages():
        (directory / f"{slug(page)}.py").write_text(module_of(page), encoding="utf-8")
    for module in re.findall(r"^from (django[\w.]*) import", module_of("docs/guides/django.md"), re.MULTILINE):
        stub(directory / "typings", module)
    (directory / "mypy.ini").write_text(MYPY, encoding="utf-8")
    (directory / "accepted.py").write_text(ACCEPTED, encoding="utf-8")
    (directory / "refused.py").write_text(REFUSED, encoding="utf-8")
    return directory


MYPY = """
[mypy]
mypy_path = typings
[mypy-docs_guides_django]
disallow_subclassing_any = False
"""
CHECKERS = {
    "mypy": [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        # Django brings no types
        "--disable-error-code",
        "import-untyped",
        "--python-executable",
        sys.executable,
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "examples"),
    ],
    "basedpyright": [
        sys.executable,
        "-m",
        "basedpyright",
        "--level",
        "error",
        "--pythonpath",
        sys.executable,
    ],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_examples_are_typed_and_mistakes_are_found(examples: Path, checker: str) -> None:
    files = sorted(path.name for path in examples.glob("*.py"))
    assert "readme.py" in files
    run = subprocess.run([*CHECKERS[checker], *files], cwd=examples, capture_output=True, text=True, check=False)
    found = {
        (Path(name).name, int(line))
        for name, line in re.findall(r"([\w/.-]+\.py):(\d+)(?::\d+)?[ :-]+error", run.stdout)
    }
    expected = {
        ("refused.py", number) for number, line in enumerate(REFUSED.splitlines(), 1) if line.endswith("# REFUSED")
    }
    assert found == expected, run.stdout + run.stderr
