"""What this daemon leaves to a successor: the state file, the service manager's store, and, where the very
process goes on, descriptors over an execve()."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from epaird.config.settings import Configuration
from epaird.control.handover.fdstore import FdStore
from epaird.control.handover.notify import Notifier
from epaird.control.handover.predecessor import LEDGER
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.state import Keeper, State, saved_loopback, saved_pair, saved_worker
from epaird.control.interfaces.ifnet import Half, Loopback
from epaird.control.interfaces.registry import Interfaces
from epaird.control.machine.host import Host
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.names.macpool import MacPool

LOCK: Final = "lock"
"""Name under which the run directory's lock is passed."""


class Legacy:
    """Kept as things are, as long as the daemon runs."""

    def __init__(
        self,
        directory: RunDirectory,
        host: Host,
        table: Table,
        slots: Slots,
        macs: MacPool,
        workers: Sequence[Worker],
        interfaces: Interfaces,
        manager: Notifier,
        *,
        force: Callable[[], Configuration],
    ) -> None:
        """``force`` tells the configuration that is in force."""
        self._directory = directory
        self._host = host
        self._table = table
        self._slots = slots
        self._macs = macs
        self._workers = workers
        self._interfaces = interfaces
        self._force = force
        self._store = FdStore(manager)
        self._keeper = Keeper(directory.path, self._state, self._written)

    def disown(self, names: Iterable[str]) -> None:
        """Have the service manager forget what a predecessor has left and nobody can use."""
        self._store.forget(names)

    def changed(self) -> None:
        """Something is not as it was: to be written down soon."""
        self._keeper.changed()

    def write(self) -> None:
        """Write it down now."""
        self._keeper.write()

    def end(self, *, keep: bool) -> None:
        """Write nothing more, and unless it is to be kept have nothing left of it."""
        if keep:
            self._keeper.cancel()
        else:
            self._keeper.remove()
            self._store.update({})

    def descriptors(self) -> list[tuple[str, int]]:
        """Copies of the descriptors that this process keeps when it executes itself again, by name."""
        found = [(LOCK, self._directory.fd), (LEDGER, self._table.fd)]
        found += [(ifnet.device, fd) for ifnet in self._ifnets() for fd in ifnet.tap.fds]
        return [(name, os.dup(fd)) for name, fd in found]

    def _state(self) -> State:
        force = self._force()
        return State(
            home=tuple(self._host.home),
            macs_made=self._macs.made,
            workers=tuple(map(saved_worker, self._workers)),
            pairs=tuple(
                saved_pair(pair, force.epair.get(pair.name))
                for pair in self._interfaces.pairs
                if not pair.going
            ),
            loopbacks=tuple(
                saved_loopback(each, (force.lo or {}).get(each.device))
                for each in self._interfaces.loopbacks
                if not each.going
            ),
        )

    def _written(self) -> None:
        # A successor knows a device by its slot: none may be another's while the file gives it to the first.
        if not self._keeper.failed:
            self._slots.rested()
        self._update_store()

    def _update_store(self) -> None:
        """Have the service manager keep what the state file speaks of."""
        wanted: dict[str, tuple[object, tuple[int, ...]]] = {LEDGER: (self._table, (self._table.fd,))}
        wanted |= {ifnet.device: (ifnet.tap, ifnet.tap.fds) for ifnet in self._ifnets() if not ifnet.going}
        self._store.update(wanted)

    def _ifnets(self) -> tuple[Half | Loopback, ...]:
        return (*self._interfaces.pairs.halves, *self._interfaces.loopbacks)
