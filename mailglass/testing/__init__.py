"""Support for tests and demonstrations: a lab of providers that behave like real ones, on this machine."""
