"""The record, for its workers, that a device is down.

A half that is set down loses what waits in its ring: BSD's if_qflush(). Only its worker can read the ring,
and only the control plane learns that the half is down. It records that in the ledger, where the present
worker, its replacement and a worker that is adopted find it, also when an event was missed.

The record may be late: frames may have been sent since the device came up again. So a worker that finds a
device recorded as down reads frames first, and drops them only if poll() reports the device as down after
that: then all of them were sent before. poll() cannot distinguish a device that is down from one whose
``sndbuf`` is full, nor can write(). So a device that is down has no bound: nothing can be delivered to it,
and frames that wait for it fail at once instead of waiting for its consumer.
"""

from __future__ import annotations

import errno
import logging
from typing import Final

from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.machine.host import Host
from epaird.ipc.counters import DOWN
from epaird.ipc.ledger import Table
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)

UNBOUNDED: Final = 2**31 - 1
"""The sndbuf of a new device (INT_MAX, drivers/net/tun.c)."""


def sndbuf(settings: HalfSettings | LoopbackSettings, *, up: bool) -> int:
    """Return the bytes that bound what a device has delivered and its receiver has not consumed."""
    bound = settings.sndbuf if isinstance(settings, HalfSettings) else None
    return bound if up and bound is not None else UNBOUNDED


class Flags:
    """Records for the workers which interfaces are down."""

    def __init__(self, host: Host, table: Table) -> None:
        self._host = host
        self._table = table

    def record(self, ifnet: Ifnet) -> None:
        """Record whether an interface is down as it was last seen, unless that is recorded already.

        A device that is recorded as down has no bound: the bound is removed before the record is made, and
        set again after the record is removed."""
        words = [self._table.slot(slot) for slot in ifnet.slots]
        if all(each[DOWN] == (not ifnet.up) for each in words):
            return
        if not ifnet.up:
            self._bound(ifnet)
        for each in words:
            each[DOWN] = not ifnet.up
        if ifnet.up:
            self._bound(ifnet)

    def _bound(self, ifnet: Ifnet) -> None:
        if ifnet.bounded:
            try:
                self._host.set_sndbuf(ifnet.tap, sndbuf(ifnet.settings, up=ifnet.up))
            except KernelError as error:
                if error.errno != errno.EBADFD:  # the device is gone, which is reported elsewhere
                    log.warning("%s: sndbuf: %s", ifnet.device, error)
