"""Wiring of the webhook endpoint into an application, read from its source. Nothing of the application is imported."""
