"""Rules and routes that lead to a loopback, in a namespace created for the test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from epaird.kernel import link, policy, tun
from epaird.kernel.errors import KernelError
from tests.kernel.named import at, placed

pytestmark = pytest.mark.real

ADDRESSES = ("10.88.7.1/24", "fd88:7::1/64")
OTHERS = ("10.88.8.1/24",)


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace with TUN devices."""

    netns: str
    indexes: dict[str, int]

    def ip(self, *arguments: str) -> str:
        command = ["ip", "-n", self.netns, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def rules(self) -> tuple[str, str]:
        return self.ip("rule", "show"), self.ip("-6", "rule", "show")

    def install(self, name: str, number: int, addresses: tuple[str, ...] = ADDRESSES) -> None:
        at(self.netns, policy.install, name, self.indexes[name], policy.TABLES[number], addresses)

    def remove(self, number: int) -> None:
        at(self.netns, policy.remove, policy.TABLES[number])


@pytest.fixture
def place(new_namespace: Callable[[], str], new_name: Callable[[], str]) -> Iterator[Place]:
    netns = new_namespace()
    with ExitStack() as stack:
        indexes = {}
        for name in ("lo1", "lo2"):
            device = tun.open_tun(new_name())
            stack.callback(device.close)
            index = indexes[name] = placed(device, name, netns)
            at(netns, link.set_up, index, True)
            for address in ADDRESSES if name == "lo1" else OTHERS:
                at(netns, link.add_address, index, address)
        yield Place(netns, indexes)


def test_rules_are_ordered_and_removed_without_a_trace(place: Place) -> None:
    before = place.rules()
    place.install("lo1", 1)
    table = policy.TABLES[1]
    assert place.rules()[0].split("\n")[:5] == [
        "10:\tfrom all iif lo1 lookup local",
        f"20:\tfrom all oif lo1 lookup {table}",
        f"30:\tfrom all to 10.88.7.0/24 lookup {table}",
        "100:\tfrom all lookup local",
        "32766:\tfrom all lookup main",
    ]
    assert f"10.88.7.0/24 dev lo1 table {table}" in place.ip("route", "show", "table", "all")
    assert f"fd88:7::/64 dev lo1 table {table}" in place.ip("-6", "route", "show", "table", "all")
    place.remove(1)
    assert place.rules() == before
    assert str(table) not in place.ip("route", "show", "table", "all")


def test_installing_again_changes_nothing(place: Place) -> None:
    place.install("lo1", 1)
    rules = place.rules()
    place.install("lo1", 1)
    assert place.rules() == rules


def test_removing_the_last_loopback_restores_the_local_rule(place: Place) -> None:
    before = place.rules()
    place.install("lo1", 1)
    place.install("lo2", 2, OTHERS)
    place.remove(1)
    assert place.rules()[0].startswith("10:\tfrom all iif lo2")
    assert place.rules()[1] == before[1]
    place.remove(2)
    assert place.rules() == before
    place.remove(2)
    assert place.rules() == before


def test_a_failed_installation_leaves_nothing(place: Place) -> None:
    before = place.rules()
    at(place.netns, link.set_up, place.indexes["lo1"], False)
    with pytest.raises(KernelError, match="lo1: policy routing: "):
        place.install("lo1", 1)
    assert place.rules() == before


def test_removal_for_a_device_that_is_gone(place: Place) -> None:
    before = place.rules()
    place.install("lo1", 1)
    at(place.netns, link.delete, place.indexes["lo1"])
    place.remove(1)
    assert place.rules() == before
