"""Taken for granted: a mail that came back."""

from pathlib import Path

raw = Path("message").read_bytes() if Path("message").exists() else b""
