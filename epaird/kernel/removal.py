"""Devices removed, many at once.

Closing the last descriptor of a device takes 18 ms, nearly all of it a wait until no processor uses the
device any more.  Deleting a whole group of devices waits once for all of them: 2000 in 0.4 s, not 37 s.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from typing import Final

from epaird.kernel import requests, tun
from epaird.kernel.errors import KernelError
from epaird.kernel.link import Change, change_all, delete_group
from epaird.kernel.namespace import Identity, identity
from epaird.kernel.tun import Tap

_GROUPS: Final = range(1 << 30, 1 << 31)
"""Where a number is picked that nobody else has: people count their groups from 1."""


def remove(taps: Iterable[Tap]) -> None:
    """Destroy devices, wherever they are and whatever they are called by now, and close them.

    Those that are gone already, and those that were closed, are left at that.
    """
    taps = tuple(taps)
    with contextlib.ExitStack() as stack:
        for tap in taps:
            stack.callback(tap.close)  # which removes what could not be removed together
        for netns, names in _by_namespace(stack, taps).items():
            with contextlib.suppress(KernelError):
                _remove_from(netns, names)


def _by_namespace(stack: contextlib.ExitStack, taps: Iterable[Tap]) -> dict[str | None, list[str]]:
    """The devices' names in each namespace, which is given as a path and kept open by ``stack``."""
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
    change_all([Change(name, (requests.group_of_name(name, group),)) for name in names], netns)
    delete_group(group, netns=netns)
