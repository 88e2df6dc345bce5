from __future__ import annotations

from typing import Any

import pytest

from epaird.config.consistency import conflicts, remarks
from epaird.config.settings import Configuration
from epaird.config.values import dotted


def found(document: dict[str, Any]) -> list[str]:
    configuration = Configuration.model_validate(document)
    return [f"{dotted(conflict.location)}: {conflict.message}" for conflict in conflicts(configuration)]


def pair(a: dict[str, Any], b: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"epair": {"epair0": {"a": a, "b": b or {}}}}


def pairs(*settings: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {"epair": {f"epair{unit}": {"a": a, "b": b} for unit, (a, b) in enumerate(settings)}}


@pytest.mark.parametrize(
    "document",
    [
        {},
        pair({}),
        pair({"netns": "red"}, {"netns": "red"}),
        pair({"netns": "red", "name": "eth0"}, {"netns": "blue", "name": "eth0"}),
        pair({"name": "epair0a"}),
        pair({"addresses": ["10.0.0.1/24"]}, {"addresses": ["10.0.0.2/24"]}),
        pair({"addresses": ["fe80::1/64"]}, {"addresses": ["fe80::2/64"]}),
        pairs(({"addresses": ["fe80::1/64"]}, {}), ({"addresses": ["fe80::1/64"]}, {})),
        pairs(
            ({"netns": "red", "addresses": ["10.0.0.1/24"]}, {}),
            ({"netns": "blue", "addresses": ["10.0.0.1/24"]}, {}),
        ),
        pair({"mtu": 68, "addresses": ["10.0.0.1/24"]}),
        pair({"mtu": 1280, "addresses": ["fd00::1/64"]}),
        pair({"routes": [{"to": "default", "via": "fe80::1"}]}),
        pair(
            {
                "addresses": ["10.0.0.1/24", "fd00::1/64"],
                "routes": [{"to": "default", "via": "10.0.0.2"}, {"to": "default", "via": "fd00::2"}],
            }
        ),
    ],
)
def test_consistent_configurations(document: dict[str, Any]) -> None:
    assert found(document) == []


@pytest.mark.parametrize(
    ("document", "conflict"),
    [
        (
            {"namespaces": {"create": ["red", "blue", "red"]}},
            'namespaces.create[2]: "red" is listed twice',
        ),
        (
            pair({"netns": "red", "name": "eth0"}, {"netns": "red", "name": "eth0"}),
            'epair.epair0.b.name: "eth0" is already the name of epair.epair0.a in namespace "red"',
        ),
        (
            pair({"netns": "red", "name": "eth0"}, {"netns": "/run/netns/red", "name": "eth0"}),
            'epair.epair0.b.name: "eth0" is already the name of epair.epair0.a in namespace "red"',
        ),
        (
            pair({"name": "epair0b"}),
            'epair.epair0.a.name: "epair0b" is already the name of epair.epair0.b '
            "in the daemon's own namespace",
        ),
        (
            pair({"name": "epair0b"}, {"netns": "red"}),
            'epair.epair0.a.name: "epair0b" is the name under which epair.epair0.b is created '
            "in the daemon's own namespace",
        ),
        (
            pair({"addresses": ["10.0.0.1/24", "10.0.0.1/16"]}),
            "epair.epair0.a.addresses[1]: 10.0.0.1 is listed twice",
        ),
        (
            pair(
                {"netns": "red", "addresses": ["10.0.0.1/24"]},
                {"netns": "blue", "addresses": ["10.0.0.1/24"]},
            ),
            "epair.epair0.b.addresses[0]: 10.0.0.1 is also an address of the other half, "
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(({"addresses": ["10.0.0.1/24"]}, {}), ({"addresses": ["10.0.0.1/24"]}, {})),
            "epair.epair1.a.addresses[0]: 10.0.0.1 is already an address in the daemon's own namespace, "
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(
                ({"netns": "red", "addresses": ["fd00::1/64"]}, {}),
                ({}, {"netns": "/var/run/netns/red", "addresses": ["fd00:0::1/48"]}),
            ),
            'epair.epair1.b.addresses[0]: fd00::1 is already an address in namespace "red", '
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(({"mac": "02:00:00:00:00:0a"}, {}), ({}, {"mac": "02:00:00:00:00:0A"})),
            "epair.epair1.b.mac: 02:00:00:00:00:0a is already the address of epair.epair0.a",
        ),
        (
            pair({"mtu": 1279, "addresses": ["10.0.0.1/24", "fd00::1/64"]}),
            "epair.epair0.a.mtu: 1279 is less than the 1280 that IPv6 needs, for fd00::1/64 in addresses",
        ),
        (
            pair({"addresses": ["fd00::1/64"], "routes": [{"to": "10.0.0.0/8", "via": "fd00::2"}]}),
            "epair.epair0.a.routes[0].via: fd00::2 is an IPv6 address, 10.0.0.0/8 needs an IPv4 one",
        ),
        (
            pair({"addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}),
            "epair.epair0.a.routes[0].via: 10.0.0.1 is this half's own address, "
            "a next hop must be another one",
        ),
        (
            pair(
                {
                    "addresses": ["10.0.0.1/24", "10.1.0.1/30"],
                    "routes": [{"to": "default", "via": "10.1.0.9"}],
                }
            ),
            "epair.epair0.a.routes[0].via: 10.1.0.9 cannot be reached, "
            "this half's addresses are in 10.0.0.0/24, 10.1.0.0/30",
        ),
        (
            pair({"addresses": ["fd00::1/64"], "routes": [{"to": "default", "via": "10.1.0.9"}]}),
            "epair.epair0.a.routes[0].via: 10.1.0.9 cannot be reached, this half has no IPv4 address",
        ),
        (
            pair(
                {
                    "addresses": ["10.0.0.1/24"],
                    "routes": [{"to": "default", "via": "10.0.0.2"}, {"to": "0.0.0.0/0", "via": "10.0.0.3"}],
                }
            ),
            'epair.epair0.a.routes[1].to: "0.0.0.0/0" already has a route',
        ),
    ],
)
def test_conflicts_are_reported(document: dict[str, Any], conflict: str) -> None:
    assert found(document) == [conflict]


def test_routes_of_a_half_that_is_down_are_remarked() -> None:
    down = pair({"up": False, "addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}]})
    assert found(down) == []
    ((location, text),) = remarks(Configuration.model_validate(down))
    assert dotted(location) == "epair.epair0.a.routes"
    assert text.startswith("not installed while up = false")
