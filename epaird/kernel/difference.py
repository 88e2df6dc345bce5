"""The difference between what devices have and what they are to have, as values and as requests. No I/O.

The order of addresses is part of it, since it determines the source address of a connection.

- IPv4: the first address of a subnet is its primary, the others are secondaries. The kernel lists all
  primaries before all secondaries, and appends a new address to its part of the list. Secondaries are removed
  with their primary, unless ``promote_secondaries`` is set; then the first one becomes the primary.
- IPv6: the kernel keeps one list for each scope.

A new address therefore always becomes the last one of a list. So for each list the longest beginning that is
as wanted stays; later addresses are removed and added again, in order. A foreign address that is the primary
of its subnet stays; a foreign secondary is removed together with its primary, and follows it again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from epaird.kernel import abi
from epaird.kernel.link import LinkSettings
from epaird.kernel.policy import missing_rules, policy_routes, policy_rules
from epaird.kernel.requests import Address, Route, Rule
from epaird.kernel.state import DeviceState, PresentAddress, PresentRoute

_NETWORK_METRICS: Final = {4: 0, 6: abi.IP6_RT_PRIO_ADDRCONF}
"""The metric of the route that the kernel adds with an address, by IP version."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The settings that a device lacks. False when it lacks nothing."""

    addresses: tuple[Address, ...] = ()
    """Addresses that are absent, or precede one that they ought to follow."""
    routes: tuple[Route, ...] = ()
    """Absent routes, those of a policy table included; none for a device that is down, which cannot have
    routes."""
    rules: tuple[Rule, ...] = ()
    """Absent policy rules."""

    def __bool__(self) -> bool:
        return bool(self.addresses or self.routes or self.rules)


@dataclass(frozen=True, slots=True)
class AddressChanges:
    """Changes of a device's addresses."""

    remove: tuple[PresentAddress, ...] = ()
    """Addresses to remove, in an order in which the kernel removes no other one with them."""
    add: tuple[Address, ...] = ()
    """Addresses to add, in order."""


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """Changes of a device's routes."""

    remove: tuple[PresentRoute, ...] = ()
    """Routes to remove."""
    add: tuple[Route, ...] = ()
    """Routes of the main table to add, in an order in which next hops are reachable."""
    add_policy: tuple[Route, ...] = ()
    """Routes of the policy table to add."""
    add_networks: tuple[Address, ...] = ()
    """Addresses whose network has no route, which the kernel had added with the address."""


class AddressKey(NamedTuple):
    """An address of a device in canonical form."""

    version: int
    """4 or 6."""
    own: int
    """The address."""
    length: int
    """Prefix length."""
    peer: int
    """The address of the other end; the own address where there is none."""
    nodad: bool
    """False for IPv4."""

    @property
    def identity(self) -> tuple[int, ...]:
        """The part by which the kernel tells the addresses of a device apart: there cannot be two addresses
        that differ only otherwise."""
        return (4, self.own, *self.subnet) if self.version == 4 else (6, self.own)

    @property
    def order(self) -> tuple[int, int]:
        """The kernel's list that has the address, as far as the address determines it."""
        return self.version, 0 if self.version == 4 else _scope(self.own)

    @property
    def subnet(self) -> tuple[int, int]:
        """The IPv4 subnet, within which one address is the primary."""
        shift = 32 - self.length
        return self.peer >> shift, self.length


class RouteKey(NamedTuple):
    """A route of a device in one table, in canonical form."""

    version: int
    """4 or 6."""
    to: int
    """Address of the network."""
    length: int
    """Prefix length."""
    via: str | None
    """The next hop."""
    metric: int
    """The metric, never the default's 0 for IPv6."""


@lru_cache(maxsize=16384)
def address_key(address: Address) -> AddressKey:
    """Return the canonical form of an address."""
    interface = ipaddress.ip_interface(address.address)
    own = int(interface.ip)
    peer = own if address.peer is None else int(ipaddress.ip_address(address.peer))
    nodad = address.nodad and interface.version == 6
    return AddressKey(interface.version, own, interface.network.prefixlen, peer, nodad)


@lru_cache(maxsize=16384)
def route_key(route: Route) -> RouteKey:
    """Return the canonical form of a route."""
    via = None if route.via is None else ipaddress.ip_address(route.via)
    if route.to == "default":
        version, to, length = 4 if via is None else via.version, 0, 0
    else:
        network = ipaddress.ip_network(route.to)
        version, to, length = network.version, int(network.network_address), network.prefixlen
    metric = route.metric or (0 if version == 4 else abi.IP6_RT_PRIO_USER)
    return RouteKey(version, to, length, None if via is None else str(via), metric)


def missing(state: DeviceState, wanted: LinkSettings) -> Missing:
    """Return what a device lacks of its wanted settings.

    Addresses and routes that others added are of no concern, except that a foreign address may be the
    primary of a subnet.
    """
    routes = route_changes(state, wanted, None)
    rules = policy_rules(wanted.addresses, wanted.policy_table)
    return Missing(
        address_changes(state.addresses, wanted.addresses).add,
        tuple(map(network_route, routes.add_networks)) + routes.add + routes.add_policy,
        missing_rules(state.rules, rules),
    )


def address_changes(
    present: Sequence[PresentAddress],
    wanted: Sequence[Address],
    released: Collection[Address] = (),
    versions: Collection[int] = (4, 6),
) -> AddressChanges:
    """Return the changes after which a device has the wanted addresses in order, and no other released one.

    ``versions`` limits the changes to addresses of IPv4 or of IPv6.
    """
    own = {address_key(address).identity for address in (*wanted, *released)}
    goal = {address_key(address): address for address in wanted}
    lists: dict[tuple[int, int], tuple[list[PresentAddress], list[AddressKey]]] = {}
    for each in present:
        key = address_key(each.address)
        if key.version in versions:
            lists.setdefault(key.order, ([], []))[0].append(each)
    for key in goal:
        if key.version in versions:
            lists.setdefault(key.order, ([], []))[1].append(key)
    remove: list[PresentAddress] = []
    kept: set[AddressKey] = set()
    for (version, _), (here, there) in lists.items():
        changes = _ipv4_changes if version == 4 else _ipv6_changes
        removed, stay = changes(here, there, own)
        remove += removed
        kept |= stay
    add = [address for key, address in goal.items() if key not in kept and key.version in versions]
    return AddressChanges(tuple(remove), tuple(add))


def route_changes(state: DeviceState, wanted: LinkSettings, released: LinkSettings | None) -> RouteChanges:
    """Return the changes after which a device has the wanted routes and no other released one."""
    goal = {route_key(route): route for route in wanted.routes}
    surplus = set() if released is None else {route_key(route) for route in released.routes} - goal.keys()
    main = [each for each in state.routes if each.table == abi.RT_TABLE_MAIN]
    remove = [each for each in main if route_key(each.route) in surplus and not each.automatic]
    policy = {route_key(each): each for each in policy_routes(wanted.addresses, wanted.policy_table)}
    tables = {each.policy_table for each in (wanted, released) if each is not None}
    leading: set[RouteKey] = set()
    for each in state.routes:
        if each.table in tables:
            key = route_key(each.route)
            good = each.table == wanted.policy_table and key in policy
            if good and each.source in (None, policy[key].to.partition("/")[0]):
                leading.add(key)
            else:
                remove.append(each)
    if not state.up:
        return RouteChanges(tuple(remove))
    present = {route_key(each.route) for each in main}
    add = [route for key, route in goal.items() if key not in present]
    return RouteChanges(
        tuple(remove),
        tuple(sorted(add, key=lambda route: route.via is not None)),
        tuple(route for key, route in policy.items() if key not in leading),
        _without_network(state.addresses, main, wanted.addresses),
    )


def network_route(address: Address) -> Route:
    """Return the route to the network of an address."""
    interface = ipaddress.ip_interface(address.address)
    network = interface.network
    if address.peer is not None and interface.version == 4:
        network = ipaddress.ip_interface(f"{address.peer}/{network.prefixlen}").network
    return Route(str(network), metric=_NETWORK_METRICS[interface.version])


def _without_network(
    present: Sequence[PresentAddress], routes: Iterable[PresentRoute], wanted: Sequence[Address]
) -> tuple[Address, ...]:
    """Return the addresses that stay and whose network has no route through the device.

    ``routes`` are those of the device in the main table. A route of another metric or program is one, too.
    """
    reached = {key[:3] for key in (route_key(each.route) for each in routes) if key.via is None}
    found = [each for each in wanted if route_key(network_route(each))[:3] not in reached]
    if not found:
        return ()
    leaving = address_changes(present, wanted).remove
    keys = [address_key(each.address) for each in present if each not in leaving]
    primaries = _first_of_each_subnet(key for key in keys if key.version == 4)
    needed: dict[RouteKey, Address] = {}
    for address in found:
        key = address_key(address)
        if key in keys and (key.version == 6 or (primaries[key.subnet] == key and _has_network(key))):
            # Several IPv6 addresses share one route.
            needed.setdefault(route_key(network_route(address)), address)
    return tuple(needed.values())


def _has_network(key: AddressKey) -> bool:
    """Return whether the kernel adds a route with an IPv4 address that is a primary."""
    # Nothing is in the network 0.0.0.0/8, and the network of a single address is the address.
    return key.peer >> 24 != 0 and (key.length < 32 or key.peer != key.own)


def _ipv6_changes(
    present: Sequence[PresentAddress], wanted: Sequence[AddressKey], own: Collection[tuple[int, ...]]
) -> tuple[list[PresentAddress], set[AddressKey]]:
    """Return the addresses of one scope to remove, and those that stay."""
    here = [each for each in present if address_key(each.address).identity in own]
    kept = set(_beginning([address_key(each.address) for each in here], wanted))
    return [each for each in here if address_key(each.address) not in kept], kept


def _ipv4_changes(
    present: Sequence[PresentAddress], wanted: Sequence[AddressKey], own: Collection[tuple[int, ...]]
) -> tuple[list[PresentAddress], set[AddressKey]]:
    """Return the addresses to remove, secondaries before their primaries, and those that stay."""
    keys = [address_key(each.address) for each in present]
    primaries = _first_of_each_subnet(keys)
    foreign = {subnet for subnet, key in primaries.items() if key.identity not in own}
    leaders = {subnet: key for subnet, key in _first_of_each_subnet(wanted).items() if subnet not in foreign}
    kept = set(
        _beginning(
            [key for key in keys if key.identity in own and primaries[key.subnet] == key],
            [key for key in wanted if leaders.get(key.subnet) == key],
        )
    )
    stay = {key.subnet for key in kept} | foreign
    kept |= set(
        _beginning(
            [
                key
                for key in keys
                if key.identity in own and primaries[key.subnet] != key and key.subnet in stay
            ],
            [key for key in wanted if leaders.get(key.subnet) != key],
        )
    )
    # A foreign secondary would otherwise be promoted, and precede the primary that is added again.
    displaced = {key.subnet for key in wanted if key not in kept and key.subnet not in stay}
    remove = [
        each
        for each, key in zip(present, keys, strict=True)
        if (key not in kept if key.identity in own else key.subnet in displaced)
    ]
    return remove[::-1], kept


def _first_of_each_subnet(keys: Iterable[AddressKey]) -> dict[tuple[int, int], AddressKey]:
    first: dict[tuple[int, int], AddressKey] = {}
    for key in keys:
        first.setdefault(key.subnet, key)
    return first


def _beginning(present: Sequence[AddressKey], wanted: Sequence[AddressKey]) -> list[AddressKey]:
    """Return the longest beginning of ``wanted`` that is present in this order."""
    positions = {key: position for position, key in enumerate(present)}
    kept: list[AddressKey] = []
    for key in wanted:
        if key not in positions or (kept and positions[key] < positions[kept[-1]]):
            break
        kept.append(key)
    return kept


@lru_cache(maxsize=4096)
def _scope(address: int) -> int:
    """Return the scope of an IPv6 address, by which the kernel sorts."""
    value = ipaddress.IPv6Address(address)
    if value.is_link_local or value.is_loopback:
        return 2
    return 5 if value.is_site_local else 14
