"""Applying a plan, with undo when a step fails.

Each step records how it is undone before it begins. New interfaces are created before any are destroyed
that they do not replace, so that a reload which fails has, as a rule, destroyed nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial

from epaird.config.settings import Configuration, InterfaceSettings
from epaird.control.interfaces.convergence import Goal, wanted
from epaird.control.interfaces.ifnet import Clone, Half, Ifnet, Origin
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.namespaces import Namespaces
from epaird.control.reloading.current import peers, record_matching
from epaird.control.tasks import together
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.plan.steps import Change, Create, Destroy, Patch, Plan, Recreate, Relocate, Restore

log = logging.getLogger(__name__)

_Undo = Callable[[], Awaitable[None]]


class Applying:
    """One plan while it is applied."""

    def __init__(
        self,
        plan: Plan,
        configuration: Configuration,
        *,
        registry: Registry,
        namespaces: Namespaces,
        reconfigure: Callable[[Configuration], Awaitable[None]],
        shrink: Callable[[Configuration], Awaitable[None]],
        current: Configuration,
    ) -> None:
        """``configuration`` is the one that the plan leads to, ``current`` the one in force.

        ``reconfigure`` applies a configuration to the daemon itself, ``shrink`` ends surplus workers."""
        self._plan = plan
        self._wanted = configuration
        self._current = current
        self._registry = registry
        self._namespaces = namespaces
        self._reconfigure = reconfigure
        self._shrink = shrink
        self._undo: list[_Undo] = []
        self._moved: list[str] = []
        """Strays that were moved to their namespaces, in words; they stay there."""
        self.left: list[str] = []
        """The effects of a failed plan that remain, in words."""

    async def apply(self) -> None:
        """Apply the plan. Raises what a step raises, after everything was undone."""
        try:
            await self._carry_out()
        except Exception as error:
            self.left += [*self._moved, *getattr(error, "__notes__", ())]
            await self._roll_back()
            raise
        wanted = self._wanted.settings_by_name()
        for clone in tuple(self._registry):
            if clone.name in wanted and not clone.destroying:
                self._registry.kind_of(clone).confirm(clone, wanted[clone.name])
        self._registry.bus.changed()

    async def _carry_out(self) -> None:
        plan = self._plan
        self._undo.append(partial(self._restore_withdrawn, frozenset(self._registry.withdrawn)))
        self._undo.append(partial(self._restore_peers, peers(self._registry)))
        self._undo += [partial(self._shrink, self._current), partial(self._reconfigure, self._current)]
        self._undo.append(partial(self._use_presets, self._current))
        await self._use_presets(self._wanted)
        await self._reconfigure(self._wanted)
        for name in plan.namespaces_created:
            self._undo.append(partial(self._namespaces.remove, name))
            await self._namespaces.add(name)
        await self._steps()
        for patch in plan.patches:
            await self._patch(patch)
        await self._restore(plan.restored)
        await together(*(self._destroy(each.name) for each in plan.destroyed_last))
        for name in plan.namespaces_removed:
            self._undo.append(partial(self._namespaces.add, name))
            await self._namespaces.remove(name)
        await self._relocate(plan.relocated)
        await self._shrink(self._wanted)

    async def _use_presets(self, configuration: Configuration) -> None:
        self._registry.pairs.impairments.presets = configuration.presets

    async def _steps(self) -> None:
        steps = self._plan.steps
        recreated = [each for each in steps if isinstance(each, Recreate)]
        origins = {each.name: found.origin for each in recreated if (found := self._find(each.name))}
        early = [each.name for each in steps if isinstance(each, Destroy)]
        early += [each.name for each in recreated if each.first]
        await together(*map(self._destroy, early))
        await self._change([each for each in steps if isinstance(each, Change)])
        await together(*(self._destroy(each.name) for each in recreated if not each.first))
        await together(
            *(
                self._create(each.name, each.settings, origins.get(each.name, "configuration"))
                for each in steps
                if isinstance(each, Create | Recreate)
            )
        )

    async def _create(self, name: str, settings: InterfaceSettings, origin: Origin) -> None:
        before = self._registry.get(name)
        if before is not None and before.destroying:
            await before.gone.wait()
        await self._registry.create(name, settings, origin)
        self._undo.append(partial(self._remove, name))

    async def _remove(self, name: str) -> None:
        found = self._find(name)
        if found is not None:
            await self._registry.destroy(found)

    async def _destroy(self, name: str) -> None:
        found = self._find(name)
        if found is not None:
            self._undo.append(partial(self._recreate, found))
            await self._remove(name)

    async def _recreate(self, destroyed: Clone) -> None:
        """Create again what was destroyed, exactly as it was."""
        exact = self._registry.kind_of(destroyed).exact(destroyed)
        await self._registry.create(destroyed.name, exact, destroyed.origin)
        created = self._find(destroyed.name)
        if created is not None:
            created.record(destroyed.settings)

    async def _change(self, steps: Iterable[Change]) -> None:
        """Change interfaces in place, all together: an address or a route may move from one to another."""
        changes: list[tuple[Clone, InterfaceSettings]] = []
        back: list[tuple[Clone, InterfaceSettings, InterfaceSettings]] = []
        for step in steps:
            found = self._find(step.name)
            if found is None:  # its device was deleted after the plan was computed
                await self._create(step.name, step.settings, "configuration")
                continue
            back.append((found, found.settings, self._registry.kind_of(found).exact(found)))
            record_matching(self._registry, found, step.settings)
            changes.append((found, step.settings))
        try:
            await self._registry.change(changes)
        except Exception:
            for clone, settings, _ in back:
                clone.record(settings)
            raise
        self._undo.append(partial(self._change_back, back))

    async def _change_back(
        self, changed: Iterable[tuple[Clone, InterfaceSettings, InterfaceSettings]]
    ) -> None:
        """Give devices again exactly what they had, and record the settings of before."""
        found = [(clone, settings, exact) for clone, settings, exact in changed if not clone.destroying]
        await self._registry.change([(clone, exact) for clone, _, exact in found])
        for clone, settings, _ in found:
            clone.record(settings)

    async def _patch(self, step: Patch) -> None:
        half = self._half(step.half)
        other = self._half(step.new) if step.new is not None else None
        patching = self._registry.pairs.patching
        if half is not None and other is not None:
            await patching.patch(half, other)
        elif half is not None:
            await patching.unpatch(half)

    async def _restore_withdrawn(self, before: frozenset[str]) -> None:
        """Record again what requests had destroyed before, unless it exists."""
        self._registry.withdrawn |= before - self._registry.names

    async def _restore_peers(self, before: dict[str, str | None]) -> None:
        """Patch everything as it was."""
        for name, peer in before.items():
            half = self._half(name)
            if half is not None and (half.peer.device if half.peer else None) != peer:
                await self._patch(Patch(name, None, peer))

    async def _restore(self, lacking: Iterable[Restore]) -> None:
        """Give devices what they lack."""
        found = [(ifnet, each) for each in lacking if (ifnet := self._ifnet(each.device)) is not None]
        if not found:
            return
        then = [Goal(ifnet, wanted(ifnet)) for ifnet, _ in found]
        before = [
            Goal(goal.ifnet, _without(goal.wanted, lacked), goal.wanted)
            for goal, (_, lacked) in zip(then, found, strict=True)
        ]
        self._undo.append(partial(self._registry.restore, before))
        await self._registry.restore(then)

    async def _relocate(self, strays: Iterable[Relocate]) -> None:
        """Move strays to where the names of their namespaces lead now, after everything that is undone."""
        for each in strays:
            ifnet = next((ifnet for ifnet in self._registry.ifnets if ifnet.device == each.device), None)
            if ifnet is not None and each.leads_to:
                await self._registry.relocate(ifnet)
                self._moved.append(f"{each.device} is in namespace {each.netns} now")

    async def _roll_back(self) -> None:
        """Undo what was done, the last step first, and compare what devices lack with what they lacked."""
        while self._undo:
            undo = self._undo.pop()
            try:
                await undo()
            except Exception as error:
                log.exception("rolling a reload back: %s", error)
                self.left += [str(error), *getattr(error, "__notes__", ())]
        before = set(self._plan.missing)
        try:
            lost = [each for each in await self._registry.lacks() if each not in before]
        except KernelError as error:
            self.left.append(str(error))
        else:
            self.left += [f"{each.device} lacks {', '.join(each.all)}" for each in lost]

    def _find(self, name: str) -> Clone | None:
        """Return the clone of a name, unless it is being destroyed."""
        clone = self._registry.get(name)
        return clone if clone is not None and not clone.destroying else None

    def _half(self, device: str) -> Half | None:
        half = self._registry.pairs.half(device)
        return half if half is not None and not half.destroying else None

    def _ifnet(self, device: str) -> Ifnet | None:
        ifnets = self._registry.ifnets
        return next((ifnet for ifnet in ifnets if ifnet.device == device and not ifnet.destroying), None)


def _without(settings: LinkSettings, lacked: Restore) -> LinkSettings:
    """Return what a device had while it lacked something."""
    return replace(
        settings,
        addresses=tuple(each for each in settings.addresses if str(each) not in lacked.addresses),
        routes=tuple(each for each in settings.routes if str(each) not in lacked.routes),
    )
