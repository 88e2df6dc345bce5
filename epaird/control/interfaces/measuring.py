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
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

I = TypeVar("I", bound=Ifnet)  # noqa: E741


def measured(host: Host, ifnets: Iterable[I]) -> dict[I, LinkStatistics]:
    """Return the kernel's statistics of each interface that exists, with one request for each namespace.

    Raises KernelError."""
    wanted = tuple(ifnets)
    found = {nsid: host.statistics(nsid) for nsid in {ifnet.place.nsid for ifnet in wanted}}
    return {
        ifnet: found[ifnet.place.nsid][ifnet.place.index]
        for ifnet in wanted
        if ifnet.place.index in found[ifnet.place.nsid]
    }


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
