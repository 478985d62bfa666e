"""`mailglass deliveries`: see, cancel, release, reschedule, search for and settle deliveries."""
