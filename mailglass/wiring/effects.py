"""Consequences and remedies that several checks share."""

from __future__ import annotations

from typing import Final

UNWIRED: Final = "Providers' webhooks get no answer, so bounces and complaints never reach the ledger."
ALTERED: Final = "The signature is over the raw bytes, so every webhook is answered 401 and nobody is told."
CONSUMED: Final = "It consumes the raw bytes, so every webhook is answered 401 and nobody is told."
REFUSED: Final = "The request never reaches the endpoint, and the provider gives up after some days."
TOO_SMALL: Final = "Larger webhooks are refused before the endpoint sees them."
