"""Meaning of refusals: codes, text and labels understood once, and the consequences in one table each."""
