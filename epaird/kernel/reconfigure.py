"""In-place changes of a device's settings, limited to those that differ."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import TypeVar

from epaird.kernel import link
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.namespace import Namespace

T = TypeVar("T")


def reconfigure(
    index: int, before: LinkSettings, after: LinkSettings, *, netns: Namespace | None = None, device: str
) -> None:
    """Change a device that was configured with ``before`` to ``after``.

    Addresses and routes that other programs added stay. Raises KernelError for the first refused change;
    the changes made before it stay in force.
    """
    if after.mac is not None and after.mac != before.mac:
        link.set_mac(index, after.mac, netns=netns, device=device)
    if after.mtu != before.mtu:
        link.set_mtu(index, after.mtu, netns=netns, device=device)
    if after.txqueuelen != before.txqueuelen:
        link.set_txqueuelen(index, after.txqueuelen, netns=netns, device=device)
    for address in _difference(before.addresses, after.addresses):
        with _ignoring(errno.EADDRNOTAVAIL):
            link.remove_address(index, address, netns=netns, device=device)
    for address in _difference(after.addresses, before.addresses):
        with _ignoring(errno.EEXIST):
            link.add_address(index, address, netns=netns, device=device)
    if after.up != before.up:
        link.set_up(index, after.up, netns=netns, device=device)
    # The kernel keeps routes only while the device is up.
    old, new = (settings.routes if settings.up else () for settings in (before, after))
    for route in _difference(old, new) if after.up else ():
        with _ignoring(errno.ESRCH):
            link.remove_route(index, route, netns=netns, device=device)
    for route in _difference(new, old):
        with _ignoring(errno.EEXIST):
            link.add_route(index, route, netns=netns, device=device)


def _difference(items: tuple[T, ...], excluded: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(item for item in items if item not in excluded)


@contextlib.contextmanager
def _ignoring(number: int) -> Iterator[None]:
    """Ignore the one errno that means that the change had been made already."""
    try:
        yield
    except KernelError as error:
        if error.errno != number:
            raise
