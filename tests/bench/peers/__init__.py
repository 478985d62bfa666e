"""mailglass against what Python projects send mail with today, in one run on one machine: `make bench-peers`."""
