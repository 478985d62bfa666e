"""The names under which Resend carries what is ours."""

from __future__ import annotations

from typing import Final

NAME: Final = "resend"

DELIVERY: Final = "mailglass_id"
COPIES: Final = "mailglass_copies"
"""Marks a mail with cc or bcc."""
TAG: Final = "mailglass_tag_"
"""With a number behind it."""
