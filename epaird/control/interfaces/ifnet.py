"""Interfaces that exist, as the control plane knows them.

The descriptors stay here and copies go to the workers, so a worker's death destroys no device.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from epaird.control.machine.host import Place
from epaird.control.readings import InterfaceReading
from epaird.control.workers.worker import Worker
from epaird.ipc import counters
from epaird.ipc.ledger import Table
from epaird.kernel.link import LinkSettings, Route
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap
from epaird.names import grammar as names

if TYPE_CHECKING:
    from epaird.control.interfaces.wires import Wire

Origin = Literal["configuration", "runtime"]
CarrierRule = Literal["peer", "always", "off"]


@dataclass(slots=True, eq=False, kw_only=True)
class Ifnet:
    """What a half and a loopback have in common; BSD's struct ifnet."""

    device: str
    """Its own name, which it keeps for life: ``epair0a``."""
    tap: Tap
    slots: tuple[int, ...]
    """Its slots of the ledger, one for each queue."""
    place: Place
    """Where it was seen last."""
    mtu: int
    """Bytes, as last seen."""
    up: bool = False
    """IFF_UP, as last seen."""
    carrier: bool = False
    """IFF_LOWER_UP, as last seen."""
    wire: Wire | None = None
    """What its workers do with it; None while they do nothing."""
    going: bool = False
    """It is being taken down."""

    def refs(self, table: Table) -> int:
        """1 for the interface, 1 for each frame in flight to its owner, 1 for each drain list it is on."""
        words = (table.read(slot) for slot in self.slots)
        return 1 + sum(each[counters.IN_FLIGHT] + each[counters.LISTED] for each in words)


@dataclass(slots=True, eq=False, kw_only=True)
class Half(Ifnet):
    """One half of a pair."""

    side: names.Half
    """``a`` or ``b``."""
    settings: HalfSettings
    mac: str
    """The hardware address it is given."""
    pair: Pair = field(init=False)
    """The pair it is a half of."""
    peer: Half | None = None
    """The half it is patched to."""
    carrier_on: bool | None = True
    """What TUNSETCARRIER said last; a new device has carrier.  None: it is not known."""
    rewiring: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while what it is patched to changes."""


@dataclass(slots=True, eq=False)
class Pair:
    """A pair that exists."""

    name: str
    settings: PairSettings
    halves: tuple[Half, Half]
    workers: tuple[Worker, ...]
    """Which worker each queue belongs to, unless it is patched to a half of a pair that came before."""
    origin: Origin = "configuration"
    """Who asked for it."""
    going: bool = False
    """It is being taken down."""
    plugged: CarrierRule = "peer"
    """The rule for carrier that it has when its plug is not pulled."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """It has been taken down."""


@dataclass(slots=True, eq=False, kw_only=True)
class Loopback(Ifnet):
    """A loopback."""

    settings: LoopbackSettings
    worker: Worker
    """Whom it belongs to."""
    origin: Origin = "configuration"
    """Who asked for it."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """It has been taken down."""


def link_settings(settings: HalfSettings | LoopbackSettings, mac: str | None = None) -> LinkSettings:
    """What the device is given; ``mac`` is a half's hardware address."""
    return LinkSettings(
        mtu=settings.mtu,
        txqueuelen=settings.txqueuelen,
        mac=mac,
        up=settings.up,
        addresses=tuple(str(address) for address in settings.addresses),
        routes=tuple(Route(str(route.to), str(route.via)) for route in settings.routes),
    )


def reading(ifnet: Half | Loopback, statistics: LinkStatistics, table: Table) -> InterfaceReading:
    """An interface now, ``statistics`` being what the kernel says of it."""
    words = _words(ifnet, table)
    words.append(statistics.tx_dropped)  # the word OQDROPS
    half = ifnet if isinstance(ifnet, Half) else None
    return InterfaceReading(
        device=ifnet.device,
        kind="lo" if half is None else "epair",
        pair="" if half is None else half.pair.name,
        half="" if half is None else half.side,
        peer=half.peer.device if half is not None and half.peer is not None else "",
        origin=ifnet.origin if isinstance(ifnet, Loopback) else ifnet.pair.origin,
        name=statistics.name,
        netns=ifnet.place.netns,
        mac=statistics.mac,
        worker=ifnet.wire.numbers if ifnet.wire is not None else "",
        up=statistics.up,
        carrier=statistics.lower_up,
        mtu=statistics.mtu,
        words=words,
    )


def _words(ifnet: Ifnet, table: Table) -> list[int]:
    """The sums of its slots' words."""
    if len(ifnet.slots) == 1:
        return table.read(ifnet.slots[0])
    return [sum(each) for each in zip(*(table.read(slot) for slot in ifnet.slots), strict=True)]
