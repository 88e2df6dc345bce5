"""In-place changes of the settings of a real device."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from epaird.kernel import link
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings, Route
from epaird.kernel.reconfigure import reconfigure
from epaird.kernel.tun import Tap
from tests.kernel.conftest import MakeTap
from tests.kernel.named import at, placed

pytestmark = pytest.mark.real

BEFORE = LinkSettings(
    mtu=1500,
    txqueuelen=1000,
    mac="02:00:00:00:00:0a",
    addresses=("10.0.0.1/24", "fd00::1/64"),
    routes=(Route("10.1.0.0/16", "10.0.0.2"),),
)


class Device:
    """A TAP in a namespace, configured with BEFORE."""

    def __init__(self, tap: Tap, netns: str) -> None:
        self.netns = netns
        self.settings = BEFORE
        self.index = placed(tap, "eth0", netns)
        at(netns, link.configure, self.index, BEFORE)

    def change(self, **changes: object) -> None:
        after = replace(self.settings, **changes)  # type: ignore[arg-type]
        at(self.netns, reconfigure, self.index, self.settings, after, device="epair0a")
        self.settings = after

    def ip(self, *arguments: str) -> str:
        command = ["ip", "-n", self.netns, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def addresses(self) -> set[str]:
        (found,) = json.loads(self.ip("-j", "addr", "show", "dev", "eth0"))
        infos = (each for each in found["addr_info"] if each["scope"] == "global")
        return {f"{each['local']}/{each['prefixlen']}" for each in infos}

    def routes(self) -> set[str]:
        return {each["dst"] for each in json.loads(self.ip("-j", "route", "show")) if "gateway" in each}


@pytest.fixture
def device(new_tap: MakeTap, new_namespace: Callable[[], str]) -> Device:
    return Device(new_tap(), new_namespace())


def test_properties(device: Device) -> None:
    device.change(mtu=9000, txqueuelen=77, mac="02:00:00:00:00:77")
    (found,) = json.loads(device.ip("-j", "link", "show", "eth0"))
    assert (found["mtu"], found["txqlen"], found["address"]) == (9000, 77, "02:00:00:00:00:77")


def test_addresses_and_routes(device: Device) -> None:
    device.ip("addr", "add", "10.9.0.1/24", "dev", "eth0")
    device.change(addresses=("10.0.0.1/24", "10.0.5.1/24"), routes=(Route("10.2.0.0/16", "10.0.5.2"),))
    assert device.addresses() == {"10.0.0.1/24", "10.0.5.1/24", "10.9.0.1/24"}
    assert device.routes() == {"10.2.0.0/16"}


def test_routes_are_restored_with_the_device(device: Device) -> None:
    device.change(up=False)
    assert device.routes() == set()
    device.change(up=True)
    assert device.routes() == {"10.1.0.0/16"}


def test_a_change_that_another_program_made_already_is_no_error(device: Device) -> None:
    device.ip("addr", "del", "10.0.0.1/24", "dev", "eth0")
    device.ip("addr", "add", "10.0.5.1/24", "dev", "eth0")
    device.change(addresses=("10.0.5.1/24",), routes=())
    assert device.addresses() == {"10.0.5.1/24"}


def test_a_refused_change_is_named(device: Device) -> None:
    with pytest.raises(KernelError, match=r"epair0a: mtu 70000: "):
        device.change(mtu=70000)
