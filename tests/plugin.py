"""The plugin of pytest for projects that tests run: by its entry point, or by name where the package has none yet."""

from __future__ import annotations

from importlib.metadata import entry_points

PLUGIN = "mailglass.testing.pytest_plugin"


def plugin_options() -> list[str]:
    """Return the options that a run of pytest needs for the plugin; none once the package is installed as it is."""
    return [] if entry_points(group="pytest11", name="mailglass") else ["-p", PLUGIN]
