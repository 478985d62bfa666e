"""Problems of the settings, collected so that one run shows all of them."""

from __future__ import annotations

from collections.abc import Callable

from mailglass.errors import ConfigError

Report = Callable[[str, str, str], None]
"""`report(key, problem, remedy)`."""


class Problems:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def add(self, key: str, problem: str, remedy: str) -> None:
        """Note one wrong setting."""
        self.found.append(ConfigError(key, problem, remedy))

    def raise_if_any(self) -> None:
        """Raise the first, with the text of all.

        Raises:
            ConfigError: something was noted.
        """
        if not self.found:
            return
        first, *others = self.found
        if others:
            first.args = ("\n".join(str(problem) for problem in self.found),)
        raise first
