"""Addresses of 127/8, so that simultaneous test runs do not share the fixed ports of the bench's programs."""

from __future__ import annotations

import os


def own_address() -> str:
    """Return a loopback address of this process."""
    high, low = divmod(os.getpid() % 60_000, 240)
    return f"127.9.{high}.{low + 1}"
