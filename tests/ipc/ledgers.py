"""Ledgers of other versions."""

from __future__ import annotations

import os

from epaird.ipc.ledger import Layout


def ledger_file(layout: Layout, slots: int) -> int:
    """Create a ledger as a process of another version does, and return its descriptor."""
    fd = os.memfd_create("ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, layout.header_bytes + slots * layout.slot_words * 8)
    if layout.header_bytes:
        os.pwrite(fd, layout.encode(), 0)
    return fd
