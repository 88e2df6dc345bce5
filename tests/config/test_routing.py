from __future__ import annotations

from typing import Any

import pytest

from epaird.config.consistency import conflicts
from epaird.config.settings import Configuration
from epaird.config.values import dotted
from tests.config.test_consistency import found, pair, pairs

OWN = ["10.0.0.1/24", "fd00::1/64"]
PEER = {"address": "10.0.0.1/32", "peer": "10.9.0.2"}
IPV6_PEER = {"address": "fd00::1/128", "peer": "fd09::2"}


def half(addresses: list[Any], *routes: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"addresses": addresses, "routes": list(routes), **more}


def route(to: str, via: str | None = None, metric: int | None = None) -> dict[str, Any]:
    return {"to": to, "via": via, "metric": metric}


@pytest.mark.parametrize(
    "document",
    [
        pair(half([], route("default", "fe80::1"))),
        pair(half(OWN, route("default", "10.0.0.2"), route("default", "fd00::2"))),
        pair(half([], route("default", "fe80::2")), half(["fe80::2/64"])),
        pair(half(["10.0.0.0/31"], route("default", "10.0.0.1"))),
        pair(half(["10.0.0.1/32"], route("10.0.0.1"))),
        # The most specific route leads to a next hop, and of two alike the one without a next hop.
        pair(half(OWN, route("fd00::/64", "fd00::2"), route("default", "fd00::3"))),
        pair(
            half(
                ["fd00::1/64", "fd00:0:0:ff::1/48"],
                route("fd00::/56", "fd00::2"),
                route("fd05::/64", "fd00::9"),
            )
        ),
        # Metrics.
        pair(half(OWN, *(route("default", "10.0.0.2", metric) for metric in (None, 1, 2**32 - 1)))),
        pair(half(OWN, route("10.0.0.0/24", None, 1), route("fd00::/64"))),
        pairs(
            (half(["10.0.0.1/24"], route("default", "10.0.0.2")), {}),
            (half(["10.0.1.1/24"], route("default", "10.0.1.2", 1)), {}),
        ),
        # Neither is installed in a table where the other one is.
        pairs((half([], route("default")), {}), (half([], route("default"), netns="red"), {})),
        pairs((half([], route("default")), {}), (half([], route("default"), up=False), {})),
        # Peers and routes without a next hop, in any order, make a next hop reachable.
        pair(half([PEER], route("default", "10.9.0.2"))),
        pair(half([{"address": "10.0.0.1/24", "peer": "10.9.0.2"}], route("default", "10.9.0.7"))),
        pair(half([IPV6_PEER], route("default", "fd09::2"))),
        pair(half([IPV6_PEER | {"address": f"fd00::{number}/128"} for number in (1, 3)])),
        pairs(*((half([{"address": f"fe80::{unit}/64", "peer": "fe80::9"}]), {}) for unit in (1, 2))),
        pair(half([{"address": "fd00::1/64", "peer": "fd09::2"}], route("default", "fd00::2"))),
        pair(half([IPV6_PEER], route("fd09::2"), route("default", "fd09::2"))),
        pair(half([], route("10.1.0.0/16", "10.9.0.2"), route("10.9.0.2"))),
        pair(half([], route("10.1.0.0/16", "10.9.0.2"), route("default"))),
        pair(
            half([], route("10.9.0.0/16"), route("10.9.1.0/24", "10.9.2.1"), route("10.5.0.0/16", "10.9.1.1"))
        ),
        pair(half([], route("fd01::/64", "fd09::2"), route("::/0"))),
        # The kernel takes a neighbour's address in the same namespace for a next hop with IPv4.
        pair(half(["10.0.0.1/24"], route("default", "10.0.0.2")), half(["10.0.0.2/24"])),
    ],
)
def test_routes_that_the_kernel_accepts(document: dict[str, Any]) -> None:
    assert found(document) == []


@pytest.mark.parametrize(
    ("settings", "conflict"),
    [
        (
            half(OWN, route("10.0.0.0/8", "fd00::2")),
            "routes[0].via: fd00::2 is an IPv6 address, 10.0.0.0/8 needs an IPv4 one",
        ),
        (
            half(OWN, route("default", "10.0.0.1")),
            "routes[0].via: 10.0.0.1 is this half's own address, a next hop must be another one",
        ),
        (
            half([*OWN, "10.1.0.1/30"], route("default", "10.1.0.9")),
            "routes[0].via: 10.1.0.9 cannot be reached, this half reaches 10.0.0.0/24, 10.1.0.0/30 directly",
        ),
        (
            half(["fe80::1/64"], route("default", "fe80::1")),
            "routes[0].via: fe80::1 is this half's own address, a next hop must be another one",
        ),
        (
            half([f"10.0.{unit}.1/24" for unit in range(8)], route("default", "10.1.0.9")),
            "routes[0].via: 10.1.0.9 cannot be reached, this half reaches "
            + ", ".join(f"10.0.{unit}.0/24" for unit in range(8))
            + " directly",
        ),
        (
            half([f"10.0.{unit}.1/24" for unit in range(9)], route("default", "10.1.0.9")),
            "routes[0].via: 10.1.0.9 cannot be reached, this half reaches "
            + ", ".join(f"10.0.{unit}.0/24" for unit in range(8))
            + " and 1 more directly",
        ),
        (
            half([], route("10.5.0.0/16"), route("10.5.0.0/16")),
            'routes[1].to: "10.5.0.0/16" already has a route of metric 0, in epair.epair0.a.routes: '
            "another one needs another metric",
        ),
        (
            half([IPV6_PEER, "fd01::1/64"], route("fd09::2", "fd01::2")),
            'routes[0].to: "fd09::2/128" already has a route of metric 1024, for fd00::1 peer fd09::2/128 in '
            "epair.epair0.a.addresses: another one needs another metric",
        ),
        (
            half(["fd00::1/64"], route("default", "10.1.0.9")),
            "routes[0].via: 10.1.0.9 cannot be reached, this half has no IPv4 address",
        ),
        (
            half(["10.0.0.1/32"], route("default", "10.1.0.9")),
            "routes[0].via: 10.1.0.9 cannot be reached, this half reaches no IPv4 network directly",
        ),
        (
            half(["10.0.0.1/30", "10.1.0.1/16"], route("default", "10.0.0.3")),
            "routes[0].via: 10.0.0.3 cannot be reached, it is the broadcast address of 10.0.0.0/30",
        ),
        (
            half([], route("fe80::/64", None, 256)),
            'routes[0].to: "fe80::/64" already has a route of metric 256, the kernel\'s: '
            "another one needs another metric",
        ),
        (
            half([PEER, IPV6_PEER], route("default", "10.0.0.2")),
            "routes[0].via: 10.0.0.2 cannot be reached, this half reaches 10.9.0.2/32 directly",
        ),
        (
            half([], route("::/0"), route("fd01::/64", "fd09::2"), route("fd02::/64", "fd01::2")),
            "routes[2].via: fd01::2 cannot be reached, the route to fd01::/64 leads to it by way of fd09::2",
        ),
        (
            half(OWN, route("default", "10.0.0.2"), route("0.0.0.0/0", "10.0.0.3")),
            'routes[1].to: "0.0.0.0/0" already has a route of metric 0, in epair.epair0.a.routes: '
            "another one needs another metric",
        ),
        (
            half(OWN, route("fd01::/64", "fd00::2"), route("fd01::/64", "fd00::3", 1024)),
            'routes[1].to: "fd01::/64" already has a route of metric 1024, in epair.epair0.a.routes: '
            "another one needs another metric",
        ),
        (
            half(OWN, route("10.0.0.0/24")),
            'routes[0].to: "10.0.0.0/24" already has a route of metric 0, for 10.0.0.1/24 in '
            "epair.epair0.a.addresses: another one needs another metric",
        ),
        (
            half([PEER], route("10.9.0.2")),
            'routes[0].to: "10.9.0.2/32" already has a route of metric 0, for 10.0.0.1 peer 10.9.0.2/32 in '
            "epair.epair0.a.addresses: another one needs another metric",
        ),
        (
            half(OWN, route("fd00::/64", None, 256)),
            'routes[0].to: "fd00::/64" already has a route of metric 256, for fd00::1/64 in '
            "epair.epair0.a.addresses: another one needs another metric",
        ),
    ],
)
def test_routes_that_the_kernel_refuses(settings: dict[str, Any], conflict: str) -> None:
    assert found(pair(settings)) == [f"epair.epair0.a.{conflict}"]


def test_the_main_table_belongs_to_the_namespace() -> None:
    document = pairs(
        (half(["10.0.0.1/24"], route("default", "10.0.0.2"), netns="red"), {}),
        ({}, half(["10.0.1.1/24"], route("default", "10.0.1.2"), netns="/run/netns/red")),
    )
    assert found(document) == [
        'epair.epair1.b.routes[0].to: "default" already has a route of metric 0, in epair.epair0.a.routes: '
        "another one needs another metric"
    ]


def test_an_address_of_the_same_namespace_is_no_next_hop_with_ipv6() -> None:
    document = pair(half(["fd00::1/64"], route("default", "fd00::2")), half(["fd00::2/64"]))
    assert found(document) == [
        "epair.epair0.a.routes[0].via: fd00::2 is an address of the same namespace, in epair.epair0.b: "
        "a next hop must be elsewhere"
    ]


def test_a_peer_has_one_route_in_a_namespace_with_ipv6() -> None:
    document = pairs(
        (half([IPV6_PEER], netns="red"), {}),
        (half([{"address": "fd00::3/128", "peer": "fd09::2"}], netns="red"), {}),
    )
    assert found(document) == [
        'epair.epair1.a.addresses[0].peer: "fd09::2/128" already has a route of metric 1024, '
        "for fd00::1 peer fd09::2/128 in epair.epair0.a.addresses"
    ]


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        (pair(half(OWN, route("default", "10.0.0.1"))), []),
        (pair(half(OWN, route("default", "10.1.0.9"))), ["a.addresses", "a.routes"]),
        (
            pair(half(["fd00::1/64"], route("default", "fd00::2")), half(["fd00::2/64"])),
            ["a.netns", "b.netns"],
        ),
        (pair(half([], route("default"), route("default"))), []),
        (
            pair(half([], route("default")), half([], route("default"))),
            ["b.netns", "b.up", "a.netns", "a.up"],
        ),
    ],
)
def test_a_conflict_rests_on_the_places_that_cause_it(document: dict[str, Any], keys: list[str]) -> None:
    (conflict,) = conflicts(Configuration.model_validate(document))
    assert [dotted(each) for each in conflict.rests_on] == [f"epair.epair0.{key}" for key in keys]
