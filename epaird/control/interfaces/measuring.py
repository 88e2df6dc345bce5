"""The kernel's statistics of interfaces, and the settlement of a dead worker's account with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.machine.host import Host
from epaird.control.workers.worker import Worker
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

I = TypeVar("I", bound=Ifnet)  # noqa: E741


def measured(host: Host, ifnets: Iterable[I]) -> dict[I, LinkStatistics]:
    """Return the kernel's statistics of each interface that exists, with one request for each namespace.

    Raises KernelError."""
    by_place: dict[tuple[int | None, Identity], list[I]] = {}
    for ifnet in ifnets:
        by_place.setdefault((ifnet.place.nsid, ifnet.place.identity), []).append(ifnet)
    found: dict[I, LinkStatistics] = {}
    for (nsid, _), there in by_place.items():
        statistics = host.statistics(nsid)
        # The kernel gives the id of a namespace that has ended to another one, which has the same indices.
        if nsid is None or any(host.is_in(ifnet.tap, ifnet.place) for ifnet in there):
            present = (ifnet for ifnet in there if ifnet.place.index in statistics)
            found |= {ifnet: statistics[ifnet.place.index] for ifnet in present}
        for ifnet in there:
            if ifnet not in found and (elsewhere := _elsewhere(host, ifnet)) is not None:
                found[ifnet] = elsewhere
    return found


def _elsewhere(host: Host, ifnet: Ifnet) -> LinkStatistics | None:
    """Return the statistics of an interface that has left its place, as one that is being moved has; None if
    it is gone. Raises KernelError when descriptors or memory are lacking."""
    if ifnet.tap.closed:
        return None
    try:
        place = host.find(ifnet.tap, ifnet.place, left=True)
    except KernelError as error:
        if error.lacking:
            raise
        return None
    return host.statistics(place.nsid).get(place.index)


def settle_detached(host: Host, cables: Iterable[Cable[Any]]) -> None:
    """Settle the accounts of cables that are detached and were not settled while they were attached."""
    for cable in cables:
        if cable.unsettled:
            try:
                cable.amend(cable.corrections(measured(host, cable.ends)))
            except (KernelError, KeyError) as error:  # KeyError: a device is gone
                log.warning("the losses of workers that died are known in part only: %s", error)


def settle(host: Host, worker: Worker, ifnets: Iterable[Ifnet]) -> None:
    """Settle the account of a worker that has died with the cables of these interfaces.

    No process may read them during this."""
    attached = {ifnet: ifnet.cable for ifnet in ifnets if ifnet.cable is not None}
    if not attached:
        return
    try:
        found = measured(host, attached)
    except KernelError as error:
        log.warning("worker %d: its losses are known in part only: %s", worker.number, error)
        found = {}
    for cable in dict.fromkeys(attached.values()):
        cable.settle(worker, found)
