"""From how things are to how they shall be: the plan of a reload, without carrying any of it out.

A plan is a frozen value, the difference of two configurations.  What can change in place does; an
interface of which something else changes is destroyed and created again, and the plan says why.

The order is that in which least is lost when something cannot be had: what goes stays until all that is new
is there, unless it has a name or an address that is needed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel

from epaird.config import wiring as patches
from epaird.config.settings import (
    Configuration,
    ConfiguredHalf,
    ConfiguredInterface,
    ConfiguredLoopback,
    HalfSettings,
    LoopbackSettings,
    PairSettings,
    namespace_name,
)
from epaird.config.wiring import Peers
from epaird.names.cloners import LO
from epaird.names.grammar import HALVES
from epaird.plan.actions import Action, Detail, Verb

InterfaceSettings = PairSettings | LoopbackSettings

NEVER_IN_PLACE: Final = {
    "netns": "a device is made where it lives",
    "queues": "a device has its queues from the start",
    "offload": "a device has its offloads from the start",
}
"""Keys of an interface, at any level, that it cannot change, and why."""
RESTART: Final = frozenset({"daemon.control_socket"})
"""Keys that only a restart of the daemon applies: beside the control socket are its lock, its state and the
sockets of its workers, all of which a successor looks for in one place."""
_TABLES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that changes."""

    key: str
    """``a.mtu``, or ``daemon.queue_limit``."""
    old: object
    new: object
    ours: bool = False
    """The configuration has always said so: somebody has changed it at runtime."""

    @property
    def reason(self) -> str:
        """Why an interface cannot have it in place; nothing if it can."""
        return NEVER_IN_PLACE.get(self.key.rpartition(".")[2], "")

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


@dataclass(frozen=True, slots=True)
class Create:
    """An interface that is not there yet."""

    name: str
    settings: InterfaceSettings
    ours: bool = False
    """There was one: it was destroyed, or its device was lost."""


@dataclass(frozen=True, slots=True)
class Destroy:
    """An interface that is in the file no more."""

    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """An interface that changes in place."""

    name: str
    settings: InterfaceSettings
    """How it shall be, all of it."""
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Recreate:
    """An interface that is destroyed and created again."""

    name: str
    settings: InterfaceSettings
    differences: tuple[Difference, ...]
    """All that changes; among it what cannot change in place."""
    waits: str = ""
    """The interface that has the name or the hardware address it shall have."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A half that is plugged into another one, or into none."""

    half: str
    old: str | None
    """Its peer now."""
    new: str | None
    ours: bool = False
    """The configuration has always said so: somebody has plugged it otherwise."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Addresses and routes of an interface that somebody has taken away."""

    device: str
    addresses: tuple[str, ...] = ()
    """``10.0.0.1/24``."""
    routes: tuple[tuple[str, str], ...] = ()
    """Networks, or ``default``, and next hops."""


Step = Create | Destroy | Change | Recreate


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload would do, in the order in which it does it."""

    namespaces_made: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    patches: tuple[Patch, ...] = ()
    restored: tuple[Restore, ...] = ()
    destroyed_last: tuple[Destroy, ...] = ()
    namespaces_removed: tuple[str, ...] = ()
    daemon: tuple[Difference, ...] = ()
    """Keys of [daemon] and [metrics] that change."""
    adopted: tuple[str, ...] = ()
    """Interfaces that were made at runtime and are in the file; nothing is done to them."""

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        return not (
            self.namespaces_made or self.steps or self.patches or self.restored or self.destroyed_last
            or self.namespaces_removed or self.daemon
        )  # fmt: skip


def plan(
    now: Configuration,
    then: Configuration,
    *,
    peers: Peers | None = None,
    missing: Iterable[Restore] = (),
    lost: Collection[str] = (),
    adopted: Collection[str] = (),
    said: Configuration | None = None,
) -> Plan:
    """How to come from ``now`` to ``then``.

    ``peers`` is how halves are plugged, if not as ``now`` says; ``missing`` what interfaces of ``now``
    lack, ``lost`` those that are not there; ``adopted`` those that were made at runtime; and ``said`` is
    the configuration that was applied last, if ``now`` may not be as it says."""
    old, new = interfaces(now), interfaces(then)
    old = {name: settings for name, settings in old.items() if name not in lost}
    gone = tuple(Destroy(name) for name in old if name not in new)
    before = interfaces(said) if said is not None else {}
    always = patches.peers(said) if said is not None else {}
    holders = {each: name for name in old for each in _takes(name, old[name]) if each[0] in ("device", "mac")}
    changes = tuple(
        _changed(name, new[name], found, holders)
        for name in new
        if name in old
        and old[name] != new[name]
        and (found := tuple(_differences(old[name], new[name], before.get(name))))
    )
    recreated = tuple(step for step in changes if isinstance(step, Recreate))
    made = tuple(Create(name, new[name], name in before) for name in new if name not in old)
    new_ones: tuple[Change | Recreate | Create, ...] = (*changes, *made)
    needed = {each for step in new_ones for each in _takes(step.name, step.settings)}
    first = tuple(each for each in gone if needed.intersection(_takes(each.name, old[each.name])))
    anew = {step.name for step in new_ones if not isinstance(step, Change)}
    return Plan(
        namespaces_made=tuple(n for n in then.namespaces.create if n not in now.namespaces.create),
        steps=(*first, *(step for step in changes if isinstance(step, Change)), *recreated, *made),
        patches=tuple(
            replace(each, ours=each.half in always and always[each.half] == each.new)
            for each in _patches(peers if peers is not None else patches.peers(now), then, anew, gone, first)
        ),
        restored=tuple(_restored(missing, then, anew)),
        destroyed_last=tuple(each for each in gone if each not in first),
        namespaces_removed=tuple(n for n in now.namespaces.create if n not in then.namespaces.create),
        daemon=tuple(
            Difference(f"{table}.{each.key}", each.old, each.new)
            for table in ("daemon", "metrics")
            for each in _differences(getattr(now, table), getattr(then, table))
        ),
        adopted=tuple(name for name in new if name in adopted),
    )


def interfaces(configuration: Configuration) -> dict[str, InterfaceSettings]:
    """Every interface of a configuration by the name it is created and destroyed by."""
    return {
        **{each.device: each.settings for each in configuration.loopbacks},
        **configuration.epair,
    }


def _takes(name: str, settings: InterfaceSettings) -> Iterator[tuple[str, ...]]:
    """What no two interfaces can have at a time."""
    for each in _devices(name, settings):
        yield "device", "", each.device
        yield "device", each.namespace, each.name
        if isinstance(each.settings, HalfSettings) and each.settings.mac is not None:
            yield "mac", each.settings.mac if each.settings.mac != "stable" else each.device
        for address in each.settings.addresses:
            yield "address", each.namespace, str(address.ip)
    if isinstance(settings, LoopbackSettings) and settings.policy_routing:
        yield "rules", namespace_name(settings.netns), str((LO.unit(name) or 0) % _TABLES)


def _changed(
    name: str,
    settings: InterfaceSettings,
    differences: tuple[Difference, ...],
    holders: Mapping[tuple[str, ...], str],
) -> Change | Recreate:
    """In place, unless something cannot be, or what it shall have is another's at that time."""
    others = (holders.get(each, name) for each in _takes(name, settings))
    other = next((each for each in others if each != name), "")
    if other or any(each.reason for each in differences):
        return Recreate(name, settings, differences, other)
    return Change(name, settings, differences)


def _devices(name: str, settings: InterfaceSettings) -> tuple[ConfiguredInterface, ...]:
    if isinstance(settings, LoopbackSettings):
        return (ConfiguredLoopback(name, settings),)
    return tuple(ConfiguredHalf(name, side, settings.half(side)) for side in HALVES)


def _patches(
    now: Peers,
    then: Configuration,
    anew: Collection[str],
    gone: Collection[Destroy],
    first: Collection[Destroy],
) -> Iterator[Patch]:
    """What is to be plugged once everything is made; each half leaves its old peer.

    Of those ``gone``, all but the ``first`` are still there then."""
    found = dict(now)
    for name in (*anew, *(each.name for each in first)):
        for half in (name + side for side in HALVES):
            _leave(found, half)
            found.pop(half, None)
    for name in anew:
        if name in then.epair:
            found |= patches.at_first(name, then.epair[name])
    wanted = patches.peers(then)
    for half, peer in wanted.items():
        if peer is not None and found.get(half) != peer:
            yield Patch(half, found.get(half), peer)
            _leave(found, half)
            _leave(found, peer)
            found[half], found[peer] = peer, half
    going = {each.name + side for each in gone for side in HALVES}
    for half, peer in wanted.items():
        if peer is None and found.get(half) not in (None, *going):
            yield Patch(half, found.get(half), None)
            _leave(found, half)


def _leave(peers: dict[str, str | None], half: str) -> None:
    if (peer := peers.get(half)) is not None:
        peers[half] = peers[peer] = None


def _restored(missing: Iterable[Restore], then: Configuration, anew: Collection[str]) -> Iterator[Restore]:
    """What is missing of what shall stay, where a change would not bring it anyway."""
    devices = {
        each.device: each.settings
        for name, settings in interfaces(then).items()
        if name not in anew
        for each in _devices(name, settings)
    }
    for each in missing:
        settings = devices.get(each.device)
        if settings is not None:
            addresses = {str(address) for address in settings.addresses}
            routes = {(str(route.to), str(route.via)) for route in settings.routes}
            kept = Restore(
                each.device,
                tuple(address for address in each.addresses if address in addresses),
                tuple(route for route in each.routes if route in routes and settings.up),
            )
            if kept.addresses or kept.routes:
                yield kept


def _differences(old: BaseModel, new: BaseModel, said: BaseModel | None = None) -> Iterator[Difference]:
    before, after = _flat(old), _flat(new)
    always = _flat(said) if said is not None else {}
    for key in after:
        if before.get(key) != after[key]:
            ours = key in always and always[key] == after[key]
            yield Difference(key, before.get(key), after[key], ours)


def _flat(model: BaseModel, prefix: str = "") -> Mapping[str, object]:
    """Keys and values; what a half is plugged into is no affair of its pair's alone."""
    values: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            values |= _flat(value, f"{prefix}{name}.")
        elif name == "netns":
            values[prefix + name] = namespace_name(value) or None
        elif name != "peer":
            values[prefix + name] = value
    return values


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key} = {_shown(each)}" for key, each in value) + "}"
    return str(value) or '""'


# In words.

_ADOPTED: Final = "was made at runtime, and is the configuration's from now on"
_RUNTIME: Final = "was changed at runtime, and is as the configuration says again"


def actions(plan: Plan) -> tuple[Action, ...]:
    """The plan as what becomes of each thing."""
    return (
        *(Action("create", "namespace", name) for name in plan.namespaces_made),
        *(Action("adopt", _kind(name), name, (), _ADOPTED) for name in plan.adopted),
        *(_of_step(step) for step in (*plan.destroyed_last, *plan.steps)),
        *(_of_patch(patch) for patch in plan.patches),
        *(_of_restore(each) for each in plan.restored),
        *(Action("destroy", "namespace", name) for name in plan.namespaces_removed),
        *_of_daemon(plan.daemon),
    )


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _of_step(step: Step) -> Action:
    kind = _kind(step.name)
    match step:
        case Create():
            note = "is not there any more" if step.ours else ""
            return Action("create", kind, step.name, tuple(_made_with(step.settings)), note)
        case Destroy():
            return Action("destroy", kind, step.name)
        case Change():
            return Action("change", kind, step.name, tuple(map(_detail, step.differences)))
        case Recreate():
            details = tuple(_detail(each, step.waits) for each in step.differences)
            return Action("recreate", kind, step.name, details)


def _made_with(settings: InterfaceSettings) -> Iterator[Detail]:
    """What is not as it would be anyway."""
    defaults = _flat(type(settings)())
    for key, value in _flat(settings).items():
        if value != defaults[key]:
            yield Detail(key, "", _shown(value))


def _detail(difference: Difference, other: str = "") -> Detail:
    reason = difference.reason and f"cannot change in place: {difference.reason}"
    if not reason and difference.ours:
        reason = _RUNTIME
    if other and difference.key.rpartition(".")[2] in ("name", "mac"):
        reason = f"cannot change in place: it may be that of {other} now"
    return Detail(difference.key, _shown(difference.old), _shown(difference.new), reason)


def _of_patch(patch: Patch) -> Action:
    old, new = (each or "(none)" for each in (patch.old, patch.new))
    return Action("change", "epair", patch.half, (Detail("peer", old, new, _RUNTIME if patch.ours else ""),))


def _of_restore(restore: Restore) -> Action:
    note = "was taken away, and is put back"
    addresses = [Detail("addresses", "", each, note) for each in restore.addresses]
    routes = [Detail("routes", "", f"{to} via {via}", note) for to, via in restore.routes]
    return Action("restore", _kind(restore.device.rstrip("ab")), restore.device, (*addresses, *routes))


def _of_daemon(differences: Iterable[Difference]) -> Iterator[Action]:
    found: dict[tuple[Verb, str], list[Detail]] = {}
    for each in differences:
        table, _, key = each.key.partition(".")
        verb: Verb = "restart" if each.key in RESTART else "change"
        note = "only a restart of the daemon applies it" if verb == "restart" else ""
        found.setdefault((verb, table), []).append(Detail(key, _shown(each.old), _shown(each.new), note))
    for (verb, table), details in found.items():
        yield Action(verb, "daemon", table, tuple(details))
