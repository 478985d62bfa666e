"""Suppression lists kept in step: what an account's provider refuses is known here, and what is known here there."""
