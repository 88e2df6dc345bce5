"""The namespaces that live and die with the daemon.

What was made is written down beside the control socket: after a crash the next daemon takes over its
predecessor's namespaces, and never removes one that somebody else made.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from epaird.control.host import Host
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity

log = logging.getLogger(__name__)


class Namespaces:
    """Those of ``namespaces.create``."""

    def __init__(self, host: Host, directory: Path) -> None:
        """``directory`` is where the record is kept; it is made when the first namespace is."""
        self._host = host
        self._record = directory / "namespaces.json"
        self._made: dict[str, Identity] = {}

    async def create(self, names: Iterable[str]) -> None:
        """Make them.  Raises KernelError, EEXIST when one exists that no daemon of ours made."""
        inherited = self._read()
        for name in names:
            try:
                self._made[name] = await self._host.make_namespace(name)
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    raise
                if self._host.namespace_identity(name) != inherited.get(name):
                    raise KernelError(
                        errno.EEXIST,
                        f"namespaces.create: {name} exists already and is not ours: take it off the list to "
                        f"use it as it is, or remove it with: ip netns del {name}",
                    ) from error
                self._made[name] = inherited[name]
                log.info("namespace %s: taken over from a daemon that ended without removing it", name)
            self._write()

    async def remove_all(self) -> None:
        """Remove those that were made, unless somebody has put another in the place of one."""
        for name, identity in tuple(self._made.items()):
            try:
                if self._host.namespace_identity(name) == identity:
                    await self._host.remove_namespace(name)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    log.warning("%s", error)
            del self._made[name]
            self._write()

    def _read(self) -> dict[str, Identity]:
        try:
            recorded = json.loads(self._record.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("%s: %s: not used", self._record, error)
            return {}
        return {name: Identity(*identity) for name, identity in recorded.items()}

    def _write(self) -> None:
        if self._made:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            self._record.write_text(json.dumps(self._made))
        else:
            self._record.unlink(missing_ok=True)
