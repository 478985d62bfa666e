"""What integration tests share."""

from tests.cluster import cluster, outside, unused_port
from tests.settling import desk

__all__ = ["cluster", "desk", "outside", "unused_port"]
