"""What integration tests share."""

from tests.cluster import cluster, outside, unused_port

__all__ = ["cluster", "outside", "unused_port"]
