"""The namespaces that the daemon creates when it starts and removes when it ends.

A record of them is kept beside the control socket: after a crash the next daemon takes over the namespaces of
its predecessor, and never removes one that another program created.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from epaird.control.machine.host import Host
from epaird.control.machine.privatefiles import Stamp, read_file, remove_file, replace_file, stamp
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Fingerprint

log = logging.getLogger(__name__)

FILE: Final = "namespaces.json"
"""The record in the run directory."""


class Namespaces:
    """The namespaces of ``namespaces.create``."""

    def __init__(self, host: Host, directory: Path) -> None:
        """``directory`` is where the record is kept: the run directory whose lock the daemon holds."""
        self._host = host
        self._directory = directory
        self._record = directory / FILE
        self._created: dict[str, Fingerprint] = {}
        self._found = False
        self._written: Stamp | None = None

    async def create(self, names: Iterable[str]) -> None:
        """Create namespaces. Raises KernelError, EEXIST when one exists that no epaird created.

        A predecessor's namespaces are taken over, whether they are among ``names`` or not."""
        self.find()
        for name, created in tuple(self._created.items()):
            await self._host.own_namespace(name, created)
        for name in names:
            await self._make(name)

    def find(self) -> None:
        """Find the namespaces of a predecessor, if that was not done before."""
        if not self._found:
            self._found = True
            self._created = {
                name: self._host.namespace_fingerprint(name)
                for name, recorded in self._read().items()
                if self._is(name, recorded)
            }

    async def add(self, name: str) -> None:
        """Create one more namespace. Raises KernelError as :meth:`create`."""
        if name in self._created and not self._is(name, self._created[name]):
            del self._created[name]
        await self._make(name)

    async def remove(self, name: str) -> None:
        """Remove a namespace unless it was replaced by another. Raises KernelError."""
        created = self._created.get(name)
        if created is not None and self._is(name, created):
            await self._host.remove_namespace(name, created)
        self._created.pop(name, None)
        self._save()

    @property
    def owned(self) -> tuple[str, ...]:
        """Names of the namespaces that were created, a predecessor's included, and neither removed nor
        replaced since."""
        return tuple(name for name, created in self._created.items() if self._is(name, created))

    @property
    def recorded(self) -> bool:
        """True while the record is there as it was written."""
        return not self._created or stamp(self._directory, FILE) == self._written

    async def record(self) -> None:
        """Write the record again, which others have removed or replaced. Raises KernelError."""
        self._write()

    async def remove_all(self) -> None:
        """Remove all namespaces that were created, except those that were replaced by another."""
        for name, created in tuple(self._created.items()):
            try:
                if self._is(name, created):
                    await self._host.remove_namespace(name, created)
                del self._created[name]
                self._write()
            except KernelError as error:
                log.warning("%s", error)

    async def _make(self, name: str) -> None:
        found = self._created.get(name)
        if found is not None and self._is(name, found):
            await self._host.own_namespace(name, found)
            log.info("namespace %s: taken over from a daemon that ended without removing it", name)
            self._save()
            return

        def created(fingerprint: Fingerprint) -> None:
            # Recorded before it has its name, so that after a crash the next daemon recognises it.
            self._created[name] = fingerprint
            self._write()

        try:
            await self._host.make_namespace(name, created)
        except KernelError as error:
            if self._created.pop(name, None) is not None:
                self._save()
            if error.errno != errno.EEXIST:
                raise
            raise KernelError(
                errno.EEXIST,
                f"namespaces.create: {name} exists already and was not created by epaird: remove it "
                f"from the list to use it as it is, or delete it with: ip netns del {name}",
            ) from error

    def _is(self, name: str, created: Fingerprint) -> bool:
        """Return whether the namespace of a name still is the one that was created, as far as is known."""
        try:
            return self._host.namespace_fingerprint(name).matches(created)
        except KernelError as error:
            return error.lacking

    def _read(self) -> dict[str, Fingerprint]:
        try:
            recorded = json.loads(read_file(self._directory, FILE))
            return {name: _fingerprint(*each) for name, each in recorded.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            log.warning("%s: %s: not used", self._record, error)
            return {}

    def _save(self) -> None:
        """Write the record, or keep the present one where that fails: what it has besides does not exist."""
        try:
            self._write()
        except KernelError as error:
            log.warning("%s: the record stays as it was", error)
            self._written = stamp(self._directory, FILE)

    def _write(self) -> None:
        try:
            if self._created:
                # Replaced atomically: half a record would be useless.
                replace_file(self._directory, FILE, json.dumps(self._created).encode())
                self._written = stamp(self._directory, FILE)
            else:
                remove_file(self._directory, FILE)
        except OSError as error:
            raise KernelError.about(str(self._record), error.errno) from error


def _fingerprint(device: int, inode: int, cookie: int = 0) -> Fingerprint:
    """Return a recorded fingerprint; epaird 0.2.0 recorded no cookies."""
    return Fingerprint(int(device), int(inode), int(cookie))
