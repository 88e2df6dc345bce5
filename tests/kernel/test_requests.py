"""The requests, decoded by pyroute2."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from epaird.kernel import abi, requests
from epaird.kernel.netlink import HEADER
from epaird.kernel.requests import Address, NetlinkRequest, Route, Rule


def _text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as the C library formats it, and therefore pyroute2."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.packed)


def read(kind: type[nlmsg], request: NetlinkRequest) -> Any:  # noqa: ANN401
    header = HEADER.pack(HEADER.size + len(request.payload), request.kind, request.flags, 1, 0)
    message = kind(header + request.payload)
    message.decode()
    return message


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_device_is_changed(index: int, number: int) -> None:
    for request, name in (
        (requests.mtu(index, number), "mtu"),
        (requests.txqueuelen(index, number), "txqlen"),
        (requests.group(index, number), "group"),
        (requests.name(index, "eth0", number), "net_ns_fd"),
    ):
        message = read(ifinfmsg, request)
        assert (request.kind, message["index"], message["change"]) == (abi.RTM_SETLINK, index, 0)
        assert message.get_attr(f"IFLA_{name.upper()}") == number
    assert message.get_attr("IFLA_IFNAME") == "eth0"
    message = read(ifinfmsg, requests.mac(index, "02:5d:11:22:33:0a"))
    assert message.get_attr("IFLA_ADDRESS") == "02:5d:11:22:33:0a"


@pytest.mark.parametrize("wanted", [True, False])
def test_up_and_down(wanted: bool) -> None:
    message = read(ifinfmsg, requests.up(7, wanted))
    assert (message["index"], message["flags"], message["change"]) == (7, int(wanted), 1)


def test_a_device_is_put_into_a_group() -> None:
    message = read(ifinfmsg, requests.group(7, 4711))
    assert (message["index"], message.get_attr("IFLA_GROUP")) == (7, 4711)


def test_no_queueing_discipline() -> None:
    message = read(tcmsg, requests.no_qdisc(7))
    assert (message["index"], message["parent"], message.get_attr("TCA_KIND")) == (7, 0xFFFFFFFF, "noqueue")


@given(st.integers(1, 2**31 - 1), st.ip_addresses(), st.integers(0, 32))
def test_an_address(index: int, address: IPv4Address | IPv6Address, length: int) -> None:
    for request in (
        requests.add_address(index, Address(f"{address}/{length}")),
        requests.remove_address(index, Address(f"{address}/{length}")),
    ):
        message = read(ifaddrmsg, request)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        assert (message["family"], message["prefixlen"], message["index"]) == (family, length, index)
        assert message.get_attr("IFA_ADDRESS") == message.get_attr("IFA_LOCAL") == _text(address)


@pytest.mark.parametrize(
    ("route", "family", "destination", "length", "scope"),
    [
        (Route("default", "10.0.0.2"), socket.AF_INET, None, 0, 0),
        (Route("default", "fd00::2"), socket.AF_INET6, None, 0, 0),
        (Route("default"), socket.AF_INET, None, 0, 253),
        (Route("10.9.0.0/16"), socket.AF_INET, "10.9.0.0", 16, 253),
        (Route("10.9.0.0/16", "10.0.0.3"), socket.AF_INET, "10.9.0.0", 16, 0),
        (Route("fd09::/64"), socket.AF_INET6, "fd09::", 64, 0),
    ],
)
def test_a_route(route: Route, family: int, destination: str | None, length: int, scope: int) -> None:
    message = read(rtmsg, requests.add_route(7, route))
    assert (message["family"], message["dst_len"], message["scope"]) == (family, length, scope)
    assert (message["table"], message["type"], message["proto"]) == (254, 1, 4)
    assert message.get_attr("RTA_DST") == destination
    assert message.get_attr("RTA_GATEWAY") == route.via
    assert message.get_attr("RTA_OIF") == 7
    message = read(rtmsg, requests.remove_route(7, route))
    assert (message["scope"], message["type"], message["proto"]) == (255, 0, 0)


@pytest.mark.parametrize(
    ("address", "family", "own", "peer", "flags"),
    [
        (Address("10.0.0.1/24", peer="10.9.0.2"), socket.AF_INET, "10.0.0.1", "10.9.0.2", 0),
        (Address("10.0.0.1/24", nodad=True), socket.AF_INET, "10.0.0.1", "10.0.0.1", 0),
        (Address("fd00::1/64", peer="fd00::2"), socket.AF_INET6, "fd00::1", "fd00::2", 0),
        (Address("fd00::1/64", nodad=True), socket.AF_INET6, "fd00::1", "fd00::1", abi.IFA_F_NODAD),
    ],
)
def test_a_peer_and_nodad(address: Address, family: int, own: str, peer: str, flags: int) -> None:
    message = read(ifaddrmsg, requests.add_address(7, address))
    assert (message["family"], message["flags"]) == (family, flags)
    assert (message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")) == (own, peer)


def test_addresses_and_routes_as_iproute2_writes_them() -> None:
    assert str(Address("10.0.0.1/24")) == "10.0.0.1/24"
    assert str(Address("10.0.0.1/32", peer="10.0.0.2")) == "10.0.0.1 peer 10.0.0.2/32"
    assert str(Address("fd00::1/64", nodad=True)) == "fd00::1/64 nodad"
    assert str(Route("default", "10.0.0.2", 7)) == "default via 10.0.0.2 metric 7"
    assert str(Route("10.1.0.0/16")) == "10.1.0.0/16"


@given(st.integers(1, 2**32 - 1))
def test_a_metric(metric: int) -> None:
    for request in (requests.add_route, requests.remove_route):
        message = read(rtmsg, request(7, Route("10.9.0.0/16", "10.0.0.3", metric)))
        assert message.get_attr("RTA_PRIORITY") == metric


def test_a_route_of_a_policy_table() -> None:
    message = read(rtmsg, requests.add_policy_route(7, Route("10.88.7.1/32"), 0x65706107))
    assert (message.get_attr("RTA_DST"), message["dst_len"]) == ("10.88.7.1", 32)
    assert (message.get_attr("RTA_PREFSRC"), message.get_attr("RTA_TABLE")) == ("10.88.7.1", 0x65706107)
    message = read(rtmsg, requests.add_policy_route(7, Route("fd88::1/128"), 0x65706107))
    assert (message.get_attr("RTA_DST"), message.get_attr("RTA_PREFSRC")) == ("fd88::1", None)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(socket.AF_INET, 30, 0x65706107, to="10.88.7.1/32", iif="lo"),
        Rule(socket.AF_INET6, 20, 0x65706107, oif="lo1"),
        Rule(socket.AF_INET, 100, 255),
    ],
)
def test_a_rule(rule: Rule) -> None:
    for request, kind in ((requests.add_rule, abi.RTM_NEWRULE), (requests.remove_rule, abi.RTM_DELRULE)):
        made = request(rule)
        message = read(fibmsg, made)
        assert made.kind == kind
        assert (message["family"], message["action"]) == (rule.family, abi.FR_ACT_TO_TBL)
        assert message.get_attr("FRA_PRIORITY") == rule.priority
        assert message.get_attr("FRA_TABLE") == rule.table
        to, _, length = (rule.to or "/0").partition("/")
        assert (message.get_attr("FRA_DST") or "", message["dst_len"]) == (to, int(length))
        names = message.get_attr("FRA_IIFNAME"), message.get_attr("FRA_OIFNAME")
        assert names == (rule.iif, rule.oif)


def test_group_0_cannot_be_deleted() -> None:
    with pytest.raises(ValueError, match="group 0"):
        requests.delete_group(0)
