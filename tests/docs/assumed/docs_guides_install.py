"""Taken for granted: a Flask application that knows nothing of mailglass."""

from pathlib import Path
from typing import Any

_FILE = Path("app.py")
_SOURCE = "from flask import Flask\n\napp = Flask(__name__)\n"


def check(page: dict[str, Any]) -> None:
    """Hold that the application is as it was before it was installed into."""
    assert _FILE.read_text(encoding="utf-8") == _SOURCE
    assert not Path("mails.py").exists()


_FILE.write_text(_SOURCE, encoding="utf-8")
