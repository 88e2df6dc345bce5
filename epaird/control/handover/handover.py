"""The handover to the next daemon: by the state file, by descriptors in the service manager's store and,
where this very process continues with new code, by descriptors that stay open over execve()."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from epaird.control.handover.fdstore import FdStore
from epaird.control.handover.journal import Entry
from epaird.control.handover.notify import Notifier
from epaird.control.handover.predecessor import LEDGER, LINE
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.state import (
    FILE,
    STATE,
    Keeper,
    State,
    memory_file,
    reason_of,
    remove,
    saved_worker,
)
from epaird.control.interfaces.ifnet import Clone, Ifnet
from epaird.control.interfaces.kind import AnyKind
from epaird.control.interfaces.registry import Registry
from epaird.control.interfaces.saved import SavedClone
from epaird.control.machine.host import Host
from epaird.control.machine.privatefiles import Stamp, stamp
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.names.macpool import MacPool

log = logging.getLogger(__name__)

LOCK: Final = "lock"
"""Name under which the run directory's lock is passed."""
CLAIM: Final = "claim"
"""Name under which its claim is passed."""


class Handover:
    """Keeps the state file and the store up to date for as long as the daemon runs."""

    def __init__(
        self,
        directory: RunDirectory,
        host: Host,
        table: Table,
        slots: Slots,
        macs: MacPool,
        workers: Sequence[Worker],
        registry: Registry,
        manager: Notifier,
        in_force: ConfigurationInForce,
    ) -> None:
        self._directory = directory
        self._host = host
        self._table = table
        self._slots = slots
        self._macs = macs
        self._workers = workers
        self._registry = registry
        self._in_force = in_force
        self._store = FdStore(manager)
        self._stamp: Stamp | None = None
        """The state file as it was written last."""
        self._keeper = Keeper(directory.path, self._state, self._written)

    def disown(self, names: Iterable[str]) -> None:
        """Have the service manager close descriptors of a predecessor that nothing can use."""
        self._store.forget(names)

    def changed(self) -> None:
        """Write the state soon: it has changed."""
        self._keeper.changed()

    def write(self) -> None:
        """Write the state now."""
        self._keeper.write()

    def commit(self, names: Iterable[str]) -> None:
        """Record for a successor what these clones are now, or that they are gone; return when it is done.

        To be called before a client has the answer to its request."""
        clones = {name: self._registry.get(name) for name in names}
        self._keeper.commit(lambda: self._entry(clones))
        ifnets = [ifnet for clone in clones.values() if clone is not None for ifnet in clone.ifnets]
        self._store.add(_stored(ifnets))

    @property
    def problem(self) -> str:
        """The reason why the state cannot be written; empty if it can be."""
        return self._keeper.problem

    @property
    def write_errors(self) -> int:
        """Failed attempts to write the state."""
        return self._keeper.errors

    @property
    def written(self) -> bool:
        """True while the state file is there as it was written, or could not be written."""
        return self._keeper.failed or self._stamp is None or stamp(self._directory.path, FILE) == self._stamp

    async def write_again(self) -> None:
        """Write the state, whose file others have removed or replaced."""
        self.write()

    def end(self, *, keep: bool) -> None:
        """Write nothing more; unless the state is to be kept, remove it from file and store."""
        if keep:
            self._keeper.cancel()
        else:
            self._keeper.remove()
            self._store.update({})

    def end_now(self) -> None:
        """Remove the state from its file, in any thread, before the process exits."""
        remove(self._directory.path)

    def descriptors(self) -> list[tuple[str, int]]:
        """Return the descriptors that this process keeps when it executes itself, by name.

        Those that are closed before that are copies. Devices' are not: the limit may not allow them twice.
        The state is among them, because the file may be one that cannot be written."""
        found = [(name, os.dup(fd)) for name, fd in self._own()]
        found += [(ifnet.device, fd) for ifnet in self._registry.ifnets for fd in ifnet.tap.fds]
        found += [
            (ifnet.device + LINE, fd)
            for ifnet in self._registry.ifnets
            if ifnet.line is not None
            for fd in ifnet.line.files
        ]
        try:
            found.append((STATE, memory_file(self._state())))
        except Exception as error:  # noqa: BLE001  it is too late to refuse the upgrade
            log.error("the state cannot be passed on, only its file: %s", reason_of(error))
        return found

    def objection(self) -> str | None:
        """Return why the state cannot be passed to a successor; None if it can be."""
        try:
            os.close(memory_file(self._state()))
        except Exception as error:  # noqa: BLE001  whatever it is, an upgrade would lose everything
            return f"the state cannot be passed on: {reason_of(error)}"
        return None

    def _entry(self, clones: Mapping[str, Clone | None]) -> Entry:
        present: dict[str, list[SavedClone]] = {kind.cloner.name: [] for kind in self._registry.kinds}
        gone = []
        for name, clone in clones.items():
            if clone is None or clone.destroying:
                gone.append(name)
            else:
                kind = self._registry.kind_of(clone)
                saved = kind.save(clone, kind.table_of(self._in_force.current).get(name))
                present[kind.cloner.name].append(saved)
        return Entry.of(
            present,
            gone=tuple(gone),
            withdrawn=self._in_force.withdrawn(self._registry.withdrawn.intersection(gone)),
            macs_made=self._macs.used,
        )

    def _own(self) -> list[tuple[str, int]]:
        claim = self._directory.claim.fileno()
        found = [(LOCK, self._directory.fd), (LEDGER, self._table.fd)]
        return found if claim < 0 else [*found, (CLAIM, claim)]

    def _state(self) -> State:
        saved = {kind.cloner.name: self._saved(kind) for kind in self._registry.kinds}
        home = self._host.home
        return State.of(
            home=(home.device, home.inode),
            macs_made=self._macs.used,
            workers=tuple(map(saved_worker, self._workers)),
            clones=saved,
            withdrawn=self._in_force.withdrawn(self._registry.withdrawn),
        )

    def _saved(self, kind: AnyKind) -> tuple[SavedClone, ...]:
        configured = kind.table_of(self._in_force.current)
        return tuple(kind.save(clone, configured.get(clone.name)) for clone in kind if not clone.destroying)

    def _written(self) -> None:
        # A successor identifies a device by its slot. As long as the file gives a slot to a device, no other
        # device may have it.
        if not self._keeper.failed:
            self._stamp = stamp(self._directory.path, FILE)
            self._slots.rested()
        self._update_store()

    def _update_store(self) -> None:
        """Have the service manager keep the descriptors of what the state file names."""
        wanted: dict[str, tuple[object, tuple[int, ...]]] = {LEDGER: (self._table, (self._table.fd,))}
        self._store.update(wanted | _stored(self._registry.ifnets))


def _stored(ifnets: Iterable[Ifnet]) -> dict[str, tuple[object, tuple[int, ...]]]:
    """Return the descriptors of interfaces and their lines as the service manager is to keep them."""
    found: dict[str, tuple[object, tuple[int, ...]]] = {}
    for ifnet in ifnets:
        if not ifnet.destroying:
            found[ifnet.device] = (ifnet.tap, ifnet.tap.fds)
            if ifnet.line is not None:
                found[ifnet.device + LINE] = (ifnet.line, ifnet.line.files)
    return found
