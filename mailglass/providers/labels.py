"""Tags and metadata as far as a provider can carry them: what it cannot is left out, and never fails a mail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mailglass.mail.outgoing import Outgoing


def labelled(mail: Outgoing, tags: Iterable[str], metadata: Mapping[str, str]) -> Outgoing:
    """Return the mail with these tags and this metadata, or the mail itself where they are its own."""
    kept = tuple(tags)
    if kept == mail.tags and metadata == mail.metadata:
        return mail
    return replace(mail, tags=kept, metadata=metadata)


def as_far_as(metadata: Mapping[str, str], fits: Callable[[dict[str, str]], bool]) -> Mapping[str, str]:
    """Return the entries that fit together, the first ones first.

    Args:
        metadata: of a message.
        fits: says of some entries whether a request can carry them.
    """
    if fits(dict(metadata)):
        return metadata
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        if fits(kept | {key: value}):
            kept[key] = value
    return kept


def left_out(mail: Outgoing, fitted: Outgoing) -> str | None:
    """Return what a fitted mail lacks: `tags`, `metadata`, `tags_and_metadata`, or None."""
    tags, metadata = len(fitted.tags) < len(mail.tags), len(fitted.metadata) < len(mail.metadata)
    if tags and metadata:
        return "tags_and_metadata"
    return "tags" if tags else "metadata" if metadata else None
