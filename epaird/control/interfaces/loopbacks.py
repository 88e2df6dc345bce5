"""Loopbacks: the kind ``lo``.

A loopback is a TUN device whose packets its worker delivers to it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from epaird.config.reading import parse
from epaird.config.settings import Configuration, LoopbackSettings
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.convergence import Goal, wanted
from epaird.control.interfaces.ifnet import Ifnet, Loopback, Origin, link_settings
from epaird.control.interfaces.inplace import DeviceChange, refuse_fixed
from epaird.control.interfaces.kind import NO_KEYS
from epaird.control.interfaces.lifecycle import Lifecycle
from epaird.control.interfaces.observed import matching_settings, observed_settings
from epaird.control.interfaces.saved import SavedDevice, SavedLoopback
from epaird.control.interfaces.tracking import describe
from epaird.control.machine.host import Place
from epaird.control.tasks import spawn
from epaird.ipc.messages import CableKind
from epaird.kernel.tun import Tap
from epaird.names.cloners import LO


class Loopbacks(Lifecycle[Loopback, Loopback, LoopbackSettings]):
    """All loopbacks, by name."""

    cloner = LO
    noun = Loopback.noun

    def changing(
        self,
        clone: Loopback,
        after: LoopbackSettings,
        requested: Mapping[Ifnet, Collection[str]] = NO_KEYS,
    ) -> LoopbackChange:
        """Return the change of a loopback to other settings."""
        return LoopbackChange(clone, after, requested.get(clone, ()), self.rewire)

    def requested(
        self,
        clone: Loopback,
        ifnet: Loopback | None,  # noqa: ARG002  it is the clone
        request: Mapping[str, object],
    ) -> Mapping[Ifnet, Collection[str]]:
        """Return the keys that a request names."""
        return {clone: request.keys()}

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
        """Do nothing: no other device depends on a loopback."""

    def moved(self, ifnet: Loopback, before: Place) -> None:
        """Remove the rules from the namespace that a loopback has left."""
        leaving = self._convergence.leave(ifnet, before)
        spawn(leaving, f"removing rules of {ifnet.device} in {describe(before)}")

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
            placed=device.placed_in(saved.settings.netns),
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
        undo.push_async_callback(self._convergence.leave, loopback, loopback.place)
        if settings.policy_routing:
            async with self._convergence.lock:
                for failure in await self._convergence.converge([Goal(loopback, wanted(loopback))]):
                    raise failure
        return loopback

    async def _move_references(self, clone: Loopback) -> None:
        await self._convergence.leave(clone, clone.place)


class LoopbackChange:
    """The change of a loopback to other settings."""

    def __init__(
        self,
        loopback: Loopback,
        after: LoopbackSettings,
        requested: Collection[str],
        rewire: Callable[[Loopback], Awaitable[None]],
    ) -> None:
        """``requested`` are keys that are set even if they are as recorded."""
        self.clone = loopback
        self.devices: list[DeviceChange] = []
        self._before, self._after = loopback.settings, after
        self._requested = requested
        self._rewire = rewire

    def prepare(self) -> None:
        """Check the settings. Raises Refused."""
        refuse_fixed(self.clone.device, self._before.model_dump(), self._after.model_dump())
        self.devices.append(DeviceChange(self.clone, self._after, requested=self._requested))

    async def finish(self) -> None:
        """Record the settings and apply the mode."""
        await self._record(self._after)

    async def revert(self) -> None:
        """Record the settings of before and apply their mode."""
        await self._record(self._before)

    async def _record(self, settings: LoopbackSettings) -> None:
        self.clone.record(settings)
        if self._before.mode != self._after.mode:
            await self._rewire(self.clone)
