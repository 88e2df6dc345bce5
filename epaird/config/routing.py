"""Rules for the routes of a configuration: those by which the kernel accepts or refuses them.

A route's next hop must be reached directly: through the network or the peer of an address of the half, or
through a route without a next hop. The kernel accepts one route of each metric to a destination; a namespace
has one main table, in which each network of an address has a route of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from epaird.config.addressing import AddressSettings
from epaird.config.conflict import Conflict
from epaird.config.settings import Configuration, ConfiguredHalf, ConfiguredInterface
from epaird.config.values import Location, dotted
from epaird.names.grammar import quoted

_IPV6_CONNECTED_METRIC: Final = 256
"""Metric of the route to an IPv6 address's network: IP6_RT_PRIO_ADDRCONF of linux/ipv6_route.h."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A place of the main table, which holds one route."""

    namespace: str
    """The table's namespace."""
    down: str
    """The device if it is down and its routes are not installed; otherwise empty."""
    destination: IPv4Network | IPv6Network
    """The destination of the route."""
    metric: int
    """The metric of the route in the kernel."""

    @classmethod
    def of(
        cls, interface: ConfiguredInterface, destination: IPv4Network | IPv6Network, metric: int
    ) -> _Entry:
        """Return the place of a route through a device."""
        down = "" if interface.settings.up else interface.device
        return cls(interface.namespace, down, destination, metric)


def unreachable_hops(configuration: Configuration) -> Iterator[Conflict]:
    """Yield next hops that the kernel would refuse."""
    local = {
        (interface.namespace, address.ip): interface
        for interface in configuration.interfaces
        for address in interface.settings.addresses
        if address.version == 6 and not address.is_link_local
    }
    for half in configuration.halves:
        for index, route in enumerate(half.settings.routes):
            location = (*half.location, "routes", index, "via")
            if (via := route.via) is None:
                continue
            if (version := route.destination.version) != via.version:
                message = f"{via} is an IPv{via.version} address, {route.to} needs an IPv{version} one"
                yield Conflict(location, message)
            elif any(address.ip == via for address in half.settings.addresses):
                yield Conflict(location, f"{via} is this half's own address, a next hop must be another one")
            elif (other := local.get((half.namespace, via))) is not None:
                # The kernel accepts such a next hop only with IPv4.
                message = f"{via} is an address of the same namespace, in {dotted(other.location)}"
                rests_on = ((*half.location, "netns"), (*other.location, "netns"))
                yield Conflict(location, f"{message}: a next hop must be elsewhere", rests_on)
            elif reason := _why_unreachable(half, via):
                rests_on = ((*half.location, "addresses"), (*half.location, "routes"))
                yield Conflict(location, f"{via} cannot be reached, {reason}", rests_on)


def _why_unreachable(half: ConfiguredHalf, via: IPv4Address | IPv6Address) -> str:
    """Return why a half cannot reach a next hop directly; empty if it can."""
    if via.version == 6 and via.is_link_local:
        return ""  # every device with IPv6 has a link-local address
    addresses = [address for address in half.settings.addresses if address.version == via.version]
    routes = [route for route in half.settings.routes if route.destination.version == via.version]
    direct = [network for address in addresses for network in _reached_at_once(address)]
    direct += [route.destination for route in routes if route.via is None]
    within = [network.prefixlen for network in direct if via in network]
    if not within:
        late = [str(address.ip) for address in addresses if address.peer == via]
        if late:
            return f"the peer of {late[0]} is reached at once only with nodad = true"
        if not addresses and not direct:
            return f"this half has no IPv{via.version} address"
        reached = ", ".join(map(str, direct)) or f"no IPv{via.version} network"
        return f"this half reaches {reached} directly"
    for route in routes if via.version == 6 else ():
        # With IPv6 the kernel examines only the most specific route.
        if route.via is not None and via in route.destination and route.destination.prefixlen > max(within):
            return f"the route to {route.destination} leads to it by way of {route.via}"
    return ""


def _reached_at_once(address: AddressSettings) -> Iterator[IPv4Network | IPv6Network]:
    """Yield the networks that the kernel reaches as soon as a device has an address.

    The route to an IPv6 peer is added when duplicate address detection has ended, seconds later."""
    late = address.version == 6 and not address.nodad
    for network in (address.network,) if late else address.networks:
        if network != ip_network(address.ip):
            yield network


def repeated_routes(configuration: Configuration) -> Iterator[Conflict]:
    """Yield routes whose place in the main table is taken."""
    taken: dict[_Entry, tuple[ConfiguredInterface, str]] = {}
    for interface in configuration.interfaces:
        for entry, address in _kernel_routes(interface):
            words = f"for {address} in {dotted((*interface.location, 'addresses'))}"
            taken.setdefault(entry, (interface, words))
    for half in configuration.halves:
        for index, route in enumerate(half.settings.routes):
            entry = _Entry.of(half, route.destination, route.effective_metric)
            if entry not in taken:
                taken[entry] = half, f"in {dotted((*half.location, 'routes'))}"
                continue
            other, where = taken[entry]
            message = f"{quoted(str(route.to))} already has a route of metric {entry.metric}, {where}"
            rests_on = () if other is half else (*_table_of(half), *_table_of(other))
            location = (*half.location, "routes", index, "to")
            yield Conflict(location, f"{message}: another one needs another metric", rests_on)


def _kernel_routes(interface: ConfiguredInterface) -> Iterator[tuple[_Entry, AddressSettings]]:
    """Yield the routes that the kernel adds for the addresses of a device."""
    for address in interface.settings.addresses:
        for network in address.networks:
            if network.version == 6:
                yield _Entry.of(interface, network, _IPV6_CONNECTED_METRIC), address
            elif network != ip_network(address.ip):
                yield _Entry.of(interface, network, 0), address


def _table_of(interface: ConfiguredInterface) -> tuple[Location, Location]:
    """Return the places that determine in which table the routes of a device are."""
    return (*interface.location, "netns"), (*interface.location, "up")
