"""Notification that a name of a namespace appeared, disappeared or leads to another namespace.

A namespace in which epaird created a device lives as long as the device's descriptors. The kernel therefore
reports no event after ``ip netns del``; only the name disappears.

A name appears as an empty file, before the namespace is mounted on it; inotify reports no mount. So after an
event a caller looks several times.
"""

from __future__ import annotations

from pathlib import Path

from epaird.kernel.namespace import RUN_DIRECTORY
from epaird.kernel.pathwatch import PathWatch, Seen


class NameWatch(PathWatch):
    """A watch on the directory of namespace names, which need not exist."""

    def __init__(self, directory: str = RUN_DIRECTORY) -> None:
        super().__init__(Path(directory))

    def drain(self) -> bool:
        """Discard all pending events, without waiting; return whether there was one of a name."""
        found = False
        while self.read() is not Seen.NOTHING:
            found = True
        self.renew()
        return found
