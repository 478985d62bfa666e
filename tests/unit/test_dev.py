"""The parts of `mailglass dev`: an application's settings with its mail caught, the page of mails, changed files."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from mailglass.demo import own_settings
from mailglass.demo.reloading import Changes
from mailglass.errors import ConfigError
from mailglass.testing.lab import inbox as inbox_module
from mailglass.testing.lab.inbox import Inbox

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(document=st.dictionaries(TEXT, VALUES, max_size=4))
def test_settings_come_out_as_they_went_in(document: dict) -> None:
    written = "\n".join(f"{own_settings._key(name)} = {own_settings._value(value)}" for name, value in document.items())
    assert tomllib.loads(written) == document


def test_every_account_is_caught_no_domain_is_watched_and_nothing_else_changes(tmp_path: Path) -> None:
    file = tmp_path / "mailglass.toml"
    file.write_text(
        'database_url = "env:LIVE"\nbroker_url = "env:LIVE"\ntemplates = ["shop"]\n'
        '[accounts.live]\nprovider = "ses"\nregion = "eu-west-1"\nfrom = "a@shop.example"\ntenant = "acme"\n'
        '[[routes]]\naccounts = ["live"]\n[streams.bulk]\nmax_attempts = 3\n',
        encoding="utf-8",
    )
    found = tomllib.loads(own_settings.caught(file, 8027, "lab", "env:PASSWORD"))
    assert found == {
        "templates": ["shop"],
        "accounts": {
            "live": {
                "from": "a@shop.example",
                "tenant": "acme",
                "provider": "smtp",
                "host": "127.0.0.1",
                "port": 8027,
                "security": "none",
                "username": "lab",
                "password": "env:PASSWORD",
            }
        },
        "routes": [{"accounts": ["live"]}],
        "streams": {"bulk": {"max_attempts": 3}},
        "domains": {"watch": False},
    }


@pytest.mark.parametrize("content", [None, b"accounts = \xff", b"[accounts"])
def test_settings_that_cannot_be_read_are_an_error_that_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "shop.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"shop\.toml"):
        own_settings.caught(file, 8027, "lab", "env:PASSWORD")


def test_the_named_settings_come_before_those_of_the_directory(tmp_path: Path) -> None:
    assert own_settings.find({}, tmp_path) is None
    (tmp_path / "mailglass.toml").touch()
    assert own_settings.find({}, tmp_path) == tmp_path / "mailglass.toml"
    assert own_settings.find({"MAILGLASS_CONFIG": "/etc/shop.toml"}, tmp_path) == Path("/etc/shop.toml")


def pages(inbox: Inbox) -> Callable[[str], httpx.Response]:
    def get(path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(Starlette(routes=inbox.routes()))
            async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:
                return await client.get(path)

        return asyncio.run(ask())

    return get


HOSTILE = (
    b"From: <a@b.example>\r\nTo: ada@example.com\r\nSubject: <script>alert(1)</script>\r\n"
    b"Content-Type: text/html; charset=nonsense\r\n\r\n<script>alert(2)</script>"
)


def test_a_mail_is_shown_as_text_and_its_html_in_a_frame_where_nothing_runs() -> None:
    inbox = Inbox()
    inbox.keep(["<b>@example.com"], HOSTILE)
    get = pages(inbox)
    for path in ("/mails", "/mails/1"):
        shown = get(path)
        assert shown.status_code == 200
        assert "<script>" not in shown.text and "<b>@" not in shown.text
        assert "&lt;script&gt;" in shown.text
    assert 'sandbox=""' in get("/mails/1").text
    alone = get("/mails/1/html")
    assert "sandbox" in alone.headers["content-security-policy"]
    assert get("/mails/1/raw").headers["content-type"].startswith("text/plain")
    assert get("/mails/2").status_code == 404


@given(
    raw=st.binary(max_size=300), head=st.sampled_from([b"", b"Subject: =?x?q?", b"From: \xff@\r\n", b"To: a@[,<\r\n"])
)
def test_every_caught_mail_has_a_page(raw: bytes, head: bytes) -> None:
    inbox = Inbox()
    inbox.keep(["ada@example.com"], head + raw)
    get = pages(inbox)
    assert (get("/mails").status_code, get("/mails/1").status_code) == (200, 200)


def test_old_mails_are_forgotten_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MOST", 3)
    monkeypatch.setattr(inbox_module, "MOST_BYTES", 100)
    inbox = Inbox()
    for _ in range(5):
        inbox.keep(["a@example.com"], b"x" * 10)
    get = pages(inbox)
    assert [get(f"/mails/{number}").status_code for number in range(1, 6)] == [404, 404, 200, 200, 200]
    inbox.keep(["a@example.com"], b"x" * 500)
    assert [get(f"/mails/{number}").status_code for number in (5, 6)] == [404, 200]


def test_files_that_are_new_gone_or_written_anew_are_noticed_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailglass.demo.reloading._INTERVAL", 0.0)
    template, skipped = tmp_path / "mails" / "receipt.html", tmp_path / "node_modules" / "x.py"
    for file in (template, skipped):
        file.parent.mkdir()
        file.write_text("a", encoding="utf-8")
    elsewhere = tmp_path.parent / f"{tmp_path.name}.toml"
    elsewhere.write_text("a", encoding="utf-8")
    changes = Changes(tmp_path, elsewhere)
    assert changes.look() == []
    template.write_text("bb", encoding="utf-8")
    skipped.write_text("bb", encoding="utf-8")
    (tmp_path / "photo.jpg").write_text("b", encoding="utf-8")
    assert changes.look() == [template]
    os.utime(elsewhere, ns=(1, 1))
    assert changes.look() == [elsewhere]
    template.unlink()
    assert changes.look() == [template]
    assert changes.look() == []
