"""A device's settings changed in place: only what is different is touched."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import TypeVar

from epaird.kernel import link
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings

T = TypeVar("T")


def reconfigure(
    index: int, before: LinkSettings, after: LinkSettings, *, netns: str | None = None, device: str
) -> None:
    """Make a device that was made as ``before`` as ``after``.

    What others have added stays.  Raises KernelError naming what could not be had; what came before it
    stays changed.
    """
    if after.mac is not None and after.mac != before.mac:
        link.set_mac(index, after.mac, netns=netns, device=device)
    if after.mtu != before.mtu:
        link.set_mtu(index, after.mtu, netns=netns, device=device)
    if after.txqueuelen != before.txqueuelen:
        link.set_txqueuelen(index, after.txqueuelen, netns=netns, device=device)
    for address in _only(before.addresses, after.addresses):
        with _unless(errno.EADDRNOTAVAIL):
            link.remove_address(index, address, netns=netns, device=device)
    for address in _only(after.addresses, before.addresses):
        with _unless(errno.EEXIST):
            link.add_address(index, address, netns=netns, device=device)
    if after.up != before.up:
        link.set_up(index, after.up, netns=netns, device=device)
    # The kernel holds routes only while the device is up, and drops them with it.
    had, wanted = (each.routes if each.up else () for each in (before, after))
    for route in _only(had, wanted) if after.up else ():
        with _unless(errno.ESRCH):
            link.remove_route(index, route, netns=netns, device=device)
    for route in _only(wanted, had):
        with _unless(errno.EEXIST):
            link.add_route(index, route, netns=netns, device=device)


def _only(these: tuple[T, ...], without: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(each for each in these if each not in without)


@contextlib.contextmanager
def _unless(known: int) -> Iterator[None]:
    """Pass over the one error that says that nothing was to be done."""
    try:
        yield
    except KernelError as error:
        if error.errno != known:
            raise
