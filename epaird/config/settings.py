"""The configuration as frozen models: each key with its check and its default.

``config/epaird.toml`` shows every key. A model that is built directly checks each value by itself; the rules
between values are in ``epaird.config.consistency``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator

from epaird.config import ipvalues, values
from epaird.config.addressing import AddressSettings, RouteSettings
from epaird.config.impairtables import CarrierSchedule, ImpairmentSettings, ImpairSettings, SetName
from epaird.config.table import Settings
from epaird.config.values import Location, Seconds, WholeNumber
from epaird.names.cloners import EPAIR, LO, SIDES, Side

TAP_MTU: Final = WholeNumber(68, 65521, "a TAP's 68", "a TAP's 65521")
"""Bytes: ETH_MIN_MTU, and 65535 less an Ethernet header (drivers/net/tun.c)."""
TUN_MTU: Final = WholeNumber(68, 65535, "a TUN's 68", "a TUN's 65535")
"""Bytes: ETH_MIN_MTU, and the largest IP packet (drivers/net/tun.c)."""
LOOPBACK_MTU: Final = 33624
"""Bytes: NetBSD's LOMTU, 32768 + MHLEN + MLEN (sys/net/if_loop.c)."""
QUEUES: Final = WholeNumber(1, 256, upper_limit="a TAP's 256 queues")
"""MAX_TAP_QUEUES of linux/if_tap.h."""
TXQUEUELEN: Final = WholeNumber(1, 524_288, upper_limit="the 524288 that the kernel's ring can hold")
"""Frames; with 0 the kernel's ring accepts none at all. The upper limit is KMALLOC_MAX_SIZE / sizeof(void *)
for pages of 4 KB (linux/ptr_ring.h), for each queue of a TAP or TUN alike."""
SNDBUF: Final = WholeNumber(4096, 2**31 - 1)
"""Bytes, a C int; the kernel accepts one frame however small the limit is."""
QUEUE_LIMIT: Final = WholeNumber(1, 1_000_000)
"""Frames."""
POLL_SPIN: Final = WholeNumber(0, 1000)
"""Microseconds."""
WORKERS: Final = WholeNumber(1, 1024)
WORKER_TIMEOUT: Final = Seconds(0.5, 60)
"""The lower limit is longer than the interval of the workers' liveness checks."""
ORPHAN_TIMEOUT: Final = Seconds(0.1, 86_400)
DRAIN_TIMEOUT: Final = Seconds(0.1, 60)

Claim = tuple[str, ...]
"""A property that only one interface can have at a time: its kind (``device``, ``mac`` or ``address``), its
scope and its value."""


class HalfSettings(Settings):
    """One half of a pair: its namespace and the settings of its device there."""

    netns: Annotated[str, BeforeValidator(values.namespace)] | None = None
    """A namespace's name or path; None is the daemon's own."""
    name: Annotated[str, BeforeValidator(values.device_name)] | None = None
    """The device's name in its namespace; None is the half's own."""
    mac: Annotated[str, BeforeValidator(values.hardware_address_or_stable)] | None = None
    """Hardware address; None derives it from an index that no pair had before, ``stable`` from the pair's
    name."""
    mtu: Annotated[int, BeforeValidator(TAP_MTU)] = 1500
    """Bytes, without the Ethernet header."""
    up: Annotated[bool, BeforeValidator(values.boolean)] = True
    txqueuelen: Annotated[int, BeforeValidator(TXQUEUELEN)] = 10_000
    """Frames that the kernel's ring holds until the daemon reads them."""
    sndbuf: Annotated[int, BeforeValidator(SNDBUF)] | None = None
    """Limit in bytes on delivered frames that the owner has not consumed yet; None is no limit."""
    addresses: Annotated[tuple[AddressSettings, ...], BeforeValidator(values.list_of('["10.0.0.1/24"]'))] = ()
    routes: Annotated[
        tuple[RouteSettings, ...],
        BeforeValidator(values.list_of('[{ to = "default", via = "10.0.0.2" }]')),
    ] = ()
    """Linux has no route through a device that is down: with ``up`` false they are not installed."""
    peer: Annotated[str, BeforeValidator(values.peer)] | None = None
    """The peer by its own name, empty for none; None is the other half of the pair, unless that half is
    plugged into another one."""
    impair: ImpairSettings = ImpairSettings()
    """Impairment of what this half transmits; its keys take precedence over those of the pair."""


class PairSettings(Settings):
    """A pair: two halves, by default both in the daemon's own namespace."""

    queues: Annotated[int, BeforeValidator(QUEUES)] = 1
    """Queues of each half's TAP; more than one spreads a busy cable over several workers."""
    offload: Annotated[bool, BeforeValidator(values.boolean)] = True
    """True to carry super-frames of up to 64 KB whole."""
    coalesce: Annotated[bool, BeforeValidator(values.boolean)] = True
    """True to deliver adjacent datagrams of one flow as one super-frame, which the receiver splits again."""
    pmtu: Annotated[bool, BeforeValidator(values.boolean)] = True
    """True to answer packets that are too long for the peer, so that their senders find the path MTU."""
    carrier: Annotated[
        Literal["peer", "always", "off"], BeforeValidator(values.one_of("peer", "always", "off"))
    ] = "peer"
    """Rule for the halves' carrier: while both are up, while they are plugged in at all, or never."""
    schedule: CarrierSchedule = ()
    """Times at which the halves have no carrier, whatever ``carrier`` is."""
    impair: ImpairSettings = ImpairSettings()
    """Impairment of both directions."""
    a: HalfSettings = HalfSettings()
    b: HalfSettings = HalfSettings()

    def half(self, side: Side) -> HalfSettings:
        """Return the settings of half ``a`` or ``b``."""
        return self.a if side == "a" else self.b

    def devices(self, name: str) -> tuple[ConfiguredHalf, ...]:
        """Return both halves of the pair of this name."""
        return tuple(ConfiguredHalf(name, side, self.half(side)) for side in SIDES)


class LoopbackSettings(Settings):
    """A loopback: its namespace, the settings of its device there, and what it does with a packet."""

    netns: Annotated[str, BeforeValidator(values.namespace)] | None = None
    """A namespace's name or path; None is the daemon's own."""
    name: Annotated[str, BeforeValidator(values.device_name)] | None = None
    """The device's name in its namespace; None is the loopback's own."""
    mode: Annotated[Literal["reflect", "verbatim"], BeforeValidator(values.one_of("reflect", "verbatim"))] = (
        "reflect"
    )
    """Packets come back with source and destination swapped (``reflect``), or unchanged (``verbatim``)."""
    policy_routing: Annotated[bool, BeforeValidator(values.boolean)] = False
    """True for rules and routes that make packets to its own addresses pass it, which Linux would prevent."""
    mtu: Annotated[int, BeforeValidator(TUN_MTU)] = LOOPBACK_MTU
    """Bytes."""
    up: Annotated[bool, BeforeValidator(values.boolean)] = True
    txqueuelen: Annotated[int, BeforeValidator(TXQUEUELEN)] = 10_000
    """Packets that the kernel's ring holds until the daemon reads them."""
    addresses: Annotated[
        tuple[AddressSettings, ...], BeforeValidator(values.list_of('["10.88.7.1/24"]'))
    ] = ()

    @property
    def routes(self) -> tuple[RouteSettings, ...]:
        """Always empty: no next hop is behind a loopback."""
        return ()

    def devices(self, name: str) -> tuple[ConfiguredLoopback, ...]:
        """Return the one device of the loopback of this name."""
        return (ConfiguredLoopback(name, self),)


InterfaceSettings = PairSettings | LoopbackSettings
"""The table of an interface, which is created and destroyed as a whole."""
DeviceSettings = HalfSettings | LoopbackSettings
"""The table of a device."""


class DaemonSettings(Settings):
    """The daemon itself."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(values.number_or("auto", WORKERS))] = "auto"
    """Processes that forward; ``auto`` is one per core."""
    control_socket: Annotated[Path, BeforeValidator(values.socket_path)] = Path("/run/epaird/control.sock")
    queue_limit: Annotated[int, BeforeValidator(QUEUE_LIMIT)] = 2100
    """Frames that a worker's queue may hold: 42 times ifqmaxlen, the limit of FreeBSD's epair."""
    poll_spin_us: Annotated[int, BeforeValidator(POLL_SPIN)] = 50
    """Microseconds that a worker polls after it has forwarded, before it sleeps; 0 is never."""
    worker_timeout: Annotated[float, BeforeValidator(WORKER_TIMEOUT)] = 0.75
    """Seconds that a worker may be unresponsive before it is replaced; 0 is no limit, for debugging."""
    orphan_timeout: Annotated[float, BeforeValidator(ORPHAN_TIMEOUT)] = 30.0
    """Seconds that the workers continue without a control plane; with 0 they end with it."""
    drain_timeout: Annotated[float, BeforeValidator(DRAIN_TIMEOUT)] = 1.0
    """Seconds that frames may wait for receivers that accept none when the daemon stops."""
    keep_devices: Annotated[bool, BeforeValidator(values.boolean)] = False
    """True if a daemon that stops leaves everything to the next one, for ``orphan_timeout``."""
    watch: Annotated[bool, BeforeValidator(values.boolean)] = False
    """True to read the file again when it has changed."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(values.one_of("debug", "info", "warning", "error")),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], BeforeValidator(values.one_of("text", "json"))] = "text"
    """Format of the log; ``json`` is one object per line."""

    @property
    def worker_count(self) -> int:
        """Number of workers on this machine."""
        return len(os.sched_getaffinity(0)) if self.workers == "auto" else self.workers


class MetricsSettings(Settings):
    """The metrics page."""

    listen: Annotated[str, BeforeValidator(ipvalues.listen_address)] = "127.0.0.1:9862"
    """``host:port``, or empty for no page."""

    @property
    def host(self) -> str | None:
        """The address to listen on, an IPv6 one without its brackets; None without a page."""
        return ipvalues.split_listen(self.listen)[0] if self.listen else None

    @property
    def port(self) -> int | None:
        """The TCP port, 0 for any free one; None without a page."""
        return ipvalues.split_listen(self.listen)[1] if self.listen else None


class NamespacesSettings(Settings):
    """Namespaces that the daemon creates when it starts and removes when it stops."""

    create: Annotated[
        tuple[Annotated[str, BeforeValidator(values.namespace_name)], ...],
        BeforeValidator(values.list_of('["red", "blue"]')),
    ] = ()


@lru_cache(maxsize=1 << 12)
def namespace_name(netns: str | None) -> str:
    """Return a namespace in its canonical spelling: a name rather than a path, empty for the daemon's own."""
    path = PurePosixPath(netns or "")
    named = str(path.parent) in ("/run/netns", "/var/run/netns")
    return path.name if named else netns or ""


class ConfiguredInterface(Protocol):
    """A device with the names that follow from its place in the file."""

    @property
    def settings(self) -> DeviceSettings:
        """Its table."""

    @property
    def device(self) -> str:
        """Its own name, which it keeps for life: ``epair0a``, ``lo1``."""

    @property
    def interface(self) -> str:
        """The name that it is created and destroyed by: ``epair0``, ``lo1``."""

    @property
    def location(self) -> Location:
        """Location of its table in the file."""

    @property
    def name(self) -> str:
        """The device's name in its namespace."""
        return self.settings.name or self.device

    @property
    def namespace(self) -> str:
        """The namespace in its canonical spelling: a name rather than a path, empty for the daemon's own."""
        return namespace_name(self.settings.netns)

    def claims(self) -> Iterator[Claim]:
        """Yield the properties that no other interface can have at the same time."""
        yield "device", "", self.device
        yield "device", self.namespace, self.name
        yield from self._claims_of_kind()
        for address in self.settings.addresses:
            peer = f" peer {address.peer}" if address.peer is not None else ""
            yield "address", self.namespace, f"{address.ip}{peer}"

    def _claims_of_kind(self) -> Iterable[Claim]:
        """Return the claims that only this kind of device makes."""
        return ()


@dataclass(frozen=True, slots=True)
class ConfiguredHalf(ConfiguredInterface):
    """A half of a pair."""

    pair: str
    """``epair0``."""
    side: Side
    """``a`` or ``b``."""
    settings: HalfSettings
    """Its table, ``[epair.epair0.a]``."""

    @property
    def device(self) -> str:
        """The half's own name: ``epair0a``."""
        return self.pair + self.side

    @property
    def interface(self) -> str:
        """The pair's name."""
        return self.pair

    @property
    def location(self) -> Location:
        """Location of its table in the file."""
        return (EPAIR.name, self.pair, self.side)

    def _claims_of_kind(self) -> Iterable[Claim]:
        if (mac := self.settings.mac) is not None:
            yield "mac", mac if mac != "stable" else self.device


@dataclass(frozen=True, slots=True)
class ConfiguredLoopback(ConfiguredInterface):
    """A loopback."""

    device: str
    """``lo1``."""
    settings: LoopbackSettings
    """Its table, ``[lo.lo1]``."""

    @property
    def interface(self) -> str:
        """The loopback's own name."""
        return self.device

    @property
    def location(self) -> Location:
        """Location of its table in the file."""
        return (LO.name, self.device)


PairName = Annotated[str, AfterValidator(EPAIR.check)]
LoopbackName = Annotated[str, AfterValidator(LO.check)]


class Configuration(Settings):
    """The whole file."""

    daemon: DaemonSettings = DaemonSettings()
    metrics: MetricsSettings = MetricsSettings()
    namespaces: NamespacesSettings = NamespacesSettings()
    epair: Mapping[PairName, PairSettings] = {}
    """The pairs by name, in the order of the file."""
    lo: Mapping[LoopbackName, LoopbackSettings] | None = None
    """The loopbacks by name; None if there are none and none can be created."""
    impairment: Mapping[SetName, ImpairmentSettings] = {}
    """Named sets of impairments, beside those that are shipped."""

    @property
    def halves(self) -> tuple[ConfiguredHalf, ...]:
        """Both halves of every pair, in the order of the file."""
        return tuple(half for name, settings in self.epair.items() for half in settings.devices(name))

    @property
    def loopbacks(self) -> tuple[ConfiguredLoopback, ...]:
        """Every loopback; the first is lo0, which exists even if the file does not mention it."""
        if self.lo is None:
            return ()
        permanent = {LO.interface(unit): LoopbackSettings() for unit in sorted(LO.permanent)}
        loopbacks = permanent | dict(self.lo)
        return tuple(ConfiguredLoopback(name, settings) for name, settings in loopbacks.items())

    @property
    def interfaces(self) -> tuple[ConfiguredInterface, ...]:
        """Every device."""
        return (*self.halves, *self.loopbacks)

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """The keys of the named sets that are in the file."""
        return {name: table.given() for name, table in self.impairment.items()}

    def settings_by_name(self) -> dict[str, InterfaceSettings]:
        """Return every interface's table by the name it is created and destroyed by, loopbacks first."""
        return {**{each.device: each.settings for each in self.loopbacks}, **self.epair}
