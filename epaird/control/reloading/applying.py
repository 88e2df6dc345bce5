"""A plan carried out, or undone when something of it cannot be had.

Each step says how it is undone before it is begun.  Whatever is new is made before anything goes that it
does not replace, so that a reload which fails has, as a rule, taken nothing away.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from epaird.config.settings import Configuration, InterfaceSettings, PairSettings
from epaird.control.interfaces.ifnet import Half, Loopback, Origin, Pair, link_settings
from epaird.control.interfaces.registry import Interfaces
from epaird.control.machine.host import Host
from epaird.control.machine.namespaces import Namespaces
from epaird.control.reloading.current import acknowledge, peers
from epaird.control.tasks import together
from epaird.plan.steps import Change, Create, Destroy, Patch, Plan, Recreate, Restore

log = logging.getLogger(__name__)

_Undo = Callable[[], Awaitable[None]]


class Applying:
    """One plan, on its way."""

    def __init__(
        self,
        plan: Plan,
        configuration: Configuration,
        *,
        host: Host,
        interfaces: Interfaces,
        namespaces: Namespaces,
        go_by: Callable[[Configuration], Awaitable[None]],
        shrink: Callable[[Configuration], Awaitable[None]],
        force: Configuration,
    ) -> None:
        """``configuration`` is what the plan leads to, and ``force`` what is in force.

        ``go_by`` has the daemon itself go by a configuration, ``shrink`` ends workers that are too many."""
        self._plan = plan
        self._wanted = configuration
        self._force = force
        self._host = host
        self._interfaces = interfaces
        self._namespaces = namespaces
        self._go_by = go_by
        self._shrink = shrink
        self._undo: list[_Undo] = []

    async def apply(self) -> None:
        """Carry it out.  Raises what a step raises, and then everything is as it was before."""
        try:
            await self._carry_out()
        except Exception:
            await self._roll_back()
            raise
        wanted = self._wanted.settings_by_name()
        there: list[tuple[str, Pair | Loopback]] = [(pair.name, pair) for pair in self._interfaces.pairs]
        there += [(loopback.device, loopback) for loopback in self._interfaces.loopbacks]
        for name, found in there:
            if name in wanted and not found.going:
                _take_over(found, wanted[name])
        self._interfaces.bus.changed()

    async def _carry_out(self) -> None:
        plan = self._plan
        self._undo.append(partial(self._plug_again, peers(self._interfaces)))
        self._undo += [partial(self._shrink, self._force), partial(self._go_by, self._force)]
        await self._go_by(self._wanted)
        for name in plan.namespaces_made:
            self._undo.append(partial(self._namespaces.remove, name))
            await self._namespaces.add(name)
        await self._steps()
        for patch in plan.patches:
            await self._patch(patch)
        await together(*map(self._restore, plan.restored))
        await together(*(self._destroy(each.name) for each in plan.destroyed_last))
        for name in plan.namespaces_removed:
            self._undo.append(partial(self._namespaces.add, name))
            await self._namespaces.remove(name)
        await self._shrink(self._wanted)

    async def _steps(self) -> None:
        steps = self._plan.steps
        await together(*(self._destroy(each.name) for each in steps if isinstance(each, Destroy)))
        await together(*(self._change(each) for each in steps if isinstance(each, Change)))
        recreated = [each for each in steps if isinstance(each, Recreate)]
        origins = {each.name: found.origin for each in recreated if (found := self._find(each.name))}
        await together(*(self._destroy(each.name) for each in recreated))
        await together(
            *(
                self._create(each.name, each.settings, origins.get(each.name, "configuration"))
                for each in steps
                if isinstance(each, Create | Recreate)
            )
        )

    async def _create(self, name: str, settings: InterfaceSettings, origin: Origin) -> None:
        going = self._find(name, going=True)
        if going is not None and going.going:
            await going.gone.wait()
        if isinstance(settings, PairSettings):
            await self._interfaces.create_pair(name, settings, origin)
        else:
            await self._interfaces.create_loopback(name, settings, origin)
        self._undo.append(partial(self._unmake, name))

    async def _unmake(self, name: str) -> None:
        found = self._find(name)
        if isinstance(found, Pair):
            await self._interfaces.pairs.destroy(found)
        elif found is not None:
            await self._interfaces.loopbacks.destroy(found)

    async def _destroy(self, name: str) -> None:
        found = self._find(name)
        if found is not None:
            self._undo.append(partial(self._make_again, found))
            await self._unmake(name)

    async def _make_again(self, found: Pair | Loopback) -> None:
        """What was destroyed, with the hardware addresses it had."""
        if isinstance(found, Loopback):
            await self._interfaces.create_loopback(found.device, found.settings, found.origin)
            return
        macs: dict[str, Any] = {
            half.side: half.settings.model_copy(update={"mac": half.mac}) for half in found.halves
        }
        await self._interfaces.create_pair(found.name, found.settings.model_copy(update=macs), found.origin)
        again = self._find(found.name)
        if isinstance(again, Pair):
            again.settings = found.settings
            for half in again.halves:
                half.settings = found.settings.half(half.side)

    async def _change(self, step: Change) -> None:
        found = self._find(step.name)
        if found is None:  # its device was deleted since the plan was made
            await self._create(step.name, step.settings, "configuration")
            return
        acknowledge(found, step.settings)
        self._undo.append(partial(self._interfaces.give, found, found.settings))
        await self._interfaces.give(found, step.settings)

    async def _patch(self, step: Patch) -> None:
        half = self._half(step.half)
        other = self._half(step.new) if step.new is not None else None
        patching = self._interfaces.pairs.patching
        if half is not None and other is not None:
            await patching.patch(half, other)
        elif half is not None:
            await patching.unpatch(half)

    async def _plug_again(self, before: dict[str, str | None]) -> None:
        """Plug everything as it was."""
        for name, peer in before.items():
            half = self._half(name)
            if half is not None and (half.peer.device if half.peer else None) != peer:
                await self._patch(Patch(name, None, peer))

    async def _restore(self, what: Restore) -> None:
        ifnet: Half | Loopback | None = self._half(what.device)
        if ifnet is None:
            found = self._find(what.device)
            ifnet = found if isinstance(found, Loopback) else None
        if ifnet is None:
            return
        mac = ifnet.mac if isinstance(ifnet, Half) else None
        settings = ifnet.settings.model_copy(update={"up": ifnet.up})
        lacking: dict[str, Any] = {
            "addresses": tuple(a for a in settings.addresses if str(a) not in what.addresses)
        }
        if isinstance(ifnet, Half):
            lacking["routes"] = tuple(
                route for route in settings.routes if (str(route.to), str(route.via)) not in what.routes
            )
        now, then = (link_settings(each, mac) for each in (settings.model_copy(update=lacking), settings))
        self._undo.append(partial(self._host.reconfigure, ifnet.tap, ifnet.place, then, now))
        await self._host.reconfigure(ifnet.tap, ifnet.place, now, then)

    async def _roll_back(self) -> None:
        """Undo what was done, the last first.  What cannot be undone is said, and the rest is undone."""
        while self._undo:
            undo = self._undo.pop()
            try:
                await undo()
            except Exception as error:
                log.exception("rolling a reload back: %s", error)

    def _find(self, name: str, *, going: bool = False) -> Pair | Loopback | None:
        for pair in self._interfaces.pairs:
            if pair.name == name and (going or not pair.going):
                return pair
        for loopback in self._interfaces.loopbacks:
            if loopback.device == name and (going or not loopback.going):
                return loopback
        return None

    def _half(self, device: str) -> Half | None:
        halves = self._interfaces.pairs.halves
        return next((half for half in halves if half.device == device and not half.going), None)


def _take_over(found: Pair | Loopback, wanted: InterfaceSettings) -> None:
    """An interface is the configuration's, and as that says."""
    acknowledge(found, wanted)
    found.origin = "configuration"
    if isinstance(found, Pair) and isinstance(wanted, PairSettings):
        for half in found.halves:
            peer = wanted.half(half.side).peer
            half.settings = found.settings.half(half.side).model_copy(update={"peer": peer})
        halves: dict[str, Any] = {half.side: half.settings for half in found.halves}
        found.settings = found.settings.model_copy(update=halves)
