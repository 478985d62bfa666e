"""Sending domains: pure analysers over DNS facts, one collector, and the watch that tells when a domain gets worse."""
