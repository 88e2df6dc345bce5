"""Interfaces that exist, as the control plane knows them.

The control plane keeps their descriptors and gives copies to the workers, so that a worker's death destroys
no device. An :class:`Ifnet` is one device; a :class:`Clone` is what one request creates and destroys: a pair
with its two halves, or a loopback, which is its own and only Ifnet.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from epaird.config.addressing import AddressSettings, RouteSettings, installed_routes
from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings, namespace_name
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.lines import OutgoingLine
from epaird.control.machine.host import Place
from epaird.control.readings import InterfaceReading
from epaird.control.workers.worker import Worker
from epaird.ipc import counters
from epaird.ipc.ledger import Table
from epaird.kernel.link import Address, LinkSettings, Route
from epaird.kernel.namespace import Identity
from epaird.kernel.policy import TABLES
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap
from epaird.names import cloners as names

Origin = Literal["configuration", "runtime"]
CarrierRule = Literal["peer", "always", "off"]


class Clone(Protocol):
    """A pair or a loopback, which one request creates and destroys."""

    kind: ClassVar[str]
    """Name of its cloner: ``epair``."""
    noun: ClassVar[str]
    """The kind in messages: ``pair``."""
    origin: Origin
    """The creator: the configuration, or a request at runtime."""
    workers: tuple[Worker, ...]
    """The worker of each queue."""
    destroying: bool
    """True once its destruction has begun."""
    gone: asyncio.Event
    """Set when it has been destroyed."""

    @property
    def name(self) -> str:
        """Name that it is created and destroyed by: ``epair0``, ``lo1``."""

    @property
    def settings(self) -> PairSettings | LoopbackSettings:
        """Its settings."""

    @property
    def ifnets(self) -> tuple[Ifnet, ...]:
        """Its devices."""

    def __hash__(self) -> int:
        """Hash by identity."""

    def assign(self, workers: tuple[Worker, ...]) -> None:
        """Assign a worker to each queue. It takes effect with the next cable."""

    def record(self, settings: Any) -> None:  # noqa: ANN401  of its own kind
        """Set the recorded settings, also those of its devices, without changing a device."""


@dataclass(frozen=True, slots=True)
class Stray:
    """An interface in a namespace to which the configured name no longer leads."""

    netns: str
    """The configured name or path."""
    here: str
    """The namespace that the device is in: ``net:[4026532001]``."""
    leads_to: str
    """The namespace that the name leads to now; empty for none."""


@dataclass(slots=True, eq=False, kw_only=True)
class Ifnet(ABC):
    """One device: a half or a loopback; BSD's struct ifnet."""

    device: str
    """Name that it keeps for life: ``epair0a``."""
    tap: Tap
    slots: tuple[int, ...]
    """Slot of the ledger of each queue."""
    place: Place
    """The place where it was last seen."""
    mtu: int
    """MTU in bytes, as last seen."""
    settings: HalfSettings | LoopbackSettings
    up: bool = False
    """IFF_UP, as last seen."""
    carrier: bool = False
    """IFF_LOWER_UP, as last seen."""
    cable: Cable[Any] | None = None
    """The cable that it is an end of; None while no worker forwards it."""
    placed: Identity | None = None
    """The namespace of the configured name when the device was last seen there; None if it never was."""
    stray: Stray | None = None
    """The namespace that the name leads to when it leads elsewhere, as last seen."""
    destroying: bool = False
    """True once its destruction has begun."""

    @property
    @abstractmethod
    def clone(self) -> Clone:
        """The clone that it belongs to."""

    @property
    def descriptors(self) -> int:
        """The number of descriptors of its device and its line."""
        return len(self.tap.fds) + (len(self.line.files) if self.line is not None else 0)

    @property
    def plug(self) -> Half | None:
        """The half that can be patched; None for a kind that cannot."""
        return None

    @property
    def line(self) -> OutgoingLine | None:
        """The impairment of what it transmits; None for a kind that has none, and one that never had."""
        return None

    @property
    def lladdr(self) -> str | None:
        """The hardware address that it is given; None for a device without one."""
        return None

    @property
    def offload(self) -> bool:
        """True where its owner takes super-frames and unfinished checksums."""
        return True

    @property
    def pmtu(self) -> bool:
        """True where its owner gets ICMP messages about packets that are too long for the peer."""
        return True

    @property
    def away(self) -> bool:
        """True in a namespace that others moved it to: addresses and routes are for the owner to set."""
        return is_away(self.place, self.settings)

    @property
    def table(self) -> int | None:
        """The routing table that is reserved for it; None for a kind without policy routing."""
        return None

    @property
    def bounded(self) -> bool:
        """True where the bytes that are delivered and not consumed are limited (``sndbuf``)."""
        return False

    def record_lladdr(self, address: str) -> None:  # noqa: B027  most kinds have none
        """Record the hardware address that the device was given."""

    def refs(self, table: Table) -> int:
        """Return 1 for the interface + 1 for each frame in flight to its owner + 1 for each drain list."""
        words = (table.read(slot) for slot in self.slots)
        return 1 + sum(each[counters.IN_FLIGHT] + each[counters.LISTED] for each in words)


@dataclass(slots=True, eq=False, kw_only=True)
class Half(Ifnet):
    """One half of a pair."""

    side: names.Side
    """``a`` or ``b``."""
    settings: HalfSettings
    mac: str
    """The hardware address that it is given; empty until one is derived for a new half."""
    cable: Cable[Half] | None = None
    pair: Pair = field(init=False)
    peer: Half | None = None
    """The half it is patched to."""
    carrier_on: bool | None = True
    """The last argument of TUNSETCARRIER; a new device has carrier. None: unknown."""
    offload_on: bool | None = True
    """The last argument of Host.set_offload; a new device has the offloads of its pair. None: unknown."""
    outgoing: OutgoingLine | None = None
    """The impairment of what it transmits, from the first one on."""
    rewiring: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its peer or its cable changes."""

    @property
    def clone(self) -> Pair:
        """The pair."""
        return self.pair

    @property
    def plug(self) -> Half:
        """The half itself."""
        return self

    @property
    def line(self) -> OutgoingLine | None:
        """The impairment of what it transmits; None if it never had one."""
        return self.outgoing

    @property
    def lladdr(self) -> str:
        """The hardware address that it is given."""
        return self.mac

    def record_lladdr(self, address: str) -> None:
        """Record the hardware address that the device was given."""
        self.mac = address

    @property
    def offload(self) -> bool:
        """True where the pair has ``offload``."""
        return self.pair.settings.offload

    @property
    def pmtu(self) -> bool:
        """True where the pair has ``pmtu``."""
        return self.pair.settings.pmtu

    @property
    def bounded(self) -> bool:
        """True where the half has ``sndbuf``."""
        return self.settings.sndbuf is not None


@dataclass(frozen=True, slots=True)
class ImpairmentExpiry:
    """The end of an impairment, and that which applies again then."""

    deadline_ns: int
    """CLOCK_MONOTONIC."""
    former: Mapping[str, Any]
    """The tables of before, as in a request to change the pair."""


@dataclass(slots=True, eq=False)
class Pair:
    """A pair that exists."""

    kind: ClassVar[str] = "epair"
    noun: ClassVar[str] = "pair"

    name: str
    settings: PairSettings
    halves: tuple[Half, Half]
    workers: tuple[Worker, ...]
    """The worker of each queue, unless the half is patched to a half whose pair's workers are used."""
    origin: Origin = "configuration"
    destroying: bool = False
    plugged: CarrierRule = "peer"
    """The carrier rule that applies again when ``carrier`` is no longer ``off``."""
    expiry: ImpairmentExpiry | None = None
    """When its impairment expires; None where it does not."""
    scheduled_ns: int = 0
    """CLOCK_MONOTONIC when the schedule of its carrier was applied."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ifnets(self) -> tuple[Half, Half]:
        """Both halves."""
        return self.halves

    def assign(self, workers: tuple[Worker, ...]) -> None:
        """Assign a worker to each queue. It takes effect with the next cable."""
        self.workers = workers

    def record(self, settings: PairSettings) -> None:
        """Set the recorded settings of the pair and its halves, without changing a device."""
        self.settings = settings
        for half in self.halves:
            half.settings = settings.half(half.side)


@dataclass(slots=True, eq=False, kw_only=True)
class Loopback(Ifnet):
    """A loopback."""

    kind: ClassVar[str] = "lo"
    noun: ClassVar[str] = "loopback"

    settings: LoopbackSettings
    cable: Cable[Loopback] | None = None
    workers: tuple[Worker, ...]
    """The worker of its one queue."""
    origin: Origin = "configuration"
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """Name of the device."""
        return self.device

    @property
    def table(self) -> int:
        """The routing table that is reserved for it."""
        return TABLES[(names.LO.unit(self.device) or 0) % len(TABLES)]

    @property
    def clone(self) -> Loopback:
        """The loopback itself."""
        return self

    @property
    def ifnets(self) -> tuple[Loopback]:
        """The loopback itself."""
        return (self,)

    def assign(self, workers: tuple[Worker, ...]) -> None:
        """Assign a worker. It takes effect with the next cable."""
        self.workers = workers

    def record(self, settings: LoopbackSettings) -> None:
        """Set the recorded settings, without changing the device."""
        self.settings = settings


def is_away(place: Place, settings: HalfSettings | LoopbackSettings) -> bool:
    """Return whether a place is in another namespace than that of the settings."""
    unnamed = place.nsid is not None and not place.netns
    return unnamed or namespace_name(place.netns) != namespace_name(settings.netns)


def link_settings(settings: HalfSettings | LoopbackSettings, mac: str | None = None) -> LinkSettings:
    """Return the properties that the device is given; ``mac`` is a half's hardware address."""
    return LinkSettings(
        mtu=settings.mtu,
        txqueuelen=settings.txqueuelen,
        mac=mac,
        up=settings.up,
        addresses=tuple(map(_address, settings.addresses)),
        routes=tuple(map(_route, installed_routes(settings.addresses, settings.routes))),
    )


def _address(address: AddressSettings) -> Address:
    peer = str(address.peer) if address.peer is not None else None
    return Address(str(address.address), peer, address.nodad and address.version == 6)


def _route(route: RouteSettings) -> Route:
    return Route(str(route.to), str(route.via) if route.via is not None else None, route.metric)


def reading(ifnet: Ifnet, statistics: LinkStatistics, table: Table) -> InterfaceReading:
    """Return the present state of an interface; ``statistics`` are the kernel's."""
    words = _words(ifnet, table)
    words.append(statistics.tx_dropped)  # the word OQDROPS
    half = ifnet.plug
    return InterfaceReading(
        device=ifnet.device,
        kind=ifnet.clone.kind,
        pair="" if half is None else half.pair.name,
        half="" if half is None else half.side,
        peer=half.peer.device if half is not None and half.peer is not None else "",
        origin=ifnet.clone.origin,
        name=statistics.name,
        netns=ifnet.stray.here if ifnet.stray is not None else ifnet.place.netns,
        mac=statistics.mac,
        worker=ifnet.cable.numbers if ifnet.cable is not None else "",
        up=statistics.up,
        carrier=statistics.lower_up,
        mtu=statistics.mtu,
        words=words,
        strayed=ifnet.stray.netns if ifnet.stray is not None else "",
        leads_to=ifnet.stray.leads_to if ifnet.stray is not None else "",
        line=ifnet.line.reading() if ifnet.line is not None else None,
    )


def _words(ifnet: Ifnet, table: Table) -> list[int]:
    """Return the sums of the words of all queues."""
    if len(ifnet.slots) == 1:
        return table.read(ifnet.slots[0])
    return [sum(each) for each in zip(*(table.read(slot) for slot in ifnet.slots), strict=True)]
