"""Changes in place: a device is given other settings while it forwards."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Mapping

from epaird.config.immutable import IMMUTABLE
from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import Ifnet, link_settings
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap

log = logging.getLogger(__name__)


def refuse_fixed(name: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Raise Refused, EINVAL, when a key differs that cannot be changed in place."""
    for key, immutable in IMMUTABLE.items():
        if before.get(key) != after.get(key):
            hint = immutable.instead or immutable.reason
            raise Refused(errno.EINVAL, f"{name}: {key} cannot be changed in place: {hint}")


async def change_device(
    host: Host,
    ifnet: Ifnet,
    before: HalfSettings | LoopbackSettings,
    after: HalfSettings | LoopbackSettings,
    macs: tuple[str | None, str | None] = (None, None),
) -> None:
    """Apply what differs between two settings to a device; ``macs`` are its old and new hardware address.

    Raises KernelError; then the old settings are applied again as far as possible."""
    old, new = link_settings(before, macs[0]), link_settings(after, macs[1])
    name = after.name or ifnet.device
    try:
        if old != new:
            await host.reconfigure(ifnet.tap, ifnet.place, old, new)
        if name != (before.name or ifnet.device):
            await host.rename(ifnet.tap, ifnet.place, name)
    except KernelError:
        # Some of the changes may have succeeded.
        with contextlib.suppress(KernelError):
            await host.reconfigure(ifnet.tap, ifnet.place, new, old)
        raise
    ifnet.up = after.up if after.up != before.up else ifnet.up
    if after.mtu != ifnet.mtu and after.mtu != before.mtu:
        ifnet.mtu = after.mtu
        if ifnet.cable is not None:
            ifnet.cable.resize()


def warn_of_missing(device: str, tap: Tap) -> None:
    """Log the wanted offloads that a device lacks."""
    if tap.missing:
        log.warning("%s: this kernel has no %s; continuing without", device, " and no ".join(tap.missing))
