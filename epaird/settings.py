"""The configuration as frozen models, each value checked and with its default.

``config/epaird.toml`` shows every key.  A model built directly is checked value by value, but not
for what must hold between the values: that is ``epaird.consistency``.
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
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from epaird import names, values
from epaird.names import HALVES, Half
from epaird.values import Location, WholeNumber

TAP_MTU: Final = WholeNumber(68, 65521, "a TAP's 68", "a TAP's 65521")
"""Bytes: ETH_MIN_MTU, and 65535 less an Ethernet header (drivers/net/tun.c)."""
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
    mac: Annotated[str, BeforeValidator(values.hardware_address)] | None = None
    """None is derived."""
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


class PairSettings(Settings):
    """A pair: two halves, by default both in the daemon's own namespace."""

    queues: Annotated[int, BeforeValidator(QUEUES)] = 1
    """Queues of each half's TAP, to spread one busy cable over several workers."""
    offload: Annotated[bool, BeforeValidator(values.boolean)] = True
    """Super-frames of up to 64 KB cross whole."""
    coalesce: Annotated[bool, BeforeValidator(values.boolean)] = True
    """Adjacent datagrams of one flow are delivered as one super-frame, which the receiver splits again."""
    a: HalfSettings = HalfSettings()
    b: HalfSettings = HalfSettings()

    def half(self, half: Half) -> HalfSettings:
        """The settings of half ``a`` or ``b``."""
        return self.a if half == "a" else self.b


class DaemonSettings(Settings):
    """The daemon itself."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(values.number_or("auto", WORKERS))] = "auto"
    """Processes that forward; ``auto`` is one per core."""
    control_socket: Annotated[Path, BeforeValidator(values.socket_path)] = Path("/run/epaird/control.sock")
    queue_limit: Annotated[int, BeforeValidator(QUEUE_LIMIT)] = 2100
    """Frames a worker may hold: BSD's netisr queue, 42 times ifqmaxlen."""
    poll_spin_us: Annotated[int, BeforeValidator(POLL_SPIN)] = 50
    """Microseconds a worker that has just forwarded looks again before it sleeps; 0 is never."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(values.one_of("debug", "info", "warning", "error")),
    ] = "info"


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


@dataclass(frozen=True, slots=True)
class ConfiguredHalf:
    """A half with the names that follow from its place in the file."""

    pair: str
    """``epair0``."""
    half: Half
    settings: HalfSettings

    @property
    def device(self) -> str:
        """The half's own name, which it keeps for life: ``epair0a``."""
        return self.pair + self.half

    @property
    def name(self) -> str:
        """The device's name in its namespace."""
        return self.settings.name or self.device

    @property
    def namespace(self) -> str:
        """The namespace in one spelling, its name rather than its path; empty for the daemon's own."""
        netns = self.settings.netns or ""
        path = PurePosixPath(netns)
        named = str(path.parent) in ("/run/netns", "/var/run/netns")
        return path.name if named else netns

    @property
    def location(self) -> Location:
        """Where it stands in the file."""
        return ("epair", self.pair, self.half)


def _pair_name(name: str) -> str:
    names.pair_unit(name)
    return name


PairName = Annotated[str, AfterValidator(_pair_name)]


class Configuration(Settings):
    """The whole file."""

    daemon: DaemonSettings = DaemonSettings()
    metrics: MetricsSettings = MetricsSettings()
    namespaces: NamespacesSettings = NamespacesSettings()
    epair: Mapping[PairName, PairSettings] = {}
    """The pairs by name, in the order of the file."""

    @property
    def halves(self) -> tuple[ConfiguredHalf, ...]:
        """Both halves of every pair, in the order of the file."""
        return tuple(
            ConfiguredHalf(pair, half, settings.half(half))
            for pair, settings in self.epair.items()
            for half in HALVES
        )
