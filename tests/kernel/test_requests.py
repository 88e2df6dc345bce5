"""The requests, decoded by pyroute2."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from epaird.kernel import abi, requests
from epaird.kernel.netlink import HEADER
from epaird.kernel.requests import Address, NetlinkRequest, Route


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


def test_group_0_cannot_be_deleted() -> None:
    with pytest.raises(ValueError, match="group 0"):
        requests.delete_group(0)
