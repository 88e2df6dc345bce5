"""Addresses and routes in the kernel, compared with iproute2."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel.addressing import addressing
from epaird.kernel.errors import KernelError
from tests.kernel.named import at, within

pytestmark = pytest.mark.real


def test_addresses_and_routes_that_ip_added_are_found(new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    for command in (
        "link add x0 type veth peer name x1",
        "link set x0 up",
        "link set x1 up",
        "address add 10.0.0.1/24 dev x0",
        "address add 10.0.0.9 peer 10.0.0.8/32 dev x0",
        "address add fd00::1/64 dev x0 nodad",
        "route add default via 10.0.0.2",
        "route add 10.9.0.0/16 via 10.0.0.2",
        "route add 10.8.0.0/16 dev x0",
        "route add 10.7.0.0/16 via 10.0.0.2 table 77",
        "route add fd09::/48 via fd00::2",
    ):
        subprocess.run(["ip", "-n", netns, *command.split()], check=True)
    with within(netns):
        index = socket.if_nametoindex("x0")
    found = at(netns, addressing)[index]
    linked = {address for address in found.addresses if address.startswith("fe80:")}
    assert found.addresses - linked == {"10.0.0.1/24", "10.0.0.9/32", "fd00::1/64"}
    assert found.routes == {
        ("0.0.0.0/0", "10.0.0.2"), ("10.9.0.0/16", "10.0.0.2"), ("fd09::/48", "fd00::2"),
    }  # fmt: skip


def test_a_missing_namespace() -> None:
    with pytest.raises(KernelError, match="does not exist"):
        at("ept-no-such-namespace", addressing)
