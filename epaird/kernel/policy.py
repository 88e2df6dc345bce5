"""Policy routing that sends packets to an extra loopback's own addresses through that loopback.

Linux delivers a packet to one of its own addresses by its own ``lo``: the table ``local`` precedes all
others and names net->loopback_dev. An extra loopback sees such packets under three conditions:

- the rule ``lookup local`` moves from preference 0 to 100, after the rules of the loopbacks;
- those rules send packets for the loopback's networks to the loopback, by a table of its own;
- packets that come in from the loopback are looked up in ``local`` first, or they would loop for ever.

The loopbacks of a namespace share the moved rule; removing the last loopback moves it back. All state is in
the kernel, so that the rules of a killed daemon are found and removed as well.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Namespace, inside

TABLES: Final = range(0x65706100, 0x65706100 + (1 << 16))
"""epaird's routing tables, one for each loopback: ``epa`` and 16 bits."""
_LOCAL: Final = 255
"""RT_TABLE_LOCAL of linux/rtnetlink.h."""

# Preferences of the rules.
_LOCAL_DEFAULT: Final = 0
_INPUT: Final = 10
_OUTPUT: Final = 20
_DESTINATION: Final = 30
_LOCAL_MOVED: Final = 100


def install(
    name: str, index: int, table: int, addresses: tuple[str, ...], *, netns: Namespace | None = None
) -> None:
    """Route packets to these addresses' networks, ``10.88.7.1/24``, through the loopback ``name``.

    The loopback must be up; ``table`` is one of TABLES. Raises KernelError after removing what it
    installed.
    """
    remove(table, netns=netns)
    try:
        with _route(netns, name) as route:
            for version in (4, 6):
                interfaces = map(ipaddress.ip_interface, addresses)
                selected = [interface for interface in interfaces if interface.version == version]
                if selected:
                    _install(route, _family(version), name, index, table, selected)
    except KernelError:
        remove(table, netns=netns)
        raise


def remove(table: int, *, netns: Namespace | None = None) -> None:
    """Remove the rules and routes of a table, if it has any. Raises KernelError."""
    with _route(netns, "policy routing") as route:
        for family in (socket.AF_INET, socket.AF_INET6):
            rules = list(route.get_rules(family=family))
            names = {_attribute(rule, "FRA_OIFNAME") for rule in rules if _table(rule) == table}
            own = [rule for rule in rules if _table(rule) == table or _is_input_rule(rule, names)]
            others = [rule for rule in rules if _table(rule) in TABLES and _table(rule) != table]
            if own and not others:
                _add_rule(route, family, _LOCAL_DEFAULT, table=_LOCAL)
                _delete_rule(route, family, _LOCAL_MOVED, table=_LOCAL)
            for rule in own:
                _delete(route, family, rule)
            with contextlib.suppress(NetlinkError):
                route.flush_routes(family=family, table=table)


def _install(
    route: Any,  # noqa: ANN401
    family: socket.AddressFamily,
    name: str,
    index: int,
    table: int,
    addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface],
) -> None:
    for address in addresses:
        to = str(address.network)
        source = {"prefsrc": str(address.ip)}
        route.route("replace", family=family, dst=to, oif=index, table=table, **source)
    _add_rule(route, family, _INPUT, iifname=name, table=_LOCAL)
    _add_rule(route, family, _OUTPUT, oifname=name, table=table)
    for address in addresses:
        network = address.network
        destination = {"dst": str(network.network_address), "dst_len": network.prefixlen}
        _add_rule(route, family, _DESTINATION, **destination, table=table)
    _add_rule(route, family, _LOCAL_MOVED, table=_LOCAL)
    _delete_rule(route, family, _LOCAL_DEFAULT, table=_LOCAL)


def _add_rule(route: Any, family: int, priority: int, **rule: object) -> None:  # noqa: ANN401
    try:
        route.rule("add", family=family, priority=priority, **rule)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _delete_rule(route: Any, family: int, priority: int, **rule: object) -> None:  # noqa: ANN401
    try:
        route.rule("del", family=family, priority=priority, **rule)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise


def _delete(route: Any, family: int, rule: Any) -> None:  # noqa: ANN401
    """Delete a rule that the kernel listed."""
    keys = {"iifname": "FRA_IIFNAME", "oifname": "FRA_OIFNAME", "dst": "FRA_DST"}
    selector = {key: value for key, name in keys.items() if (value := _attribute(rule, name)) is not None}
    if "dst" in selector:
        selector["dst_len"] = rule["dst_len"]
    _delete_rule(route, family, _attribute(rule, "FRA_PRIORITY") or 0, table=_table(rule), **selector)


def _is_input_rule(rule: Any, names: set[object]) -> bool:  # noqa: ANN401
    """Return True for the rule for packets that come in from one of these loopbacks."""
    name = _attribute(rule, "FRA_IIFNAME")
    return name is not None and name in names and _attribute(rule, "FRA_PRIORITY") == _INPUT


def _table(rule: Any) -> int:  # noqa: ANN401
    table = _attribute(rule, "FRA_TABLE")
    return int(rule["table"] if table is None else table)


def _attribute(rule: Any, name: str) -> Any:  # noqa: ANN401
    return rule.get_attr(name)


@contextlib.contextmanager
def _route(netns: Namespace | None, subject: str) -> Iterator[Any]:
    with inside(netns):
        try:
            with IPRoute() as route:
                yield route
        except NetlinkError as error:
            raise KernelError(error.code, f"{subject}: policy routing: {error.args[1]}") from error
        except OSError as error:
            raise KernelError.about(f"{subject}: policy routing", error.errno) from error


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET6 if version == 6 else socket.AF_INET
