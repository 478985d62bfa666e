"""What runs inside beat: the schedule and the leader-elected scheduler."""
