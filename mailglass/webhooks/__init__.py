"""Webhooks: verify, store and acknowledge them, and process them later."""
