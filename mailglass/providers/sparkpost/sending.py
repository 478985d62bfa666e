"""A mail as a SparkPost transmission, and what the answers mean."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mailglass.mail.addresses import Address
from mailglass.mail.content_types import written
from mailglass.mail.message import Attachment
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.streams import Stream
from mailglass.providers import parsing
from mailglass.providers.copies import distinct_copies
from mailglass.providers.http import HTTPAnswer, refusal
from mailglass.providers.http_provider import Unsendable, encode_json, mailboxes, provider_options
from mailglass.providers.labels import as_far_as, labelled
from mailglass.providers.sparkpost.options import SparkPostOptions
from mailglass.refusals.answer_rows import SPARKPOST

NAME: Final = "sparkpost"
# errors about recipients, of which an answer tells at most this many
PATH: Final = "/api/v1/transmissions/?num_rcpt_errors=3"

THROTTLED_WAIT: Final = 5.0
"""Seconds to wait after a 429, which asks to pause for one to five and names no time itself."""

_RESERVED_FIELDS: Final = frozenset("content recipients metadata".split())
_CODE = re.compile(r"\d{3,6}\Z")
_UNNAMED: Final = "unnamed"
_KNOWN: Final = frozenset().union(*(row.codes for row in SPARKPOST))


def fitting(mail: Outgoing, max_metadata: int) -> Outgoing:
    """Return the mail with the metadata that SparkPost takes."""

    def fits(metadata: dict[str, str]) -> bool:
        return len(encode_json({"mailglass_id": str(mail.delivery_id), **metadata})) <= max_metadata

    return labelled(mail, mail.tags, as_far_as(mail.metadata, fits))


def encode(mail: Outgoing, options: SparkPostOptions) -> bytes:
    """Return the transmission that carries one mail.

    Raises:
        Unsendable: SparkPost has no way to say what the mail says.
    """
    names = [name.lower() for name, _ in mail.headers]
    if len(set(names)) != len(names):
        raise Unsendable("unsupported_repeated_headers")
    chosen = provider_options(mail, NAME, _RESERVED_FIELDS)
    switches = chosen.pop("options", None) or {}
    if not isinstance(switches, Mapping):
        raise Unsendable("invalid_options")
    transmission = {"return_path": options.return_path} if options.return_path else {}
    return encode_json(
        transmission
        | chosen
        | {
            "options": _switches(mail, options) | dict(switches),
            "recipients": _recipients(mail),
            "content": _content(mail),
        }
    )


def read(answer: HTTPAnswer) -> Outcome:
    """Return the outcome of the one mail of the request."""
    body = answer.json()
    body = body if isinstance(body, dict) else {}
    if 200 <= answer.status < 300:
        return _taken(answer, body.get("results"))
    return _refusal(answer, _errors(body.get("errors")))


def _refusal(answer: HTTPAnswer, errors: list[tuple[str, str]]) -> Outcome:
    if answer.status == 429:
        outcome = refusal(answer, NAME)
        return outcome if outcome.retry_after is not None else replace(outcome, retry_after=THROTTLED_WAIT)
    code, text = _telling(errors)
    return refusal(answer, NAME, code, text, reason=f"sparkpost_{code}" if _CODE.match(code) else None)


def _telling(errors: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the first error with a code that is known, else the first one; empty texts for none."""
    known = (error for error in errors if error[0] in _KNOWN)
    code, text = next(known, errors[0] if errors else ("", ""))
    return code or (_UNNAMED if errors else ""), text


def _taken(answer: HTTPAnswer, results: Any) -> Outcome:
    if not isinstance(results, dict):
        return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)
    transmission = _transmission_id(results.get("id"))
    taken, refused = (_count(results.get(f"total_{word}_recipients")) for word in ("accepted", "rejected"))
    if refused and not taken:
        return _none_taken(answer, results, transmission)
    if refused:
        # SparkPost does not tell whom: the recipient, or somebody who was to get a copy
        return Outcome(OutcomeClass.UNCERTAIN, transmission, reason="recipients_refused_in_part", status=answer.status)
    if transmission or taken:
        return Outcome(OutcomeClass.ACCEPTED, transmission, status=answer.status)
    return Outcome(OutcomeClass.UNCERTAIN, reason="answer_unreadable", status=answer.status)


def _none_taken(answer: HTTPAnswer, results: dict[str, Any], transmission: str | None) -> Outcome:
    for code, text in _errors(results.get("rcpt_to_errors")):
        reason = f"sparkpost_{code}" if _CODE.match(code) else "recipients_refused"
        return replace(refusal(answer, NAME, code, text, reason=reason), provider_message_id=transmission)
    return replace(refusal(answer, NAME, reason="recipients_refused"), provider_message_id=transmission)


def _errors(listed: Any) -> list[tuple[str, str]]:
    """Codes and descriptions, in the answer's order."""
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [(str(item.get("code") or ""), parsing.label_of(item.get("description"))) for item in items]


def _transmission_id(value: object) -> str | None:
    return parsing.text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _switches(mail: Outgoing, options: SparkPostOptions) -> dict[str, Any]:
    switches = {
        "ip_pool": options.ip_pool,
        "open_tracking": options.open_tracking,
        "click_tracking": options.click_tracking,
    }
    return {key: value for key, value in switches.items() if value is not None} | {
        # which of SparkPost's two lists applies, and whether it adds a List-Unsubscribe of its own
        "transactional": mail.stream != Stream.BULK,
        # the mail is rendered: what looks like a placeholder in it is its text
        "perform_substitutions": False,
    }


def _recipients(mail: Outgoing) -> list[dict[str, Any]]:
    """Return the recipient, then everybody who gets a copy: each sees the recipient in To."""
    metadata = {"mailglass_id": str(mail.delivery_id), **mail.metadata}
    shared: dict[str, Any] = {"metadata": metadata}
    if mail.tags:
        shared["tags"] = list(dict.fromkeys(mail.tags))
    cc, bcc = distinct_copies(mail)
    name = {"name": mail.recipient.name} if mail.recipient.name else {}
    return [
        {"address": {"email": mail.recipient.email, **name}, **shared},
        *(
            # SparkPost writes To from `name` and `header_to` (recipient lists, Address Object)
            {"address": {"email": address.email, "header_to": mail.recipient.email, **name}, **shared}
            for address in (*cc, *bcc)
        ),
    ]


def _content(mail: Outgoing) -> dict[str, Any]:
    cc, _ = distinct_copies(mail)
    headers = dict(mail.headers) | ({"CC": mailboxes(cc)} if cc else {})
    fields: dict[str, Any] = {
        "text": mail.text,
        "html": mail.html,
        "reply_to": mailboxes(mail.reply_to),
        "headers": headers,
        "attachments": [_file(item, item.filename) for item in mail.attachments if not item.inline],
        # the name is what the HTML refers to, so the file's own has no place
        "inline_images": [_file(item, item.content_id) for item in mail.attachments if item.inline],
    }
    filled = {key: value for key, value in fields.items() if value}
    return {"from": _person(mail.sender), "subject": mail.subject, **filled}


def _person(address: Address) -> dict[str, str]:
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def _file(item: Attachment, name: str) -> dict[str, str]:
    if len(name.encode()) > 255:
        raise Unsendable("unsupported_file_name")
    return {"type": written(item.content_type), "name": name, "data": base64.b64encode(item.content).decode("ascii")}
