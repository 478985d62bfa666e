"""The other ways of sending mail, run by the Python of `.venv-peers`: nothing here may import mailglass."""
