"""The namespaces that the daemon created, of which devices are created in place.

Their devices' descriptors keep such a namespace alive, so the kernel does not report that it was removed: the
loss of its name is taken for the loss of the namespace.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Container
from dataclasses import dataclass

from epaird.kernel import link, namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Fingerprint, Identity
from epaird.kernel.netnswatch import EVERY_NAME, NameWatch


@dataclass(frozen=True, slots=True)
class OwnedNamespace:
    """A namespace that the daemon created."""

    nsid: int
    """Id of the namespace in the daemon's own."""
    fingerprint: Fingerprint
    """Fingerprint of the namespace."""


def identified(name: str, expected: Fingerprint) -> OwnedNamespace:
    """Return a namespace that the daemon created, in the thread that calls the kernel.

    Raises KernelError, ESTALE when the name leads to another one than the ``expected``."""
    with namespace.opened(name) as found:
        fingerprint = namespace.fingerprint(found)
        if not fingerprint.matches(expected):
            raise KernelError(errno.ESTALE, f"namespace {name}: was replaced by another one")
        return OwnedNamespace(link.namespace_id(found), fingerprint)


class OwnedNamespaces:
    """All of them, by path, and the watch on their names."""

    def __init__(self) -> None:
        self._lost: Callable[[Identity], None] | None = None
        self._by_path: dict[str, OwnedNamespace] = {}
        self._names: NameWatch | None = None

    def get(self, netns: str | None) -> OwnedNamespace | None:
        """Return the namespace of a name or path."""
        return self._by_path.get(namespace.path_of(netns)) if netns is not None else None

    def add(self, name: str, owned: OwnedNamespace) -> None:
        """Add a namespace, and watch its name."""
        self._by_path[namespace.path_of(name)] = owned
        if self._names is None:
            self._names = NameWatch()
            if self._names.fileno() >= 0:  # otherwise only check() notices
                asyncio.get_running_loop().add_reader(self._names.fileno(), self._name_removed)

    def remove(self, name: str) -> None:
        """Forget a namespace; after the last one, stop watching names."""
        self._by_path.pop(namespace.path_of(name), None)
        if not self._by_path:
            self.close()

    def close(self) -> None:
        """Stop watching names."""
        if self._names is not None:
            if self._names.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(self._names.fileno())
            self._names.close()
            self._names = None

    def report(self, lost: Callable[[Identity], None] | None) -> None:
        """Call ``lost`` with each namespace that has lost its name, or loses it; None ends that."""
        self._lost = lost
        self.check()

    def _name_removed(self) -> None:
        if self._names is not None:
            self.check(self._names.drain())

    def check(self, names: Container[str] = EVERY_NAME) -> None:
        """Report each namespace of these names that has lost its name."""
        for path, owned in tuple(self._by_path.items()):
            if path.rpartition("/")[2] not in names:
                continue
            if self._lost is not None and not _leads_to(path, owned.fingerprint):
                self.remove(path)
                self._lost(owned.fingerprint.identity)


def _leads_to(path: str, fingerprint: Fingerprint) -> bool:
    try:
        with namespace.opened(path) as found:
            return namespace.fingerprint(found).matches(fingerprint)
    except KernelError as error:
        return error.lacking  # then it is unknown, and checked again
