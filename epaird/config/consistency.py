"""Rules between the values of a configuration, each of which is valid by itself.

A rule examines the whole configuration and yields a Conflict for each breach. If some values were refused
before, the rules run on the rest, so that everything is reported at once; a conflict whose cause may be a
refused value names the places that it depends on, and is left out then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface, ConfiguredLoopback
from epaird.config.values import Location, dotted
from epaird.names.cloners import half_of
from epaird.names.grammar import quoted

IPV6_MIN_MTU: Final = 1280
"""Bytes (linux/ipv6.h); below it the kernel removes IPv6 from a device."""

HOME: Final = ""
"""The daemon's own namespace, in the spelling of ConfiguredInterface."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values that exclude each other."""

    location: Location
    """The value that is reported, the later one of two."""
    message: str
    """One line."""
    rests_on: tuple[Location, ...] = ()
    """Places that cause the conflict; if one of them was refused, there may be no conflict."""


def conflicts(configuration: Configuration) -> Iterator[Conflict]:
    """Yield every breach of every rule, in the order of the rules."""
    yield from _repeated_namespaces(configuration)
    yield from _repeated_device_names(configuration)
    yield from _repeated_addresses(configuration)
    yield from _repeated_macs(configuration)
    for interface in configuration.interfaces:
        yield from _mtu_too_small_for_ipv6(interface)
    for loopback in configuration.loopbacks:
        yield from _needless_policy_routing(loopback)
    yield from _impossible_peers(configuration)
    for half in configuration.halves:
        yield from _unreachable_hops(half)
        yield from _repeated_routes(half)


def remarks(configuration: Configuration) -> Iterator[tuple[Location, str]]:
    """Yield allowed values that may surprise: the place, and one line about it."""
    for half in configuration.halves:
        if half.settings.routes and not half.settings.up:
            message = "not installed while up = false, Linux has no route through a device that is down"
            yield (*half.location, "routes"), message


def _repeated_namespaces(configuration: Configuration) -> Iterator[Conflict]:
    create = configuration.namespaces.create
    for index, name in enumerate(create):
        if name in create[:index]:
            yield Conflict(("namespaces", "create", index), f"{quoted(name)} is listed twice")


def _repeated_device_names(configuration: Configuration) -> Iterator[Conflict]:
    """Yield devices of one namespace that have the same name.

    A device is created under its own name in the daemon's namespace and then moved and renamed, so its own
    name is taken there too.
    """
    interfaces = configuration.interfaces
    taken = {(HOME, interface.device): interface for interface in interfaces}
    for interface in interfaces:
        place = (interface.namespace, interface.name)
        other = taken.setdefault(place, interface)
        if other is interface:
            continue
        where = _in_words(interface.namespace)
        if (other.namespace, other.name) == place:
            reason = f"is already the name of {dotted(other.location)} in {where}"
        else:
            reason = f"is the name under which {dotted(other.location)} is created in {where}"
        yield Conflict(
            (*interface.location, "name"),
            f"{quoted(interface.name)} {reason}",
            (*_name_and_place(interface), *_name_and_place(other)),
        )


def _in_words(namespace: str) -> str:
    return f"namespace {quoted(namespace)}" if namespace != HOME else "the daemon's own namespace"


def _name_and_place(interface: ConfiguredInterface) -> tuple[Location, Location]:
    return (*interface.location, "netns"), (*interface.location, "name")


def _repeated_addresses(configuration: Configuration) -> Iterator[Conflict]:
    """Yield addresses that are used twice in a namespace, or by both halves of a pair.

    A link-local address belongs to its device: it may repeat within a namespace.
    """
    holders: dict[IPv4Address | IPv6Address, list[ConfiguredInterface]] = {}
    for interface in configuration.interfaces:
        for index, address in enumerate(interface.settings.addresses):
            earlier = holders.setdefault(address.ip, [])
            found = (_address_conflict(interface, other, index, address) for other in earlier)
            conflict = next(filter(None, found), None)
            if conflict is not None:
                yield conflict
            earlier.append(interface)


def _address_conflict(
    interface: ConfiguredInterface,
    other: ConfiguredInterface,
    index: int,
    address: IPv4Interface | IPv6Interface,
) -> Conflict | None:
    location = (*interface.location, "addresses", index)
    place = dotted((*other.location, "addresses"))
    if interface is other:
        return Conflict(location, f"{address.ip} is listed twice")
    if interface.interface == other.interface:
        return Conflict(location, f"{address.ip} is also an address of the other half, in {place}")
    if interface.namespace == other.namespace and not address.is_link_local:
        message = f"{address.ip} is already an address in {_in_words(interface.namespace)}, in {place}"
        return Conflict(location, message, ((*interface.location, "netns"), (*other.location, "netns")))
    return None


def _repeated_macs(configuration: Configuration) -> Iterator[Conflict]:
    taken: dict[str, ConfiguredHalf] = {}
    for half in configuration.halves:
        mac = half.settings.mac
        if mac not in (None, "stable") and (other := taken.setdefault(mac, half)) is not half:
            yield Conflict(
                (*half.location, "mac"), f"{mac} is already the address of {dotted(other.location)}"
            )


def _mtu_too_small_for_ipv6(interface: ConfiguredInterface) -> Iterator[Conflict]:
    mtu = interface.settings.mtu
    ipv6 = [address for address in interface.settings.addresses if address.version == 6]
    if ipv6 and mtu < IPV6_MIN_MTU:
        location = (*interface.location, "mtu")
        message = f"{mtu} is less than the {IPV6_MIN_MTU} that IPv6 needs, for {ipv6[0]} in addresses"
        yield Conflict(location, message, (location,))


def _needless_policy_routing(loopback: ConfiguredLoopback) -> Iterator[Conflict]:
    settings = loopback.settings
    if settings.policy_routing and settings.mode != "verbatim":
        location = (*loopback.location, "policy_routing")
        message = 'true needs mode = "verbatim": a reflected packet passes the loopback without any rules'
        yield Conflict(location, message, ((*loopback.location, "mode"),))


def _impossible_peers(configuration: Configuration) -> Iterator[Conflict]:
    """Yield halves that cannot be plugged into the peer they name."""
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
            yield Conflict(location, f"there is no half {quoted(name)}", (("epair", pair),))
        elif (first := taken.setdefault(name, half)) is not half:
            yield Conflict(location, f"{name} is already plugged into {first.device}", (
                (*first.location, "peer"), location,
            ))  # fmt: skip
        elif other.settings.peer not in (None, half.device):
            others_key = (*other.location, "peer")
            message = f"{name} has another peer, {quoted(other.settings.peer or '')}, in {dotted(others_key)}"
            yield Conflict(location, message, (others_key,))
        else:
            yield from _unequal_queues(configuration, half, other)


def _unequal_queues(
    configuration: Configuration, half: ConfiguredHalf, other: ConfiguredHalf
) -> Iterator[Conflict]:
    queues, others = (configuration.epair[each.pair].queues for each in (half, other))
    if queues != others:
        counts = f"{other.device} has {others} queues and {half.device} has {queues}"
        places = tuple(("epair", each.pair, "queues") for each in (half, other))
        yield Conflict((*half.location, "peer"), f"{counts}: both need the same number", places)


def _unreachable_hops(half: ConfiguredHalf) -> Iterator[Conflict]:
    """Yield next hops that the kernel would refuse."""
    for index, route in enumerate(half.settings.routes):
        location = (*half.location, "routes", index, "via")
        via = route.via
        if route.destination.version != via.version:
            other = route.destination.version
            yield Conflict(
                location, f"{via} is an IPv{via.version} address, {route.to} needs an IPv{other} one"
            )
        elif any(address.ip == via for address in half.settings.addresses):
            yield Conflict(location, f"{via} is this half's own address, a next hop must be another one")
        elif reason := _why_unreachable(half, via):
            yield Conflict(location, f"{via} cannot be reached, {reason}", ((*half.location, "addresses"),))


def _why_unreachable(half: ConfiguredHalf, via: IPv4Address | IPv6Address) -> str:
    """Return why a half cannot reach a next hop directly; empty if it can."""
    if via.version == 6 and via.is_link_local:
        return ""  # every device with IPv6 has a link-local address
    addresses = [address for address in half.settings.addresses if address.version == via.version]
    if not addresses:
        return f"this half has no IPv{via.version} address"
    if not any(via in address.network for address in addresses):
        networks = ", ".join(str(address.network) for address in addresses)
        return f"this half's addresses are in {networks}"
    return ""


def _repeated_routes(half: ConfiguredHalf) -> Iterator[Conflict]:
    seen: set[object] = set()
    for index, route in enumerate(half.settings.routes):
        if route.destination in seen:
            location = (*half.location, "routes", index, "to")
            yield Conflict(location, f"{quoted(str(route.to))} already has a route")
        seen.add(route.destination)
