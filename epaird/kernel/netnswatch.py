"""Notification that a namespace lost its name.

A namespace in which epaird created a device lives as long as the device's descriptors. The kernel therefore
reports no event after ``ip netns del``; only the name disappears.
"""

from __future__ import annotations

from epaird.kernel import abi
from epaird.kernel.directorywatch import DirectoryWatch
from epaird.kernel.namespace import RUN_DIRECTORY


class NameWatch(DirectoryWatch):
    """A watch on the directory of namespace names."""

    def __init__(self, directory: str = RUN_DIRECTORY) -> None:
        """``directory`` must exist. Raises KernelError."""
        super().__init__(directory, events=abi.IN_DELETE | abi.IN_MOVED_FROM, label="namespaces")
