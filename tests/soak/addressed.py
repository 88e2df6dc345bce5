"""Addresses and rules as the kernel is expected to show them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from tests.scenarios.namespaces import Namespace
from tests.soak.expected import is_ipv6


def ordered(addresses: Iterable[str]) -> list[str]:
    """Return addresses in the kernel's order: IPv4's primary ones, IPv4's secondary ones, IPv6's, sorted.

    The order among secondary addresses of several networks is not defined; at most one network has some."""
    seen: set[str] = set()
    primary, secondary, others = [], [], []
    for address in addresses:
        if is_ipv6(address):
            others.append(address)
        elif (network := _network(address)) in seen:
            secondary.append(address)
        else:
            seen.add(network)
            primary.append(address)
    return [*primary, *secondary, *sorted(others)]


def _network(address: str) -> str:
    own, _, peer = address.partition(" peer ")
    length = own.partition("/")[2]
    return str(ipaddress.ip_interface(f"{peer}/{length}" if peer else own).network)


def led_by_rules(place: Namespace) -> list[str]:
    """Return the IPv4 addresses that policy rules lead to tables of loopbacks, sorted."""
    found = json.loads(place.ip("-j rule show") or "[]")
    return sorted(each["dst"] for each in found if each.get("iif") == "lo" and "dst" in each)
