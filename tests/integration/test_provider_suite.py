"""Every room of ours passes the suite that a third party's room is asked to pass."""

from __future__ import annotations

from importlib.metadata import entry_points

from mailglass.providers.registry import GROUP
from mailglass.testing.provider_suite import ProviderSuite
from tests.rooms import ROOMS

for _name, _room in ROOMS.items():
    globals()[f"Test{_name}"] = type(f"Test{_name}", (_room, ProviderSuite), {"__module__": __name__})


def test_no_room_is_left_out() -> None:
    declared = {room.provider_class.name for room in ROOMS.values()}
    assert declared == {entry.name for entry in entry_points(group=GROUP) if entry.value.startswith("mailglass.")}
