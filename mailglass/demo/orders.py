"""The demo's input: a file of orders, as many as asked for, each with a number and an address of its own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count, islice

TENANTS = ("acme", "globex", "default")


@dataclass(frozen=True, slots=True)
class Order:
    """One order to be confirmed by mail.

    Attributes:
        number: unique within a run.
        tenant: the shop it was placed with.
        email: the customer's address, tagged with the order's number and the run.
        amount: for all pieces, as it is printed.
    """

    number: int
    tenant: str
    name: str = field(repr=False)
    email: str = field(repr=False)
    item: str = field(repr=False)
    quantity: int
    amount: str
    currency: str


def read_orders(number: int, run: str) -> list[Order]:
    """Return the first orders of the file; where more are wanted than it holds, it is read again with later numbers.

    Args:
        number: how many, at least 1.
        run: tells the addresses of one run from those of another, whose suppressions may still stand.
    """
    return list(islice(_orders(run), number))


def _orders(run: str) -> Iterator[Order]:
    rows = list(csv.DictReader(files("mailglass.demo").joinpath("orders.csv").read_text("utf-8").splitlines()))
    for lap in count():
        for row in rows:
            order = int(row["order"]) + lap * len(rows)
            yield Order(
                number=order,
                tenant=row["tenant"],
                name=row["name"],
                email=_tagged(row["email"], f"{order}.{run}"),
                item=row["item"],
                quantity=int(row["quantity"]),
                amount=row["amount"],
                currency=row["currency"],
            )


def _tagged(email: str, tag: str) -> str:
    """Return the address with a tag after its `+`; a tag that is there already is kept."""
    local, _, domain = email.rpartition("@")
    return f"{local}{'.' if '+' in local else '+'}{tag}@{domain}"
