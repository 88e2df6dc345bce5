"""The present state as a configuration: what a reload starts from, and what ``epairctl save`` prints.

An interface is as its settings say.  Its owner may have given it another MTU, name or place since, which is
the owner's right; a file that says the same as the owner asks for no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epaird.config.settings import (
    Configuration,
    HalfSettings,
    InterfaceSettings,
    LoopbackSettings,
    NamespacesSettings,
    PairSettings,
    namespace_name,
)
from epaird.control.interfaces.ifnet import Half, Loopback, Pair
from epaird.control.interfaces.registry import Interfaces
from epaird.control.machine.host import Host
from epaird.kernel.addressing import DeviceAddressing as Found
from epaird.plan.steps import Restore

_CHOSEN: Final = ("name", "mac", "mtu", "up")
"""Keys of a device that its owner may have changed, or that the daemon has chosen; and ``netns``."""

_Device = HalfSettings | LoopbackSettings


@dataclass(frozen=True, slots=True)
class Present:
    """What there is, beside a file."""

    configuration: Configuration
    peers: Mapping[str, str | None]
    """How halves are plugged."""
    lost: frozenset[str]
    """Interfaces that a configuration implies and that are not there."""
    runtime: frozenset[str]
    """Interfaces of ``configuration`` that were made at runtime."""


def present(
    interfaces: Interfaces, force: Configuration, namespaces: Iterable[str], file: Configuration
) -> Present:
    """What there is of the configuration in ``force``, and of what ``file`` has, and these ``namespaces``.

    Made at runtime and not in the file is what a reload has nothing to do with."""
    pairs = {
        pair.name: _pair(pair, file.epair.get(pair.name))
        for pair in interfaces.pairs
        if not pair.going and (pair.origin == "configuration" or pair.name in file.epair)
    }
    wanted = {each.device: each.settings for each in file.loopbacks}
    loopbacks = {
        each.device: _loopback(each, wanted.get(each.device))
        for each in interfaces.loopbacks
        if not each.going and (each.origin == "configuration" or each.device in wanted)
    }
    lo = loopbacks if loopbacks or force.lo is not None else None
    configuration = force.model_copy(update={"namespaces": _made(namespaces), "epair": pairs, "lo": lo})
    runtime = {pair.name for pair in interfaces.pairs if pair.origin == "runtime"}
    runtime |= {each.device for each in interfaces.loopbacks if each.origin == "runtime"}
    return Present(
        configuration,
        peers(interfaces),
        frozenset({each.device for each in configuration.loopbacks} - loopbacks.keys()),
        frozenset(runtime & (pairs.keys() | loopbacks.keys())),
    )


def everything(interfaces: Interfaces, force: Configuration, namespaces: Iterable[str]) -> Configuration:
    """The configuration that would make everything there is, what was made at runtime included."""
    pairs = {
        pair.name: pair.settings.model_copy(
            update={
                half.side: half.settings.model_copy(update=_as_it_is(half) | {"peer": _plug(half)})
                for half in pair.halves
            }
        )
        for pair in interfaces.pairs
        if not pair.going
    }
    loopbacks = {
        each.device: each.settings.model_copy(update=_as_it_is(each))
        for each in interfaces.loopbacks
        if not each.going
    }
    lo = loopbacks if loopbacks or force.lo is not None else None
    return force.model_copy(update={"namespaces": _made(namespaces), "epair": pairs, "lo": lo})


def _made(namespaces: Iterable[str]) -> NamespacesSettings:
    return NamespacesSettings(create=tuple(namespaces))


def peers(interfaces: Interfaces) -> dict[str, str | None]:
    """How halves are plugged."""
    return {
        half.device: half.peer.device if half.peer is not None and not half.peer.going else None
        for half in interfaces.pairs.halves
        if not half.going
    }


def acknowledge(found: Pair | Loopback, wanted: InterfaceSettings) -> None:
    """Take what an owner or the daemon has chosen for what was asked for, where it is the same."""
    if isinstance(found, Pair) and isinstance(wanted, PairSettings):
        found.settings = _pair(found, wanted)
        for half in found.halves:
            half.settings = found.settings.half(half.side)
    elif isinstance(found, Loopback) and isinstance(wanted, LoopbackSettings):
        found.settings = _loopback(found, wanted)


def _pair(pair: Pair, wanted: PairSettings | None) -> PairSettings:
    """A pair's settings, in the words of those that it shall have, where these say what is."""
    if wanted is None:
        return pair.settings
    return pair.settings.model_copy(
        update={
            half.side: half.settings.model_copy(update=_same(half, wanted.half(half.side)))
            for half in pair.halves
        }
    )


def _loopback(loopback: Loopback, wanted: _Device | None) -> LoopbackSettings:
    if wanted is None:
        return loopback.settings
    return loopback.settings.model_copy(update=_same(loopback, wanted))


def _same(ifnet: Half | Loopback, wanted: _Device) -> dict[str, Any]:
    """Where what is wanted is what is."""
    found = _as_it_is(ifnet)
    same: dict[str, Any] = {
        key: found[key] for key in _CHOSEN if key in found and found[key] == getattr(wanted, key)
    }
    if namespace_name(wanted.netns) in (namespace_name(found["netns"]), namespace_name(ifnet.settings.netns)):
        same["netns"] = wanted.netns
    return same


def _as_it_is(ifnet: Half | Loopback) -> dict[str, Any]:
    """What an owner or the daemon has chosen, in the words of the configuration."""
    place, settings = ifnet.place, ifnet.settings
    in_words = place.nsid is None or place.netns
    moved = in_words and namespace_name(settings.netns) != namespace_name(place.netns)
    chosen: dict[str, Any] = {
        "mtu": ifnet.mtu,
        "up": ifnet.up,
        "name": place.name if place.name != ifnet.device else None,
        "netns": (place.netns or None) if moved else settings.netns,
    }
    if isinstance(ifnet, Half):
        chosen["mac"] = "stable" if ifnet.settings.mac == "stable" else ifnet.mac
    return chosen


def _plug(half: Half) -> str | None:
    """``peer`` of a half's table."""
    if half.peer is None or half.peer.going:
        return ""
    return None if half.peer.pair is half.pair else half.peer.device


async def missing(host: Host, interfaces: Interfaces) -> tuple[Restore, ...]:
    """Addresses and routes that interfaces should have and have not.  Raises KernelError."""
    ifnets = [
        each
        for each in (*interfaces.pairs.halves, *interfaces.loopbacks)
        if not each.going
        and (each.settings.addresses or each.settings.routes)
        and (each.place.nsid is None or each.place.netns)
    ]
    found = await host.present(dict.fromkeys(each.place.netns for each in ifnets))
    return tuple(_missing(ifnets, found))


def _missing(
    ifnets: Iterable[Half | Loopback], found: Mapping[str, Mapping[int, Found]]
) -> Iterator[Restore]:
    for each in ifnets:
        if each.place.netns not in found:
            continue
        here = found[each.place.netns].get(each.place.index, Found())
        addresses = tuple(str(a) for a in each.settings.addresses if str(a) not in here.addresses)
        # A device that is down has no routes.
        routes = tuple(
            (str(route.to), str(route.via))
            for route in (each.settings.routes if each.up else ())
            if (str(route.destination), str(route.via)) not in here.routes
        )
        if addresses or routes:
            yield Restore(each.device, addresses, routes)
