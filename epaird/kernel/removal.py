"""Removal of many devices at once.

Closing the last descriptor of a device takes 18 ms, nearly all of which is a wait until no processor uses
the device any more. Deleting a group of devices waits once for all of them: 2000 in 0.4 s, not 37 s.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from typing import Final

from epaird.kernel import requests, tun
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkChange, change_all, delete_group
from epaird.kernel.namespace import Identity, identity
from epaird.kernel.tun import Tap

_GROUPS: Final = range(1 << 30, 1 << 31)
"""Group numbers to choose from, unlikely to be in use: administrators number their groups from 1."""


def remove(taps: Iterable[Tap]) -> None:
    """Destroy and close devices, in any namespaces and under any names.

    Devices that are gone or closed already are skipped.
    """
    taps = tuple(taps)
    with contextlib.ExitStack() as stack:
        for tap in taps:
            stack.callback(tap.close)  # removes the devices whose group could not be deleted
        for netns, names in _by_namespace(stack, taps).items():
            with contextlib.suppress(KernelError):
                _remove_from(netns, names)


def _by_namespace(stack: contextlib.ExitStack, taps: Iterable[Tap]) -> dict[str | None, list[str]]:
    """Return the devices' names by namespace path. ``stack`` keeps the namespaces open."""
    home = identity(None)
    paths: dict[Identity, str | None] = {home: None}
    names: dict[str | None, list[str]] = {}
    for tap in taps:
        if tap.closed:
            continue
        with contextlib.suppress(KernelError), tun.opened_namespace_of(tap.fds[0]) as fd:
            status = os.fstat(fd)
            where = Identity(status.st_dev, status.st_ino)
            if where not in paths:
                kept = os.dup(fd)
                stack.callback(os.close, kept)
                paths[where] = f"/proc/self/fd/{kept}"
            names.setdefault(paths[where], []).append(tun.current_name(tap.fds[0]))
    return names


def _remove_from(netns: str | None, names: Iterable[str]) -> None:
    group = secrets.choice(_GROUPS)
    change_all([LinkChange(name, (requests.group_of_name(name, group),)) for name in names], netns)
    delete_group(group, netns=netns)
