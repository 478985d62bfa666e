"""Parts of beat: the schedule and the leader-elected scheduler."""
