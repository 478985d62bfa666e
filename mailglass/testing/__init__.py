"""What tests and demonstrations stand on: a lab of providers that behave like real ones, on this machine."""
