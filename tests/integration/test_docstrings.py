"""Examples in docstrings, run as they stand against a ledger, with an account that sends nothing."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Task

import mailglass
from mailglass.mail.addresses import Address
from mailglass.runtime import close_runtime
from mailglass.settings import AccountSettings, Route, Secret, Settings, configure

WITH_EXAMPLES = (
    "Address Attachment BatchResults CancelCounts CancelOutcome Delivery DeliveryGroup DeliveryResult ItemResult "
    "Mailable Message MessageError Stream acancel_many adeliver adeliver_many adeliver_many_or_raise arelease_many "
    "cancel_many configure current_tenant deliver deliver_later deliver_many "
    "deliver_many_or_raise load_settings release_many tenant"
).split()
MODULES = (
    "mailglass.integrations.celery",
    "mailglass.integrations.mailer",
    "mailglass.routing.hooks",
    "mailglass.suppressions.bulk",
    "mailglass.suppressions.csv_export",
    "mailglass.suppressions.csv_import",
    "mailglass.suppressions.editing",
    "mailglass.suppressions.listing",
    "mailglass.testing.engine_mailbox",
    "mailglass.testing.memory_outbox",
    "mailglass.web",
)


@pytest.fixture
def ledger(database_url: str, broker_url: str) -> Iterator[None]:
    configure(
        Settings(
            database_url=Secret(database_url),
            broker_url=Secret(broker_url),
            accounts={"main": AccountSettings("main", "null")},
            routes=(Route(("main",)),),
            default_from=Address("shop@example.com"),
        )
    )
    yield
    close_runtime()
    configure(None)


def examples(value: Any) -> list[doctest.DocTest]:
    if isinstance(value, Task):
        value = type(value)
    module = value if inspect.ismodule(value) else inspect.getmodule(inspect.unwrap(value))
    finder = doctest.DocTestFinder(recurse=not inspect.isfunction(value))
    return [test for test in finder.find(value, value.__name__, module, globs=dict(vars(module))) if test.examples]


def run(tests: list[doctest.DocTest]) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_exported_names_return_what_they_show(name: str, ledger: None) -> None:
    tests = examples(getattr(mailglass, name))
    assert tests
    run(tests)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_modules_return_what_they_show(name: str, ledger: None) -> None:
    tests = examples(importlib.import_module(name))
    assert tests
    run(tests)
