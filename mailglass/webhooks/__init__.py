"""Webhooks: verify, keep, acknowledge; understand later."""
