"""What a refusal means: codes, text and labels understood once, and what follows from it, in one table each."""
