"""The state of devices, compared with iproute2."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel import abi
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.requests import Address, Route, Rule, as_described
from epaird.kernel.state import NamespaceState, PresentAddress, PresentRoute, present, read
from tests.kernel.named import within

pytestmark = pytest.mark.real


def run(netns: str, *commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", "-n", netns, *command.split()], check=True)


def state_of(netns: str) -> NamespaceState:
    with within(netns), contextlib.closing(RouteSocket()) as route:
        return read(route)


@pytest.fixture
def netns(new_namespace: Callable[[], str]) -> str:
    """Return a namespace with a veth pair, ``x0`` and ``x1``, that is up."""
    made = new_namespace()
    run(made, "link add x0 type veth peer name x1", "link set x0 up", "link set x1 up")
    return made


def index_of(netns: str, name: str) -> int:
    with within(netns):
        return socket.if_nametoindex(name)


def test_what_ip_added_is_found(netns: str) -> None:
    run(
        netns,
        "address add 10.0.0.1/24 dev x0",
        "address add 10.0.0.9 peer 10.0.0.8/32 dev x0",
        "address add 10.0.0.2/24 dev x0",
        "address add fd00::1/64 dev x0 nodad",
        "address add fd00::2/64 dev x0",
        "address add fd00::3 peer fd00::4/128 dev x0",
        "route add default via 10.0.0.70",
        "route add 10.9.0.0/16 via 10.0.0.70 metric 7",
        "route add 10.8.0.0/16 dev x0 src 10.0.0.9",
        "route add 10.7.0.0/16 via 10.0.0.70 table 7777",
        "route add fd09::/48 via fd00::70",
        "route add fd08::/48 dev x0 metric 5",
        "rule add pref 7 to 10.3.0.0/16 iif lo lookup 7777",
        "-6 rule add pref 8 oif x0 lookup 77",
        "rule add pref 9 from 10.0.0.0/8 fwmark 3 lookup 77",
        "rule add pref 10 prohibit",
    )
    index = index_of(netns, "x0")
    state = state_of(netns)
    device = state.devices[index]
    assert (device.name, device.up, device.qdisc) == ("x0", True, "noqueue")
    assert [each.address for each in device.addresses if "fe80:" not in each.address.address] == [
        Address("10.0.0.1/24"),
        Address("10.0.0.9/32", peer="10.0.0.8"),
        Address("10.0.0.2/24"),
        Address("fd00::1/64", nodad=True),
        Address("fd00::2/64"),
        Address("fd00::3/128", peer="fd00::4"),
    ]
    routes = [each for each in device.routes if not each.automatic]
    assert {(each.table, each.route, each.source) for each in routes} == {
        (254, Route("0.0.0.0/0", "10.0.0.70", 0), None),
        (254, Route("10.9.0.0/16", "10.0.0.70", 7), None),
        (254, Route("10.8.0.0/16", None, 0), "10.0.0.9"),
        (7777, Route("10.7.0.0/16", "10.0.0.70", 0), None),
        (254, Route("fd09::/48", "fd00::70", 1024), None),
        (254, Route("fd08::/48", None, 5), None),
    }
    assert {each.route.to for each in device.routes if each.automatic} >= {"10.0.0.0/24", "fd00::/64"}
    assert [each for each in state.rules if each.priority < 11] == [
        Rule(socket.AF_INET, 0, 255),
        Rule(socket.AF_INET, 7, 7777, to="10.3.0.0/16", iif="lo"),
        Rule(socket.AF_INET, 9, 77, other=True),
        Rule(socket.AF_INET, 10, 0, other=True),
        Rule(socket.AF_INET6, 0, 255),
        Rule(socket.AF_INET6, 8, 77, oif="x0"),
    ]


def test_the_kernels_description_adds_a_thing_again(netns: str) -> None:
    run(
        netns,
        "address add 10.0.0.1/24 brd + label x0:a valid_lft 5000 preferred_lft 4000 dev x0",
        "address add 10.0.0.9 peer 10.0.0.8/32 dev x0",
        "address add fd00::1/64 dev x0 nodad noprefixroute",
        "route add 10.9.0.0/16 via 10.0.0.70 metric 7 mtu 1300 proto 77",
        "route add 10.8.0.0/16 via 10.77.0.1 dev x0 onlink",
        "route add 10.7.0.0/16 nexthop via 10.0.0.70 weight 3 nexthop via 10.0.0.3",
        "route add 10.6.0.0/16 dev x0 table 7777",
        "route add fd09::/48 dev x0 metric 9",
        "route add fd08::/48 via fd00::9 dev x0 onlink pref high",
        "address add fd01::1/64 dev x0 nodad",
        "route add fd07::/48 via fd01::9 dev x0",
        "-6 route append fd07::/48 via fd01::8 dev x0",
        "nexthop add id 5 via 10.0.0.70 dev x0",
        "route add 10.5.0.0/16 nhid 5",
    )
    index = index_of(netns, "x0")
    before = state_of(netns)
    addresses = before.devices[index].addresses
    things: list[PresentRoute | PresentAddress] = [
        *(each for each in before.routes if not each.automatic),
        *addresses,
    ]
    with within(netns), contextlib.closing(RouteSocket()) as route:
        for kinds in ((abi.RTM_DELROUTE, abi.RTM_DELADDR), (abi.RTM_NEWROUTE, abi.RTM_NEWADDR)):
            for thing in things if kinds[0] == abi.RTM_DELROUTE else reversed(things):
                request = as_described("", kinds[thing in addresses], thing.message)
                assert route.execute([(request.kind, request.flags, request.payload)]) == [0], thing
    after = state_of(netns)
    assert {each.message for each in after.routes} == {each.message for each in before.routes}
    assert {each.address for each in after.devices[index].addresses} == {each.address for each in addresses}


def test_only_some_devices(netns: str) -> None:
    index = index_of(netns, "x1")
    with within(netns), contextlib.closing(RouteSocket()) as route:
        assert list(present(route, [index, 4711])) == [index]
        assert len(present(route)) == 3
