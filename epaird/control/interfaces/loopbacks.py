"""Loopbacks: the kind ``lo``.

A loopback is a TUN device whose packets its worker delivers to it again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence

from epaird.config.reading import parse
from epaird.config.settings import Configuration, LoopbackSettings
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.ifnet import Loopback, Origin, link_settings
from epaird.control.interfaces.inplace import change_device, refuse_fixed
from epaird.control.interfaces.lifecycle import Lifecycle
from epaird.control.interfaces.observed import matching_settings, observed_settings
from epaird.control.interfaces.saved import SavedDevice, SavedLoopback
from epaird.control.interfaces.tracking import describe
from epaird.control.machine.host import Place
from epaird.control.tasks import spawn
from epaird.ipc.messages import CableKind
from epaird.kernel.errors import KernelError
from epaird.kernel.policy import TABLES
from epaird.kernel.tun import Tap
from epaird.names.cloners import LO

log = logging.getLogger(__name__)


class Loopbacks(Lifecycle[Loopback, Loopback, LoopbackSettings]):
    """All loopbacks, by name."""

    cloner = LO
    noun = Loopback.noun

    async def change(self, clone: Loopback, after: LoopbackSettings) -> None:
        """Apply other settings in place."""
        before = clone.settings
        refuse_fixed(clone.device, before.model_dump(), after.model_dump())
        try:
            await self._apply(clone, after)
        except KernelError:
            await self._apply(clone, before)
            raise

    async def rewire(self, clone: Loopback) -> None:
        """Apply the loopback's present worker and mode. Raises WorkerLost or WorkerRefused."""
        before = clone.cable
        if before is not None:
            await before.detach(keep=True)
        try:
            await self.cable_of(clone).attach()
        finally:
            if before is not None:
                await before.forget()

    def cable_of(self, ifnet: Loopback) -> Cable[Loopback]:
        """Return a new cable of a loopback, not attached yet."""
        kind = CableKind.REFLECT if ifnet.settings.mode == "reflect" else CableKind.VERBATIM
        return Cable(self._table, ifnet.device, kind, (ifnet,), ifnet.workers)

    def up_changed(self, ifnet: Loopback) -> None:
        """Install the routes again: the kernel keeps the rules of a device that is down, not its routes."""
        if ifnet.up and not ifnet.destroying:
            spawn(self._install_routing_again(ifnet), f"routes of {ifnet.device}")

    def moved(self, ifnet: Loopback, before: Place) -> None:
        """Remove the rules from the namespace that a loopback has left."""
        spawn(self._remove_routing(ifnet, before), f"rules of {ifnet.device} in {describe(before)}")

    # Handover.

    def save(self, clone: Loopback, configured: LoopbackSettings | None) -> SavedLoopback:
        """Return a loopback in the form of the state file."""
        return SavedLoopback(
            device=SavedDevice.of(clone),
            settings=clone.settings,
            origin=clone.origin,
            worker=clone.workers[0].number,
            said=configured if configured != clone.settings else None,
        )

    def adopt(self, saved: SavedLoopback, taps: Sequence[Tap]) -> Loopback:
        """Take over a loopback of a predecessor."""
        device, (tap,) = saved.device, taps
        workers = self._environment.workers
        loopback = self._clones[saved.name] = Loopback(
            device=device.name,
            tap=tap,
            slots=device.slots,
            place=device.place.place(),
            mtu=device.mtu,
            up=device.up,
            carrier=device.carrier,
            settings=saved.settings,
            workers=(workers[saved.worker % len(workers)],),
            origin=saved.origin,
        )
        return loopback

    # Settings.

    def merged(
        self,
        clone: Loopback,
        ifnet: Loopback | None,  # noqa: ARG002  it is the clone
        request: Mapping[str, object],
    ) -> LoopbackSettings:
        """Return the loopback's settings with the keys of a request changed."""
        wanted = clone.settings.model_dump() | dict(request)
        return (parse({"lo": {clone.device: wanted}}).lo or {})[clone.device]

    def table_of(self, configuration: Configuration) -> Mapping[str, LoopbackSettings]:
        """Return the tables of loopbacks in a configuration."""
        return configuration.lo or {}

    def matched(self, clone: Loopback, wanted: LoopbackSettings | None) -> LoopbackSettings:
        """Return the loopback's settings, written as in ``wanted`` where that describes the present state."""
        if wanted is None:
            return clone.settings
        return clone.settings.model_copy(update=matching_settings(clone, observed_settings(clone), wanted))

    def observed(self, clone: Loopback) -> LoopbackSettings:
        """Return the settings that would create the loopback as it is now."""
        return clone.settings.model_copy(update=observed_settings(clone))

    def exact(self, clone: Loopback) -> LoopbackSettings:
        """Return the loopback's settings: it has no hardware address."""
        return clone.settings

    def confirm(self, clone: Loopback, wanted: LoopbackSettings) -> None:
        """Record that a loopback is as the configuration wants it, and belongs to the configuration."""
        clone.record(self.matched(clone, wanted))
        clone.origin = "configuration"

    # Steps of the lifecycle that only loopbacks have.

    def _ifnets_of(self, clone: Loopback) -> tuple[Loopback, ...]:
        return (clone,)

    def _clone_of(self, ifnet: Loopback) -> Loopback:
        return ifnet

    async def _make(
        self, undo: contextlib.AsyncExitStack, name: str, settings: LoopbackSettings, origin: Origin
    ) -> Loopback:
        tap = await self._host.open_tun(name)
        undo.push_async_callback(self._host.close_taps, (tap,))
        self._warn_of_missing(name, tap)
        workers = self._environment.workers
        loopback = Loopback(
            device=name,
            tap=tap,
            slots=self._take_slots(undo, tap),
            place=self._host.at_home(tap),
            mtu=settings.mtu,
            settings=settings,
            workers=(workers[tap.index % len(workers)],),
            origin=origin,
        )
        cable = self.cable_of(loopback)
        undo.push_async_callback(cable.detach)
        await cable.attach()
        loopback.place = await self._host.place(tap, settings.name or name, settings.netns)
        await self._host.configure(tap, loopback.place, link_settings(settings))
        loopback.up = loopback.carrier = settings.up
        undo.push_async_callback(self._remove_routing, loopback, loopback.place)
        await self._install_routing(loopback)
        return loopback

    async def _move_references(self, clone: Loopback) -> None:
        await self._remove_routing(clone, clone.place)

    async def _apply(self, loopback: Loopback, after: LoopbackSettings) -> None:
        before = loopback.settings
        if before == after:
            return
        if before.policy_routing:
            await self._remove_routing(loopback, loopback.place)
        try:
            await change_device(self._host, loopback, before, after)
        except KernelError:
            await self._install_routing_again(loopback)
            raise
        loopback.settings = after
        await self._install_routing(loopback)
        if before.mode != after.mode:
            await self.rewire(loopback)

    async def _install_routing(self, loopback: Loopback) -> None:
        """Have packets to its own addresses pass a loopback with ``policy_routing``. Raises KernelError."""
        settings = loopback.settings
        if settings.policy_routing and settings.up:
            addresses = tuple(map(str, settings.addresses))
            await self._host.route_through(loopback.tap, loopback.place, _table(loopback), addresses)

    async def _install_routing_again(self, loopback: Loopback) -> None:
        try:
            await self._install_routing(loopback)
        except KernelError as error:
            log.warning("%s: %s", loopback.device, error)

    async def _remove_routing(self, loopback: Loopback, place: Place) -> None:
        """Remove from a namespace what ``_install_routing`` has installed there."""
        if loopback.settings.policy_routing:
            try:
                await self._host.route_past(loopback.tap, place, _table(loopback))
            except KernelError as error:
                # A namespace that is gone has no rules any more.
                log.debug("%s: %s", loopback.device, error)


def _table(loopback: Loopback) -> int:
    """Return the routing table that is reserved for a loopback."""
    return TABLES[(LO.unit(loopback.device) or 0) % len(TABLES)]
