"""Suppression lists: from providers' events, in sync with providers' lists, and removal of entries."""
