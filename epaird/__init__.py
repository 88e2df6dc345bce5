"""A virtual patch cable you can see into: epair(4) and lo(4) in userspace."""

__version__ = "0.5.0"
