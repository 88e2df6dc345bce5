"""Rules between the values of a configuration, each of which is valid by itself.

A rule examines the whole configuration and yields a Conflict for each breach. If some values were refused
before, the rules run on the rest, so that everything is reported at once; a conflict whose cause may be a
refused value names the places that it depends on, and is left out then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from epaird.config.addressing import AddressSettings
from epaird.config.conflict import HOME, Conflict, in_words
from epaird.config.impairments import impossible_impairments, surprising_impairments
from epaird.config.routing import repeated_routes, unreachable_hops
from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface, ConfiguredLoopback
from epaird.config.values import Location, dotted
from epaird.kernel.abi import IPV6_MIN_MTU
from epaird.names.cloners import EPAIR, half_of
from epaird.names.grammar import quoted


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
    yield from unreachable_hops(configuration)
    yield from repeated_routes(configuration)
    yield from impossible_impairments(configuration)


def remarks(configuration: Configuration) -> Iterator[tuple[Location, str]]:
    """Yield allowed values that may surprise: the place, and one line about it."""
    for half in configuration.halves:
        if half.settings.routes and not half.settings.up:
            message = "not installed while up = false, Linux has no route through a device that is down"
            yield (*half.location, "routes"), message
    for interface in configuration.interfaces:
        for index, address in enumerate(interface.settings.addresses):
            if address.nodad and address.version == 4:
                location = (*interface.location, "addresses", index)
                yield location, "nodad has no effect, IPv4 has no duplicate address detection"
    yield from surprising_impairments(configuration)


def _repeated_namespaces(configuration: Configuration) -> Iterator[Conflict]:
    listed: set[str] = set()
    for index, name in enumerate(configuration.namespaces.create):
        if name in listed:
            yield Conflict(("namespaces", "create", index), f"{quoted(name)} is listed twice")
        listed.add(name)


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
        where = in_words(interface.namespace)
        if (other.namespace, other.name) == place:
            reason = f"is already the name of {dotted(other.location)} in {where}"
        else:
            reason = f"is the name under which {dotted(other.location)} is created in {where}"
        yield Conflict(
            (*interface.location, "name"),
            f"{quoted(interface.name)} {reason}",
            (*_name_and_place(interface), *_name_and_place(other)),
        )


def _name_and_place(interface: ConfiguredInterface) -> tuple[Location, Location]:
    return (*interface.location, "netns"), (*interface.location, "name")


def _repeated_addresses(configuration: Configuration) -> Iterator[Conflict]:
    """Yield addresses that are used twice in a namespace, or by both halves of a pair.

    A link-local address belongs to its device: it may repeat within a namespace. So may an address with
    different peers, which is usual for the near end of several point-to-point links."""
    holders = _Holders()
    siblings = {
        one: other for name in configuration.epair for one, other in permutations(EPAIR.devices_of(name))
    }
    for interface in configuration.interfaces:
        own = {address.ip for address in interface.settings.addresses}
        for index, address in enumerate(interface.settings.addresses):
            location = (*interface.location, "addresses", index)
            if address.peer in own:
                message = f"{address.peer} is this interface's own address, a peer has another one"
                yield Conflict((*location, "peer"), message)
            other = holders.add(interface, siblings.get(interface.device), address)
            if other is not None:
                yield _address_conflict(interface, address, location, other)


class _Holders:
    """The interfaces that have addresses, found without comparing each address with every other one."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], tuple[int, ConfiguredInterface]] = {}
        """The first interface with a claim, and the number of its address."""
        self._number = 0

    def add(
        self, interface: ConfiguredInterface, sibling: str | None, address: AddressSettings
    ) -> ConfiguredInterface | None:
        """Add an address; return the first interface with one that excludes it. ``sibling`` is the device
        of the other half. All addresses of an interface have to be added before those of the next one."""
        ip, device = address.ip, interface.device
        claims: list[tuple[object, ...]] = []
        if address.version == 6:
            claims.append(("one", device, ip))
        else:
            # An IPv4 address may repeat on a device in another network, but not if neither has a peer.
            claims.append(("network", device, ip, address.network))
            claims += [("plain", device, ip)] * (address.peer is None)
        others: list[tuple[object, ...]] = [("any", sibling, ip)]
        place = ("namespace", interface.namespace, ip, address.peer)
        if not address.is_link_local:
            first = self._first.setdefault(place, (self._number, interface))[1]
            if first is not interface:
                others.append(place)
        found = [self._first[each] for each in (*claims, *others) if each in self._first]
        for claim in (*claims, ("any", device, ip)):
            self._first.setdefault(claim, (self._number, interface))
        self._number += 1
        return min(found, key=lambda each: each[0])[1] if found else None


def _address_conflict(
    interface: ConfiguredInterface, address: AddressSettings, location: Location, other: ConfiguredInterface
) -> Conflict:
    if interface is other:
        return Conflict(location, f"{address.ip} is listed twice")
    place = dotted((*other.location, "addresses"))
    if interface.interface == other.interface:
        return Conflict(location, f"{address.ip} is also an address of the other half, in {place}")
    message = f"{address.ip} is already an address in {in_words(interface.namespace)}, in {place}"
    return Conflict(location, message, ((*interface.location, "netns"), (*other.location, "netns")))


def _repeated_macs(configuration: Configuration) -> Iterator[Conflict]:
    taken: dict[str, ConfiguredHalf] = {}
    for half in configuration.halves:
        mac = half.settings.mac
        if mac not in (None, "stable") and (other := taken.setdefault(mac, half)) is not half:
            yield Conflict(
                (*half.location, "mac"), f"{mac} is already the address of {dotted(other.location)}"
            )


def _mtu_too_small_for_ipv6(interface: ConfiguredInterface) -> Iterator[Conflict]:
    settings, mtu = interface.settings, interface.settings.mtu
    ipv6 = [f"{address} in addresses" for address in settings.addresses if address.version == 6]
    ipv6 += [f"{route} in routes" for route in settings.routes if route.destination.version == 6]
    if ipv6 and mtu < IPV6_MIN_MTU:
        location = (*interface.location, "mtu")
        message = f"{mtu} is less than the {IPV6_MIN_MTU} that IPv6 needs, for {ipv6[0]}"
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
