"""Operations without interfaces, for tests of the front ends without root."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from epaird.client.impairment import DirectionImpairment, PairImpairment
from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from epaird.config.table import Settings
from epaird.config.values import dotted
from epaird.control.interfaces.events import EventBus, EventReader
from epaird.control.operations import Events, Refused
from epaird.control.readings import InterfaceReading, MissingReading, ProcessReading, Reading
from epaird.names.grammar import quoted
from epaird.plan.actions import Action
from tests.control.samples import interface, worker

CLONERS = ("epair", "lo")


class FakeOperations:
    """Pairs and loopbacks that are only readings, and the changes that were requested."""

    def __init__(self) -> None:
        self.absent: tuple[MissingReading, ...] = ()
        """Interfaces of the configuration that do not exist."""
        self.processes: tuple[ProcessReading, ...] = ()
        """The worker processes."""
        self.interfaces: dict[str, tuple[InterfaceReading, ...]] = {}
        """Interfaces by the name of the pair or loopback."""
        self.impairments: dict[str, PairImpairment] = {}
        """Impairments by the name that is asked for; others have a delay in one direction."""
        self.impaired: dict[str, PairImpairment] = {}
        """The impairments after the next change."""
        self.requested: list[tuple[object, ...]] = []
        """Changes that were made."""
        self.bus = EventBus(capacity=16)
        self.events_end = False
        """True if streams of events end after one event."""
        self._readers: list[EventReader] = []
        self.gate = asyncio.Event()
        """Changes wait until it is set, as it is at first."""
        self.gate.set()
        self.waiting = 0
        """Number of changes that wait for the gate."""
        self.fails: Exception | None = None
        """Raised by every change."""

    async def create(self, name: str, settings: Mapping[str, object]) -> str:
        kind = kind_of(name)
        if kind not in CLONERS or (name != kind and not re.fullmatch(r"[a-z]+(0|[1-9][0-9]{0,8})", name)):
            raise Refused(errno.EINVAL, f'{quoted(name)} is not a name, as in "epair0"')
        _check(PairSettings if kind == "epair" else LoopbackSettings, settings)
        await self._change()
        if name == kind:
            name += str(next(unit for unit in range(1 << 30) if f"{kind}{unit}" not in self.interfaces))
        if name in self.interfaces:
            raise Refused(errno.EEXIST, f"{name}: exists already")
        halves = ("a", "b") if kind == "epair" else ("",)
        self.interfaces[name] = tuple(_interface(name, half) for half in halves)
        self.requested.append(("create", name, dict(settings)))
        self.bus.publish("created", name)
        return name

    def impairment(self, name: str) -> PairImpairment:
        self._owner(name)
        if name in self.impairments:
            return self.impairments[name]
        return PairImpairment(name, [DirectionImpairment(f"{name}a", f"{name}b", {"delay": "100ms"}, seed=7)])

    async def impair(
        self, name: str, keys: Mapping[str, object], *, whole: bool, seconds: float | None = None
    ) -> None:
        await self._change()
        self._owner(name)
        self.requested.append(("impair", name, dict(keys), whole, seconds))
        if name in self.impaired:
            self.impairments[name] = self.impaired.pop(name)

    def decisions(self, name: str, most: int) -> list[dict[str, object]]:
        self._owner(name)
        return [{"segment": segment, "decision": "loss"} for segment in range(min(most, 3))]

    async def replay(self, name: str, decisions: Sequence[tuple[int, int]]) -> None:
        await self._change()
        self.requested.append(("replay", name, list(decisions)))

    async def upgrade(self) -> None:
        await self._change()
        self.requested.append(("upgrade",))

    async def destroy(self, name: str) -> None:
        await self._change()
        found = self._owner(name)
        if found == "lo0":
            raise Refused(errno.EPERM, "lo0: the default loopback cannot be destroyed")
        del self.interfaces[found]
        self.requested.append(("destroy", name))
        self.bus.publish("destroyed", found)

    async def change(self, name: str, settings: Mapping[str, object]) -> None:
        await self._change()
        owner = self._owner(name)
        table = PairSettings if name == owner else HalfSettings
        _check(LoopbackSettings if kind_of(name) == "lo" else table, settings)
        known: dict[str, Any] = {key: value for key, value in settings.items() if key in ("mtu", "up")}
        self.interfaces[owner] = tuple(
            replace(each, **known) if name in (owner, each.device) else each
            for each in self.interfaces[owner]
        )
        self.requested.append(("change", name, dict(settings)))

    async def patch(self, name: str, peer: str, *, force: bool) -> None:
        await self._change()
        for each in (name, peer):
            self._owner(each)
        if name == peer:
            raise Refused(errno.EINVAL, f"{name}: cannot be its own peer")
        if kind_of(name) == "lo":
            raise Refused(errno.ENODEV, f"{name}: a loopback has no peer")
        if not force:
            raise Refused(errno.EBUSY, f"{peer}: is plugged into another, --force takes it from there")
        self.requested.append(("patch", name, peer, force))

    async def unpatch(self, name: str) -> None:
        await self._change()
        self._owner(name)
        self.requested.append(("unpatch", name))

    def cloners(self) -> tuple[str, ...]:
        return CLONERS

    def reading(self) -> Reading:
        found = tuple(each for interfaces in self.interfaces.values() for each in interfaces)
        return Reading(found, (worker(),))

    def workers(self) -> Sequence[ProcessReading]:
        return self.processes

    def missing(self) -> tuple[MissingReading, ...]:
        return self.absent

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        owner = self._owner(name)
        return tuple(each for each in self.interfaces[owner] if name in (owner, each.device))

    def events(self) -> Events:
        reader = self.bus.read()
        self._readers.append(reader)
        if self.events_end:
            self.bus.publish("up", "epair0a")
            reader._closed = True
        return reader

    @property
    def readers(self) -> int:
        """Number of streams of events that are open."""
        return sum(not reader._closed for reader in self._readers)

    async def _change(self) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        if self.fails is not None:
            raise self.fails

    def _owner(self, name: str) -> str:
        for owner, interfaces in self.interfaces.items():
            if name == owner or name in (each.device for each in interfaces):
                return owner
        raise Refused(errno.ENXIO, f"there is no interface {quoted(name)}")


class FakeReloads:
    """A configuration whose plans the test sets."""

    def __init__(self) -> None:
        self.actions: tuple[Action, ...] = ()
        """Actions of every plan."""
        self.problems: tuple[str, ...] = ()
        """Errors of every file."""
        self.requested: list[tuple[object, ...]] = []

    async def reload(self, *, dry_run: bool = False) -> tuple[Action, ...]:
        self.requested.append(("reload", dry_run))
        return self._answer()

    async def plan(self, text: str, name: str) -> tuple[Action, ...]:
        self.requested.append(("plan", text, name))
        return self._answer()

    def text(self) -> str:
        self._answer()
        return "# r\u00e9d\n[epair.epair0]\n"

    def _answer(self) -> tuple[Action, ...]:
        if self.problems:
            raise Refused(errno.EINVAL, "; ".join(self.problems), self.problems)
        return self.actions


def _interface(name: str, half: str) -> InterfaceReading:
    device = name + half
    pair = name if half else ""
    peer = pair + {"a": "b", "b": "a", "": ""}[half]
    return interface(device, kind=kind_of(name), pair=pair, half=half, peer=peer, name=device, netns="")


def kind_of(name: str) -> str:
    """Return the kind of an interface by its name."""
    return name.rstrip("ab").rstrip("0123456789")


def _check(table: type[Settings], settings: Mapping[str, object]) -> None:
    try:
        table.model_validate(settings)
    except ValidationError as error:
        problems = [f"{dotted(each['loc'])}: {each['msg']}" for each in error.errors()]
        raise Refused(errno.EINVAL, "; ".join(problems), problems) from None
