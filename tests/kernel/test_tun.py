from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel import abi, link, tun, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.printable import printable
from tests.kernel.conftest import MakeTap
from tests.kernel.named import at, placed, within
from tests.kernel.openfiles import open_files

pytestmark = pytest.mark.real

EVERYTHING = (
    abi.TUN_F_CSUM | abi.TUN_F_TSO4 | abi.TUN_F_TSO6 | abi.TUN_F_TSO_ECN | abi.TUN_F_USO4 | abi.TUN_F_USO6
)
UDP_SEGMENT = 103  # linux/udp.h


def devices() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def test_a_tap(new_tap: MakeTap) -> None:
    tap = new_tap()
    assert socket.if_nametoindex(tap.name) == tap.index
    (fd,) = tap.fds
    assert tunqueue.current_name(fd) == tap.name
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    with pytest.raises(BlockingIOError):
        os.read(fd, 100)


def test_closing_destroys_it_and_may_be_repeated(new_tap: MakeTap) -> None:
    tap = new_tap(queues=2)
    tap.close()
    tap.close()
    assert tap.name not in devices()


def test_queues(new_tap: MakeTap) -> None:
    tap = new_tap(queues=3)
    assert len(set(tap.fds)) == 3
    for fd in tap.fds:
        assert tunqueue.current_name(fd) == tap.name
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)


@pytest.mark.parametrize("queues", [1, 2])
def test_a_name_that_is_taken(new_tap: MakeTap, queues: int) -> None:
    tap = new_tap(queues=2)
    with pytest.raises(KernelError) as refusal:
        tun.open_tap(tap.name, queues=queues)
    assert str(refusal.value) == f"{tap.name}: a device of this name exists already"
    assert refusal.value.errno == errno.EEXIST


@pytest.mark.parametrize("name", ["", "x" * 16, "ä" * 8, "ept/0", "ept 0", "ept%d", "."])
def test_invalid_names(name: str) -> None:
    before = devices()
    with pytest.raises(KernelError, match="not a device name"):
        tun.open_tap(name)
    assert devices() == before


def test_without_the_device_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "TUN_DEVICE", "/dev/net/eptnone")
    with pytest.raises(KernelError, match="eptnone is missing: modprobe tun"):
        tun.open_tap("ept0")


def test_a_later_failure_leaves_nothing_behind(
    new_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> int:
        raise OSError(errno.ENODEV, "No such device")

    tun.super_frame_offloads()
    before = open_files()
    name = new_name()
    monkeypatch.setattr(socket, "if_nametoindex", fail)
    with pytest.raises(KernelError, match=f"^{name}: the device is gone$"):
        tun.open_tap(name, queues=2)
    monkeypatch.undo()
    assert name not in devices()
    assert open_files() == before


def test_too_many_queues_leave_nothing_behind(new_name: Callable[[], str]) -> None:
    before, name = open_files(), new_name()
    with pytest.raises(KernelError, match=f"^{name}: ") as refusal:
        tun.open_tap(name, queues=300)
    assert refusal.value.errno == errno.E2BIG
    assert name not in devices()
    assert open_files() == before


def test_missing_offloads_are_listed(new_tap: MakeTap) -> None:
    tap = new_tap()
    assert tap.offloads & abi.TUN_F_CSUM
    assert bool(tap.missing) == (tap.offloads != EVERYTHING)
    plain = new_tap(offload=False)
    assert (plain.offloads, plain.missing) == (0, ())


@pytest.mark.parametrize("queues", [1, 3])
def test_offloads_change_while_the_device_is_up_in_another_namespace(
    new_tap: MakeTap, new_namespace: Callable[[], str], queues: int
) -> None:
    tap, netns = new_tap(queues=queues), new_namespace()
    subprocess.run(["ip", "link", "set", tap.name, "netns", netns, "name", "eth0", "up"], check=True)
    subprocess.run(["ip", "-n", netns, "link", "set", "eth0", "up"], check=True)
    off = tun.set_offload(tap, False)
    assert (off.offloads, off.missing, off.fds) == (0, (), tap.fds)
    assert not _features(netns) & {"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-udp-segmentation"}
    assert tun.set_offload(off, True) == tap
    assert "tx-tcp-segmentation" in _features(netns)


def _features(netns: str) -> set[str]:
    """Return the features of eth0 that are on."""
    shown = subprocess.run(
        ["ip", "netns", "exec", netns, "ethtool", "-k", "eth0"], check=True, capture_output=True, text=True
    ).stdout
    return {line.split(":")[0].strip() for line in shown.splitlines() if ": on" in line}


def test_the_offloads_of_a_device_that_is_gone(new_tap: MakeTap) -> None:
    tap = new_tap()
    subprocess.run(["ip", "link", "del", tap.name], check=True)
    with pytest.raises(KernelError) as gone:
        tun.set_offload(tap, False)
    assert gone.value.errno == errno.EBADFD


@pytest.mark.parametrize(
    ("refused", "left", "words"),
    [
        (abi.TUN_F_USO4, EVERYTHING & 0x0F, ("UDP segmentation offload (Linux 6.2 or later)",)),
        (abi.TUN_F_TSO_ECN, 0x07, ("TCP segmentation offload with ECN", "UDP segmentation offload")),
        (abi.TUN_F_TSO4, 0x01, ("TCP segmentation offload", "TCP segmentation", "UDP segmentation")),
        (abi.TUN_F_CSUM, 0x00, ("checksum offload", "TCP", "TCP", "UDP")),
    ],
)
def test_falls_back_in_steps(
    new_tap: MakeTap, monkeypatch: pytest.MonkeyPatch, refused: int, left: int, words: tuple[str, ...]
) -> None:
    ioctl = fcntl.ioctl

    def lesser_kernel(fd: int, request: int, argument: int | bytes = 0) -> int | bytes:
        if request == abi.TUNSETOFFLOAD and isinstance(argument, int) and argument & refused:
            raise OSError(errno.EINVAL, "Invalid argument")
        return ioctl(fd, request, argument)

    monkeypatch.setattr(tun, "super_frame_offloads", lambda: EVERYTHING)
    monkeypatch.setattr(fcntl, "ioctl", lesser_kernel)
    tap = new_tap()
    assert tap.offloads == left
    assert len(tap.missing) == len(words)
    assert all(text.startswith(word) for text, word in zip(tap.missing, words, strict=True))


def test_the_probe_for_super_frames_leaves_no_trace(new_tap: MakeTap) -> None:
    before = devices()
    tun.super_frame_offloads.cache_clear()
    assert tun.super_frame_offloads() & abi.TUN_F_CSUM
    assert devices() == before


@pytest.mark.parametrize("protocol", [socket.IPPROTO_TCP, socket.IPPROTO_UDP])
def test_a_refused_super_frame_is_distinguished_from_an_accepted_one(new_tap: MakeTap, protocol: int) -> None:
    (fd,) = new_tap().fds
    frame = bytearray(tun._super_frame(protocol))
    accepted = tun.super_frame_offloads() & (0x06 if protocol == socket.IPPROTO_TCP else 0x60)
    assert tun._accepts(fd, bytes(frame)) == bool(accepted)
    frame[4:6] = bytes(2)  # gso_size 0 is refused by every kernel
    assert not tun._accepts(fd, bytes(frame))


@pytest.mark.parametrize("offload", [True, False])
def test_super_frames_are_read_according_to_the_offloads(
    new_tap: MakeTap, new_namespace: Callable[[], str], offload: bool
) -> None:
    tap, netns = new_tap(offload=offload), new_namespace()
    index = placed(tap, "eth0", netns)
    at(netns, link.configure, index, link.LinkSettings(1500, 1000, addresses=(link.Address("10.0.0.1/24"),)))
    with within(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        sender.sendto(bytes(1000), ("10.0.0.255", 9))
    headers = []
    with contextlib.suppress(BlockingIOError):
        while True:
            frame = os.read(tap.fds[0], 1 << 17)
            if frame[10 + 12 : 10 + 14] == b"\x08\0":
                headers.append(abi.VIRTIO_NET_HDR.unpack_from(frame))
    if tap.offloads & abi.TUN_F_USO4:
        ((flags, gso_type, _, gso_size, start, offset),) = headers
        assert flags & abi.VIRTIO_NET_HDR_F_NEEDS_CSUM
        assert (gso_type, gso_size, start, offset) == (abi.VIRTIO_NET_HDR_GSO_UDP_L4, 100, 34, 6)
    else:
        assert [header[1] for header in headers] == [abi.VIRTIO_NET_HDR_GSO_NONE] * 10


@pytest.mark.parametrize("raw", [b"e\xff\x1b", b"e\\xff", b"\\", b"e\xc3\xbc", b"\x7f'\""])
@pytest.mark.parametrize("queues", [1, 2])
def test_a_name_of_any_bytes(new_namespace: Callable[[], str], raw: bytes, queues: int) -> None:
    with within(new_namespace()):
        tap = tun.open_tap(printable(raw), queues=queues)
        with contextlib.closing(tap):
            assert tap.name == printable(raw)
            assert [tunqueue.current_name(fd) for fd in tap.fds] == [printable(raw)] * queues
            assert (tap.index, os.fsdecode(raw)) in socket.if_nameindex()
            with pytest.raises(KernelError) as refusal:
                tun.open_tap(printable(raw))
            assert refusal.value.errno == errno.EEXIST
            assert str(refusal.value).startswith(f"{printable(raw)}: ")
            assert [name for _, name in socket.if_nameindex()] == ["lo", os.fsdecode(raw)]


def test_a_tun_device_carries_packets(new_name: Callable[[], str]) -> None:
    name = new_name()
    with contextlib.closing(tun.open_tun(name)) as device:
        shown = subprocess.run(["ip", "-j", "link", "show", name], check=True, capture_output=True)
        (found,) = json.loads(shown.stdout)
        assert {"POINTOPOINT", "NOARP", "MULTICAST"} <= set(found["flags"])
        assert found["link_type"] == "none"
        assert device.takes_datagrams


def test_ten_gigabit_full_duplex_replaces_the_drivers_speed(new_tap: MakeTap) -> None:
    tap = new_tap()
    subprocess.run(["ethtool", "-s", tap.name, "speed", "10", "duplex", "half"], check=True)
    tun.set_ten_gigabit(tap.name)
    shown = subprocess.run(["ethtool", tap.name], check=True, capture_output=True, text=True).stdout
    assert "Speed: 10000Mb/s" in shown
    assert "Duplex: Full" in shown
    with pytest.raises(KernelError):
        tun.set_ten_gigabit("nosuchdevice")


def test_an_adopted_device_outlives_the_original_tap(new_tap: MakeTap) -> None:
    made = new_tap(queues=2)
    copies = tuple(os.dup(fd) for fd in made.fds)
    tap = tun.adopt(made.name, made.index, copies, made.offloads, made.missing)
    made.close()
    assert tap.name in devices()
    assert tap.fds == copies
    assert tap.takes_datagrams == made.takes_datagrams
    assert not tap.closed
    tap.close()
    tap.close()
    assert tap.closed
    assert tap.name not in devices()


def test_a_device_that_is_gone_is_not_adopted(new_tap: MakeTap) -> None:
    made = new_tap()
    subprocess.run(["ip", "link", "del", made.name], check=True)
    with pytest.raises(KernelError) as refusal:
        tun.adopt(made.name, made.index, made.fds, made.offloads, made.missing)
    assert refusal.value.errno == errno.EBADFD
