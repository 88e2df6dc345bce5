"""Rules between the values of a configuration, each of which is valid by itself.

A rule examines the whole configuration and yields a Conflict for each breach. If some values were refused
before, the rules run on the rest, so that everything is reported at once; a conflict whose cause may be a
refused value names the places that it depends on, and is left out then.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from epaird.config.addressing import AddressSettings
from epaird.config.conflict import HOME, Conflict, in_words
from epaird.config.routing import repeated_routes, unreachable_hops
from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface, ConfiguredLoopback
from epaird.config.values import Location, dotted
from epaird.kernel.abi import IPV6_MIN_MTU
from epaird.names.cloners import half_of
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
    holders: dict[IPv4Address | IPv6Address, list[tuple[ConfiguredInterface, AddressSettings]]] = {}
    for interface in configuration.interfaces:
        own = {address.ip for address in interface.settings.addresses}
        for index, address in enumerate(interface.settings.addresses):
            location = (*interface.location, "addresses", index)
            if address.peer in own:
                message = f"{address.peer} is this interface's own address, a peer has another one"
                yield Conflict((*location, "peer"), message)
            earlier = holders.setdefault(address.ip, [])
            found = (_address_conflict(interface, address, location, *other) for other in earlier)
            conflict = next(filter(None, found), None)
            if conflict is not None:
                yield conflict
            earlier.append((interface, address))


def _address_conflict(
    interface: ConfiguredInterface,
    address: AddressSettings,
    location: Location,
    other: ConfiguredInterface,
    others_address: AddressSettings,
) -> Conflict | None:
    place = dotted((*other.location, "addresses"))
    if interface is other:
        alike = address.version == 6 or address.network == others_address.network
        plain = address.peer is None and others_address.peer is None
        return Conflict(location, f"{address.ip} is listed twice") if alike or plain else None
    if interface.interface == other.interface:
        return Conflict(location, f"{address.ip} is also an address of the other half, in {place}")
    same = interface.namespace == other.namespace and address.peer == others_address.peer
    if same and not address.is_link_local:
        message = f"{address.ip} is already an address in {in_words(interface.namespace)}, in {place}"
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
