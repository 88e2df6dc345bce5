"""The namespaces that live and die with the daemon.

What was made is written down beside the control socket: after a crash the next daemon takes over its
predecessor's namespaces, and never removes one that somebody else made.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from epaird.control.machine.host import Host
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity

log = logging.getLogger(__name__)


class Namespaces:
    """Those of ``namespaces.create``."""

    def __init__(self, host: Host, directory: Path) -> None:
        """``directory`` is where the record is kept: that of which the daemon has the lock."""
        self._host = host
        self._record = directory / "namespaces.json"
        self._made: dict[str, Identity] = {}

    async def create(self, names: Iterable[str]) -> None:
        """Make them.  Raises KernelError, EEXIST when one exists that no daemon of ours made.

        What a predecessor left is ours from now on, whether it is among them or not."""
        self._made = {name: identity for name, identity in self._read().items() if self._is(name, identity)}
        for name in self._made:
            await self._host.own_namespace(name)
        for name in names:
            await self._make(name)

    async def add(self, name: str) -> None:
        """Make one more.  Raises KernelError as :meth:`create`."""
        if name in self._made and not self._is(name, self._made[name]):
            del self._made[name]
        await self._make(name)

    async def remove(self, name: str) -> None:
        """Remove one, if it still is the one that was made.  Raises KernelError."""
        identity = self._made.get(name)
        if identity is not None and self._is(name, identity):
            await self._host.remove_namespace(name)
        self._made.pop(name, None)
        self._write()

    @property
    def there(self) -> tuple[str, ...]:
        """Those of ours that nobody has removed or replaced, a predecessor's among them."""
        return tuple(name for name, identity in self._made.items() if self._is(name, identity))

    async def remove_all(self) -> None:
        """Remove those that were made, unless somebody has put another in the place of one."""
        for name, identity in tuple(self._made.items()):
            try:
                if self._is(name, identity):
                    await self._host.remove_namespace(name)
                del self._made[name]
                self._write()
            except KernelError as error:
                log.warning("%s", error)

    async def _make(self, name: str) -> None:
        before = self._made.get(name)

        def known(identity: Identity) -> None:
            # Before it has its name: whoever comes after a crash knows whose it is.
            self._made[name] = identity
            self._write()

        try:
            await self._host.make_namespace(name, known)
        except KernelError as error:
            self._forget(name, before)
            if error.errno != errno.EEXIST:
                raise
            if before is None:
                raise KernelError(
                    errno.EEXIST,
                    f"namespaces.create: {name} exists already and is not ours: take it off the list to "
                    f"use it as it is, or remove it with: ip netns del {name}",
                ) from error
            await self._host.own_namespace(name)
            log.info("namespace %s: taken over from a daemon that ended without removing it", name)
            self._write()

    def _forget(self, name: str, before: Identity | None) -> None:
        """It was not made: what was known of this name is still so."""
        if before is not None:
            self._made[name] = before
        elif self._made.pop(name, None) is not None:
            with contextlib.suppress(KernelError):  # the record that is there names nothing that exists
                self._write()

    def _is(self, name: str, identity: Identity) -> bool:
        """Whether the namespace of this name is still the one we mean."""
        try:
            return self._host.namespace_identity(name) == identity
        except KernelError:
            return False

    def _read(self) -> dict[str, Identity]:
        try:
            recorded = json.loads(self._record.read_text())
            return {name: Identity(int(device), int(inode)) for name, (device, inode) in recorded.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("%s: %s: not used", self._record, error)
            return {}

    def _write(self) -> None:
        try:
            if self._made:
                # In one step: half a record would be none.
                fresh = self._record.with_suffix(".new")
                fresh.write_text(json.dumps(self._made))
                fresh.replace(self._record)
            else:
                self._record.unlink(missing_ok=True)
        except OSError as error:
            raise KernelError.about(str(self._record), error.errno) from error
