"""Addresses and routes of a device, as tables of the configuration.

An address with a peer is that of a point-to-point link. The kernel stores one prefix length for both: with
IPv4 it is the length of the peer's network, and the own address is in no network; with IPv6 it is the length
of the own address's network, and the peer is one address beside it.

The kernel adds its route to an IPv6 peer only after duplicate address detection, and never for an address
with ``nodad`` that a device got while it was down. Therefore such a peer has a route of epaird's as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from epaird.config import ipvalues, values
from epaird.config.table import Settings
from epaird.config.values import WholeNumber
from epaird.kernel.abi import IP6_RT_PRIO_USER

METRIC: Final = WholeNumber(0, 2**32 - 1)
"""RTA_PRIORITY of linux/rtnetlink.h, 32 bits."""
IPV4_DEFAULT: Final = IPv4Network("0.0.0.0/0")
IPV6_DEFAULT: Final = IPv6Network("::/0")


class AddressSettings(Settings):
    """An address of a device. It is written as a plain text where it has neither ``peer`` nor ``nodad``."""

    address: Annotated[IPv4Interface | IPv6Interface, BeforeValidator(ipvalues.interface_address)]
    """The address with the prefix length."""
    peer: IPv4Address | IPv6Address | None = None
    """The address at the other end of a point-to-point link."""
    nodad: Annotated[bool, BeforeValidator(values.boolean)] = False
    """True to use an IPv6 address at once, without duplicate address detection."""

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """The address without the prefix length."""
        return self.address.ip

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.address.version

    @property
    def network(self) -> IPv4Network | IPv6Network:
        """The network that the kernel reaches directly: the peer's with IPv4, if there is a peer."""
        if self.peer is not None and self.version == 4:
            return ip_network((self.peer, self.address.network.prefixlen), strict=False)
        return self.address.network

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Every network that the kernel reaches directly, with IPv6 also the peer."""
        if self.peer is not None and self.version == 6:
            return self.network, ip_network(self.peer)
        return (self.network,)

    @property
    def route_to_peer(self) -> RouteSettings | None:
        """The route to an IPv6 peer; None without one, and for a link-local peer, which needs none."""
        if self.peer is None or self.version == 4 or self.peer.is_link_local:
            return None
        return RouteSettings(to=ip_network(self.peer))

    @property
    def is_link_local(self) -> bool:
        """True for an address that is valid on one link only."""
        return self.ip.is_link_local

    def __str__(self) -> str:
        peer = f"{self.ip} peer {self.peer}/{self.address.network.prefixlen}"
        return f"{self.address if self.peer is None else peer}{' nodad' if self.nodad else ''}"

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: object, read: ModelWrapValidatorHandler[AddressSettings]) -> AddressSettings:
        if isinstance(value, (Mapping, AddressSettings)):
            return read(value)
        # Not read(), which would read the text a second time.
        return cls.model_construct(address=ipvalues.interface_address(value))

    @field_validator("peer", mode="before")
    @classmethod
    def _read_peer(cls, value: object, info: ValidationInfo) -> object:
        address = info.data.get("address")
        return ipvalues.peer_address(value, address) if value is not None else None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of both forms."""
        table = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [{"type": "string", "examples": ["10.0.0.1/24"]}, table]}

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> Any:  # noqa: ANN401
        table = write(self)
        plain = self.peer is None and not self.nodad
        return table["address"] if plain else {key: table[key] for key in self._differing() if key in table}

    def _differing(self) -> tuple[str, ...]:
        """Return the keys that are not at their default."""
        fields = type(self).model_fields.items()
        return tuple(key for key, field in fields if getattr(self, key) != field.default)


class RouteSettings(Settings):
    """A route through a half."""

    to: Annotated[IPv4Network | IPv6Network | Literal["default"], BeforeValidator(ipvalues.destination)]
    via: Annotated[IPv4Address | IPv6Address, BeforeValidator(ipvalues.next_hop)] | None = None
    """The next hop; None for a destination that is reached directly."""
    metric: Annotated[int, BeforeValidator(METRIC)] | None = None
    """Of routes to one destination the kernel prefers that of the least metric; None is its default."""

    @property
    def destination(self) -> IPv4Network | IPv6Network:
        """``to``, with ``default`` replaced by the whole address family of ``via``, or IPv4 without it."""
        if self.to == "default":
            return IPV4_DEFAULT if self.via is None or self.via.version == 4 else IPV6_DEFAULT
        return self.to

    @property
    def effective_metric(self) -> int:
        """The metric that the route has in the kernel."""
        return self.metric or (IP6_RT_PRIO_USER if self.destination.version == 6 else 0)

    def __str__(self) -> str:
        via = f" via {self.via}" if self.via is not None else ""
        return f"{self.to}{via}{f' metric {self.metric}' if self.metric else ''}"


def installed_routes(
    addresses: Iterable[AddressSettings], routes: Iterable[RouteSettings]
) -> tuple[RouteSettings, ...]:
    """Return all routes of a device, each once, in an order in which every next hop is reachable."""
    to_peers = [route for address in addresses if (route := address.route_to_peer) is not None]
    found = {
        (route.destination, route.via, route.effective_metric): route
        for route in sorted((*to_peers, *routes), key=lambda route: route.via is not None)
    }
    return tuple(found.values())
