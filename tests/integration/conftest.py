"""What integration tests share."""

from tests.house import house, outside, unused_port

__all__ = ["house", "outside", "unused_port"]
