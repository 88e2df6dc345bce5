"""The settings of a half and their defaults, on real devices."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.scenarios.lab import NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, RED, ping, tcp

pytestmark = pytest.mark.real

SHIPPED = Path(__file__).parents[2] / "config" / "epaird.toml"


def test_every_setting_of_a_half_takes_effect(lab: Lab) -> None:
    half = {
        "mac": "02:5d:11:22:33:0a",
        "mtu": 4321,
        "txqueuelen": 77,
        "routes": [{"to": "default", "via": BLUE}, {"to": "fd77::/64", "via": "fd00::2"}],
    }
    daemon = lab.daemon(NAMESPACES + pair(a=half))
    red = lab["red"]
    (link,) = json.loads(red.ip("-d -j link show eth0"))
    assert (link["address"], link["mtu"], link["txqlen"]) == ("02:5d:11:22:33:0a", 4321, 77)
    assert link["linkinfo"]["info_kind"] == "tun"
    assert {"UP", "LOWER_UP", "BROADCAST", "MULTICAST"} <= set(link["flags"])
    (addresses,) = json.loads(red.ip("-j addr show eth0"))
    configured = {f"{each['local']}/{each['prefixlen']}" for each in addresses["addr_info"]}
    assert {"10.0.0.1/24", "fd00::1/64"} <= configured
    assert f"default via {BLUE} dev eth0" in red.ip("route")
    red.wait_for_dad("eth0")
    assert "fd77::/64 via fd00::2 dev eth0" in red.ip("-6 route")
    a = daemon.metrics().interface("epair0a")
    assert (a.name, a.netns, a.mac, a.mtu_bytes) == ("eth0", red.name, "02:5d:11:22:33:0a", 4321)
    assert (a.pair, a.half, a.up, a.carrier, a.refs) == ("epair0", "a", 1, 1, 1)


def test_the_shipped_configuration_works(lab: Lab) -> None:
    text = SHIPPED.read_text()
    assert "ip netns exec red ping 10.0.0.2" in text
    for shipped, own in (("red", lab["red"]), ("blue", lab["blue"])):
        text = text.replace(f'"{shipped}"', f'"{own}"')
    socket = lab.directory / "run" / "control.sock"
    text = re.sub("^#control_socket = .*$", f'control_socket = "{socket}"', text, flags=re.MULTILINE)
    file = lab.directory / "epaird.toml"
    file.write_text(text)
    daemon = lab.launch_file(file).wait_ready()
    ping(lab["red"], BLUE)
    daemon.at_rest()


def test_omitted_settings_have_defaults(lab: Lab) -> None:
    daemon = lab.daemon("[epair.epair7]\n")
    links = lab.home.links("tun")
    assert set(links) == {"epair7a", "epair7b"}
    page = daemon.metrics()
    for device, link in links.items():
        on_page = page.interface(device)
        assert (on_page.netns, on_page.name, on_page.mac) == ("", device, link.mac)
        assert link.mac.startswith("02:")
        assert link.mac.endswith(f":0{device[-1]}")
        assert (link.mtu, link.up) == (1500, True)
    daemon.at_rest()


def test_a_namespace_can_be_given_by_its_path(lab: Lab) -> None:
    red, blue = lab.namespace("red"), lab.namespace("blue")
    daemon = lab.daemon(pair(a={"netns": f"/run/netns/{red}"}, b={"netns": f"/run/netns/{blue}"}))
    ping(red, BLUE)
    assert daemon.metrics().interface("epair0a").netns == f"/run/netns/{red}"


def test_a_half_can_stay_at_home(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"netns": None}))
    ping(lab.home, BLUE)
    ping(lab["blue"], RED)
    daemon.at_rest()


def test_a_half_can_start_down(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(b={"up": False}))
    assert not lab["blue"].links()["eth0"].up
    assert daemon.metrics().interface("epair0b").up == 0
    lab["blue"].ip("link set eth0 up")
    ping(lab["red"], BLUE)
    daemon.at_rest()


def test_pairs_can_be_chained_by_a_router(lab: Lab) -> None:
    daemon = lab.daemon(
        '[namespaces]\ncreate = ["$red", "$blue", "$green"]\n'
        + pair(0, a={"routes": [{"to": "10.0.1.0/24", "via": BLUE}]})
        + pair(
            1, a={"netns": "$blue"}, b={"netns": "$green", "routes": [{"to": "default", "via": "10.0.1.1"}]}
        )
    )
    lab["blue"].write("/proc/sys/net/ipv4/ip_forward", "1")
    ping(lab["red"], "10.0.1.2")
    tcp(lab["red"], lab["green"], "10.0.1.2", 5_000_000)
    tcp(lab["green"], lab["red"], RED, 5_000_000)
    daemon.at_rest()


def test_fresh_pairs_have_no_errors(lab: Lab) -> None:
    """The half that comes up first sends nothing before its peer can receive it."""
    daemon = lab.daemon(NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(20)))
    for unit in range(20):
        for netns in ("red", "blue"):
            lab[netns].wait_for_dad(f"eth{unit}")
    page = daemon.at_rest()
    interfaces = [page.interface(device) for device in page.devices()]
    assert all(interface.opackets for interface in interfaces)
    assert not sum(sum(interface.oerrors.values()) + interface.oqdrops for interface in interfaces)
