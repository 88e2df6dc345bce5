from __future__ import annotations

import errno
import fcntl
import re
import struct
import subprocess
from collections.abc import Callable

import pytest
import pytun

from epaird.kernel import abi, link, namespace, tun, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkReader
from tests.kernel.conftest import MakeTap
from tests.kernel.named import placed
from tests.waiting import until

pytestmark = pytest.mark.real

TUNGETSNDBUF = 0x800454D3  # linux/if_tun.h


def gone(fd: int) -> bool:
    try:
        tunqueue.current_name(fd)
    except KernelError as error:
        return error.errno == errno.EBADFD
    return False


def test_the_hardware_address(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap = new_tap()
    link.set_mac(tap.index, "02:5d:11:22:33:0a")
    placed(tap, "eth0", new_namespace())
    assert tunqueue.hardware_address(tap.fds[0]) == "02:5d:11:22:33:0a"


def test_the_carrier(new_tap: MakeTap, reader: LinkReader) -> None:
    tap = new_tap()

    def lower_up() -> bool:
        return reader.read()[tap.index].lower_up

    link.set_up(tap.index, True)
    until(lower_up)
    tunqueue.set_carrier(tap.fds[0], False)
    until(lambda: not lower_up())
    tunqueue.set_carrier(tap.fds[0], True)
    until(lower_up)


def test_the_current_namespace_and_name(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap, netns = new_tap(), new_namespace()
    (fd,) = tap.fds
    assert tunqueue.namespace_of(fd) == namespace.identity(None)
    placed(tap, "eth0", netns)
    assert tunqueue.namespace_of(fd) == namespace.identity(netns)
    assert tunqueue.current_name(fd) == "eth0"


def test_a_lookup_does_not_keep_the_namespace_alive(
    new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    tap, netns = new_tap(), new_namespace()
    placed(tap, "eth0", netns)
    tunqueue.namespace_of(tap.fds[0])
    namespace.remove(netns)
    until(lambda: gone(tap.fds[0]))


def test_a_device_that_is_gone(new_tap: MakeTap) -> None:
    tap = new_tap()
    (fd,) = tap.fds
    link.delete(tap.index)
    questions: tuple[Callable[[], object], ...] = (
        lambda: tunqueue.current_name(fd),
        lambda: tunqueue.namespace_of(fd),
        lambda: tunqueue.hardware_address(fd),
        lambda: tunqueue.set_carrier(fd, True),
        lambda: tunqueue.set_sndbuf(fd, 1 << 20),
    )
    for ask in questions:
        with pytest.raises(KernelError, match=re.escape("the device is gone")) as refusal:
            ask()
        assert refusal.value.errno == errno.EBADFD
    tap.close()


def test_the_send_buffer(new_tap: MakeTap) -> None:
    (fd,) = new_tap().fds
    tunqueue.set_sndbuf(fd, 1 << 20)
    (size,) = struct.unpack("i", fcntl.ioctl(fd, TUNGETSNDBUF, bytes(4)))
    assert size == 1 << 20
    with pytest.raises(KernelError, match="the device: Invalid argument"):
        tunqueue.set_sndbuf(fd, 0)


def test_up_is_read_from_the_descriptor(new_tap: MakeTap) -> None:
    tap = new_tap()
    assert not tunqueue.is_up(tap.fds[0])
    subprocess.run(["ip", "link", "set", tap.name, "up"], check=True)
    assert tunqueue.is_up(tap.fds[0])


def test_a_queue_from_another_process_is_recognized(new_tap: MakeTap, new_name: Callable[[], str]) -> None:
    tap, other = new_tap(queues=2), tun.open_tun(new_name())
    plain = pytun.TunTapDevice(new_name(), flags=abi.IFF_TAP)
    try:
        assert all(tunqueue.is_queue(fd) and tunqueue.is_queue(fd, ethernet=True) for fd in tap.fds)
        assert not tunqueue.is_queue(tap.fds[0], ethernet=False)
        assert tunqueue.is_queue(other.fds[0], ethernet=False)
        assert not tunqueue.is_queue(other.fds[0], ethernet=True)
        assert not tunqueue.is_queue(plain.fileno()), "its frames have another form"
        assert not tunqueue.is_queue(0)
        assert not tunqueue.is_queue(1 << 20)
        subprocess.run(["ip", "link", "del", tap.name], check=True)
        assert tunqueue.is_queue(tap.fds[0], ethernet=True), "the device is gone"
    finally:
        other.close()
        plain.close()
