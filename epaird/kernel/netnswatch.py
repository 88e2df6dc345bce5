"""Told when names of namespaces are taken away.

A namespace in which a device of ours was made lives as long as the device's descriptors, so that of
``ip netns del`` the kernel tells nothing: the name alone is gone.
"""

from __future__ import annotations

from epaird.kernel import abi
from epaird.kernel.directorywatch import DirectoryWatch
from epaird.kernel.namespace import RUN_DIRECTORY


class NameWatch(DirectoryWatch):
    """Watches the directory of names."""

    def __init__(self, directory: str = RUN_DIRECTORY) -> None:
        """``directory`` must exist.  Raises KernelError."""
        super().__init__(directory, events=abi.IN_DELETE | abi.IN_MOVED_FROM, label="namespaces")
