from __future__ import annotations

import asyncio
import errno
import json
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from epaird.kernel import link, namespace, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkReader, LinkStatistics
from epaird.kernel.watch import LinkEventKind, LinkWatch
from tests.kernel.conftest import MakeTap
from tests.kernel.named import at, placed, within
from tests.kernel.openfiles import open_files
from tests.waiting import until

pytestmark = pytest.mark.real

PLAIN = link.LinkSettings(mtu=1500, txqueuelen=1000)


def ip(netns: str, *arguments: str) -> list[dict[str, Any]]:
    command = ["ip", "-j", "-n", netns, *arguments]
    shown: list[dict[str, Any]] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]"
    )
    return shown


def refusal(function: Callable[..., object], *arguments: object, **keywords: object) -> tuple[int, str]:
    with pytest.raises(KernelError) as refused:
        function(*arguments, **keywords)
    return refused.value.errno, str(refused.value)


def test_a_move_with_a_new_name(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap, netns = new_tap(), new_namespace()
    index = placed(tap, "eth0", netns)
    with within(netns):
        assert socket.if_nametoindex("eth0") == index
    assert tunqueue.current_name(tap.fds[0]) == "eth0"


def test_a_new_name_in_the_own_namespace(new_tap: MakeTap, new_name: Callable[[], str]) -> None:
    tap, name = new_tap(), new_name()
    assert placed(tap, tap.name, None) == tap.index
    assert placed(tap, name, None) == tap.index
    assert placed(tap, name, "/proc/self/ns/net") == tap.index
    assert tunqueue.current_name(tap.fds[0]) == name


def test_an_index_that_is_taken_there(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    """Indices are per namespace: the device gets another index when its own is in use."""
    tap, netns = new_tap(), new_namespace()
    subprocess.run(
        ["ip", "-n", netns, "link", "add", "other", "index", str(tap.index), "type", "veth"], check=True
    )
    index = placed(tap, "eth0", netns)
    assert index != tap.index
    with within(netns):
        assert socket.if_nametoindex("eth0") == index


def test_a_name_that_is_taken_there(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap, netns = new_tap(), new_namespace()
    refused_with = refusal(placed, tap, "lo", netns, device="epair0a")
    words = f"epair0a: cannot be lo in namespace {netns}: a device of this name exists already"
    assert refused_with == (errno.EEXIST, words)
    assert tunqueue.namespace_of(tap.fds[0]) == namespace.identity(None)
    assert tunqueue.current_name(tap.fds[0]) == tap.name
    assert refusal(placed, tap, "lo", None)[0] == errno.EEXIST


def test_placing_when_device_or_namespace_is_missing(
    new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    netns = new_namespace()
    tap = new_tap()
    link.delete(tap.index)
    assert refusal(placed, tap, "eth0", netns) == (errno.EBADFD, f"{tap.name}: the device is gone")
    assert refusal(placed, new_tap(), "eth0", "eptnone")[0] == errno.ENOENT


def test_a_namespace_may_be_given_as_a_path(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    with namespace.opened(netns) as found:
        path = f"/proc/self/fd/{found.fd}"
        index = placed(new_tap(), "eth0", path)
        at(path, link.set_up, index, True)
    assert "UP" in ip(netns, "link", "show", "eth0")[0]["flags"]


def test_everything_is_configured(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    index = placed(new_tap(), "eth0", netns)
    settings = link.LinkSettings(
        mtu=9000,
        txqueuelen=5000,
        mac="02:5d:11:22:33:0a",
        addresses=(link.Address("10.0.0.1/24"), link.Address("fd00::1/64")),
        routes=(
            link.Route("default", "10.0.0.2"),
            link.Route("default", "fd00::2"),
            link.Route("10.9.0.0/16", "10.0.0.3"),
            link.Route("fd09::/64"),
        ),
    )
    at(netns, link.configure, index, settings, device="epair0a")
    (shown,) = ip(netns, "addr", "show", "eth0")
    assert (shown["mtu"], shown["txqlen"], shown["address"]) == (9000, 5000, "02:5d:11:22:33:0a")
    assert {"UP", "LOWER_UP"} <= set(shown["flags"])
    addresses = {
        f"{one['local']}/{one['prefixlen']}" for one in shown["addr_info"] if one["scope"] == "global"
    }
    assert addresses == {"10.0.0.1/24", "fd00::1/64"}
    four = {(route["dst"], route.get("gateway")) for route in ip(netns, "route")}
    assert four == {("default", "10.0.0.2"), ("10.0.0.0/24", None), ("10.9.0.0/16", "10.0.0.3")}
    six = {(route["dst"], route.get("gateway")) for route in ip(netns, "-6", "route")}
    assert {("default", "fd00::2"), ("fd00::/64", None), ("fd09::/64", None)} <= six


def test_a_device_that_is_to_be_down(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    index = placed(new_tap(), "eth0", netns)
    settings = link.LinkSettings(
        1400,
        10,
        up=False,
        addresses=(link.Address("10.0.0.1/24"),),
        routes=(link.Route("default", "10.0.0.2"),),
    )
    at(netns, link.configure, index, settings)
    (shown,) = ip(netns, "addr", "show", "eth0")
    assert "UP" not in shown["flags"]
    assert shown["addr_info"][0]["local"] == "10.0.0.1"
    assert ip(netns, "route") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (link.LinkSettings(70000, 1000), "mtu 70000: outside of what the device allows"),
        (
            link.LinkSettings(1500, 1000, mac="03:00:00:00:00:01"),
            "mac 03:00:00:00:00:01: not a unicast address",
        ),
        (
            link.LinkSettings(1500, 1000, addresses=(link.Address("10.0.0.1/24"),) * 2),
            "address 10.0.0.1/24: exists already",
        ),
        (
            link.LinkSettings(1500, 1000, addresses=(link.Address("fd00::1/64"),) * 2),
            "address fd00::1/64: exists already",
        ),
        (
            link.LinkSettings(1500, 1000, routes=(link.Route("default", "10.0.0.9"),)),
            "route default via 10.0.0.9: Network is unreachable",
        ),
        (
            link.LinkSettings(1500, 1000, routes=(link.Route("10.1.0.0/16"),) * 2),
            "route 10.1.0.0/16: exists already",
        ),
    ],
)
def test_the_refused_setting_is_named(
    new_tap: MakeTap, new_namespace: Callable[[], str], settings: link.LinkSettings, message: str
) -> None:
    netns = new_namespace()
    index = placed(new_tap(), "eth0", netns)
    refused_with = refusal(at, netns, link.configure, index, settings, device="epair0a")
    assert refused_with[1] == f"epair0a: {message}"


def test_many_devices_and_the_outcome_of_each(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    indices = [placed(new_tap(), f"eth{number}", netns) for number in range(3)]
    good = link.LinkSettings(1400, 2000, addresses=(link.Address("10.0.0.1/24"),))
    bad = link.LinkSettings(70000, 2000, addresses=(link.Address("10.0.0.1/24"),) * 2)
    changes = [
        link.LinkChange(f"epair{number}a", link.configuration_requests(index, bad if number == 1 else good))
        for number, index in enumerate(indices)
    ]
    first, second, third = at(netns, link.change_all, changes)
    assert (first, third) == (None, None)
    assert str(second) == "epair1a: mtu 70000: outside of what the device allows"
    assert [shown["mtu"] for shown in ip(netns, "link")[1:]] == [1400, 1500, 1400]


def test_frames_are_queued_in_the_devices_ring_alone(
    new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    netns = new_namespace()
    for number, queues in enumerate((1, 2)):
        index = placed(new_tap(queues=queues), f"eth{number}", netns)
        at(netns, link.configure, index, PLAIN)
        (shown,) = ip(netns, "link", "show", f"eth{number}")
        assert (shown["qdisc"], shown["txqlen"]) == ("noqueue", 1000)
        at(netns, link.configure, index, PLAIN)


def test_changes_at_run_time(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    index = placed(new_tap(), "eth0", netns)
    at(netns, link.configure, index, PLAIN)
    at(netns, link.set_mtu, index, 1300)
    at(netns, link.set_txqueuelen, index, 77)
    at(netns, link.set_mac, index, "02:00:00:00:00:09")
    at(netns, link.add_address, index, link.Address("10.0.0.1/24"))
    at(netns, link.add_route, index, link.Route("default", "10.0.0.2"))
    (shown,) = ip(netns, "addr", "show", "eth0")
    assert (shown["mtu"], shown["txqlen"], shown["address"]) == (1300, 77, "02:00:00:00:00:09")
    assert [route["dst"] for route in ip(netns, "route")] == ["default", "10.0.0.0/24"]
    at(netns, link.remove_route, index, link.Route("default", "10.0.0.2"))
    at(netns, link.remove_address, index, link.Address("10.0.0.1/24"))
    assert ip(netns, "route") == []
    at(netns, link.set_up, index, False)
    at(netns, link.set_name, index, "eth1")
    (shown,) = ip(netns, "addr", "show", "eth1")
    assert "UP" not in shown["flags"]


def test_removing_what_does_not_exist(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    index = placed(new_tap(), "eth0", netns)
    at(netns, link.configure, index, PLAIN)
    here = {"device": "epair0a"}
    refused_with = refusal(at, netns, link.remove_address, index, link.Address("10.0.0.1/24"), **here)
    assert refused_with == (errno.EADDRNOTAVAIL, "epair0a: address 10.0.0.1/24: does not exist")
    refused_with = refusal(at, netns, link.remove_route, index, link.Route("10.1.0.0/16"), **here)
    assert refused_with == (errno.ESRCH, "epair0a: route 10.1.0.0/16: does not exist")
    at(netns, link.delete, index, device="epair0a")
    assert refusal(at, netns, link.delete, index, **here) == (
        errno.ENODEV,
        "epair0a: delete: the device is gone",
    )
    assert refusal(at, netns, link.set_mtu, index, 1500, **here)[0] == errno.ENODEV


def test_a_group_is_deleted_at_once(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    taps = [new_tap() for _ in range(5)]
    for number, tap in enumerate(taps):
        placed(tap, f"eth{number}", netns)
        if number:
            ip(netns, "link", "set", f"eth{number}", "group", "4711")
    at(netns, link.delete_group, 4711)
    assert {shown["ifname"] for shown in ip(netns, "link")} == {"lo", "eth0"}
    assert refusal(at, netns, link.delete_group, 4711) == (
        errno.ENODEV,
        "group 4711: delete: has no devices",
    )


def test_the_group_of_everything_else_is_not_deleted() -> None:
    with pytest.raises(ValueError, match="group 0"):
        link.delete_group(0)


def test_the_id_of_a_namespace(
    new_tap: MakeTap, new_namespace: Callable[[], str], reader: LinkReader
) -> None:
    netns, other = new_namespace(), new_namespace()
    with namespace.opened(netns) as first, namespace.opened(other) as second:
        nsid = link.namespace_id(first)
        assert link.namespace_id(first) == nsid >= 0
        assert link.namespace_id(second) != nsid
    placed(new_tap(), "eth0", netns)
    assert [one.name for one in reader.read(nsid).values()] == ["eth0"]


def test_nothing_is_left_open(
    new_tap: MakeTap, new_namespace: Callable[[], str], watch: LinkWatch, reader: LinkReader
) -> None:
    """No socket in the namespace and nothing else that would keep it alive."""
    tap, netns = new_tap(), new_namespace()
    with namespace.opened(netns) as fd:
        nsid = link.namespace_id(fd)
    before = open_files()
    index = placed(tap, "eth0", netns)
    at(netns, link.configure, index, PLAIN)
    refusal(at, netns, link.set_mtu, index, 70000)
    assert {one.index for one in reader.read(nsid).values()} == {index}
    assert open_files() == before
    namespace.remove(netns)
    until(
        lambda: any(
            event.kind is LinkEventKind.NAMESPACE_GONE and event.nsid == nsid for event in watch.read()
        )
    )


def test_from_a_thread_besides_uvloop(
    new_tap: MakeTap, new_namespace: Callable[[], str], reader: LinkReader
) -> None:
    """As the control plane calls it: asyncio on uvloop in one thread, these functions in another."""
    tap = new_tap()

    def build() -> tuple[int, int]:
        netns = new_namespace()
        index = placed(tap, "eth0", netns)
        at(netns, link.configure, index, PLAIN)
        with namespace.opened(netns) as fd:
            return link.namespace_id(fd), index

    async def control_plane() -> LinkStatistics:
        with ThreadPoolExecutor(1) as kernel:
            nsid, index = await asyncio.get_running_loop().run_in_executor(kernel, build)
        return reader.read(nsid)[index]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        shown = runner.run(control_plane())
    assert (shown.name, shown.up) == ("eth0", True)
