"""What `mailglass demo` and `mailglass dev` do: the whole platform on one machine, and a day's orders through it."""
