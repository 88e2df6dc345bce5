"""A long random test: a daemon under traffic, disturbed in every way."""
