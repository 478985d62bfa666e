"""Checks of a deployment with its configuration in hand, before it takes mail and after each deploy."""
