"""Notification that a name of a namespace appeared, disappeared or leads to another namespace.

A namespace in which epaird created a device lives as long as the device's descriptors. The kernel therefore
reports no event after ``ip netns del``; only the name disappears.

A name appears as an empty file, before the namespace is mounted on it; inotify reports no mount. So after an
event a caller looks several times.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Final

from epaird.kernel.namespace import RUN_DIRECTORY
from epaird.kernel.pathwatch import PathWatch
from epaird.kernel.printable import printable


class NameWatch(PathWatch):
    """A watch on the directory of namespace names, which need not exist."""

    def __init__(self, directory: str = RUN_DIRECTORY) -> None:
        super().__init__(Path(directory))

    def drain(self) -> Container[str]:
        """Discard all pending events, without waiting; return the names that they are of, printable.

        It has every name after events that are of the directory itself, or were dropped."""
        found: set[str] = set()
        every = False
        while events := self.events():
            every = every or not all(map(self.is_of_entry, events))
            found.update(printable(os.fsencode(event.name)) for event in events)
        if every:
            self.renew()
        return EVERY_NAME if every else found


class _EveryName(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


EVERY_NAME: Final = _EveryName()
"""Has every name."""
