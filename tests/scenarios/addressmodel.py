"""Halves with addresses and routes, and what they are to have after what we and others did to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from random import Random

from tests.scenarios.addressing import addresses, routes
from tests.scenarios.namespaces import Namespace


@dataclass(slots=True)
class HalfModel:
    """Half a of a pair, in red; half b is in blue and has 10.UNIT.0.2 and fd0UNIT::2."""

    unit: int
    red: Namespace
    addresses: list[str] = field(default_factory=list)
    """Addresses of the file."""
    routes: list[str] = field(default_factory=list)
    """Routes of the file, ``default via 10.0.0.2``."""
    file_up: bool = True
    recorded_up: bool = True
    """The settings that the file or a request gave it last."""
    up: bool = True
    recorded_name: str = ""
    name: str = ""
    removed: set[str] = field(default_factory=set)
    """Addresses and routes of the file that others removed."""
    foreign: set[str] = field(default_factory=set)
    """Addresses that others added."""

    def __post_init__(self) -> None:
        self.recorded_name = self.name = self.file_name

    @property
    def device(self) -> str:
        return f"epair{self.unit}a"

    @property
    def file_name(self) -> str:
        return f"eth{self.unit}"

    @property
    def pool(self) -> list[str]:
        """Addresses that a file may give it."""
        unit = self.unit
        ipv4 = [f"10.{unit}.0.1/24", f"10.{unit}.0.11/24", f"10.{unit}.0.21/24", f"10.{unit}.5.1/24"]
        return [*ipv4, f"fd0{unit}::1/64", f"fd0{unit}::7/64"]

    def table(self) -> dict[str, object]:
        """Return its table of the file."""
        found = [dict(zip(("to", "via"), each.split(" via "), strict=True)) for each in self.routes]
        return {"addresses": self.addresses, "routes": found, "up": self.file_up}

    def edit(self, choose: Random, *, default: bool) -> None:
        """Give it other addresses and routes; ``default``: the default routes of its namespace, too."""
        found = choose.sample(self.pool, choose.randint(1, len(self.pool)))
        self.addresses, self.routes, self.file_up = found, [], choose.random() < 0.9
        for family, via in (("10.9", f"10.{self.unit}.0.2"), ("fd9", f"fd0{self.unit}::2")):
            if reaches(found, via):
                wanted = [f"10.9{self.unit}.0.0/16" if family == "10.9" else f"fd9{self.unit}::/64"]
                wanted += ["default"] * default
                self.routes += [
                    f"{to} via {via}" for to in choose.sample(wanted, choose.randint(0, len(wanted)))
                ]

    # What happens to it.

    def reloaded(self) -> None:
        """Apply a reload: everything is as in the file, except what its owner chose."""
        if self.recorded_up != self.file_up:
            self.up = self.recorded_up = self.file_up
        if self.recorded_name != self.file_name:
            self.name = self.recorded_name = self.file_name
        self.removed.clear()

    def came_up(self) -> None:
        """Apply a flap: routes and IPv6 addresses come back, except routes that need a removed address."""
        self.up = True
        self.removed = {
            each for each in self.removed if "/" in each.split()[0] and "." in each and "via" not in each
        }
        there = [each for each in self.addresses if each not in self.removed]
        for route in self.routes:
            via = route.split(" via ")[1]
            if reaches(self.removed, via) and not reaches(there, via):
                self.removed.add(route)

    def observe(self, *, also_routes: bool = True) -> None:
        """Take what is absent now for removed."""
        here = set(addresses(self.red, self.name))
        self.removed = {each for each in self.addresses if each not in here and (self.up or "." in each)}
        if self.up and also_routes:
            self.removed |= set(self.routes) - set(routes(self.red, self.name))
        self.foreign &= here

    # What holds.

    def wrong(self, restored: Iterable[str]) -> list[str]:
        """Return what is not as it is to be; ``restored`` is what the plan would put back."""
        here, there = addresses(self.red, self.name), routes(self.red, self.name)
        kept = [each for each in self.addresses if each not in self.removed]
        wanted, shown = kept, set(self.removed)
        if not self.up:
            # The kernel may have taken IPv6 away.
            wanted = [each for each in kept if "." in each]
            here = [each for each in here if "." in each]
            shown = {each for each in self.removed if "." in each and " via " not in each}
        own4 = [each for each in here if each in self.addresses and "." in each]
        own6 = [each for each in here if each in self.addresses and "." not in each]
        found = {
            "IPv4 addresses": (in_order(own4), in_order(each for each in wanted if "." in each)),
            "IPv6 addresses": (own6, sorted(each for each in wanted if "." not in each)),
            "routes": (there, sorted(set(self.routes) - self.removed) if self.up else []),
            "shown by the plan": (sorted(restored), sorted(shown)),
            "foreign addresses": (sorted(self.foreign & set(here)), sorted(each for each in self.foreign)),
            "up": (self.red.links()[self.name].up, self.up),
        }
        return [
            f"{self.device}: {what} are {is_}, not {ought}"
            for what, (is_, ought) in found.items()
            if is_ != ought
        ]


def in_order(found: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return IPv4 addresses by their subnets, and the primaries: the kernel keeps both of these orders."""
    by_subnet: dict[str, list[str]] = {}
    for each in found:
        by_subnet.setdefault(str(ip_interface(each).network), []).append(each)
    return by_subnet, [each[0] for each in by_subnet.values()]


def reaches(found: Iterable[str], via: str) -> bool:
    """Return whether a next hop is in the subnet of one of these addresses."""
    return any(ip_address(via) in ip_interface(each).network for each in found if " " not in each)
