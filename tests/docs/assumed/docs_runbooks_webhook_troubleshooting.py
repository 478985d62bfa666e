"""Taken for granted: the log of a web process that has refused and stored webhooks."""

import json
from pathlib import Path

EVENTS = (
    {"account": "acme-postmark", "status": 401, "reason": "bad_credentials", "event": "mailglass.webhook.refused"},
    {"account": "acme-postmark", "stored": 0, "duplicates": 1, "event": "mailglass.webhook.stored"},
    {"account": "acme-postmark", "reason": "the file hook is empty", "event": "mailglass.secrets.refused"},
)
Path("web.log").write_text("".join(f"{json.dumps(event)}\n" for event in EVENTS), encoding="utf-8")
