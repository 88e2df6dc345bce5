from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel import hardware, link, namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.hardware import hardware_addresses, hardware_addresses_of
from tests.kernel.named import within

pytestmark = pytest.mark.real


def nsid_of(netns: str) -> int:
    with namespace.opened(netns) as fd:
        return link.namespace_id(fd)


def shown(netns: str) -> set[str]:
    """Return the addresses that ``ip`` shows."""
    command = ["ip", "-n", netns, "-j", "link", "show"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {each["address"] for each in found if len(each.get("address", "")) == len("02:00:00:00:00:01")}


def ip(netns: str, arguments: str) -> None:
    subprocess.run(["ip", "-n", netns, *arguments.split()], check=True)


def test_devices_of_every_kind_are_seen(new_namespace: Callable[[], str]) -> None:
    red = new_namespace()
    ip(red, "link add v0 type veth peer name v1")
    ip(red, "link add br0 address 02:00:00:00:00:42 type bridge")
    ip(red, "tuntap add tap0 mode tap")
    ip(red, "tuntap add tun0 mode tun")
    ip(red, "link set v0 up alias " + "x" * 200)
    found = hardware_addresses(nsid_of(red))
    assert found == shown(red)
    assert len(found) == 5  # lo has one too, all zero
    assert "02:00:00:00:00:42" in found
    with within(red):
        assert hardware_addresses(None) == found


def test_many_devices(new_namespace: Callable[[], str]) -> None:
    red = new_namespace()
    commands = "".join(f"tuntap add d{number} mode tap\n" for number in range(100))
    subprocess.run(["ip", "-n", red, "-batch", "-"], input=commands, text=True, check=True)
    assert hardware_addresses(nsid_of(red)) == shown(red)


def test_a_namespace_that_is_gone_has_none(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    nsid = nsid_of(name)
    namespace.remove(name)
    assert hardware_addresses(nsid + 1000) == frozenset()


def test_each_of_several_namespaces_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def look(nsid: int | None) -> frozenset[str]:
        asked.append(nsid)
        if nsid == 7:
            raise KernelError(errno.EIO, "netlink: no")
        return frozenset({f"02:00:00:00:00:{nsid or 0:02x}"})

    monkeypatch.setattr(hardware, "hardware_addresses", look)
    found = hardware_addresses_of([None, 3, 7, None, 3, 7])
    assert asked == [None, 3, 7]
    assert found[:2] == found[3:5] == [frozenset({f"02:00:00:00:00:0{number}"}) for number in (0, 3)]
    assert all(isinstance(each, KernelError) for each in (found[2], found[5]))
