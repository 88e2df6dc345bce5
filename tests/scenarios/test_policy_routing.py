"""Loopbacks with ``policy_routing`` on a router between two neighbours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.scenarios.control_plane import ControlPlane, control_plane, in_thread, on_loop_in_lab
from tests.scenarios.lab import Lab
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import ping, tcp

pytestmark = pytest.mark.real

OF_LO1 = ("10.88.7.1", "fd88:7::1")
OF_LO2 = ("10.88.8.1", "fd88:8::1")
SETTINGS = {"mode": "verbatim", "policy_routing": True}


class Routers:
    """``green`` and ``blue`` are neighbours of ``red``, which forwards and has the loopbacks lo1 and lo2."""

    def __init__(self, lab: Lab, control: ControlPlane) -> None:
        self.control = control
        self.green, self.red, self.blue = (lab[name] for name in ("green", "red", "blue"))

    def passed(self, device: str) -> int:
        """Return the number of packets that a loopback has delivered."""
        return self.control.reading(device).stats.ipackets

    async def reaches(self, source: Namespace, address: str, *options: str, through: str = "") -> None:
        """Ping an address; the packets pass the loopback ``through``, or none."""
        before = {device: self.passed(device) for device in ("lo1", "lo2")}
        await in_thread(ping, source, address, *options, count=10)
        # The kernel sends a few multicast packets of its own.
        for device, count in before.items():
            assert (self.passed(device) - count >= 10) == (device == through)


@contextlib.asynccontextmanager
async def routers(lab: Lab) -> AsyncIterator[Routers]:
    """Create the namespaces, the cables and the loopbacks."""
    for name in ("green", "red", "blue"):
        lab.namespace(name)
    async with control_plane(lab) as control:
        made = Routers(lab, control)
        for number, neighbour in enumerate((made.green, made.blue)):
            nets = (f"10.0.{number}.{{}}", f"fd0{number}::{{}}")
            addresses = [[f"{nets[0].format(host)}/24", f"{nets[1].format(host)}/64"] for host in (1, 2)]
            routes = [{"to": "default", "via": net.format(2)} for net in nets]
            a = {"netns": neighbour.name, "name": "eth0", "addresses": addresses[0], "routes": routes}
            b = {"netns": made.red.name, "name": f"eth{number}", "addresses": addresses[1]}
            await control.interfaces.create(f"epair{number}", {"a": a, "b": b})
        for device, (four, six) in (("lo1", OF_LO1), ("lo2", OF_LO2)):
            addresses_of = [f"{four}/24", f"{six}/64"]
            await control.interfaces.create(
                device, {"netns": made.red.name, "addresses": addresses_of, **SETTINGS}
            )
        for place, device in (
            (made.green, "eth0"),
            (made.red, "eth0"),
            (made.red, "eth1"),
            (made.blue, "eth0"),
        ):
            await in_thread(place.wait_for_dad, device)
        for file in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            made.red.write(f"/proc/sys/net/{file}", "1")
        yield made


@on_loop_in_lab
async def test_neighbours_reach_a_loopback_without_a_hop(lab: Lab) -> None:
    async with routers(lab) as lan:
        for address in (*OF_LO1, *OF_LO2):
            await lan.reaches(lan.green, address, "-t", "1")
            await lan.reaches(lan.blue, address, "-t", "1")
        await in_thread(tcp, lan.green, lan.red, OF_LO1[0], 1_000_000)
        for forwarded in ("10.0.1.1", "fd01::1"):
            await lan.reaches(lan.green, forwarded)
        for source, target in zip(OF_LO1, ("10.0.0.1", "fd00::1"), strict=True):
            await lan.reaches(lan.red, target, "-I", source)


@on_loop_in_lab
async def test_local_traffic_passes_the_device_from_any_own_address(lab: Lab) -> None:
    async with routers(lab) as lan:
        for strictness in ("0", "2"):
            for device in ("all", "lo1", "lo2"):
                lan.red.write(f"/proc/sys/net/ipv4/conf/{device}/rp_filter", strictness)
            for address, of_lo2, of_eth0 in zip(OF_LO1, OF_LO2, ("10.0.0.2", "fd00::2"), strict=True):
                await lan.reaches(lan.red, address, through="lo1")
                await lan.reaches(lan.red, address, "-I", "lo1", through="lo1")
                await lan.reaches(lan.red, address, "-I", of_eth0, through="lo1")
                before = lan.passed("lo1")
                await in_thread(ping, lan.red, of_lo2, "-I", address, count=10)
                assert lan.passed("lo1") >= before + 10, "the answers pass the other loopback"


@on_loop_in_lab
async def test_a_loopback_that_is_down_is_reached_by_neighbours_and_locally(lab: Lab) -> None:
    async with routers(lab) as lan:
        rules = lan.red.ip("rule show")
        lan.red.ip("link set lo1 down")
        await lan.reaches(lan.red, OF_LO2[0], through="lo2")
        await lan.reaches(lan.red, OF_LO1[0])
        await lan.reaches(lan.green, OF_LO1[0], "-t", "1")
        assert lan.red.ip("rule show") == rules


@on_loop_in_lab
async def test_the_name_of_a_loopback_is_in_no_rule(lab: Lab) -> None:
    async with routers(lab) as lan:
        rules = lan.red.ip("rule show"), lan.red.ip("-6 rule show")
        lan.red.ip("link set lo1 name other")
        assert (lan.red.ip("rule show"), lan.red.ip("-6 rule show")) == rules
        for address in OF_LO1:
            await lan.reaches(lan.red, address, through="lo1")
