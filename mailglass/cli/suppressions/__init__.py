"""`mailglass suppressions`: see, edit and synchronise suppression lists."""
