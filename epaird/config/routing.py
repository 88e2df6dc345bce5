"""Rules for the routes of a configuration: those by which the kernel accepts or refuses them.

A route's next hop must be reached directly: through the network or the peer of an address of the half, or
through a route without a next hop. The kernel accepts one route of each metric to a destination; a namespace
has one main table, in which each network of an address has a route of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Generic, TypeVar

from epaird.config.addressing import AddressSettings, RouteSettings
from epaird.config.conflict import Conflict
from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface
from epaird.config.values import Location, dotted
from epaird.kernel.abi import IP6_RT_PRIO_ADDRCONF
from epaird.names.grammar import quoted

_LISTED_MAX: Final = 8
"""Most networks that a message lists."""
_LINK_LOCAL: Final = IPv6Network("fe80::/64")
"""Network of the addresses that every device with IPv6 has."""

_Table = tuple[str, str]
"""A namespace, whose main table is meant, and a device that is down, whose routes are not in it."""
_Entry = tuple[_Table, IPv4Network | IPv6Network, int]
"""A place in a table: it holds one route to a destination with a metric."""


@dataclass(frozen=True, slots=True, eq=False)
class _Holder:
    """The holder of a place in the main table."""

    interface: ConfiguredInterface
    """The interface that the route is through."""
    where: str
    """The route's origin, in words."""
    to_peer: bool = False
    """True for the route to an IPv6 peer, which the file may contain as well."""


def unreachable_hops(configuration: Configuration) -> Iterator[Conflict]:
    """Yield next hops that the kernel would refuse."""
    local = {
        (interface.namespace, address.ip): interface
        for interface in configuration.interfaces
        for address in interface.settings.addresses
        if address.version == 6 and not address.is_link_local
    }
    for half in configuration.halves:
        reach = {version: _Reach(half, version) for version in (4, 6)} if half.settings.routes else {}
        own = {address.ip for address in half.settings.addresses}
        for index, route in enumerate(half.settings.routes):
            location = (*half.location, "routes", index, "via")
            if (via := route.via) is None:
                continue
            if (version := route.destination.version) != via.version:
                message = f"{via} is an IPv{via.version} address, {route.to} needs an IPv{version} one"
                yield Conflict(location, message)
            elif via in own:
                yield Conflict(location, f"{via} is this half's own address, a next hop must be another one")
            elif (other := local.get((half.namespace, via))) is not None:
                # The kernel accepts such a next hop only with IPv4.
                message = f"{via} is an address of the same namespace, in {dotted(other.location)}"
                rests_on = ((*half.location, "netns"), (*other.location, "netns"))
                yield Conflict(location, f"{message}: a next hop must be elsewhere", rests_on)
            elif reason := reach[version].why_not(via):
                rests_on = ((*half.location, "addresses"), (*half.location, "routes"))
                yield Conflict(location, f"{via} cannot be reached, {reason}", rests_on)


class _Reach:
    """The next hops of one IP version that a half reaches directly.

    Networks are found by their prefix, so that some thousand routes need no comparison of each with all."""

    def __init__(self, half: ConfiguredHalf, version: int) -> None:
        addresses = [address for address in half.settings.addresses if address.version == version]
        routes = [route for route in half.settings.routes if route.destination.version == version]
        direct = [
            network for each in addresses for network in each.networks if network != ip_network(each.ip)
        ]
        direct += [route.destination for route in routes if route.via is None]
        self._version = version
        self._has_address = bool(addresses)
        self._words = _listed(direct) or f"no IPv{version} network"
        self._direct = _ByPrefix((network, network) for network in direct)
        self._broadcasts = {
            network.broadcast_address: network
            for network in (address.network for address in reversed(addresses) if version == 4)
            if network.prefixlen < 31
        }
        # With IPv6 the kernel examines only the most specific route.
        self._indirect = _ByPrefix(
            (route.destination, route) for route in routes if version == 6 and route.via is not None
        )

    def why_not(self, via: IPv4Address | IPv6Address) -> str:
        """Return why a next hop cannot be reached directly; empty if it can."""
        if via.version == 6 and via.is_link_local:
            return ""  # The kernel does not look for a route to it.
        if not self._has_address and not self._direct:
            return f"this half has no IPv{self._version} address"
        longest = self._direct.longest(via)
        if longest is None:
            return f"this half reaches {self._words} directly"
        if (network := self._broadcasts.get(via)) is not None:
            return f"it is the broadcast address of {network}"
        indirect = self._indirect.longest(via)
        if indirect is not None and indirect[0].prefixlen > longest[0].prefixlen:
            return f"the route to {indirect[1].destination} leads to it by way of {indirect[1].via}"
        return ""


N = TypeVar("N")


class _ByPrefix(Generic[N]):
    """Values by the networks that they belong to; the first one of each network."""

    def __init__(self, values: Iterable[tuple[IPv4Network | IPv6Network, N]]) -> None:
        self._by_length: dict[int, dict[int, tuple[IPv4Network | IPv6Network, N]]] = {}
        for network, value in values:
            prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._by_length.setdefault(network.prefixlen, {}).setdefault(prefix, (network, value))
        self._lengths = sorted(self._by_length, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def longest(self, address: IPv4Address | IPv6Address) -> tuple[IPv4Network | IPv6Network, N] | None:
        """Return the smallest network that contains an address, and its value; None if none does."""
        for length in self._lengths:
            found = self._by_length[length].get(int(address) >> (address.max_prefixlen - length))
            if found is not None:
                return found
        return None


def _listed(networks: Sequence[IPv4Network | IPv6Network]) -> str:
    more = len(networks) - _LISTED_MAX
    return ", ".join(map(str, networks[:_LISTED_MAX])) + (f" and {more} more" if more > 0 else "")


def repeated_routes(configuration: Configuration) -> Iterator[Conflict]:
    """Yield routes, also those to peers, whose place in the main table is taken."""
    interfaces = [(_table_of(each), each) for each in configuration.interfaces]
    own = [
        ((table, route.destination, route.effective_metric), route, location, holder)
        for table, interface in interfaces
        for route, location, holder in _own_routes(interface)
    ]
    wanted = {entry for entry, *_ in own}
    taken: dict[_Entry, _Holder] = {}
    for table, interface in interfaces if own else ():
        for network, metric, address in _kernel_routes(interface):
            if (entry := (table, network, metric)) in wanted:
                place = dotted((*interface.location, "addresses"))
                words = f"for {address} in {place}" if address is not None else "the kernel's"
                taken.setdefault(entry, _Holder(interface, words))
    for entry, route, location, holder in own:
        other = taken.setdefault(entry, holder)
        same = other.interface is holder.interface and other.to_peer and route.via is None
        if other is not holder and not same:
            yield _repeated(entry, route, location, holder, other)


def _repeated(
    entry: _Entry, route: RouteSettings, location: Location, holder: _Holder, other: _Holder
) -> Conflict:
    message = f"{quoted(str(route.to))} already has a route of metric {entry[-1]}, {other.where}"
    remedy = "" if holder.to_peer else ": another one needs another metric"
    both = () if other.interface is holder.interface else (holder.interface, other.interface)
    rests_on = tuple((*each.location, key) for each in both for key in ("netns", "up"))
    return Conflict(location, message + remedy, rests_on)


def _table_of(interface: ConfiguredInterface) -> _Table:
    return interface.namespace, "" if interface.settings.up else interface.device


def _kernel_routes(
    interface: ConfiguredInterface,
) -> Iterator[tuple[IPv4Network | IPv6Network, int, AddressSettings | None]]:
    """Yield the routes that the kernel adds for the addresses of a device: network, metric and address."""
    yield _LINK_LOCAL, IP6_RT_PRIO_ADDRCONF, None
    for address in interface.settings.addresses:
        for network in address.networks:
            if network.version == 6:
                yield network, IP6_RT_PRIO_ADDRCONF, address
            elif network.prefixlen < network.max_prefixlen or address.peer is not None:
                yield network, 0, address


def _own_routes(interface: ConfiguredInterface) -> Iterator[tuple[RouteSettings, Location, _Holder]]:
    """Yield the routes that epaird adds to a device, and their places in the file."""
    place = (*interface.location, "addresses")
    for index, address in enumerate(interface.settings.addresses):
        if (route := address.route_to_peer) is not None:
            holder = _Holder(interface, f"for {address} in {dotted(place)}", to_peer=True)
            yield route, (*place, index, "peer"), holder
    place = (*interface.location, "routes")
    for index, route in enumerate(interface.settings.routes):
        yield route, (*place, index, "to"), _Holder(interface, f"in {dotted(place)}")
