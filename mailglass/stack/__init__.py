"""Local servers and child processes: what `mailglass dev`, `mailglass demo` and the tests stand on."""
