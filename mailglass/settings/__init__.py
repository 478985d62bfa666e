"""Settings: the environment (`MAILGLASS_*`) and an optional `mailglass.toml`, validated as a whole.

Secrets are given only as references, `env:NAME` or `file:PATH`, and are read when the account that needs them is
opened: an application that only queues mail needs none of them.
"""

from __future__ import annotations

from mailglass.settings.accounts import AccountSettings, SyncMode
from mailglass.settings.domains import DomainSettings, SendingSettings
from mailglass.settings.environment import ENVIRONMENT, UnknownVariable
from mailglass.settings.limits import LimitRule, LimitScope
from mailglass.settings.loading import DEVELOPMENT_DIRECTORY, Settings, configure, get_settings, load_settings
from mailglass.settings.options import Resolve, build_options, one_secret_each, secret_options, secret_references
from mailglass.settings.routes import DEFAULT_QUEUE, QUEUE, Route
from mailglass.settings.secrets import (
    Secret,
    SecretFileError,
    SecretValues,
    given_secret,
    read_secret_file,
    resolve_secret,
)
from mailglass.settings.sections import EngineSettings, WebhookSettings
from mailglass.settings.values import NAME
from mailglass.settings.warmup import WarmupPlan

__all__ = [
    "AccountSettings",
    "DEFAULT_QUEUE",
    "DEVELOPMENT_DIRECTORY",
    "ENVIRONMENT",
    "DomainSettings",
    "EngineSettings",
    "LimitRule",
    "LimitScope",
    "NAME",
    "QUEUE",
    "Resolve",
    "Route",
    "Secret",
    "SecretFileError",
    "SecretValues",
    "SendingSettings",
    "Settings",
    "SyncMode",
    "UnknownVariable",
    "WarmupPlan",
    "WebhookSettings",
    "build_options",
    "configure",
    "get_settings",
    "given_secret",
    "load_settings",
    "one_secret_each",
    "read_secret_file",
    "resolve_secret",
    "secret_options",
    "secret_references",
]
