"""Devices that are verified before they are changed, beside foreign ones of the same name and index."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from epaird.kernel import link, location, namespace, requests, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.location import Location
from epaird.kernel.tun import Tap
from tests.kernel.conftest import MakeTap
from tests.kernel.named import placed, within
from tests.kernel.openfiles import open_files

pytestmark = pytest.mark.real

HERE = namespace.Identity(4, 4026532001)
ELSEWHERE = "epair0a: another program moved or replaced the device just now, nothing is changed"


def expected(tap: Tap, index: int, netns: str) -> Location:
    return Location("epair0a", tap.fds[0], index, namespace.identity(netns))


@contextlib.contextmanager
def kept(netns: str) -> Iterator[namespace.Namespace]:
    """Keep a namespace, as a process in it does."""
    with namespace.opened(netns) as found:
        yield found


def make_again(netns: str, *, index: int) -> None:
    """Make a namespace again under its name, with a foreign device eth0 of this index."""
    namespace.remove(netns)
    namespace.create(netns)
    command = ["ip", "-n", netns, "link", "add", "eth0", "index", str(index), "mtu", "1234", "type", "veth"]
    subprocess.run(command, check=True)


def mtu(netns: namespace.Namespace | None, name: str) -> int:
    with namespace.inside(netns):
        shown = subprocess.run(
            ["ip", "-o", "link", "show", name], check=True, capture_output=True, text=True
        ).stdout.split()
    return int(shown[shown.index("mtu") + 1])


def test_the_device_is_changed_and_no_other_one_of_its_name_and_index(
    new_tap: MakeTap, new_namespace: Callable[[], str]
) -> None:
    tap, netns = new_tap(), new_namespace()
    index = placed(tap, "eth0", netns)
    device = expected(tap, index, netns)
    with kept(netns) as old:
        make_again(netns, index=index)
        with location.at(device) as route:
            assert namespace.identity(None) == old.identity
            link.apply(route, "epair0a", requests.mtu(index, 1400))
        assert mtu(old, "eth0") == 1400
        with within(netns):
            assert mtu(None, "eth0") == 1234


def test_a_device_that_was_renamed_is_found(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap, netns = new_tap(), new_namespace()
    index = placed(tap, "eth0", netns)
    subprocess.run(["ip", "-n", netns, "link", "set", "eth0", "name", "wan"], check=True)
    subprocess.run(["ip", "-n", netns, "link", "add", "eth0", "type", "veth"], check=True)
    with location.at(expected(tap, index, netns)) as route:
        link.apply(route, "epair0a", requests.mtu(index, 1400))
    with kept(netns) as found:
        assert (mtu(found, "wan"), mtu(found, "eth0")) == (1400, 1500)


def test_a_device_that_is_elsewhere_or_gone(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    tap, red, blue = new_tap(), new_namespace(), new_namespace()
    index = placed(tap, "eth0", red)
    device = expected(tap, index, red)
    before = open_files()
    for other in (
        replace(device, namespace=namespace.identity(blue)),
        replace(device, namespace=namespace.identity(None)),
        replace(device, index=index + 1),
    ):
        with pytest.raises(KernelError) as refused, location.at(other):
            pytest.fail("entered")
        assert (refused.value.errno, str(refused.value)) == (errno.ESTALE, ELSEWHERE)
    subprocess.run(["ip", "-n", red, "link", "del", "eth0"], check=True)
    with pytest.raises(KernelError) as refused, location.at(device):
        pytest.fail("entered")
    assert (refused.value.errno, str(refused.value)) == (errno.EBADFD, "epair0a: the device is gone")
    assert open_files() == before


def test_several_devices_and_the_reason_of_each(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:
    red, blue = new_namespace(), new_namespace()
    taps = [new_tap() for _ in range(4)]
    devices = [expected(tap, placed(tap, f"eth{n}", red), red) for n, tap in enumerate(taps)]
    subprocess.run(["ip", "-n", red, "link", "set", "eth0", "netns", blue], check=True)
    subprocess.run(["ip", "-n", red, "link", "del", "eth1"], check=True)
    with location.at_all(devices) as (_, refusals):
        assert namespace.identity(None) == namespace.identity(red)
        assert [why and why.errno for why in refusals] == [errno.ESTALE, errno.EBADFD, None, None]
    with pytest.raises(KernelError), location.at_all(devices[:2]):
        pytest.fail("entered")


@pytest.mark.parametrize("exchanges", list(itertools.combinations(range(12), 2)))
def test_names_that_are_exchanged_during_the_look_up(
    monkeypatch: pytest.MonkeyPatch, exchanges: tuple[int, int]
) -> None:
    """Whenever two devices exchange their names, once or there and back, each keeps its own index."""
    names = ["eth0", "eth1"]
    steps = itertools.count()

    def step() -> None:
        if next(steps) in exchanges:
            names.reverse()

    def current_name(_fd: int) -> str:
        step()
        return names[0]

    def index_of(name: str) -> int:
        step()
        return 7 + names.index(name)

    monkeypatch.setattr(tunqueue, "current_name", current_name)
    monkeypatch.setattr(tunqueue, "namespace_of", lambda _fd: HERE)
    monkeypatch.setattr(socket, "if_nametoindex", index_of)
    assert location.index_here(3, HERE) == 7


def test_a_device_that_is_renamed_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (f"eth{number}" for number in itertools.count())
    monkeypatch.setattr(tunqueue, "current_name", lambda _fd: next(names))
    monkeypatch.setattr(tunqueue, "namespace_of", lambda _fd: HERE)
    monkeypatch.setattr(socket, "if_nametoindex", lambda _name: 7)
    with pytest.raises(KernelError, match="renamed again and again"):
        location.index_here(3, HERE)
