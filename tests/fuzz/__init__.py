"""Coverage-guided fuzzing of what strangers can reach: `make fuzz`, or `python -m tests.fuzz --room Postmark`."""
