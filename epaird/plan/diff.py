"""The difference of two configurations as a plan for a reload; nothing is carried out here.

A plan is a frozen value. A key that can change in place does; an interface of which another key changes is
destroyed and created again, and the plan gives the reason.

The order is the one that loses least if a step fails: what is destroyed stays until everything new exists,
unless it has a name or an address that is needed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from epaird.config import wiring
from epaird.config.impairtables import ImpairmentSettings
from epaird.config.settings import (
    Claim,
    Configuration,
    InterfaceSettings,
    LoopbackSettings,
    PairSettings,
    namespace_name,
)
from epaird.config.wiring import Peers
from epaird.names.cloners import EPAIR
from epaird.plan.steps import Change, Create, Destroy, Difference, Patch, Plan, Recreate, Relocate, Restore


def plan(
    now: Configuration,
    then: Configuration,
    *,
    peers: Peers | None = None,
    missing: Iterable[Restore] = (),
    strays: Iterable[Relocate] = (),
    lost: Collection[str] = (),
    adopted: Collection[str] = (),
    applied: Configuration | None = None,
) -> Plan:
    """Return the plan that leads from ``now`` to ``then``.

    ``peers`` are the present peers of the halves, if they differ from those in ``now``; ``missing`` is what
    interfaces of ``now`` lack, ``strays`` are devices whose namespace's name leads elsewhere, ``lost`` are
    interfaces that do not exist, ``adopted`` those that were created at runtime; ``applied`` is the
    configuration that was applied last, if ``now`` may differ from it."""
    missing = tuple(missing)
    old, new = now.settings_by_name(), then.settings_by_name()
    old = {name: settings for name, settings in old.items() if name not in lost}
    destroys = tuple(Destroy(name) for name in old if name not in new)
    before = applied.settings_by_name() if applied is not None else {}
    peers_before = wiring.peers(applied) if applied is not None else {}
    holders = {
        claim: name for name in old for claim in _claims(name, old[name]) if claim[0] in ("device", "mac")
    }
    changes = [
        _changed(name, new[name], found, holders)
        for name in new
        if name in old
        and (
            found := (
                *(_differences(old[name], new[name], before.get(name)) if old[name] != new[name] else ()),
                *_preset_differences(new[name], now, then),
            )
        )
    ]
    in_place = tuple(step for step in changes if isinstance(step, Change))
    recreated = tuple(_recreated(changes, old))
    created = tuple(Create(name, new[name], name in before) for name in new if name not in old)
    given: tuple[Change | Recreate | Create, ...] = (*changes, *created)
    needed = {claim for step in given for claim in _claims(step.name, step.settings)}
    early = tuple(step for step in destroys if needed.intersection(_claims(step.name, old[step.name])))
    fresh = {step.name for step in given if not isinstance(step, Change)}
    return Plan(
        namespaces_created=_without(then.namespaces.create, now.namespaces.create),
        steps=(*early, *in_place, *recreated, *created),
        patches=tuple(
            replace(patch, reset=peers_before.get(patch.half, "") == patch.new)
            for patch in _patches(wiring.peers(now) if peers is None else peers, then, fresh, destroys, early)
        ),
        restored=tuple(_restored(missing, now, then, fresh)),
        destroyed_last=tuple(step for step in destroys if step not in early),
        namespaces_removed=_without(now.namespaces.create, then.namespaces.create),
        daemon=tuple(_daemon_differences(now, then)),
        adopted=tuple(name for name in new if name in adopted),
        relocated=tuple(_relocated(strays, then, fresh)),
        missing=tuple(missing),
    )


def _without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    left_out = frozenset(others)
    return tuple(name for name in names if name not in left_out)


def flattened(settings: BaseModel, prefix: str = "") -> dict[str, object]:
    """Return the values of a table and of the tables in it by key, ``a.mtu``.

    A namespace has its canonical spelling; ``peer`` is left out, because patches change it. A table that a
    key may have instead of another value is a value."""
    values: dict[str, object] = {}
    for name, value in settings:
        if isinstance(value, BaseModel) and is_table(settings, name):
            values |= flattened(value, f"{prefix}{name}.")
        elif name == "netns":
            values[prefix + name] = namespace_name(value) or None
        elif name != "peer":
            values[prefix + name] = value
    return values


def is_table(settings: BaseModel, key: str) -> bool:
    """Return whether a key of a table is always a table, which may be empty."""
    return isinstance(type(settings).model_fields[key].default, BaseModel)


def _claims(name: str, settings: InterfaceSettings) -> Iterator[Claim]:
    for device in settings.devices(name):
        yield from device.claims()
        for route in device.settings.routes:
            yield "route", device.namespace, str(route.destination)


def _changed(
    name: str,
    settings: InterfaceSettings,
    differences: tuple[Difference, ...],
    holders: Mapping[Claim, str],
) -> Change | Recreate:
    """Return the step that changes an interface.

    It is a change in place unless a key cannot change in place, or another interface has the name or the
    hardware address that this one is to have."""
    others = (holders.get(claim, name) for claim in _claims(name, settings))
    other = next((holder for holder in others if holder != name), "")
    if other or any(each.reason for each in differences):
        return Recreate(name, settings, differences, other)
    return Change(name, settings, differences)


def _recreated(
    changes: Iterable[Change | Recreate], old: Mapping[str, InterfaceSettings]
) -> Iterator[Recreate]:
    """Yield the interfaces that are recreated, marked if they have what one that changes is to have."""
    changes = tuple(changes)
    in_place = (step for step in changes if isinstance(step, Change))
    taken = {claim for step in in_place for claim in _claims(step.name, step.settings)}
    for step in changes:
        if isinstance(step, Recreate):
            yield replace(step, first=bool(taken.intersection(_claims(step.name, old[step.name]))))


def _patches(
    now: Peers,
    then: Configuration,
    fresh: Collection[str],
    destroys: Collection[Destroy],
    early: Collection[Destroy],
) -> Iterator[Patch]:
    """Yield the patches to make once every interface exists; each half leaves its old peer.

    Of the interfaces in ``destroys``, all but the ``early`` ones still exist then."""
    found = dict(now)
    for name in (*fresh, *(step.name for step in early)):
        for half in EPAIR.devices_of(name):
            _leave(found, half)
    for name in fresh:
        if name in then.epair:
            found |= wiring.initial_peers(name, then.epair[name])
    wanted = wiring.peers(then)
    for half, peer in wanted.items():
        if peer is not None and found.get(half) != peer:
            yield Patch(half, found.get(half), peer)
            _leave(found, half)
            _leave(found, peer)
            found[half], found[peer] = peer, half
    destroyed = {half for step in destroys for half in EPAIR.devices_of(step.name)}
    for half, peer in wanted.items():
        if peer is None and found.get(half) not in (None, *destroyed):
            yield Patch(half, found.get(half), None)
            _leave(found, half)


def _leave(peers: dict[str, str | None], half: str) -> None:
    if (peer := peers.get(half)) is not None:
        peers[half] = peers[peer] = None


def _restored(
    missing: Iterable[Restore], now: Configuration, then: Configuration, fresh: Collection[str]
) -> Iterator[Restore]:
    """Yield what is missing, except what another step creates or changes."""
    before = {each.device: each.settings for each in now.interfaces}
    after = {each.device: each.settings for each in then.interfaces if each.interface not in fresh}
    for each in missing:
        old, new = before.get(each.device), after.get(each.device)
        if old is None or new is None:
            continue
        if old.addresses != new.addresses:
            each = replace(each, addresses=(), misplaced=(), rules=())
        if old.routes != new.routes or (old.up and not new.up):
            each = replace(each, routes=())
        if isinstance(new, LoopbackSettings) and not new.policy_routing:
            each = replace(each, rules=())
        if not each.empty:
            yield each


def _daemon_differences(now: Configuration, then: Configuration) -> Iterator[Difference]:
    for table in ("daemon", "metrics"):
        for each in _differences(getattr(now, table), getattr(then, table)):
            yield Difference(f"{table}.{each.key}", each.old, each.new)


def _relocated(strays: Iterable[Relocate], then: Configuration, fresh: Collection[str]) -> Iterator[Relocate]:
    """Yield the strays that are to be in the namespace of this name, and are not created by another step."""
    namespaces = {each.device: each.namespace for each in then.interfaces if each.interface not in fresh}
    for each in strays:
        if namespaces.get(each.device) == namespace_name(each.netns):
            yield each


def _preset_differences(
    settings: InterfaceSettings, now: Configuration, then: Configuration
) -> Iterator[Difference]:
    """Yield what differs in the named sets that a pair is impaired by, ``impairment.lte.rate``."""
    if not isinstance(settings, PairSettings) or now.impairment == then.impairment:
        return
    tables = (settings.impair, settings.a.impair, settings.b.impair)
    for name in dict.fromkeys(table.preset for table in tables if table.preset):
        old, new = (each.impairment.get(name, ImpairmentSettings()) for each in (now, then))
        for each in _differences(old, new):
            yield Difference(f"impairment.{name}.{each.key}", each.old, each.new)


def _differences(old: BaseModel, new: BaseModel, applied: BaseModel | None = None) -> Iterator[Difference]:
    before, after = flattened(old), flattened(new)
    configured = flattened(applied) if applied is not None else {}
    for key, value in after.items():
        if before.get(key) != value:
            yield Difference(key, before.get(key), value, key in configured and configured[key] == value)
