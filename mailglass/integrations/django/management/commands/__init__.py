"""The command `mailglass` of `manage.py`."""
