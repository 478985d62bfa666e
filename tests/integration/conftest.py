"""What integration tests share."""

from tests.cluster import cluster, outside, unused_port
from tests.commands import deliveries_command, ledger, mailglass
from tests.settling import desk

__all__ = ["cluster", "deliveries_command", "desk", "ledger", "mailglass", "outside", "unused_port"]
