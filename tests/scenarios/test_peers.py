"""Addresses with peers and routes with metrics, on real devices."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.scenarios.ctl import epairctl, refused, reload
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.scenarios.transfers import ping

pytestmark = pytest.mark.real

NOTHING: Final = "Nothing to do: everything is as the configuration says.\n"
A: Final[dict[str, Any]] = {
    "addresses": [
        {"address": "10.7.0.1/32", "peer": "10.7.0.2"},
        {"address": "fd07::1/128", "peer": "fd07::2", "nodad": True},
        "fd08::1/64",
    ],
    "routes": [
        {"to": "10.8.0.0/16", "via": "10.7.0.2", "metric": 70},
        {"to": "10.8.0.0/16", "via": "10.9.9.9"},
        {"to": "10.9.9.9"},
        {"to": "fd09::/64", "via": "fd07::2"},
        {"to": "default", "metric": 4_294_967_295},
        {"to": "::/0"},
    ],
}
B: Final[dict[str, Any]] = {
    "addresses": [
        {"address": "10.7.0.2/32", "peer": "10.7.0.1"},
        {"address": "fd07::2/128", "peer": "fd07::1", "nodad": True},
        "10.8.0.1/24",
    ],
}


def configured(a: dict[str, Any], b: dict[str, Any] = B) -> str:
    return NAMESPACES + pair(a=a, b=b)


def addresses(lab: Lab) -> set[tuple[str, str | None, int, bool]]:
    """Return the addresses of red's eth0, each with its peer, prefix length and nodad."""
    (found,) = json.loads(lab["red"].ip("-j addr show eth0"))
    return {
        (each["local"], each.get("address"), each["prefixlen"], each.get("nodad", False))
        for each in found["addr_info"]
        if not each["local"].startswith("fe80:")
    }


def routes(lab: Lab) -> set[tuple[str, str | None, int]]:
    """Return the routes of red's eth0 that the kernel did not add by itself."""
    found = [
        each for family in (4, 6) for each in json.loads(lab["red"].ip(f"-j -{family} route show dev eth0"))
    ]
    return {
        (each["dst"], each.get("gateway"), each.get("metric", 0))
        for each in found
        if each["protocol"] != "kernel"
    }


def nothing_to_do(daemon: Daemon) -> None:
    assert epairctl(daemon.lab, "plan", str(daemon.file)) == NOTHING


def test_an_unnumbered_link(lab: Lab) -> None:
    daemon = lab.daemon(configured(A))
    assert addresses(lab) == {
        ("10.7.0.1", "10.7.0.2", 32, False),
        ("fd07::1", "fd07::2", 128, True),
        ("fd08::1", None, 64, False),
    }
    assert routes(lab) == {
        ("10.8.0.0/16", "10.7.0.2", 70),
        ("10.8.0.0/16", "10.9.9.9", 0),
        ("10.9.9.9", None, 0),
        ("fd07::2", None, 1024),
        ("fd09::/64", "fd07::2", 1024),
        ("default", None, 4_294_967_295),
        ("default", None, 1024),
    }
    nothing_to_do(daemon)
    for target in ("10.7.0.2", "fd07::2"):
        ping(lab["red"], target)
    for target in ("10.7.0.1", "fd07::1"):
        ping(lab["blue"], target)
    daemon.at_rest()
    saved = epairctl(lab, "save")
    assert '{ address = "fd07::1/128", peer = "fd07::2", nodad = true }' in saved
    assert '"fd08::1/64"' in saved
    daemon.file.write_text(saved)
    assert epairctl(lab, "reload") == NOTHING


CHANGES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("peer", {"addresses": [A["addresses"][0] | {"peer": "10.7.0.3"}]}),
    ("prefix length", {"addresses": [{"address": "10.7.0.1/24", "peer": "10.7.1.2"}]}),
    ("no peer", {"addresses": ["10.7.0.1/32"]}),
    ("nodad", {"addresses": ["fd07::1/64"]}),
    ("nodad again", {"addresses": [{"address": "fd07::1/64", "nodad": True}]}),
    (
        "IPv6 peer",
        {
            "addresses": [{"address": "fd07::1/64", "peer": "fd0a::2"}],
            "routes": [{"to": "::/0", "via": "fd0a::2"}],
        },
    ),
    ("metric", {"addresses": ["10.7.0.1/24"], "routes": [{"to": "default", "via": "10.7.0.9", "metric": 5}]}),
    (
        "another metric",
        {"addresses": ["10.7.0.1/24"], "routes": [{"to": "default", "via": "10.7.0.9", "metric": 6}]},
    ),
    ("no metric", {"addresses": ["10.7.0.1/24"], "routes": [{"to": "default", "via": "10.7.0.9"}]}),
    ("no via", {"addresses": ["10.7.0.1/24"], "routes": [{"to": "default"}]}),
    ("via again", {"addresses": ["10.7.0.1/24"], "routes": [{"to": "default", "via": "10.7.0.8"}]}),
    ("a hop behind a link route", {"routes": [{"to": "10.1.0.0/16", "via": "10.9.9.9"}, {"to": "10.9.9.9"}]}),
    ("all", A),
]


def test_a_reload_changes_every_part_in_place(lab: Lab) -> None:
    daemon = lab.daemon(configured(A, {}))
    index = lab["red"].links()["eth0"].index
    for name, half in CHANGES:
        assert "1 to change, 0 to recreate" in reload(daemon, configured({"addresses": None, **half}, {})), (
            name
        )
        nothing_to_do(daemon)
        assert lab["red"].links()["eth0"].index == index
    assert len(addresses(lab)) == 3
    assert len(routes(lab)) == 7


def test_a_peer_is_reached_through_a_half_that_was_down_when_it_was_configured(lab: Lab) -> None:
    a = {
        "up": False,
        "addresses": [{"address": "fd07::1/128", "peer": "fd07::2", "nodad": True}],
        "routes": [{"to": "fd09::/64", "via": "fd07::2"}],
    }
    b = {"addresses": [{"address": "fd07::2/128", "peer": "fd07::1", "nodad": True}]}
    daemon = lab.daemon(configured(a, b))
    nothing_to_do(daemon)
    assert reload(daemon, configured(a | {"up": True}, b)).startswith(
        "  ~ epair0\n      a.up: false -> true\n"
    )
    nothing_to_do(daemon)
    assert routes(lab) == {("fd07::2", None, 1024), ("fd09::/64", "fd07::2", 1024)}
    ping(lab["red"], "fd07::2")


def test_addresses_and_routes_of_a_command_line(lab: Lab) -> None:
    lab.daemon(configured({"addresses": None}, B))
    epairctl(
        lab, "set", "epair0a", 'addresses=["10.7.0.3/32", { address = "10.7.0.1/32", peer = "10.7.0.2" }]'
    )
    epairctl(
        lab,
        "set",
        "epair0a",
        'routes=[{ to = "default", metric = 9 }, { to = "10.8.0.0/16", via = "10.7.0.2" }]',
    )
    assert addresses(lab) == {("10.7.0.3", None, 32, False), ("10.7.0.1", "10.7.0.2", 32, False)}
    assert routes(lab) == {("default", None, 9), ("10.8.0.0/16", "10.7.0.2", 0)}
    ping(lab["red"], "10.7.0.2")
    line = refused(lab, "set", "epair0a", 'addresses=[{ address = "10.7.0.1/32", peer = "fd07::2" }]')
    assert line.endswith('addresses[0].peer: "fd07::2" is not an IPv4 address, as 10.7.0.1/32 is (EINVAL)')


def test_the_peer_of_a_loopback_answers(lab: Lab) -> None:
    daemon = lab.daemon(
        '[namespaces]\ncreate = ["$red"]\n[lo.lo1]\nnetns = "$red"\naddresses = ['
        '{ address = "10.88.7.1/32", peer = "10.88.9.9" }, { address = "fd88::1/128", peer = "fd99::9" }]\n'
    )
    nothing_to_do(daemon)
    for target in ("10.88.9.9", "fd99::9"):
        ping(lab["red"], target)
