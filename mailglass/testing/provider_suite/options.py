"""Tests of a provider's options: secrets by reference only, mistakes named, nothing shown."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest

from mailglass.errors import ConfigError
from mailglass.providers.base import Provider
from mailglass.settings import Secret
from mailglass.testing.provider_suite.declaration import ACCOUNT, Declaration
from mailglass.testing.provider_suite.wire import closed_port

_WRITTEN_OUT = "s3cret-written-out-0815"


class OptionsSuite(Declaration):
    """The account's table in `mailglass.toml`."""

    def test_the_room_has_a_name_and_frozen_options(self) -> None:
        cls = self.provider_class
        assert issubclass(cls, Provider)
        assert cls.name
        assert cls.name == cls.name.lower()
        assert dataclasses.is_dataclass(cls.Options)
        assert cls.Options.__dataclass_params__.frozen  # type: ignore[attr-defined]

    def test_its_options_open_an_account(self) -> None:
        provider = self.build(self.at(closed_port()))
        assert provider.account == ACCOUNT
        provider.close()

    def test_options_refuse_secrets_that_are_written_out(self) -> None:
        for name in self._secret_options():
            for value in (_WRITTEN_OUT, [_WRITTEN_OUT]):
                with pytest.raises(ConfigError) as error:
                    self.build({**self.options, name: value})
                assert f"accounts.{ACCOUNT}.{name}" in str(error.value)
                assert _WRITTEN_OUT not in str(error.value)

    def test_every_reference_to_a_secret_is_to_an_option_of_type_secret(self) -> None:
        references = {name for name, value in self.options.items() if _is_reference(value)}
        assert references <= set(self._secret_options()), "an option that takes a secret is typed Secret"

    def test_a_secret_that_is_not_there_is_named(self) -> None:
        for name in self._secret_options():
            for reference in _references(self.options.get(name)):
                variable = reference.removeprefix("env:")
                left = {key: value for key, value in self.environ.items() if key != variable}
                with pytest.raises(ConfigError) as error:
                    self.build(self.options, left)
                assert variable in str(error.value)

    def test_an_option_that_is_not_known_is_named(self) -> None:
        with pytest.raises(ConfigError) as error:
            self.build({**self.options, "no_such_option": 1})
        assert error.value.key == f"accounts.{ACCOUNT}.no_such_option"

    def test_an_option_of_the_wrong_type_is_named_and_not_shown(self) -> None:
        for name in self.options:
            with pytest.raises(ConfigError) as error:
                self.build({**self.options, name: {_WRITTEN_OUT: _WRITTEN_OUT}})
            assert f"accounts.{ACCOUNT}.{name}" in str(error.value)
            assert _WRITTEN_OUT not in str(error.value)

    def test_no_repr_shows_a_secret(self) -> None:
        provider = self.build(self.at(closed_port()))
        self.shows_nothing(repr(provider), str(provider), repr(provider.options), str(provider.options))
        self.shows_nothing(f"{dataclasses.replace(provider.options)!r}", repr(vars(provider)))
        provider.close()

    def _secret_options(self) -> list[str]:
        hints = typing.get_type_hints(self.provider_class.Options)
        return [name for name, hint in hints.items() if name in self.options and _takes_secrets(hint)]


def _takes_secrets(hint: Any) -> bool:
    return hint is Secret or any(_takes_secrets(part) for part in typing.get_args(hint))


def _references(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item.startswith("env:")]


def _is_reference(value: Any) -> bool:
    return bool(_references(value))
