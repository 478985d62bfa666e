"""No command, log line or error that names a connection shows a piece of its password."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import re
import traceback
from collections.abc import Iterator
from unittest.mock import patch
from urllib.parse import quote

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from mailglass.celery import configuration
from mailglass.cli import run
from mailglass.errors import ConfigError, MailglassError
from mailglass.ledger import schema
from mailglass.ledger.database import Database
from mailglass.settings import configure, load_settings
from mailglass.settings.redis_client import redis_client
from mailglass.settings.servers import broker_servers, database_server, redis_server

# pieces that stand nowhere else, so that even one of them is found
PIECES = st.sampled_from(["hunterq", "zebrax", "wombatj", "4711", "yakq9"])
SPECIAL = st.sampled_from([*"/#?@:;%&=+ \\'\"[]$!~", "%2F", "//", "é", "@@", ":1", "/0"])
PASSWORDS = st.lists(PIECES | SPECIAL, min_size=1, max_size=6).map("".join)
# nobody listens there
HOST = "127.0.0.1:9"


def pieces_of(password: str) -> set[str]:
    return set(re.findall(r"hunterq|zebrax|wombatj|4711|yakq9", password))


def assert_hidden(output: str, *passwords: str) -> None:
    for password in passwords:
        for piece in pieces_of(password):
            assert piece not in output
        for form in (password, quote(password, safe=""), base64.b64encode(password.encode()).decode()):
            assert len(form) < 4 or form not in output


def said(error: BaseException) -> str:
    """All that an error may be printed with, the causes and contexts that a traceback leaves out among it."""
    texts, seen, left = [], set(), [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        texts += ["".join(traceback.format_exception(one)), repr(one), str(one)]
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(texts)


@contextlib.contextmanager
def output_of(**variables: str) -> Iterator[io.StringIO]:
    """What is printed and logged meanwhile, at the level that shows most."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with (
            patch.dict(os.environ, variables),
            contextlib.redirect_stdout(written),
            contextlib.redirect_stderr(written),
        ):
            yield written
    finally:
        root.removeHandler(handler)


def urls(password: str, other: str, encoded: bool) -> dict[str, str]:
    one, two = (quote(password, safe=""), quote(other, safe="")) if encoded else (password, other)
    return {
        "MAILGLASS_DATABASE_URL": f"postgresql://mail:{one}@{HOST}/mail",
        "MAILGLASS_BROKER_URL": f"amqp://mail:{one}@{HOST}/v;amqp://mail:{two}@{HOST}/v",
        "MAILGLASS_REDIS_URL": f"redis://:{one}@{HOST}/1",
    }


@settings(max_examples=30, deadline=None)
@given(PASSWORDS, PASSWORDS, st.booleans())
def test_a_password_shows_in_no_command_whatever_it_holds(password: str, other: str, encoded: bool) -> None:
    with output_of(**urls(password, other, encoded)) as written:
        configure(None)
        for command in (["config", "check"], ["config", "check", "--json"], ["config", "env"], ["db", "current"]):
            assert run(command) in (0, 1)
            assert "Traceback" not in written.getvalue()
        try:
            found = load_settings()
        except ConfigError as error:
            written.write(said(error))
        else:
            written.write(repr(found) + str(found))
    assert_hidden(written.getvalue(), password, other)


@settings(max_examples=15, deadline=None)
@given(PASSWORDS, PASSWORDS, st.booleans())
def test_a_password_shows_in_no_error_of_a_connection(password: str, other: str, encoded: bool) -> None:
    made = urls(password, other, encoded)
    database, broker, redis = made.values()
    texts = []
    for attempt in (
        lambda: Database(database).query(sqlalchemy.text("SELECT 1")),
        lambda: schema.check(database),
        lambda: redis_client(redis).ping(),
        lambda: redis_server(redis),
        lambda: broker_servers(broker),
    ):
        try:
            texts.append(repr(attempt()))
        except Exception as error:
            if isinstance(error, MailglassError) or "redis" in type(error).__module__:
                texts.append(said(error))
            else:
                raise
    assert_hidden("\n".join(texts), password, other)


@given(PASSWORDS, PASSWORDS)
def test_an_encoded_password_leaves_every_server_readable(password: str, other: str) -> None:
    database, broker, redis = urls(password, other, encoded=True).values()
    assert str(database_server(database)) == "127.0.0.1 port 9, database mail"
    assert [str(server) for server in broker_servers(broker)] == ["127.0.0.1 port 9, database v"] * 2
    assert str(redis_server(redis)) == "127.0.0.1 port 9, database 1"


@pytest.mark.parametrize("special", ["/", "#", "?", "/#?"])
def test_a_database_password_that_sqlalchemy_takes_as_it_is_leaves_the_server_readable(special: str) -> None:
    server = database_server(f"postgresql://mail:hunter{special}q@db.example.com:5433/mail?sslmode=require")
    assert str(server) == "db.example.com port 5433, database mail"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mail:1/ss@db.example.com@x/mail",
        "postgresql://mail:p@ss/word@db.example.com/mail",
        "postgresql://mail:pass/db",
        "postgresql://mail/x:pass@db/mail",
        "postgresql://db:port/mail",
    ],
)
def test_a_url_whose_password_may_stand_elsewhere_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="Percent-encode"):
        database_server(url)


def test_the_celery_app_masks_every_broker_of_a_list() -> None:
    from celery import Celery

    environ = urls("hunterq", "zebrax", encoded=True)
    app = Celery(set_as_current=False)
    app.conf.update(configuration(load_settings(environ)))
    shown = [app.connection().as_uri(), repr(app.connection()), app.bugreport(), app.conf.humanize()]
    assert_hidden("\n".join(shown), "hunterq", "zebrax")


@pytest.mark.parametrize("query", ["password=x&hunterq=1", "connect_timeout=hunterq"])
def test_an_option_that_the_driver_refuses_is_told_without_its_name_or_value(query: str) -> None:
    url = f"postgresql://{HOST}/mail?{query}"
    with pytest.raises(ConfigError, match="MAILGLASS_DATABASE_URL") as caught:
        schema.check(url)
    assert "hunterq" not in said(caught.value)


def test_an_option_that_the_driver_refuses_is_told_by_the_pool_as_well() -> None:
    url = f"postgresql://{HOST}/mail?password=x&hunterq=1"
    with pytest.raises(ConfigError, match="MAILGLASS_DATABASE_URL") as caught:
        Database(url).run("schema_version")
    assert "hunterq" not in said(caught.value)


@pytest.mark.parametrize("query", ["password=x&hunterq=1", "hunterq=hunterq"])
def test_an_option_that_no_redis_connection_has_is_told_when_the_url_is_read(query: str) -> None:
    with pytest.raises(ConfigError) as caught:
        redis_client(f"redis://{HOST}/1?{query}")
    assert "hunterq" not in said(caught.value)
