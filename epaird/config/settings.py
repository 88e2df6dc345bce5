"""The configuration as frozen models, each value checked and with its default.

``config/epaird.toml`` shows every key.  A model built directly is checked value by value, but not
for what must hold between the values: that is ``epaird.config.consistency``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from epaird.config import values
from epaird.config.values import Location, Seconds, WholeNumber
from epaird.names import grammar as names
from epaird.names.cloners import LO
from epaird.names.grammar import HALVES, Half, InvalidName, quoted

TAP_MTU: Final = WholeNumber(68, 65521, "a TAP's 68", "a TAP's 65521")
"""Bytes: ETH_MIN_MTU, and 65535 less an Ethernet header (drivers/net/tun.c)."""
TUN_MTU: Final = WholeNumber(68, 65535, "a TUN's 68", "a TUN's 65535")
"""Bytes: ETH_MIN_MTU, and the largest IP packet (drivers/net/tun.c)."""
LOOPBACK_MTU: Final = 33624
"""Bytes: NetBSD's LOMTU, 32768 + MHLEN + MLEN (sys/net/if_loop.c)."""
QUEUES: Final = WholeNumber(1, 256, upper_limit="a TAP's 256 queues")
"""MAX_TAP_QUEUES of linux/if_tap.h."""
TXQUEUELEN: Final = WholeNumber(1, 1_000_000)
"""Frames; with 0 the kernel's ring takes none at all."""
SNDBUF: Final = WholeNumber(4096, 2**31 - 1)
"""Bytes, a C int; the kernel lets one frame pass however small it is."""
QUEUE_LIMIT: Final = WholeNumber(1, 1_000_000)
"""Frames."""
POLL_SPIN: Final = WholeNumber(0, 1000)
"""Microseconds."""
WORKERS: Final = WholeNumber(1, 1024)
WORKER_TIMEOUT: Final = Seconds(0.5, 60)
"""Seconds: more than a beat of a worker's heart, and a minute."""
ORPHAN_TIMEOUT: Final = Seconds(0.1, 86_400)
DRAIN_TIMEOUT: Final = Seconds(0.1, 60)


class Settings(BaseModel):
    """A table of the file: frozen, and nothing in it but the keys it knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RouteSettings(Settings):
    """A route that goes out by a half."""

    to: Annotated[IPv4Network | IPv6Network | Literal["default"], BeforeValidator(values.destination)]
    via: Annotated[IPv4Address | IPv6Address, BeforeValidator(values.next_hop)]

    @property
    def destination(self) -> IPv4Network | IPv6Network:
        """``to``, with ``default`` spelled out for the family of ``via``."""
        if self.to == "default":
            return ip_network("0.0.0.0/0" if self.via.version == 4 else "::/0")
        return self.to


class HalfSettings(Settings):
    """One half of a pair: where it lives and what it is given there."""

    netns: Annotated[str, BeforeValidator(values.namespace)] | None = None
    """A namespace's name or path; None is the daemon's own."""
    name: Annotated[str, BeforeValidator(values.device_name)] | None = None
    """The device's name there; None is the half's own."""
    mac: Annotated[str, BeforeValidator(values.hardware_address_or_stable)] | None = None
    """None is derived from an index that no pair had before; ``stable`` from the pair's name."""
    mtu: Annotated[int, BeforeValidator(TAP_MTU)] = 1500
    """Bytes, without the Ethernet header."""
    up: Annotated[bool, BeforeValidator(values.boolean)] = True
    txqueuelen: Annotated[int, BeforeValidator(TXQUEUELEN)] = 10_000
    """Frames the kernel's ring holds for us."""
    sndbuf: Annotated[int, BeforeValidator(SNDBUF)] | None = None
    """Bytes of delivered frames the owner has not consumed yet; None is no bound."""
    addresses: Annotated[
        tuple[Annotated[IPv4Interface | IPv6Interface, BeforeValidator(values.interface_address)], ...],
        BeforeValidator(values.list_of('["10.0.0.1/24"]')),
    ] = ()
    routes: Annotated[
        tuple[RouteSettings, ...],
        BeforeValidator(values.list_of('[{ to = "default", via = "10.0.0.2" }]')),
    ] = ()
    """Linux has no route by a device that is down: with ``up`` false they are not installed."""
    peer: Annotated[str, BeforeValidator(values.peer)] | None = None
    """The half it is plugged into, by its own name, and empty for none; None is the other half of its pair,
    unless that is plugged into another."""


class PairSettings(Settings):
    """A pair: two halves, by default both in the daemon's own namespace."""

    queues: Annotated[int, BeforeValidator(QUEUES)] = 1
    """Queues of each half's TAP, to spread one busy cable over several workers."""
    offload: Annotated[bool, BeforeValidator(values.boolean)] = True
    """Super-frames of up to 64 KB cross whole."""
    coalesce: Annotated[bool, BeforeValidator(values.boolean)] = True
    """Adjacent datagrams of one flow are delivered as one super-frame, which the receiver splits again."""
    carrier: Annotated[
        Literal["peer", "always", "off"], BeforeValidator(values.one_of("peer", "always", "off"))
    ] = "peer"
    """When the halves have carrier: while both are up, while they are plugged in at all, or never."""
    a: HalfSettings = HalfSettings()
    b: HalfSettings = HalfSettings()

    def half(self, half: Half) -> HalfSettings:
        """The settings of half ``a`` or ``b``."""
        return self.a if half == "a" else self.b


class LoopbackSettings(Settings):
    """A loopback: where it lives, what it is given there, and what it does with a packet."""

    netns: Annotated[str, BeforeValidator(values.namespace)] | None = None
    """A namespace's name or path; None is the daemon's own."""
    name: Annotated[str, BeforeValidator(values.device_name)] | None = None
    """The device's name there; None is the loopback's own."""
    mode: Annotated[Literal["reflect", "verbatim"], BeforeValidator(values.one_of("reflect", "verbatim"))] = (
        "reflect"
    )
    """Whether a packet comes back with source and destination swapped, or as it is."""
    policy_routing: Annotated[bool, BeforeValidator(values.boolean)] = False
    """Rules and routes by which packets to its own addresses pass it; Linux keeps them from it else."""
    mtu: Annotated[int, BeforeValidator(TUN_MTU)] = LOOPBACK_MTU
    """Bytes."""
    up: Annotated[bool, BeforeValidator(values.boolean)] = True
    txqueuelen: Annotated[int, BeforeValidator(TXQUEUELEN)] = 10_000
    """Packets the kernel's ring holds for us."""
    addresses: Annotated[
        tuple[Annotated[IPv4Interface | IPv6Interface, BeforeValidator(values.interface_address)], ...],
        BeforeValidator(values.list_of('["10.88.7.1/24"]')),
    ] = ()

    @property
    def routes(self) -> tuple[RouteSettings, ...]:
        """None: there is nobody behind a loopback."""
        return ()


class DaemonSettings(Settings):
    """The daemon itself."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(values.number_or("auto", WORKERS))] = "auto"
    """Processes that forward; ``auto`` is one per core."""
    control_socket: Annotated[Path, BeforeValidator(values.socket_path)] = Path("/run/epaird/control.sock")
    queue_limit: Annotated[int, BeforeValidator(QUEUE_LIMIT)] = 2100
    """Frames a worker may hold: BSD's netisr queue, 42 times ifqmaxlen."""
    poll_spin_us: Annotated[int, BeforeValidator(POLL_SPIN)] = 50
    """Microseconds a worker that has just forwarded looks again before it sleeps; 0 is never."""
    worker_timeout: Annotated[float, BeforeValidator(WORKER_TIMEOUT)] = 0.75
    """Seconds a worker may do nothing before it is replaced; with 0 it may for ever, and be stopped."""
    orphan_timeout: Annotated[float, BeforeValidator(ORPHAN_TIMEOUT)] = 30.0
    """Seconds the workers go on without a control plane; with 0 they end with it."""
    drain_timeout: Annotated[float, BeforeValidator(DRAIN_TIMEOUT)] = 1.0
    """Seconds that frames may wait for receivers that take nothing when the daemon stops."""
    keep_devices: Annotated[bool, BeforeValidator(values.boolean)] = False
    """Whether a daemon that stops leaves everything to its successor, for ``orphan_timeout``."""
    watch: Annotated[bool, BeforeValidator(values.boolean)] = False
    """Whether the file is read again when it has changed."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(values.one_of("debug", "info", "warning", "error")),
    ] = "info"
    log_format: Annotated[Literal["text", "json"], BeforeValidator(values.one_of("text", "json"))] = "text"
    """How a line of the log is written; ``json`` is an object a line."""


class MetricsSettings(Settings):
    """The metrics page."""

    listen: Annotated[str, BeforeValidator(values.listen_address)] = "127.0.0.1:9862"
    """``host:port``, or empty for no page."""

    @property
    def host(self) -> str | None:
        """The address to listen on, an IPv6 one without its brackets; None when there is no page."""
        return values.split_listen(self.listen)[0] if self.listen else None

    @property
    def port(self) -> int | None:
        """The TCP port, 0 for any that is free; None when there is no page."""
        return values.split_listen(self.listen)[1] if self.listen else None


class NamespacesSettings(Settings):
    """Namespaces that live and die with the daemon."""

    create: Annotated[
        tuple[Annotated[str, BeforeValidator(values.namespace_name)], ...],
        BeforeValidator(values.list_of('["red", "blue"]')),
    ] = ()


def namespace_name(netns: str | None) -> str:
    """A namespace in one spelling, its name rather than its path; empty for the daemon's own."""
    path = PurePosixPath(netns or "")
    named = str(path.parent) in ("/run/netns", "/var/run/netns")
    return path.name if named else netns or ""


class ConfiguredInterface(Protocol):
    """An interface with the names that follow from its place in the file."""

    @property
    def settings(self) -> HalfSettings | LoopbackSettings:
        """What it is given."""

    @property
    def device(self) -> str:
        """Its own name, which it keeps for life: ``epair0a``, ``lo1``."""

    @property
    def location(self) -> Location:
        """Where it stands in the file."""

    @property
    def name(self) -> str:
        """The device's name in its namespace."""
        return self.settings.name or self.device

    @property
    def namespace(self) -> str:
        """The namespace in one spelling, its name rather than its path; empty for the daemon's own."""
        return namespace_name(self.settings.netns)


@dataclass(frozen=True, slots=True)
class ConfiguredHalf(ConfiguredInterface):
    """A half of a pair."""

    pair: str
    """``epair0``."""
    half: Half
    settings: HalfSettings

    @property
    def device(self) -> str:
        """The half's own name: ``epair0a``."""
        return self.pair + self.half

    @property
    def location(self) -> Location:
        """Where it stands in the file."""
        return ("epair", self.pair, self.half)


@dataclass(frozen=True, slots=True)
class ConfiguredLoopback(ConfiguredInterface):
    """A loopback."""

    device: str
    """``lo1``."""
    settings: LoopbackSettings

    @property
    def location(self) -> Location:
        """Where it stands in the file."""
        return ("lo", self.device)


def _pair_name(name: str) -> str:
    names.pair_unit(name)
    return name


def _loopback_name(name: str) -> str:
    if LO.unit(name) is None:
        raise InvalidName(f"{quoted(name)} has no number, as in {quoted('lo1')}")
    return name


PairName = Annotated[str, AfterValidator(_pair_name)]
LoopbackName = Annotated[str, AfterValidator(_loopback_name)]


class Configuration(Settings):
    """The whole file."""

    daemon: DaemonSettings = DaemonSettings()
    metrics: MetricsSettings = MetricsSettings()
    namespaces: NamespacesSettings = NamespacesSettings()
    epair: Mapping[PairName, PairSettings] = {}
    """The pairs by name, in the order of the file."""
    lo: Mapping[LoopbackName, LoopbackSettings] | None = None
    """The loopbacks by name; None: there are none, and none can be made."""

    @property
    def halves(self) -> tuple[ConfiguredHalf, ...]:
        """Both halves of every pair, in the order of the file."""
        return tuple(
            ConfiguredHalf(pair, half, settings.half(half))
            for pair, settings in self.epair.items()
            for half in HALVES
        )

    @property
    def loopbacks(self) -> tuple[ConfiguredLoopback, ...]:
        """Every loopback; the first is lo0, which there is whether the file speaks of it or not."""
        if self.lo is None:
            return ()
        first = {name: LoopbackSettings() for name in map("lo{}".format, LO.permanent)}
        return tuple(ConfiguredLoopback(name, settings) for name, settings in (first | dict(self.lo)).items())

    @property
    def interfaces(self) -> tuple[ConfiguredInterface, ...]:
        """Everything that is a device."""
        return (*self.halves, *self.loopbacks)
