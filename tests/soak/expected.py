"""What there has to be: the file, interfaces, plugs and workers, as what was done so far has left them.

It is known beforehand, not looked up: each operation says what it changes here, and the daemon is compared
with it.  Nothing here depends on time, so that a seed makes the same sequence again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.soak.background import address

MADE: Final = "$made"
"""The namespace that the daemon makes."""


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a pair."""

    netns: str = ""
    name: str = ""
    """Empty: its own."""
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    up: bool = True
    txqueuelen: int = 10_000


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair."""

    a: Half = Half()
    b: Half = Half()
    queues: int = 1
    offload: bool = True
    coalesce: bool = True
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


def pair(unit: int, a: str, b: str, **settings: Any) -> Pair:  # noqa: ANN401
    """A pair in these namespaces, to which the chatter talks."""
    there = (f"{address(unit, 1)}/24",), (f"{address(unit, 2)}/24",) if a != b else ()
    return Pair(Half(a, addresses=there[0]), Half(b, addresses=there[1]), **settings)


def words(found: Interface) -> list[str]:
    """Its settings as a command line and a file have them, those that are not what they would be anyway."""
    return [f"{key}={json.dumps(value)}" for key, value in _told(found, type(found)())]


def _told(found: object, usual: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key in found.__dataclass_fields__:  # type: ignore[attr-defined]
        value, default = getattr(found, key), getattr(usual, key)
        if isinstance(value, Half):
            yield from _told(value, default, f"{key}.")
        elif value != default:
            yield prefix + key, value


def names(name: str, found: Interface) -> tuple[str, ...]:
    """The devices of an interface."""
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
"""What no operation is about: the traffic over it is known to the datagram."""


@dataclass(slots=True)
class Expected:
    """All of it."""

    file: dict[str, Interface] = field(default_factory=lambda: dict(STEADY))
    """The interfaces of the configuration."""
    interfaces: dict[str, Interface] = field(default_factory=dict)
    """The interfaces there are, as they are."""
    peers: dict[str, str] = field(default_factory=dict)
    """Of each half; empty when it is plugged into none."""
    runtime: set[str] = field(default_factory=set)
    """Interfaces that nobody's file has."""
    namespace_made: bool = False
    workers: int = 2
    queue_limit: int = 2100
    restarts: dict[int, int] = field(default_factory=dict)
    """Of each worker."""
    new_devices: set[str] = field(default_factory=set)
    """Devices that were made since somebody looked: they have counted nothing before."""
    repatched: set[str] = field(default_factory=set)
    """Halves that were plugged otherwise since somebody looked."""

    def __post_init__(self) -> None:
        self.apply_file()

    def mark_checked(self) -> None:
        """Somebody has."""
        self.new_devices.clear()
        self.repatched.clear()

    @property
    def mutable(self) -> dict[str, Interface]:
        """What an operation may be about."""
        return {name: found for name, found in self.interfaces.items() if name not in STEADY}

    @property
    def devices(self) -> dict[str, tuple[str, Half | Loopback]]:
        """The interface that each device belongs to, and the device's own settings."""
        found: dict[str, tuple[str, Half | Loopback]] = {}
        for name, each in self.interfaces.items():
            if isinstance(each, Loopback):
                found[name] = name, each
            else:
                found |= {name + "a": (name, each.a), name + "b": (name, each.b)}
        return found

    @property
    def queues(self) -> int:
        """How many descriptors of devices there are."""
        each = self.interfaces.values()
        return sum(2 * found.queues if isinstance(found, Pair) else 1 for found in each)

    def lowest(self, kind: str) -> str:
        """The name that an interface gets which is made without one."""
        return next(name for unit in itertools.count() if (name := f"{kind}{unit}") not in self.interfaces)

    @property
    def changed(self) -> bool:
        """Whether something is not as the file says."""
        pairs = [name for name, found in self.file.items() if isinstance(found, Pair)]
        return any(self.interfaces.get(name) != found for name, found in self.file.items()) or any(
            self.peers[name + "a"] != name + "b" for name in pairs
        )

    def carrier(self, device: str) -> bool:
        """Whether its owner sees one."""
        name, settings = self.devices[device]
        if isinstance(settings, Loopback):
            return settings.up
        peer = self.peers[device]
        if not peer or not settings.up:
            return False
        ours, theirs = self.interfaces[name], self.interfaces[self.devices[peer][0]]
        if not isinstance(ours, Pair) or not isinstance(theirs, Pair):
            raise TypeError(f"{device} is plugged into {peer}")
        if "off" in (ours.carrier, theirs.carrier):
            return False
        return ours.carrier == "always" or self.devices[peer][1].up

    # What operations do.

    def create(self, name: str, found: Interface, *, runtime: bool = True) -> None:
        """It is made."""
        self.interfaces[name] = found
        if runtime:
            self.runtime.add(name)
        devices = names(name, found)
        self.new_devices.update(devices)
        if isinstance(found, Pair):
            self._patch(*devices)

    def destroy(self, name: str) -> None:
        """It is taken down."""
        for device in names(name, self.interfaces.pop(name)):
            self._unpatch(device)
            self.peers.pop(device, None)
        self.runtime.discard(name)

    def change(self, name: str, found: Interface) -> None:
        """It is changed in place."""
        self.interfaces[name] = found

    def patch(self, half: str, other: str) -> None:
        """They are plugged into each other."""
        if self.peers[half] != other:
            self._unpatch(half)
            self._unpatch(other)
            self._patch(half, other)

    def unpatch(self, half: str) -> None:
        """It is plugged into none."""
        self._unpatch(half)

    def apply_file(self) -> None:
        """The file is; what it does not speak of and was made without it stays."""
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
        self._as_the_file_says()

    def take_over(self) -> None:
        """Another control plane goes on with what there is: of the file it makes what is not there."""
        for name, wanted in self.file.items():
            if name not in self.interfaces:
                self.create(name, wanted, runtime=False)
        self._as_the_file_says()

    def _as_the_file_says(self) -> None:
        self.namespace_made = any(netns == MADE for netns in _places(self.file))
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
    """What cannot change in place."""
    if isinstance(found, Loopback):
        return (found.netns,)
    return found.queues, found.offload, found.a.netns, found.b.netns


def _places(file: Mapping[str, Interface]) -> Iterator[str]:
    for found in file.values():
        yield from (found.netns,) if isinstance(found, Loopback) else (found.a.netns, found.b.netns)


def with_half(found: Pair, side: str, **changes: Any) -> Pair:  # noqa: ANN401
    """A pair one half of which is otherwise."""
    return replace(found, **{side: replace(getattr(found, side), **changes)})


def text(file: Mapping[str, Interface]) -> str:
    """The file, as far as it is about interfaces."""
    lines = []
    if any(netns == MADE for netns in _places(file)):
        lines += ["[namespaces]", f'create = ["{MADE}"]']
    lines.append("[lo]")
    for name, found in file.items():
        kind = "lo" if isinstance(found, Loopback) else "epair"
        lines += [f"[{kind}.{name}]", *words(found)]
    return "\n".join(lines) + "\n"
