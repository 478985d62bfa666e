"""Words that every room shares: a mail as it goes out, what an attempt came to, what is heard of it later."""
