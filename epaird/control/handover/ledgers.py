"""The ledger of a daemon that takes over from another one, perhaps of another version.

A ledger of the current layout whose size is sealed is used as it is. Another one is superseded by a new one,
and the counters of each interface are copied once the last process that counts in the old slot has detached;
until then they are read from the old slot. A daemon that is killed before that leaves both ledgers to the
next one, which finds in the new one which slots are still to be copied.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from typing import Final

from epaird.ipc.counters import LAYOUT
from epaird.ipc.ledger import HEADER_BYTES, SLOT_BYTES, Table, is_sealed
from epaird.ipc.oldledger import OldLedger
from epaird.kernel.namespace import Identity

log = logging.getLogger(__name__)

SLOTS: Final = 1 << 16
"""Slots of a new ledger, one for each queue and each worker. Unused slots take no memory."""


def table_identity(table: Table) -> Identity:
    """Return the device and inode of a ledger's memory file."""
    status = os.fstat(table.fd)
    return Identity(status.st_dev, status.st_ino)


def open_ledger(ledgers: Mapping[Identity, int], taken: Collection[int]) -> Table:
    """Return the ledger to count in, of those that a predecessor has left, or a new one.

    ``ledgers`` are descriptors by device and inode; those that are not needed are closed. ``taken`` are the
    slots that are in use."""
    current: Table | None = None
    older: OldLedger | None = None
    for fd in ledgers.values():
        match _opened(fd, taken):
            case Table() as table if current is None:
                current = table
            case OldLedger() as old if older is None:
                older = old
            case _:
                os.close(fd)
    if current is None:
        current = Table.create(SLOTS)
        if older is not None:
            current.supersede(older, taken)
    else:
        current.older = older
    return current


def _opened(fd: int, taken: Collection[int]) -> Table | OldLedger | None:
    """Return a ledger: a table when counters can be kept in it as they are; None when it cannot be read.

    ``taken`` are the slots that are in use."""
    try:
        found = OldLedger(fd)
        if found.layout.version != LAYOUT or not is_sealed(fd):
            return found
        # A worker can seal a file of its own, of any size.
        if os.fstat(fd).st_size > HEADER_BYTES + SLOTS * SLOT_BYTES:
            raise ValueError("it is larger than any ledger")
        table = Table(fd)
        if table.slots <= max(taken, default=0):
            raise ValueError("it has fewer slots than are in use")
        return table
    except (OSError, ValueError) as error:
        log.warning("a ledger that another daemon has left cannot be read: %s: counters begin at 0", error)
        return None


def finish_migration(table: Table, taken: Collection[int]) -> None:
    """Copy what is still to be copied from an older ledger, and close it.

    No process may count in the older ledger any more."""
    for slot in taken:
        table.migrate(slot)
    if table.older is not None:
        os.close(table.older.fd)
        table.older = None
