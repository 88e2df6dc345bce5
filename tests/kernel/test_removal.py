from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from epaird.kernel import link, namespace, removal, tun, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkReader
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEventKind, LinkWatch
from tests.kernel.conftest import MakeTap
from tests.kernel.named import placed, within
from tests.kernel.openfiles import open_files
from tests.waiting import until

pytestmark = pytest.mark.real


def gone(tap: Tap, held: int) -> bool:
    """Test by a copy of the descriptor, since the device's own are closed."""
    try:
        tunqueue.current_name(held)
    except KernelError:
        return tap.closed
    return False


def test_devices_are_removed_in_every_namespace(
    new_tap: MakeTap, new_namespace: Callable[[], str], reader: LinkReader
) -> None:
    """Also while another process, as a worker would, holds their descriptors open."""
    netns, other = new_namespace(), new_namespace()
    taps = [new_tap(queues=queues) for queues in (1, 1, 1, 2, 1)]
    placed(taps[1], "eth0", netns)
    placed(taps[2], "eth1", netns)
    placed(taps[3], "eth0", other)
    link.set_name(taps[0].index, f"{taps[0].name}x")
    bystander = new_tap()
    placed(bystander, "eth0", new_namespace())
    held = [os.dup(tap.fds[0]) for tap in taps]
    try:
        removal.remove(taps[:4])
        assert [gone(tap, fd) for tap, fd in zip(taps, held, strict=True)] == [True] * 4 + [False]
        assert not gone(bystander, bystander.fds[0])
    finally:
        for fd in held:
            os.close(fd)


def test_devices_that_are_gone_or_closed_are_skipped(new_tap: MakeTap) -> None:
    deleted, closed, present = new_tap(), new_tap(), new_tap()
    link.delete(deleted.index)
    closed.close()
    held = os.dup(present.fds[0])
    try:
        removal.remove([deleted, closed, present])
        removal.remove([deleted, closed, present])
        removal.remove([])
        assert gone(present, held)
        assert deleted.closed
    finally:
        os.close(held)


def test_other_devices_of_the_namespace_stay(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    netns = new_namespace()
    tap = new_tap()
    placed(tap, "eth0", netns)
    subprocess.run(["ip", "-n", netns, "link", "add", "other", "type", "veth"], check=True)
    removal.remove([tap])
    with within(netns):
        names = {name for _, name in socket.if_nameindex()}
    assert {"lo", "other"} <= names
    assert "eth0" not in names


def test_nothing_is_left_open(new_tap: MakeTap, new_namespace: Callable[[], str], watch: LinkWatch) -> None:
    netns = new_namespace()
    with namespace.opened(netns) as fd:
        nsid = link.namespace_id(fd)
    tun.super_frame_offloads()
    before = open_files()
    with within(netns):
        made = [tun.open_tap(f"eth{number}") for number in range(3)]
    removal.remove(made)
    assert open_files() == before
    namespace.remove(netns)
    until(
        lambda: any(
            event.kind is LinkEventKind.NAMESPACE_GONE and event.nsid == nsid for event in watch.read()
        )
    )
