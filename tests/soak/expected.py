"""The expected state: file, interfaces, patching and workers after all operations so far.

It is predicted, not looked up: each operation changes it here, and the daemon is compared with it. Nothing
here depends on time, so a seed always makes the same sequence.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.soak.background import address

MADE: Final = "$made"
"""The namespace that the daemon creates."""


Impairment = tuple[tuple[str, str], ...]
"""Keys of an impairment and their values, in alphabetical order."""


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a pair."""

    netns: str = ""
    name: str = ""
    """The device's name; empty for the default."""
    addresses: tuple[str, ...] = ()
    """Addresses, ``10.3.0.1/32 peer 10.3.0.2``."""
    routes: tuple[str, ...] = ()
    """Routes, ``10.4.0.0/24 via 10.3.0.2 metric 70``."""
    mtu: int = 1500
    up: bool = True
    txqueuelen: int = 10_000
    sndbuf: int = 0
    """Bound on frames that wait in the receiving namespace; 0 for none."""
    impair: Impairment = ()
    """The impairment of what it transmits."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair."""

    a: Half = Half()
    b: Half = Half()
    queues: int = 1
    offload: bool = True
    coalesce: bool = True
    pmtu: bool = True
    carrier: str = "peer"


@dataclass(frozen=True, slots=True)
class Loopback:
    """A loopback."""

    netns: str = ""
    mode: str = "reflect"
    policy_routing: bool = False
    addresses: tuple[str, ...] = ()
    mtu: int = 33_624
    up: bool = True


Interface = Pair | Loopback


def pair(unit: int, a: str, b: str, *, rich: bool = False, **settings: Any) -> Pair:  # noqa: ANN401
    """Return a pair in these namespaces with addresses for the background traffic, and a route.

    ``rich``: it has IPv6, an address with a peer, a route with a metric and one without a next hop too.
    """
    of_a: tuple[str, ...] = (f"{address(unit, 1)}/24", f"{address(unit, 11)}/24")
    of_b: tuple[str, ...] = (f"{address(unit, 2)}/24",)
    routes: tuple[str, ...] = (f"10.2.{unit}.0/24 via {address(unit, 2)}",)
    if rich:
        v6, own, other = f"fd01:0:0:{unit:x}::", f"10.3.{unit}.1", f"10.3.{unit}.2"
        of_a = (*of_a, f"{own}/32 peer {other}", f"{v6}1/64", f"{v6}11/64")
        of_b = (*of_b, f"{other}/32 peer {own}", f"{v6}2/64")
        routes = (
            *routes,
            f"10.4.{unit}.0/24 via {other} metric 70",
            f"10.5.{unit}.0/24 metric 5",
            f"fd02:0:0:{unit:x}::/64 via {v6}2",
        )
    return Pair(Half(a, addresses=of_a, routes=routes), Half(b, addresses=of_b if a != b else ()), **settings)


def is_ipv6(text: str) -> bool:
    """Return whether an address or a route is one of IPv6."""
    return ":" in text


def words(found: Interface) -> list[str]:
    """Return an interface's settings that are not defaults, as for a command line or a file."""
    return [f"{key}={written(key, value)}" for key, value in _non_defaults(found, type(found)())]


def written(key: str, value: Any) -> str:  # noqa: ANN401
    """Return a value as it is written for a key on a command line or in a file."""
    match key.rpartition(".")[2]:
        case "addresses":
            return f"[{', '.join(_table('address', each) for each in value)}]"
        case "routes":
            return f"[{', '.join(_table('to', each) for each in value)}]"
        case "impair":
            return "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value) + " }"
    return json.dumps(value)


def _table(first: str, text: str) -> str:
    """Return an address or a route as an inline table; an address that has nothing else as a text."""
    head, *others = text.split(" ")
    if first == "address" and not others:
        return json.dumps(head)
    found = {first: head, **dict(zip(others[::2], others[1::2], strict=True))}
    cells = (f"{key} = {value if key == 'metric' else json.dumps(value)}" for key, value in found.items())
    return "{ " + ", ".join(cells) + " }"


def _non_defaults(found: object, defaults: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key in found.__dataclass_fields__:  # type: ignore[attr-defined]
        value, default = getattr(found, key), getattr(defaults, key)
        if isinstance(value, Half):
            yield from _non_defaults(value, default, f"{key}.")
        elif value != default:
            yield prefix + key, value


def names(name: str, found: Interface) -> tuple[str, ...]:
    """Return the device names of an interface."""
    return (name,) if isinstance(found, Loopback) else (name + "a", name + "b")


STEADY: Final[Mapping[str, Interface]] = {
    "epair0": Pair(
        Half("$red", "eth0", ("10.0.0.1/24",)), Half("$blue", "eth0", ("10.0.0.2/24",)),
    ),
    "epair1": Pair(
        Half("$red", "eth1", ("10.0.1.1/24",)), Half("$blue", "eth1", ("10.0.1.2/24",)),
    ),
    "epair2": Pair(
        Half("$red", "eth2", ("10.0.2.1/24",)), Half("$blue", "eth2", ("10.0.2.2/24",)), offload=False,
    ),
    "lo0": Loopback(),
    "lo1": Loopback("$red", addresses=("10.88.7.1/24",)),
}  # fmt: skip
"""Interfaces that no operation touches: their traffic is known to the datagram."""


@dataclass(slots=True)
class Expected:
    """The expected state of the daemon."""

    file: dict[str, Interface] = field(default_factory=lambda: dict(STEADY))
    """The interfaces of the configuration file."""
    interfaces: dict[str, Interface] = field(default_factory=dict)
    """The existing interfaces with their present settings."""
    peers: dict[str, str] = field(default_factory=dict)
    """The peer of each half; empty when it is unpatched."""
    runtime: set[str] = field(default_factory=set)
    """Interfaces created at run time."""
    namespace_made: bool = False
    workers: int = 2
    queue_limit: int = 2100
    restarts: dict[int, int] = field(default_factory=dict)
    """The number of restarts of each worker."""
    new_devices: set[str] = field(default_factory=set)
    """Devices created since the last check, whose counters began at zero."""
    repatched: set[str] = field(default_factory=set)
    """Halves patched or unpatched since the last check."""
    deletions: Counter[str] = field(default_factory=Counter)
    """How often others have deleted each interface of the file."""

    def __post_init__(self) -> None:
        self.apply_file()

    def mark_checked(self) -> None:
        """Record that the daemon was checked."""
        self.new_devices.clear()
        self.repatched.clear()

    @property
    def mutable(self) -> dict[str, Interface]:
        """The interfaces that operations may touch."""
        return {name: found for name, found in self.interfaces.items() if name not in STEADY}

    @property
    def devices(self) -> dict[str, tuple[str, Half | Loopback]]:
        """The owning interface and own settings of each device."""
        found: dict[str, tuple[str, Half | Loopback]] = {}
        for name, each in self.interfaces.items():
            if isinstance(each, Loopback):
                found[name] = name, each
            else:
                found |= {name + "a": (name, each.a), name + "b": (name, each.b)}
        return found

    @property
    def queues(self) -> int:
        """The number of device descriptors."""
        each = self.interfaces.values()
        return sum(2 * found.queues if isinstance(found, Pair) else 1 for found in each)

    def lowest(self, kind: str) -> str:
        """Return the name of the next interface created by its kind alone."""
        return next(name for unit in itertools.count() if (name := f"{kind}{unit}") not in self.interfaces)

    @property
    def missing(self) -> list[str]:
        """The interfaces of the file that do not exist."""
        return [name for name in self.file if name not in self.interfaces]

    @property
    def changed(self) -> bool:
        """True if something differs from the file."""
        pairs = [name for name, found in self.file.items() if isinstance(found, Pair)]
        return any(self.interfaces.get(name) != found for name, found in self.file.items()) or any(
            self.peers[name + "a"] != name + "b" for name in pairs
        )

    def carrier(self, device: str) -> bool:
        """Return whether a device has a carrier."""
        name, settings = self.devices[device]
        if isinstance(settings, Loopback):
            return settings.up
        peer = self.peers[device]
        if not peer or not settings.up:
            return False
        own, other = self.interfaces[name], self.interfaces[self.devices[peer][0]]
        if not isinstance(own, Pair) or not isinstance(other, Pair):
            raise TypeError(f"{device} is patched to {peer}")
        if "off" in (own.carrier, other.carrier):
            return False
        return own.carrier == "always" or self.devices[peer][1].up

    # Changes made by operations.

    def create(self, name: str, found: Interface, *, runtime: bool = True) -> None:
        """Add an interface."""
        self.interfaces[name] = found
        if runtime:
            self.runtime.add(name)
        devices = names(name, found)
        self.new_devices.update(devices)
        if isinstance(found, Pair):
            self._patch(*devices)

    def destroy(self, name: str) -> None:
        """Remove an interface."""
        for device in names(name, self.interfaces.pop(name)):
            self._unpatch(device)
            self.peers.pop(device, None)
        self.runtime.discard(name)

    def delete(self, name: str) -> None:
        """Remove an interface that others have deleted; one of the file returns as the file has it."""
        configured = name not in self.runtime
        self.destroy(name)
        if configured:
            self.deletions[name] += 1
            self.create(name, self.file[name], runtime=False)

    def change(self, name: str, found: Interface) -> None:
        """Replace an interface's settings."""
        self.interfaces[name] = found

    def patch(self, half: str, other: str) -> None:
        """Patch two halves to each other."""
        if self.peers[half] != other:
            self._unpatch(half)
            self._unpatch(other)
            self._patch(half, other)

    def unpatch(self, half: str) -> None:
        """Unpatch a half."""
        self._unpatch(half)

    def apply_file(self) -> None:
        """Apply the file; interfaces created at run time and absent from the file stay."""
        for name in [name for name in self.interfaces if name not in self.file and name not in self.runtime]:
            self.destroy(name)
        for name, wanted in self.file.items():
            found = self.interfaces.get(name)
            if found is not None and _fixed(found) != _fixed(wanted):
                self.destroy(name)
            if name not in self.interfaces:
                self.create(name, wanted, runtime=False)
            self.interfaces[name] = wanted
        for name, wanted in self.file.items():
            if isinstance(wanted, Pair):
                self.patch(name + "a", name + "b")
        self._apply_settings()

    def take_over(self) -> None:
        """Apply a takeover: the new control plane keeps everything, and creates nothing that a request has
        destroyed since the file was applied."""
        self._apply_settings()

    def _apply_settings(self) -> None:
        self.namespace_made = any(netns == MADE for netns in _namespaces(self.file))
        self.restarts = {number: self.restarts.get(number, 0) for number in range(self.workers)}

    def _patch(self, half: str, other: str) -> None:
        self.peers[half], self.peers[other] = other, half
        self.repatched.update((half, other))

    def _unpatch(self, half: str) -> None:
        peer = self.peers.get(half, "")
        if peer:
            self.peers[half] = self.peers[peer] = ""
            self.repatched.update((half, peer))


def _fixed(found: Interface) -> tuple[object, ...]:
    """Return the settings that cannot change in place."""
    if isinstance(found, Loopback):
        return (found.netns,)
    return found.queues, found.a.netns, found.b.netns


def _namespaces(file: Mapping[str, Interface]) -> Iterator[str]:
    for found in file.values():
        yield from (found.netns,) if isinstance(found, Loopback) else (found.a.netns, found.b.netns)


def toggled(found: Pair, key: str) -> Pair:
    """Return a pair with the opposite of a setting."""
    opposite: dict[str, Any] = {key: not getattr(found, key)}
    return replace(found, **opposite)


def with_half(found: Pair, side: str, **changes: Any) -> Pair:  # noqa: ANN401
    """Return a pair with changes to one half."""
    return replace(found, **{side: replace(getattr(found, side), **changes)})


def text(file: Mapping[str, Interface]) -> str:
    """Return the part of the configuration file about interfaces."""
    lines = []
    if any(netns == MADE for netns in _namespaces(file)):
        lines += ["[namespaces]", f'create = ["{MADE}"]']
    lines.append("[lo]")
    for name, found in file.items():
        kind = "lo" if isinstance(found, Loopback) else "epair"
        lines += [f"[{kind}.{name}]", *words(found)]
    return "\n".join(lines) + "\n"
