"""Moves of devices, and devices that are looked up, where names lead elsewhere meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epaird.control.machine.place import Place, is_in, left_namespace, location_of, move, present
from epaird.kernel import link, location, namespace, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap
from tests.kernel.conftest import MakeTap, new_name, new_namespace, new_tap  # noqa: F401  fixtures

pytestmark = pytest.mark.real

HOME = namespace.identity(None)


def home(tap: Tap) -> Place:
    return Place(tap.name, tap.index, "", None, HOME)


@contextlib.contextmanager
def flipping(path: Path, *targets: str) -> Iterator[None]:
    """A symbolic link that leads to one target after the other as fast as it can."""
    ended = threading.Event()

    def flip() -> None:
        while not ended.is_set():
            for target in targets:
                fresh = path.with_suffix(".new")
                fresh.symlink_to(target)
                fresh.replace(path)

    path.symlink_to(targets[0])
    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def addresses(netns: str) -> str:
    return subprocess.run(
        ["ip", "-n", netns, "-4", "addr"], check=True, capture_output=True, text=True
    ).stdout


def test_a_path_that_leads_elsewhere_all_the_time(
    new_tap: MakeTap,  # noqa: F811
    new_namespace: Callable[[], str],  # noqa: F811
    tmp_path: Path,
) -> None:
    """Each device is configured where it is."""
    red, blue = new_namespace(), new_namespace()
    with flipping(tmp_path / "current", namespace.path_of(red), namespace.path_of(blue)):
        for number in range(100):
            tap = new_tap()
            name = f"e{number}"
            place = move(tap, home(tap), name, str(tmp_path / "current"), HOME)
            assert tunqueue.namespace_of(tap.fds[0]) == place.identity
            with location.at(location_of(tap, place)) as route:
                settings = link.LinkSettings(1500, 100, addresses=(link.Address(f"10.1.{number}.1/24"),))
                link.apply(route, tap.name, *link.configuration_requests(place.index, settings))
            there, other = (red, blue) if place.identity == namespace.identity(red) else (blue, red)
            assert f"10.1.{number}.1/24" in addresses(there)
            assert f"10.1.{number}.1/24" not in addresses(other)
            tap.close()


def test_a_device_is_moved_on_and_home(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:  # noqa: F811
    tap, red, blue = new_tap(), new_namespace(), new_namespace()
    place = home(tap)
    for name, netns in (("eth0", red), ("eth1", red), ("eth1", blue), (tap.name, None), ("eth0", red)):
        place = move(tap, place, name, netns, HOME)
        assert tunqueue.namespace_of(tap.fds[0]) == place.identity == namespace.identity(netns)
        assert tunqueue.current_name(tap.fds[0]) == place.name == name
        assert (place.netns, place.nsid is None) == (netns or "", netns is None)


def test_a_move_that_is_refused(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:  # noqa: F811
    tap, red, blue = new_tap(), new_namespace(), new_namespace()
    place = move(tap, home(tap), "eth0", red, HOME)
    subprocess.run(["ip", "-n", blue, "link", "add", "eth0", "type", "veth"], check=True)
    with pytest.raises(KernelError, match="cannot be eth0 in namespace") as no:
        move(tap, place, "eth0", blue, HOME)
    assert no.value.errno == errno.EEXIST
    assert is_in(tap, place)
    subprocess.run(["ip", "-n", red, "link", "set", "eth0", "netns", blue, "name", "wan"], check=True)
    assert not is_in(tap, place)
    with pytest.raises(KernelError, match="another program moved or replaced the device just now") as no:
        move(tap, place, "eth9", red, HOME)
    assert no.value.errno == errno.ESTALE
    assert tunqueue.current_name(tap.fds[0]) == "wan"


def test_the_namespace_of_a_place_that_was_left(
    new_tap: MakeTap,  # noqa: F811
    new_namespace: Callable[[], str],  # noqa: F811
) -> None:
    tap, red, blue = new_tap(), new_namespace(), new_namespace()
    place = move(tap, home(tap), "eth0", red, HOME)
    move(tap, place, "eth0", blue, HOME)
    with left_namespace(place):
        assert namespace.identity(None) == namespace.identity(red)
    with namespace.opened(red):
        namespace.remove(red)
        namespace.create(red)
        with pytest.raises(KernelError, match="was replaced by another one"), left_namespace(place):
            pytest.fail("opened")


def test_addresses_of_the_devices_alone(new_tap: MakeTap, new_namespace: Callable[[], str]) -> None:  # noqa: F811
    """A foreign device of the same name, index and namespace's name has no part in it."""
    ours, left, red = new_tap(), new_tap(), new_namespace()
    places = {tap: move(tap, home(tap), f"eth{n}", red, HOME) for n, tap in enumerate((ours, left))}
    subprocess.run(["ip", "-n", red, "addr", "add", "10.0.0.1/24", "dev", "eth0"], check=True)
    with namespace.opened(red) as kept:
        subprocess.run(["ip", "-n", red, "link", "set", "eth1", "netns", str(os.getpid())], check=True)
        namespace.remove(red)
        namespace.create(red)
        index = str(places[ours].index)
        subprocess.run(["ip", "-n", red, "link", "add", "eth0", "index", index, "type", "veth"], check=True)
        subprocess.run(["ip", "-n", red, "addr", "add", "10.0.0.7/24", "dev", "eth0"], check=True)
        found = present(places)
        assert kept.identity == places[ours].identity
    assert {tap: [str(each.address) for each in state.addresses] for tap, state in found.items()} == {
        ours: ["10.0.0.1/24"]
    }
