"""Settings: what is wrong is refused as a whole, with its remedy and without its secret."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from mailglass.errors import ConfigError
from mailglass.mail.streams import Stream, UncertainPolicy
from mailglass.settings import (
    ENVIRONMENT,
    Route,
    Secret,
    Settings,
    build_options,
    configure,
    get_settings,
    load_settings,
)

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a document under an environment of its own."""

    def loader(document: str = "", **environ: str) -> Settings:
        path = tmp_path / "mailglass.toml"
        path.write_text(document, encoding="utf-8")
        return load_settings(environ, path)

    return loader


def refused(load: Load, document: str = "", **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(document, **environ)
    return caught.value


# --- where they come from


def test_without_a_file_and_an_environment_there_are_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    assert settings.default_tenant == "default"
    assert settings.routes == ()
    assert settings.streams[Stream.BULK].uncertain is UncertainPolicy.HOLD
    with pytest.raises(ConfigError, match=r"MAILGLASS_DATABASE_URL: not set. .*`mailglass dev`"):
        settings.require_database()
    with pytest.raises(ConfigError, match=r"MAILGLASS_BROKER_URL: not set. .*`mailglass dev`"):
        settings.require_broker()


def test_the_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mailglass.toml").write_text('default_tenant = "here"')
    assert load_settings({}).default_tenant == "here"


def test_the_named_file_is_taken_and_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mailglass.toml").write_text('default_tenant = "here"')
    (tmp_path / "other.toml").write_text('default_tenant = "there"')
    assert load_settings({"MAILGLASS_CONFIG": "other.toml"}).default_tenant == "there"
    with pytest.raises(ConfigError, match="no file at gone"):
        load_settings({"MAILGLASS_CONFIG": "gone.toml"})


def test_the_environment_goes_before_the_file(load: Load) -> None:
    document = 'database_url = "env:DB"\ndefault_tenant = "file"\nlog_level = "error"\ndefault_from = "a@example.com"'
    settings = load(
        document,
        DB="postgresql://file/x",
        MAILGLASS_DATABASE_URL="postgresql://environment/x",
        MAILGLASS_DEFAULT_TENANT="environment",
        MAILGLASS_LOG_LEVEL="debug",
        MAILGLASS_DEFAULT_FROM="b@example.com",
    )
    assert settings.require_database() == "postgresql://environment/x"
    assert (settings.default_tenant, settings.log_level) == ("environment", "debug")
    assert settings.default_from is not None
    assert settings.default_from.email == "b@example.com"


def test_an_empty_default_tenant_means_that_there_is_none(load: Load) -> None:
    assert load(MAILGLASS_DEFAULT_TENANT="").default_tenant is None


def test_the_process_loads_its_settings_once_until_they_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = get_settings()
    assert get_settings() is first
    monkeypatch.setenv("MAILGLASS_DEFAULT_TENANT", "later")
    assert get_settings().default_tenant == "default"
    configure(None)
    assert get_settings().default_tenant == "later"
    own = Settings(default_tenant="own")
    configure(own)
    assert get_settings() is own


# --- what is refused


@pytest.mark.parametrize(
    ("document", "key", "words"),
    [
        ('colour = "red"', "colour", "unknown setting"),
        ("[engine]\nspeed = 3", "engine.speed", "unknown setting"),
        ("[webhooks]\nspeed = 3", "webhooks.speed", "unknown setting"),
        ("[streams.transactional]\nspeed = 3", "streams.transactional.speed", "unknown setting"),
        ("[streams.post]\nmax_age = 3", "streams.post", "unknown stream"),
        ('[[routes]]\naccounts = ["a"]\nspeed = 3\n[accounts.a]\nprovider = "null"', "routes[0].speed", "unknown"),
        ('engine = "fast"', "engine", "wrong type"),
        ('[engine]\nlease = "long"', "engine.lease", "Give a number"),
        ("[engine]\nlease = true", "engine.lease", "Give a number"),
        ("[engine]\nlease = -1", "engine.lease", "above zero"),
        ("[engine]\nlease = nan", "engine.lease", "finite"),
        ("[engine]\nlease = inf", "engine.lease", "finite"),
        ("[engine]\nclaim_size = inf", "engine.claim_size", "finite"),
        ("[engine]\nclaim_size = 1.5", "engine.claim_size", "whole number"),
        ("[engine]\nlease = 30", "engine.lease", "must outlive a task"),
        ("[webhooks]\nmax_body = 99000000", "webhooks.max_body", "at most 67108864"),
        ("[engine]\ntask_budget = 100", "engine.lease", "must outlive a task"),
        ('[streams.bulk]\nuncertain = "maybe"', "streams.bulk.uncertain", "resend, hold"),
        ("streams = 3", "streams", "wrong type"),
        ("accounts = 3", "accounts", "wrong type"),
        ("[accounts.a]\nregion = 3", "accounts.a.provider", "missing"),
        ("[accounts]\na = 3", "accounts.a.provider", "missing"),
        ('[accounts."A b"]\nprovider = "null"', "accounts.A b", "not an account name"),
        ('[accounts.a]\nprovider = "null"\nfrom = "nobody"', "accounts.a.from", "not an address"),
        ("routes = 3", "routes", "wrong type"),
        ("routes = [3]", "routes[0]", "wrong type"),
        ("[[routes]]\n", "routes[0].accounts", "empty"),
        ('[[routes]]\naccounts = "a"', "routes[0].accounts", "wrong type"),
        ('[[routes]]\naccounts = ["ghost"]', "routes[0].accounts", "unknown account 'ghost'"),
        ('default_from = "nobody"', "default_from", "not an address"),
        ('default_tenant = "No Spaces"', "default_tenant", "not a tenant name"),
        ("default_tenant = 3", "default_tenant", "not a tenant name"),
        ('tenancy = "no path"', "tenancy", "package.module:Class"),
        ('templates = "one"', "templates", "Give a list of strings"),
        ("templates = [1]", "templates", "Give a list of strings"),
        ('log_level = "loud"', "log_level", "debug, info, warning, error"),
        ("log_level = []", "log_level", "debug, info, warning, error"),
        ('log_format = "xml"', "log_format", "json, console"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_key(load: Load, document: str, key: str, words: str) -> None:
    error = refused(load, document)
    assert error.key == key
    assert words in str(error)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('tenant = "No Spaces"', "tenant"),
        ("tenant = 3", "tenant"),
        ('stream = "post"', "stream"),
        ('queue = "celery"', "queue"),
        ('queue = "mailglass.No Spaces"', "queue"),
        ("queue = 3", "queue"),
    ],
)
def test_a_wrong_part_of_a_route_is_refused(load, lines: str, key: str) -> None:
    error = refused(load, f'[accounts.a]\nprovider = "null"\n[[routes]]\naccounts = ["a"]\n{lines}')
    assert error.key == f"routes[0].{key}"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MAILGLASS_DATABASE", "MAILGLASS_DATABASE_URL"),
        ("MAILGLASS_BROKERURL", "MAILGLASS_BROKER_URL"),
        ("MAILGLASS_log_level", "MAILGLASS_LOG_LEVEL"),
        ("MAILGLASS_PORT", None),
        ("MAILGLASS_SERVICE_HOSTS", None),
        ("MAILGLASS_", None),
    ],
)
def test_an_unknown_variable_is_ignored_and_named_with_the_nearest_known_one(
    load: Load, name: str, nearest: str | None
) -> None:
    (unknown,) = load(**{name: "8025-secret"}).unknown_variables
    assert unknown.name == name
    assert unknown.nearest == nearest if nearest else unknown.nearest in ENVIRONMENT
    assert name in str(unknown) and unknown.nearest in str(unknown)
    assert "secret" not in str(unknown)


SERVICE = {
    "SERVICE_HOST": "10.96.0.11",
    "SERVICE_PORT": "8025",
    "SERVICE_PORT_HTTP": "8025",
    "SERVICE_PORT_HTTP_METRICS": "9100",
    "PORT": "tcp://10.96.0.11:8025",
    "PORT_8025_TCP": "tcp://10.96.0.11:8025",
    "PORT_8025_TCP_PROTO": "tcp",
    "PORT_8025_TCP_PORT": "8025",
    "PORT_8025_TCP_ADDR": "10.96.0.11",
    "PORT_53_UDP": "udp://[fd00::a]:53",
}


@pytest.mark.parametrize("service", ["MAILGLASS", "MAILGLASS_WEB", "MAILGLASS_REDIS_MASTER_0"])
def test_links_of_a_kubernetes_service_are_no_settings(load: Load, service: str) -> None:
    links = {f"{service}_{name}": value for name, value in SERVICE.items()}
    assert load(**links) == load()


def test_variables_of_others_and_those_that_are_known_are_not_spoken_of(load: Load) -> None:
    assert load(MAILGLASSES="1", mailglass_x="1", MAILGLASS_LOG_LEVEL="error").unknown_variables == ()


def test_a_variable_that_the_file_refers_to_is_known(load: Load) -> None:
    settings = load('database_url = "env:MAILGLASS_SECRET_DB"', MAILGLASS_SECRET_DB="postgresql://x/y")
    assert settings.require_database() == "postgresql://x/y"


def test_several_problems_are_listed_at_once_and_the_first_is_the_errors_own(load: Load) -> None:
    error = refused(load, 'colour = "red"\n[engine]\nlease = "long"', MAILGLASS_LOG_LEVEL="loud")
    lines = str(error).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("colour: ")
    assert lines[1].startswith("log_level: ")
    assert lines[2].startswith("engine.lease: ")
    assert error.key == "colour"


@pytest.mark.parametrize("content", [b"= nothing", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings({}, path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings({}, tmp_path)


# --- secrets


@pytest.mark.parametrize("written", ['"postgresql://ada:hunter2@db/x"', "3", '"hunter2"'])
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(load: Load, written: str) -> None:
    error = refused(load, f"database_url = {written}")
    assert error.key == "database_url"
    assert "env:NAME or file:PATH" in str(error)
    assert "hunter2" not in str(error)


def test_a_secret_that_is_not_there_is_refused_by_its_name(load: Load, tmp_path: Path) -> None:
    assert "variable GONE is not set" in str(refused(load, 'database_url = "env:GONE"'))
    assert "variable GONE is not set" in str(refused(load, 'database_url = "env:GONE"', GONE=""))
    assert "cannot be read" in str(refused(load, f'database_url = "file:{tmp_path}/gone"'))
    assert "cannot be read" in str(refused(load, f'database_url = "file:{tmp_path}"'))
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in str(refused(load, f'database_url = "file:{tmp_path}/empty"'))
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "cannot be read" in str(refused(load, f'database_url = "file:{tmp_path}/binary"'))


def test_a_secret_is_read_from_a_file_without_the_line_end(load: Load, tmp_path: Path) -> None:
    (tmp_path / "db").write_text("postgresql://x/y\n")
    assert load(f'database_url = "file:{tmp_path}/db"').require_database() == "postgresql://x/y"


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("DATABASE", "mysql://ada:hunter2@db/x"),
        ("BROKER", "sqs://hunter2"),
        ("REDIS", "amqp://hunter2"),
        ("REDIS", "x"),
    ],
)
def test_a_url_of_an_unsupported_scheme_is_refused_and_not_repeated(load: Load, key: str, url: str) -> None:
    error = refused(load, **{f"MAILGLASS_{key}_URL": url})
    assert "unsupported URL scheme" in str(error)
    assert "hunter2" not in str(error)


def test_a_secret_shows_itself_to_nobody_but_who_reveals_it() -> None:
    secret = Secret("hunter2", "env:PASSWORD")
    for shown in (repr(secret), str(secret), f"{secret}", repr(Secret("hunter2")), repr([secret]), repr({"a": secret})):
        assert "hunter2" not in shown
    assert "env:PASSWORD" in repr(secret)
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")
    assert secret != Secret("other")
    for serialise in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never serialised"):
            serialise(secret)


def test_settings_do_not_show_their_secrets(load: Load) -> None:
    settings = load('[accounts.a]\nprovider = "x"\ntoken = "hunter3"', MAILGLASS_BROKER_URL="redis://:hunter2@x")
    assert "hunter" not in repr(settings)


# --- what is understood


def test_routes_are_kept_in_their_order(load: Load) -> None:
    settings = load(
        '[accounts.a]\nprovider = "null"\n[accounts.b]\nprovider = "null"\nfrom = "Ada <a@example.com>"\n'
        '[[routes]]\ntenant = "acme"\nstream = "bulk"\naccounts = ["b", "a"]\nqueue = "mailglass.acme"\n'
        '[[routes]]\naccounts = ["a"]\n'
    )
    assert settings.routes == (Route(("b", "a"), "acme", "bulk", "mailglass.acme"), Route(("a",)))
    assert settings.accounts["b"].sender is not None
    assert settings.accounts["b"].sender.name == "Ada"
    assert settings.accounts["b"].options == {}


def test_a_task_may_have_a_queue_of_its_own_and_code_may_route_to_more(load: Load) -> None:
    settings = load(
        'queues = ["mailglass.acme"]\n[accounts.a]\nprovider = "null"\n'
        '[[routes]]\naccounts = ["a"]\nqueue = "mailglass.bulk"\n'
        '[tasks]\n"mailglass.webhooks.process" = "mailglass.webhooks"'
    )
    assert settings.tasks == {"mailglass.webhooks.process": "mailglass.webhooks"}
    assert settings.queue_names == ["mailglass", "mailglass.acme", "mailglass.bulk", "mailglass.webhooks"]


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ('queues = "mailglass.acme"', "queues"),
        ('queues = ["acme"]', "queues"),
        ("tasks = 5", "tasks"),
        ('[tasks]\n"mailglass.pump" = "pump"', "tasks.mailglass.pump"),
        ('[tasks]\n"mailglass.pump" = 5', "tasks.mailglass.pump"),
        ('[tasks]\n"mailglass.dispatch" = "mailglass.x"', "tasks.mailglass.dispatch"),
        ('[tasks]\n"mailglass.nothing" = "mailglass.x"', "tasks.mailglass.nothing"),
        ('[tasks]\nmailglass.pump = "mailglass.x"', "tasks.mailglass"),
    ],
)
def test_a_queue_that_nobody_could_serve_is_refused(load: Load, document: str, key: str) -> None:
    assert refused(load, document).key == key


def test_a_single_account_needs_no_route_and_two_do(load: Load) -> None:
    one = '[accounts.a]\nprovider = "null"\n'
    assert load(one).routes == (Route(("a",)),)
    assert load(one + '[accounts.b]\nprovider = "null"').routes == ()


def test_groups_override_only_what_they_name(load: Load) -> None:
    settings = load('[engine]\nlease = 200\n[streams.bulk]\nuncertain = "resend"\nmax_attempts = 3')
    assert (settings.engine.lease, settings.engine.claim_size) == (200.0, 500)
    assert isinstance(settings.engine.lease, float)
    bulk = settings.streams[Stream.BULK]
    assert (bulk.uncertain, bulk.max_attempts, bulk.max_age) == (UncertainPolicy.RESEND, 3, 72 * 3600)
    assert settings.streams[Stream.TRANSACTIONAL].max_attempts == 8


# --- a provider's options


@dataclass(frozen=True)
class Options:
    token: Secret
    region: Literal["eu", "us"] = "eu"
    port: int = 25
    timeout: float = 10.0
    verify: bool = True
    host: str | None = None
    webhook_keys: tuple[Secret, ...] = ()
    networks: tuple[str, ...] = ()
    spare: Secret | None = None
    labels: tuple[str, ...] = field(default=("a",))


ENV = {"TOKEN": "hunter2", "KEY": "hunter3"}


def test_options_are_built_from_every_kind_of_value() -> None:
    options = build_options(
        Options,
        {
            "token": "env:TOKEN",
            "region": "us",
            "port": 587,
            "timeout": 3,
            "verify": False,
            "host": "mail.example.com",
            "webhook_keys": ["env:KEY", "env:TOKEN"],
            "networks": "10.0.0.0/8",
            "spare": "env:KEY",
        },
        "accounts.a",
        ENV,
    )
    assert options == Options(
        token=Secret("hunter2"),
        region="us",
        port=587,
        timeout=3.0,
        verify=False,
        host="mail.example.com",
        webhook_keys=(Secret("hunter3"), Secret("hunter2")),
        networks=("10.0.0.0/8",),
        spare=Secret("hunter3"),
    )
    assert isinstance(options.timeout, float)
    assert build_options(Options, {"token": "env:TOKEN"}, "accounts.a", ENV) == Options(Secret("hunter2"))


@pytest.mark.parametrize(
    ("raw", "key", "words"),
    [
        ({}, "token", "missing"),
        ({"token": "hunter2"}, "token", "env:NAME or file:PATH"),
        ({"token": "env:GONE"}, "token", "GONE is not set"),
        ({"token": "env:TOKEN", "colour": "red"}, "colour", "unknown option"),
        ({"token": "env:TOKEN", "region": "mars"}, "region", "eu, us"),
        ({"token": "env:TOKEN", "region": ["eu"]}, "region", "eu, us"),
        ({"token": "env:TOKEN", "port": "25"}, "port", "Give a int"),
        ({"token": "env:TOKEN", "port": 2.5}, "port", "wrong type (float)"),
        ({"token": "env:TOKEN", "port": True}, "port", "wrong type (bool)"),
        ({"token": "env:TOKEN", "timeout": True}, "timeout", "wrong type (bool)"),
        ({"token": "env:TOKEN", "timeout": "3"}, "timeout", "Give a float"),
        ({"token": "env:TOKEN", "verify": 1}, "verify", "Give a bool"),
        ({"token": "env:TOKEN", "host": 3}, "host", "Give a str"),
        ({"token": "env:TOKEN", "networks": ["a", 3]}, "networks", "Give a str"),
        ({"token": "env:TOKEN", "webhook_keys": ["env:KEY", "hunter2"]}, "webhook_keys", "env:NAME or file:PATH"),
        ({"token": "env:TOKEN", "spare": "hunter2"}, "spare", "env:NAME or file:PATH"),
    ],
)
def test_a_wrong_option_is_refused_by_its_key_and_without_its_value(
    raw: dict[str, object], key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(Options, raw, "accounts.a", ENV)
    assert caught.value.key == f"accounts.a.{key}"
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_several_wrong_options_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_options(Options, {"port": "25", "colour": "red"}, "accounts.a", ENV)
    assert len(str(caught.value).splitlines()) == 3


def test_error_of_the_options_is_told_with_the_accounts_name() -> None:
    @dataclass(frozen=True)
    class Picky:
        port: int = 25

        def __post_init__(self) -> None:
            if self.port > 65535:
                raise ConfigError("port", "too large", "Give at most 65535")

    with pytest.raises(ConfigError) as caught:
        build_options(Picky, {"port": 70000}, "accounts.a", {})
    assert str(caught.value) == "accounts.a.port: too large. Give at most 65535"


@dataclass(frozen=True)
class Lock:
    name: str
    key: Secret
    bits: int = 1

    def __post_init__(self) -> None:
        if self.bits > 3:
            raise ConfigError("bits", "too many", "Give at most 3")


@dataclass(frozen=True)
class Door:
    width: float = 1.0
    locks: tuple[Lock, ...] = ()


def test_an_array_of_tables_becomes_a_tuple_of_dataclasses(load: Load) -> None:
    account = load(
        "[accounts.a]\nprovider = 'null'\nwidth = 2\n"
        "[[accounts.a.locks]]\nname = 'upper'\nkey = 'env:KEY'\n"
        "[[accounts.a.locks]]\nname = 'lower'\nkey = 'env:TOKEN'\nbits = 3\n"
    ).accounts["a"]
    assert build_options(Door, account.options, "accounts.a", ENV) == Door(
        2.0, (Lock("upper", Secret("hunter3")), Lock("lower", Secret("hunter2"), 3))
    )
    assert build_options(Door, {}, "accounts.a", ENV) == Door()
    # one table instead of an array: [accounts.a.locks]
    assert build_options(Door, {"locks": {"name": "only", "key": "env:KEY"}}, "accounts.a", ENV).locks[0].name == "only"


@pytest.mark.parametrize(
    ("lock", "key", "words"),
    [
        ({"name": "x"}, "key", "missing"),
        ({"name": "x", "key": "env:GONE"}, "key", "GONE is not set"),
        ({"name": "x", "key": "env:KEY", "colour": "red"}, "colour", "Known are: name, key, bits"),
        ({"name": 3, "key": "env:KEY"}, "name", "Give a str"),
        ({"name": "x", "key": "env:KEY", "bits": 4}, "bits", "Give at most 3"),
    ],
)
def test_a_wrong_value_in_an_array_of_tables_is_named_with_its_place(
    lock: dict[str, object], key: str, words: str
) -> None:
    raw = {"width": "wide", "locks": [{"name": "good", "key": "env:KEY"}, lock]}
    with pytest.raises(ConfigError) as caught:
        build_options(Door, raw, "accounts.a", ENV)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "accounts.a.width",
        f"accounts.a.locks[1].{key}",
    ]
    assert words in str(caught.value)


@pytest.mark.parametrize("raw", ["upper", 3, [3], [["upper"]]])
def test_value_in_place_of_a_table_is_refused(raw: object) -> None:
    with pytest.raises(ConfigError, match=r"\[\[accounts.a.locks\]\]") as caught:
        build_options(Door, {"locks": raw}, "accounts.a", ENV)
    assert caught.value.key == "accounts.a.locks[0]"


# --- who may get mail, by environment

STAGING = '[environments.staging]\nallow = ["*@Example.com"]\nredirect_to = "Dev <dev@example.com>"\n'


def test_the_environment_that_is_named_says_who_may_get_mail(load: Load) -> None:
    settings = load(STAGING + 'subject_mark = "[staging]"\nshow_recipient = "subject"', MAILGLASS_ENVIRONMENT="staging")
    assert settings.environment == "staging"
    assert settings.recipients is not None
    assert settings.recipients.allow == ("*@example.com",)
    assert settings.recipients.redirect_to is not None
    assert (settings.recipients.redirect_to.email, settings.recipients.subject_mark) == ("dev@example.com", "[staging]")
    assert settings.recipients.show_recipient == "subject"
    named = load(f'environment = "staging"\n{STAGING}')
    assert named.recipients is not None
    assert load(STAGING, MAILGLASS_ENVIRONMENT="production").recipients is None
    assert load().recipients is None


def test_variables_take_the_place_of_the_tables_keys(load: Load) -> None:
    both = load(STAGING, MAILGLASS_ENVIRONMENT="staging", MAILGLASS_ALLOW="a@example.com, *@example.org")
    assert both.recipients is not None
    assert both.recipients.allow == ("a@example.com", "*@example.org")
    assert both.recipients.redirect_to is not None
    alone = load(MAILGLASS_REDIRECT_TO="dev@example.com", MAILGLASS_SUBJECT_MARK="[qa]")
    assert alone.recipients is not None
    assert (alone.recipients.allow, alone.recipients.subject_mark) == ((), "[qa]")
    nobody = load("[environments.ci]\nallow = []", MAILGLASS_ENVIRONMENT="ci").recipients
    assert nobody is not None
    assert nobody.describe() == "all mail is refused"


@pytest.mark.parametrize(
    ("document", "environ", "key", "words"),
    [
        (STAGING, {}, "environment", "Set MAILGLASS_ENVIRONMENT to one of production, staging"),
        (STAGING, {"MAILGLASS_ENVIRONMENT": ""}, "MAILGLASS_ENVIRONMENT", "not the name of an environment"),
        (STAGING, {"MAILGLASS_ENVIRONMENT": "stagin"}, "MAILGLASS_ENVIRONMENT", "an environment without a table"),
        ("", {"MAILGLASS_ENVIRONMENT": "staging"}, "MAILGLASS_ENVIRONMENT", "an environment without a table"),
        (STAGING, {"MAILGLASS_ENVIROMENT": "staging"}, "environment", "unknown environment variable"),
        ("", {"MAILGLASS_ALOW": "*@example.com"}, "MAILGLASS_ALOW", "Write MAILGLASS_ALLOW"),
        ("", {"MAILGLASS_REDIRECT": "dev@example.com"}, "MAILGLASS_REDIRECT", "Write MAILGLASS_REDIRECT_TO"),
        ("", {"MAILGLASS_ALLOW": ""}, "MAILGLASS_ALLOW", "empty"),
        ("", {"MAILGLASS_ALLOW": "*@example.com,"}, "environment.allow[1]", "not a pattern"),
        ("", {"MAILGLASS_REDIRECT_TO": ""}, "MAILGLASS_REDIRECT_TO", "empty"),
        ("", {"MAILGLASS_SUBJECT_MARK": "[staging]"}, "environment.allow", "Name who may get mail"),
        ("environments = 3", {}, "environments", "wrong type"),
        ("[environments.qa]", {"MAILGLASS_ENVIRONMENT": "production"}, "environments.qa.allow", "missing"),
        ('[environments.qa]\nalow = ["*@a.example"]', {}, "environments.qa.alow", "unknown setting"),
        ('[environments.qa]\nallow = "*@a.example"', {}, "environments.qa.allow", "Give a list of patterns"),
        ('[environments.qa]\nallow = ["*"]', {}, "environments.qa.allow[0]", "not a pattern of addresses"),
        ('[environments.qa]\nallow = ["*@*a.example"]', {}, "environments.qa.allow[0]", "whole labels"),
        ('[environments.qa]\nredirect_to = "dev"', {}, "environments.qa.redirect_to", "not an address"),
        ('[environments.qa]\nredirect_to = ""\nallow = []', {}, "environments.qa.redirect_to", "empty"),
        ('[environments.qa]\nallow = []\nsubject_mark = "a\\nb"', {}, "environments.qa.subject_mark", "one line"),
        ('[environments.qa]\nallow = []\nshow_recipient = "to"', {}, "environments.qa.show_recipient", "header"),
    ],
)
def test_an_environment_that_is_not_clear_refuses_to_start(
    load: Load, document: str, environ: dict[str, str], key: str, words: str
) -> None:
    error = refused(load, document, **environ)
    assert key in str(error)
    assert words in str(error)
    assert "example.org" not in str(error)
