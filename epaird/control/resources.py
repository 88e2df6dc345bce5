"""The resources that a daemon holds from start to end: its run directory, the kernel, and the ledger.

The leftovers of a predecessor in them are found here, and taken over when the daemon starts.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Final

from epaird.control.handover.handover import CLAIM, LOCK
from epaird.control.handover.ledgers import open_ledger
from epaird.control.handover.notify import listener, take_inherited
from epaird.control.handover.predecessor import Leftovers, find_leftovers
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.state import State
from epaird.control.machine.descriptors import Descriptors
from epaird.control.machine.host import Host
from epaird.ipc.slots import Slots
from epaird.kernel.errors import KernelError
from epaird.names import mac
from epaird.names.macpool import MacPool

log = logging.getLogger(__name__)

CONTROL: Final = "control"
"""Name of the control socket where the service manager has bound it."""
OWN_CONTROL: Final = "own-control"
"""Name of the control socket where this daemon's predecessor has bound it."""
PAGE: Final = "metrics"
"""Name of the socket of the metrics page."""


class Resources:
    """The run directory, the kernel, the ledger, and what a predecessor left in them."""

    def __init__(self, directory: Path, undo: contextlib.AsyncExitStack, leaving: Callable[[], bool]) -> None:
        """Lock ``directory`` and open everything; ``undo`` receives the callbacks that release it.

        ``leaving`` is called when it is released: true leaves everything to a successor. Raises KernelError
        when another daemon has locked the directory."""
        self._passed = take_inherited()
        passed = {each.name: each.fd for each in self._passed}
        self.directory = RunDirectory(directory, passed.get(LOCK), passed.get(CLAIM))
        undo.callback(lambda: self.directory.release(keep=leaving()))
        self.descriptors = Descriptors()
        """The open descriptors of this process."""
        self.host = Host(self.descriptors)
        undo.callback(self.host.close)
        keep = (LOCK, CLAIM, CONTROL, OWN_CONTROL, PAGE)
        self.leftovers: Leftovers = find_leftovers(
            directory, self._passed, self.host.home, keep=keep, check=self._check
        )
        """The leftovers of a predecessor."""
        self.table = open_ledger(self.leftovers.ledgers, self.leftovers.slots)
        undo.callback(os.close, self.table.fd)
        state = self.leftovers.state
        self.macs = MacPool(mac.host_id(), state.macs_made if state is not None else 0)
        self.slots = Slots(self.table, self.leftovers.slots, resting=True)

    def _check(self, state: State) -> None:
        """Raise KernelError if there are too few descriptors to take a predecessor's devices over."""
        queues = sum(len(device.slots) for device in state.devices)
        lines = sum(line.files for clone in state.clones for line in clone.lines.values())
        problem = self.descriptors.adoption_shortage(queues + lines)
        if problem:
            raise KernelError(errno.EMFILE, f"{problem}; the workers keep forwarding until orphan_timeout")

    def listener(self, name: str) -> socket | None:
        """Return the listening socket that was passed to this process under a name."""
        return listener(self._passed, name)

    def worker_slot(self, number: int) -> int:
        """Return the slot of the worker of a number: its predecessor's, or a new one."""
        slot = self.leftovers.worker_slot(number)
        if slot is None:
            return self.slots.take()
        self.table.migrate_worker(slot)
        return slot
