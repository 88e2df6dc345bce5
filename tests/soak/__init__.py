"""A daemon under traffic, to which things happen at random."""
