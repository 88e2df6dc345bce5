"""Policy routing: packets to a loopback's own addresses made to pass it.

Linux delivers a packet to one of its own addresses by its own ``lo``, since the table ``local`` comes
before everything and names net->loopback_dev.  For an extra loopback to see such packets

- the rule ``lookup local`` moves behind ours, from preference 0 to 100;
- ours send to the loopback what is for its networks, by a table of its own;
- and what comes in from the loopback is looked up in ``local`` first, or it would circle.

Several loopbacks of a namespace share the move: the last that goes undoes it.  The state is the kernel's
alone, so what a daemon that was killed has left is found and removed as well.
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
from epaird.kernel.namespace import inside

TABLES: Final = range(0x65706100, 0x65706100 + (1 << 16))
"""Routing tables that are ours, one for each loopback: ``epa`` and 16 bits."""
_LOCAL: Final = 255
"""RT_TABLE_LOCAL of linux/rtnetlink.h."""
_FIRST: Final = 0
_IN: Final = 10
_OUT: Final = 20
_TO: Final = 30
_LATER: Final = 100
"""Preferences of the rules."""


def install(
    name: str, index: int, table: int, addresses: tuple[str, ...], *, netns: str | None = None
) -> None:
    """Have packets to these addresses' networks, ``10.88.7.1/24``, pass the loopback ``name``, which is up.

    ``table`` is one of TABLES.  Raises KernelError, and then nothing of it stays.
    """
    remove(table, netns=netns)
    try:
        with _route(netns, name) as route:
            for version in (4, 6):
                those = [each for each in map(ipaddress.ip_interface, addresses) if each.version == version]
                if those:
                    _install(route, _family(version), name, index, table, those)
    except KernelError:
        remove(table, netns=netns)
        raise


def remove(table: int, *, netns: str | None = None) -> None:
    """Remove the rules and routes of a table, whether it has any or not.  Raises KernelError."""
    with _route(netns, "policy routing") as route:
        for family in (socket.AF_INET, socket.AF_INET6):
            rules = list(route.get_rules(family=family))
            names = {_attribute(rule, "FRA_OIFNAME") for rule in rules if _table(rule) == table}
            ours = [rule for rule in rules if _table(rule) == table or _is_return(rule, names)]
            others = [rule for rule in rules if _table(rule) in TABLES and _table(rule) != table]
            if ours and not others:
                _add_rule(route, family, _FIRST, table=_LOCAL)
                _delete_rule(route, family, _LATER, table=_LOCAL)
            for rule in ours:
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
    _add_rule(route, family, _IN, iifname=name, table=_LOCAL)
    _add_rule(route, family, _OUT, oifname=name, table=table)
    for address in addresses:
        network = address.network
        _add_rule(
            route, family, _TO, dst=str(network.network_address), dst_len=network.prefixlen, table=table
        )
    _add_rule(route, family, _LATER, table=_LOCAL)
    _delete_rule(route, family, _FIRST, table=_LOCAL)


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
    """Delete a rule as the kernel told it."""
    keys = {"iifname": "FRA_IIFNAME", "oifname": "FRA_OIFNAME", "dst": "FRA_DST"}
    wanted = {key: value for key, name in keys.items() if (value := _attribute(rule, name)) is not None}
    if "dst" in wanted:
        wanted["dst_len"] = rule["dst_len"]
    _delete_rule(route, family, _attribute(rule, "FRA_PRIORITY") or 0, table=_table(rule), **wanted)


def _is_return(rule: Any, names: set[object]) -> bool:  # noqa: ANN401
    """The rule for what comes in from a loopback of ours."""
    name = _attribute(rule, "FRA_IIFNAME")
    return name is not None and name in names and _attribute(rule, "FRA_PRIORITY") == _IN


def _table(rule: Any) -> int:  # noqa: ANN401
    table = _attribute(rule, "FRA_TABLE")
    return int(rule["table"] if table is None else table)


def _attribute(rule: Any, name: str) -> Any:  # noqa: ANN401
    return rule.get_attr(name)


@contextlib.contextmanager
def _route(netns: str | None, thing: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(inside(netns))
        try:
            yield stack.enter_context(IPRoute())
        except NetlinkError as error:
            raise KernelError(error.code, f"{thing}: policy routing: {error.args[1]}") from error
        except OSError as error:
            raise KernelError.about(f"{thing}: policy routing", error.errno) from error


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET6 if version == 6 else socket.AF_INET
