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

from epaird.kernel import location, requests, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkChange, change_all, delete_group
from epaird.kernel.namespace import Identity, Namespace, inside, of_descriptor
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
        for namespace, there in _by_namespace(stack, taps):
            with contextlib.suppress(KernelError, OSError):
                _remove_from(namespace, there)


def _by_namespace(stack: contextlib.ExitStack, taps: Iterable[Tap]) -> list[tuple[Namespace, list[Tap]]]:
    """Return the devices by namespace. ``stack`` keeps the namespaces open."""
    found: dict[Identity, tuple[Namespace, list[Tap]]] = {}
    for tap in taps:
        if tap.closed:
            continue
        # Without a descriptor to keep the namespace open its devices are closed one by one.
        with contextlib.suppress(KernelError, OSError), tunqueue.opened_namespace_of(tap.fds[0]) as namespace:
            if namespace.identity not in found:
                kept = os.dup(namespace.fd)
                stack.callback(os.close, kept)
                found[namespace.identity] = (of_descriptor(kept), [])
            found[namespace.identity][1].append(tap)
    return list(found.values())


def _remove_from(namespace: Namespace, taps: Iterable[Tap]) -> None:
    """Remove devices that are in a namespace. Those that have left it in the meantime stay."""
    group = secrets.choice(_GROUPS)
    with inside(namespace):
        changes = []
        for tap in taps:
            with contextlib.suppress(KernelError):
                index = location.index_here(tap.fds[0], namespace.identity)
                changes.append(LinkChange(tap.name, (requests.group(index, group),)))
        change_all(changes, None)
        delete_group(group)
