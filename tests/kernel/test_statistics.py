from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epaird.kernel import abi, link, namespace, tun, tunqueue
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.statistics import LinkReader, LinkStatistics
from tests.kernel.conftest import MakeTap
from tests.kernel.named import at, placed, within
from tests.kernel.openfiles import open_files
from tests.waiting import until

pytestmark = pytest.mark.real

OWN = 0x88B5
"""The EtherType of these tests' frames, one of those that IEEE reserves for local experiments."""


@pytest.fixture
def quiet(new_namespace: Callable[[], str]) -> str:
    """A namespace whose devices send nothing of their own accord."""
    name = new_namespace()
    with within(name):
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    return name


def nsid_of(netns: str) -> int:
    with namespace.opened(netns) as fd:
        return link.namespace_id(fd)


@contextlib.contextmanager
def sender(netns: str, device: str) -> Iterator[socket.socket]:
    with within(netns):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.bind((device, OWN))
        yield raw


def frame(payload: int) -> bytes:
    return b"\xff" * 6 + b"\2" + bytes(5) + OWN.to_bytes(2, "big") + bytes(payload)


def read_all(fd: int) -> int:
    frames = 0
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 1 << 17):
            frames += 1
    return frames


def test_a_device_in_the_own_namespace(reader: LinkReader, new_tap: MakeTap) -> None:
    tap = new_tap()
    link.configure(tap.index, link.LinkSettings(1400, 1000, mac="02:5d:11:22:33:0a", up=False))
    assert reader.read()[tap.index] == LinkStatistics(
        index=tap.index,
        name=tap.name,
        up=False,
        lower_up=False,
        mtu=1400,
        mac="02:5d:11:22:33:0a",
        tx_packets=0,
        tx_bytes=0,
        tx_dropped=0,
        rx_packets=0,
        rx_bytes=0,
        rx_dropped=0,
    )


def test_only_tun_and_tap_devices_are_read(reader: LinkReader, new_tap: MakeTap) -> None:
    tap = new_tap()
    read = reader.read()
    assert tap.index in read
    assert socket.if_nametoindex("lo") not in read


def test_frames_are_counted_in_another_namespace(reader: LinkReader, new_tap: MakeTap, quiet: str) -> None:
    tap, nsid = new_tap(), nsid_of(quiet)
    (fd,) = tap.fds
    index = placed(tap, "eth0", quiet)
    at(quiet, link.configure, index, link.LinkSettings(1500, 10))
    with sender(quiet, "eth0") as raw:
        for _ in range(50):
            with contextlib.suppress(OSError):
                raw.send(frame(100))
    assert read_all(fd) == 10
    for _ in range(3):
        os.write(fd, bytes(abi.VIRTIO_NET_HDR_BYTES) + frame(200))
    shown = reader.read(nsid)[index]
    assert (shown.name, shown.up, shown.lower_up) == ("eth0", True, True)
    assert (shown.tx_packets, shown.tx_bytes, shown.tx_dropped) == (10, 1140, 40)
    assert (shown.rx_packets, shown.rx_bytes) == (3, 642)
    at(quiet, link.set_up, index, False)
    dropped = shown.rx_dropped
    with pytest.raises(OSError, match="Input/output error"):
        os.write(fd, bytes(abi.VIRTIO_NET_HDR_BYTES) + frame(200))
    shown = reader.read(nsid)[index]
    assert (shown.up, shown.rx_dropped) == (False, dropped + 1)


def test_more_than_one_datagram_of_devices(reader: LinkReader, new_tap: MakeTap, quiet: str) -> None:
    indices = {placed(new_tap(), f"eth{number}", quiet) for number in range(60)}
    nsid = nsid_of(quiet)
    read = reader.read(nsid)
    assert set(read) == indices
    assert {one.name for one in read.values()} == {f"eth{number}" for number in range(60)}


def test_devices_of_all_kinds_side_by_side(reader: LinkReader, quiet: str) -> None:
    """Their messages differ in layout: by the length of the name, the qdisc, a TUN's address."""
    with contextlib.ExitStack() as stack:
        with within(quiet):
            taps = [tun.open_tap(f"t{'x' * length}") for length in range(9)]
            taps += [tun.open_tun(f"u{'x' * length}") for length in range(9)]
            taps += [tun.open_tap("several", queues=2)]
        for tap in taps:
            stack.callback(tap.close)
        for tap in taps[::2]:
            at(quiet, link.configure, tap.index, link.LinkSettings(1400, 100))
        for tap in taps[::3]:
            at(quiet, link.set_up, tap.index, True)
        command = ["ip", "-n", quiet, "-s", "-j", "link", "show", "type", "tun"]
        shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        nsid = nsid_of(quiet)
        for _ in range(2):
            read = {
                (one.name, one.index, one.mtu, one.mac, one.up, one.tx_packets, one.tx_dropped)
                for one in reader.read(nsid).values()
            }
            assert read == {
                (
                    one["ifname"], one["ifindex"], one["mtu"], one.get("address", ""), "UP" in one["flags"],
                    one["stats64"]["tx"]["packets"], one["stats64"]["tx"]["dropped"],
                )
                for one in shown
            }  # fmt: skip


def test_a_namespace_that_is_gone_is_empty(
    reader: LinkReader, new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    """Reading the namespace does not keep it alive."""
    tap, netns = new_tap(), new_namespace()
    nsid = nsid_of(netns)
    index = placed(tap, "eth0", netns)
    assert set(reader.read(nsid)) == {index}
    namespace.remove(netns)
    until(lambda: reader.read(nsid) == {})
    assert reader.read(0x7FFFFFF0) == {}


@pytest.mark.parametrize(("interruptions", "dumps"), [(0, 1), (2, 3), (100, 4)])
def test_an_interrupted_dump_is_repeated(
    reader: LinkReader,
    new_tap: MakeTap,
    monkeypatch: pytest.MonkeyPatch,
    interruptions: int,
    dumps: int,
) -> None:
    tap, requested = new_tap(), []
    request = RouteSocket.request

    def interrupted(
        self: RouteSocket, kind: int, flags: int, payload: bytes
    ) -> Iterator[tuple[int, int, int, int]]:
        requested.append(kind)
        mark = abi.NLM_F_DUMP_INTR if len(requested) <= interruptions else 0
        for answer, answer_flags, start, end in request(self, kind, flags, payload):
            yield answer, answer_flags | mark, start, end

    monkeypatch.setattr(RouteSocket, "request", interrupted)
    assert tap.index in reader.read()
    assert len(requested) == dumps


def test_a_name_may_have_any_bytes(reader: LinkReader, new_tap: MakeTap) -> None:
    tap = new_tap()
    try:
        for name in ("eptö", "e\\xff\\x1b", "e\\x5cxff"):
            link.set_name(tap.index, name)
            assert reader.read()[tap.index].name == tunqueue.current_name(tap.fds[0]) == name
            assert link.exists(name)
    finally:
        link.set_name(tap.index, tap.name)


def test_no_file_descriptor_remains(new_tap: MakeTap) -> None:
    before = open_files()
    reader = LinkReader()
    reader.read()
    reader.close()
    reader.close()
    assert open_files() == before


def test_a_device_whose_message_exceeds_the_read_size(reader: LinkReader, new_tap: MakeTap) -> None:
    before, tap, after = new_tap(), new_tap(), new_tap()
    for number in range(90):
        altname = f"{tap.name}-{number:0100}"
        subprocess.run(["ip", "link", "property", "add", "dev", tap.name, "altname", altname], check=True)
    found = reader.read()
    assert {found[each.index].name for each in (before, tap, after)} == {before.name, tap.name, after.name}
