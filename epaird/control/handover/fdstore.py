"""The service manager's store: copies of descriptors that outlive every process of the service.

With them and the state file the next process continues with the same devices and counters, even if no worker
has survived. The descriptors of a device that is destroyed are removed from the store: otherwise the device
would continue to exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epaird.control.handover.notify import Notifier

Fds = tuple[int, ...]


class FdStore:
    """The descriptors that this process has stored."""

    def __init__(self, manager: Notifier) -> None:
        self._manager = manager
        self._stored: dict[str, tuple[object, Fds]] = {}

    def update(self, wanted: Mapping[str, tuple[object, Fds]]) -> None:
        """Store these descriptors, given by name with their owner, and remove all others.

        Descriptors of another owner are stored again, even with the same name and numbers."""
        if not self._manager:
            return
        for name, (owner, fds) in tuple(self._stored.items()):
            if name not in wanted or wanted[name][0] is not owner or wanted[name][1] != fds:
                self.forget((name,))
        for name, found in wanted.items():
            if name not in self._stored:
                self._manager.store(name, found[1])
                self._stored[name] = found

    def add(self, wanted: Mapping[str, tuple[object, Fds]]) -> None:
        """Store these descriptors as :meth:`update` does, and leave the others as they are."""
        self.update({**self._stored, **wanted})

    def forget(self, names: Iterable[str]) -> None:
        """Remove these names from the store, whichever process has stored them."""
        for name in names:
            self._stored.pop(name, None)
            self._manager.remove(name)
