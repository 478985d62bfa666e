"""`mailglass demo` and `mailglass dev`: the whole platform on one machine, and a day's orders through it."""
