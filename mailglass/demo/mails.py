"""From an order to the mail that confirms it: most as a plain `Message`, every fourth as a templated `Mailable`."""

from __future__ import annotations

from html import escape

from mailglass.demo.orders import Order
from mailglass.mail.mailable import Mailable
from mailglass.mail.message import Message

SHOPS = {"acme": "Acme Hardware", "globex": "Globex Electronics", "default": "The Corner Bookshop"}
_TEMPLATED = 4


class Confirmation(Mailable):
    """The confirmation of an order, rendered by a worker from `templates/confirmation.html`."""

    subject = "Order {{ order.number }}: {{ order.quantity }} × {{ order.item }}"
    html_template = "confirmation.html"


def confirmation(order: Order, run: str) -> Message | Confirmation:
    """Return the mail for an order. Its idempotency key is the order's number, so a repeated call sends nothing new."""
    return _templated(order, run) if order.number % _TEMPLATED == 0 else _plain(order, run)


def reminder(order: Order) -> Message:
    """One more mail to the customer of an order, without an idempotency key."""
    return Message(
        to=(order.name, order.email),
        subject=f"Order {order.number}: how was it?",
        text=f"Dear {order.name},\n\ntell us how you like {order.item}.\n",
        tags=["reminder"],
    )


def _templated(order: Order, run: str) -> Confirmation:
    return Confirmation(
        to=(order.name, order.email),
        context={
            "customer": order.name,
            "shop": SHOPS[order.tenant],
            "order": {
                "number": order.number,
                "item": order.item,
                "quantity": order.quantity,
                "amount": order.amount,
                "currency": order.currency,
            },
        },
        tags=["confirmation"],
        metadata={"order": str(order.number)},
        idempotency_key=_key(order, run),
    )


def _plain(order: Order, run: str) -> Message:
    line = f"{order.quantity} × {order.item}, {order.amount} {order.currency}"
    text = f"Dear {order.name},\n\nthank you for your order {order.number}:\n\n    {line}\n\n{SHOPS[order.tenant]}\n"
    html = (
        f"<p>Dear {escape(order.name)},</p><p>thank you for your order {order.number}:</p>"
        f"<p><b>{escape(line)}</b></p><p>{escape(SHOPS[order.tenant])}</p>"
    )
    return Message(
        to=(order.name, order.email),
        subject=f"Order {order.number} received",
        text=text,
        html=html,
        tags=["confirmation"],
        metadata={"order": str(order.number)},
        idempotency_key=_key(order, run),
    )


def _key(order: Order, run: str) -> str:
    return f"order-{order.number}-{run}"
