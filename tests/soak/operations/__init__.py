"""What can be done to a daemon, and by which of it a seed chooses."""
