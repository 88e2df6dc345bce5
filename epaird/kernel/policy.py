"""Policy routing: local traffic for a loopback's own addresses passes that loopback.

Linux delivers a packet to one of its own addresses by its own ``lo``: the table ``local`` precedes all
others and names net->loopback_dev. An extra loopback sees such packets under two conditions:

- the rule ``lookup local`` has the preference 100 instead of 0;
- rules before it, one for each address of the loopback, look up packets to that address in a table of the
  loopback, whose routes lead to it.

These rules apply to packets that the namespace itself sends (``iif lo``). Packets that arrive from any device
are looked up in ``local`` as before: those of neighbours reach the address directly and without costing a
hop, and those that come back from the loopback are delivered instead of passing it again.

The rules name no device but ``lo``, so that they hold when the loopback goes down or is renamed. While it is
down its table is empty, and traffic for its addresses is delivered by ``lo``.

The loopbacks of a namespace share the moved rule. All state is in the kernel, so that the rules of a killed
daemon are found too, and those of earlier versions, which also matched packets from neighbours.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.requests import Address, Route, Rule

TABLES: Final = range(0x65706100, 0x65706100 + (1 << 16))
"""epaird's routing tables, one for each loopback: ``epa`` and 16 bits."""

_LOCAL: Final = abi.RT_TABLE_LOCAL

# Preferences of the rules.
_LOCAL_DEFAULT: Final = 0
_INPUT: Final = 10
"""Earlier versions: packets from the loopback."""
_OUTPUT: Final = 20
"""Earlier versions: senders that are bound to the loopback."""
_DESTINATION: Final = 30
_LOCAL_MOVED: Final = 100


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """Changes of a namespace's policy rules."""

    remove: tuple[Rule, ...] = ()
    """Rules to remove first."""
    add: tuple[Rule, ...] = ()
    """Rules to add then, in order."""


def policy_rules(addresses: Iterable[Address], table: int | None) -> tuple[Rule, ...]:
    """Return the rules that lead packets to a loopback's addresses to its table; none without a table."""
    if table is None:
        return ()
    hosts = dict.fromkeys(_host(address) for address in addresses)
    return tuple(Rule(_family(host), _DESTINATION, table, to=host, iif="lo") for host in hosts)


def policy_routes(addresses: Iterable[Address], table: int | None) -> tuple[Route, ...]:
    """Return the routes of a loopback's table; none without a table."""
    if table is None:
        return ()
    return tuple(Route(host) for host in dict.fromkeys(_host(address) for address in addresses))


def missing_rules(present: Collection[Rule], wanted: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules that are not present, or are preceded by the rule ``lookup local``."""
    wanted = tuple(wanted)
    found = [rule for rule in wanted if rule not in present]
    for family in dict.fromkeys(rule.family for rule in wanted):
        default, moved = Rule(family, _LOCAL_DEFAULT, _LOCAL), Rule(family, _LOCAL_MOVED, _LOCAL)
        if default in present or moved not in present:
            found.append(moved)
    return tuple(found)


def rule_changes(present: Collection[Rule], tables: Collection[int], wanted: Iterable[Rule]) -> RuleChanges:
    """Return the next changes towards a state in which the rules of these tables are the wanted ones.

    They are complete when there are none for the rules as they are then: a rule ``lookup local`` is removed
    only while the other one is present, and before the last rule of a loopback. A daemon that is killed
    between two changes therefore leaves rules that show what it had moved.
    """
    wanted = tuple(wanted)
    own = own_rules(present, tables)
    remove: list[Rule] = []
    add: list[Rule] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        surplus = [rule for rule in own if rule.family == family and rule not in wanted]
        absent = [rule for rule in wanted if rule.family == family and rule not in present]
        others = [rule for rule in present if rule.family == family and rule.table in TABLES]
        default, moved = Rule(family, _LOCAL_DEFAULT, _LOCAL), Rule(family, _LOCAL_MOVED, _LOCAL)
        if absent or any(rule not in surplus for rule in others):
            if tables:
                add += absent if moved in present else [*absent, moved]
                remove += [*surplus, default] if default in present and moved in present else surplus
        elif surplus and default not in present:
            add.append(default)
        elif surplus:
            remove += [moved, *surplus] if moved in present else surplus
    return RuleChanges(tuple(remove), tuple(add))


def own_rules(present: Collection[Rule], tables: Collection[int]) -> tuple[Rule, ...]:
    """Return the rules that epaird, in this or an earlier version, has installed for these tables."""
    own = [rule for rule in present if rule.table in tables and rule.priority in (_OUTPUT, _DESTINATION)]
    names = {(rule.family, rule.oif) for rule in own if rule.oif is not None}
    own += [
        rule
        for rule in present
        if rule.priority == _INPUT and rule.table == _LOCAL and (rule.family, rule.iif) in names
    ]
    return tuple(own)


def _host(address: Address) -> str:
    """Return an address as the network of this one address."""
    return str(ipaddress.ip_network(ipaddress.ip_interface(address.address).ip))


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
