"""What must hold between the values of a configuration, each of which is sound on its own.

A rule looks at the whole configuration and yields a Conflict for each breach.  When some values were
refused before, the rules run on what is left, so that everything is reported at once; a conflict
whose cause may be a refused value says which places it rests on, and is left out then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface, ConfiguredLoopback
from epaird.config.values import Location, dotted
from epaird.names.grammar import half_of, quoted

IPV6_MIN_MTU: Final = 1280
"""Bytes (linux/ipv6.h); below it the kernel takes IPv6 away from a device."""

HOME: Final = ""
"""The daemon's own namespace, as a ConfiguredHalf names it."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values that cannot stand together."""

    location: Location
    """The value that is reported, the later one of two."""
    message: str
    """One line."""
    rests_on: tuple[Location, ...] = ()
    """Places that make this a conflict; were one of them refused, it may be none."""


def conflicts(configuration: Configuration) -> Iterator[Conflict]:
    """Every breach of every rule, in the order of the rules."""
    yield from _namespaces_twice(configuration)
    yield from _device_names_twice(configuration)
    yield from _addresses_twice(configuration)
    yield from _macs_twice(configuration)
    for interface in configuration.interfaces:
        yield from _ipv6_without_room(interface)
    for loopback in configuration.loopbacks:
        yield from _policy_routing_without_need(loopback)
    yield from _plugged_wrongly(configuration)
    for half in configuration.halves:
        yield from _unreachable_hops(half)
        yield from _routes_twice(half)


def remarks(configuration: Configuration) -> Iterator[tuple[Location, str]]:
    """What is allowed and may still surprise: places, and one line about each."""
    for half in configuration.halves:
        if half.settings.routes and not half.settings.up:
            message = "not installed while up = false, Linux has no route by a device that is down"
            yield (*half.location, "routes"), message


def _namespaces_twice(configuration: Configuration) -> Iterator[Conflict]:
    create = configuration.namespaces.create
    for index, name in enumerate(create):
        if name in create[:index]:
            yield Conflict(("namespaces", "create", index), f"{quoted(name)} stands here twice")


def _device_names_twice(configuration: Configuration) -> Iterator[Conflict]:
    """One name for two devices in one namespace.

    An interface starts under its own name in the daemon's namespace and is moved and renamed from there,
    so its own name is taken there too.
    """
    halves = configuration.interfaces
    taken = {(HOME, half.device): half for half in halves}
    for half in halves:
        place = (half.namespace, half.name)
        other = taken.setdefault(place, half)
        if other is half:
            continue
        where = (
            f"in namespace {quoted(half.namespace)}" if half.namespace else "in the daemon's own namespace"
        )
        if (other.namespace, other.name) == place:
            reason = f"{dotted(other.location)} has this name {where} already"
        else:
            reason = f"{dotted(other.location)} starts under this name {where}"
        yield Conflict(
            (*half.location, "name"),
            f"{quoted(half.name)}: {reason}",
            (*_name_and_place(half), *_name_and_place(other)),
        )


def _name_and_place(half: ConfiguredInterface) -> tuple[Location, Location]:
    return (*half.location, "netns"), (*half.location, "name")


def _addresses_twice(configuration: Configuration) -> Iterator[Conflict]:
    """One address twice in a namespace, or on both ends of a cable.

    Link-local addresses are told apart by their device: they may repeat within a namespace.
    """
    holders: dict[IPv4Address | IPv6Address, list[ConfiguredInterface]] = {}
    for half in configuration.interfaces:
        for index, address in enumerate(half.settings.addresses):
            earlier = holders.setdefault(address.ip, [])
            found = (_address_twice(half, other, index, address) for other in earlier)
            conflict = next(filter(None, found), None)
            if conflict is not None:
                yield conflict
            earlier.append(half)


def _address_twice(
    half: ConfiguredInterface, other: ConfiguredInterface, index: int, address: IPv4Interface | IPv6Interface
) -> Conflict | None:
    location = (*half.location, "addresses", index)
    theirs = dotted((*other.location, "addresses"))
    if half is other:
        return Conflict(location, f"{address.ip} stands here twice")
    if isinstance(half, ConfiguredHalf) and isinstance(other, ConfiguredHalf) and half.pair == other.pair:
        return Conflict(location, f"{address.ip} is the other end's address too, in {theirs}")
    if half.namespace == other.namespace and not address.is_link_local:
        where = f"namespace {quoted(half.namespace)}" if half.namespace else "the daemon's own namespace"
        message = f"{address.ip} is in {where} already, by {theirs}"
        return Conflict(location, message, ((*half.location, "netns"), (*other.location, "netns")))
    return None


def _macs_twice(configuration: Configuration) -> Iterator[Conflict]:
    taken: dict[str, ConfiguredHalf] = {}
    for half in configuration.halves:
        mac = half.settings.mac
        if mac not in (None, "stable") and (other := taken.setdefault(mac, half)) is not half:
            yield Conflict(
                (*half.location, "mac"), f"{mac} is the address of {dotted(other.location)} already"
            )


def _ipv6_without_room(half: ConfiguredInterface) -> Iterator[Conflict]:
    mtu = half.settings.mtu
    of_ipv6 = [address for address in half.settings.addresses if address.version == 6]
    if of_ipv6 and mtu < IPV6_MIN_MTU:
        location = (*half.location, "mtu")
        message = f"{mtu} is less than the {IPV6_MIN_MTU} that IPv6 needs, for {of_ipv6[0]} in addresses"
        yield Conflict(location, message, (location,))


def _policy_routing_without_need(loopback: ConfiguredLoopback) -> Iterator[Conflict]:
    settings = loopback.settings
    if settings.policy_routing and settings.mode != "verbatim":
        location = (*loopback.location, "policy_routing")
        message = 'true needs mode = "verbatim": what is reflected passes the loopback without any rules'
        yield Conflict(location, message, ((*loopback.location, "mode"),))


def _plugged_wrongly(configuration: Configuration) -> Iterator[Conflict]:
    """Halves that cannot be plugged into those they name."""
    halves = {half.device: half for half in configuration.halves}
    taken: dict[str, ConfiguredHalf] = {}
    for half in configuration.halves:
        if not (name := half.settings.peer):
            continue
        location = (*half.location, "peer")
        other = halves.get(name)
        if name == half.device:
            yield Conflict(location, f"{name} is this half itself")
        elif other is None:
            pair, _ = half_of(name)
            yield Conflict(location, f"there is no half {quoted(name)} here", (("epair", pair),))
        elif (first := taken.setdefault(name, half)) is not half:
            yield Conflict(location, f"{name} is plugged into {first.device} already", (
                (*first.location, "peer"), location,
            ))  # fmt: skip
        elif other.settings.peer not in (None, half.device):
            theirs = (*other.location, "peer")
            said = quoted(other.settings.peer or "")
            yield Conflict(location, f"{name} says otherwise, in {dotted(theirs)}: {said}", (theirs,))
        else:
            yield from _queues_unlike(configuration, half, other)


def _queues_unlike(
    configuration: Configuration, half: ConfiguredHalf, other: ConfiguredHalf
) -> Iterator[Conflict]:
    ours, theirs = (configuration.epair[each.pair].queues for each in (half, other))
    if ours != theirs:
        message = f"{other.device} has {theirs} queues and {half.device} has {ours}: both must have as many"
        places = tuple(("epair", each.pair, "queues") for each in (half, other))
        yield Conflict((*half.location, "peer"), message, places)


def _unreachable_hops(half: ConfiguredHalf) -> Iterator[Conflict]:
    """Next hops that the kernel would not take."""
    for index, route in enumerate(half.settings.routes):
        location = (*half.location, "routes", index, "via")
        via = route.via
        if route.destination.version != via.version:
            other = route.destination.version
            yield Conflict(
                location, f"{via} is an IPv{via.version} address, {route.to} needs an IPv{other} one"
            )
        elif any(address.ip == via for address in half.settings.addresses):
            yield Conflict(location, f"{via} is this half's own address, the next hop is another's")
        elif reason := _why_unreachable(half, via):
            yield Conflict(location, f"{via} cannot be reached, {reason}", ((*half.location, "addresses"),))


def _why_unreachable(half: ConfiguredHalf, via: IPv4Address | IPv6Address) -> str:
    """What keeps a half from reaching a next hop directly, or nothing."""
    if via.version == 6 and via.is_link_local:
        return ""  # every device with IPv6 has a link-local address
    addresses = [address for address in half.settings.addresses if address.version == via.version]
    if not addresses:
        return f"this half has no IPv{via.version} address"
    if not any(via in address.network for address in addresses):
        networks = ", ".join(str(address.network) for address in addresses)
        return f"this half's addresses are in {networks}"
    return ""


def _routes_twice(half: ConfiguredHalf) -> Iterator[Conflict]:
    seen: set[object] = set()
    for index, route in enumerate(half.settings.routes):
        if route.destination in seen:
            location = (*half.location, "routes", index, "to")
            yield Conflict(location, f"{quoted(str(route.to))} has a route here already")
        seen.add(route.destination)
