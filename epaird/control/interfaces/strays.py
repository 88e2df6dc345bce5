"""Strays: interfaces in a namespace to which the configured name no longer leads.

A name is given to another namespace when a container restarts: its namespace is deleted and created again,
while a process keeps the old one, and the interface in it. The interface stays where it is, and is changed
there, until the watch on names or a reload moves it to where the name leads now.

An interface that its owner has moved away on purpose is no stray, wherever the name leads. So each interface
has the namespace to which the name led when it was last seen there (``placed``): it is a stray only while it
is in that one.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from functools import cache
from typing import Final

from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.ifnet import Ifnet, Stray
from epaird.control.machine.host import Host
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity, name_of, nameless

log = logging.getLogger(__name__)

_NOWHERE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ESRCH))
"""Errors of a path that leads to no namespace. After others, where it leads is unknown."""


class Strays:
    """Finds and reports strays."""

    def __init__(self, host: Host, bus: EventBus) -> None:
        self._host = host
        self._bus = bus

    def check(self, ifnets: Iterable[Ifnet]) -> tuple[Ifnet, ...]:
        """Resolve the names of the interfaces' namespaces; return the strays that can be moved there."""
        leads_to = cache(self._leads_to)
        movable = []
        for ifnet in ifnets:
            netns = ifnet.settings.netns
            if netns is None or ifnet.destroying:
                continue
            try:
                self.record(ifnet, _stray(ifnet, netns, leads_to(netns)))
            except KernelError as error:
                log.debug("%s: %s", ifnet.device, error)
            if ifnet.stray is not None and ifnet.stray.leads_to:
                movable.append(ifnet)
        return tuple(movable)

    def record(self, ifnet: Ifnet, stray: Stray | None) -> None:
        """Record whether an interface is a stray; log and publish a change."""
        before, ifnet.stray = ifnet.stray, stray
        if stray == before:
            return
        if stray is None:
            log.info("%s: in namespace %s again", ifnet.device, ifnet.settings.netns)
            self._bus.publish("returned", ifnet.device, ifnet.settings.netns or "")
            return
        where = f"leads to {stray.leads_to} now" if stray.leads_to else "does not exist any more"
        what = "until it is moved there" if stray.leads_to else "it is configured there as before"
        log.warning(
            "%s: namespace %s %s; the device stays in %s, %s",
            ifnet.device, stray.netns, where, stray.here, what,
        )  # fmt: skip
        self._bus.publish("strayed", ifnet.device, f"{stray.netns} {where}")

    def _leads_to(self, netns: str) -> Identity | None:
        try:
            return self._host.namespace_identity(netns)
        except KernelError as error:
            if error.errno in _NOWHERE:
                return None
            raise


def _stray(ifnet: Ifnet, netns: str, leads_to: Identity | None) -> Stray | None:
    here = ifnet.place.identity
    if leads_to == here:
        ifnet.placed = here
        return None
    if ifnet.placed != here:
        return None
    return Stray(netns, name_of(here), nameless(leads_to) if leads_to is not None else "")
