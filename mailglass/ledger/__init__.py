"""The ledger: the truth about every delivery, in PostgreSQL (schema `mailglass`)."""
