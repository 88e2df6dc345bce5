from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from epaird.control.machine.bulk import Configuring, Home, Opening, configure_all, open_all
from epaird.kernel import link, namespace, removal, tun, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.location import Location
from epaird.kernel.namespace import Fingerprint
from epaird.kernel.tun import Tap
from tests.kernel.conftest import new_name, new_namespace  # noqa: F401  fixtures

pytestmark = pytest.mark.real


@contextlib.contextmanager
def opened(*openings: Opening) -> Iterator[list[Tap | Exception]]:
    outcomes = open_all(openings)
    try:
        yield outcomes
    finally:
        removal.remove(each for each in outcomes if isinstance(each, Tap))


def home(netns: str) -> Home:
    with namespace.opened(netns) as found:
        return Home(netns, namespace.fingerprint(found))


def test_devices_are_created_in_place(new_namespace: Callable[[], str]) -> None:  # noqa: F811
    red, blue = home(new_namespace()), home(new_namespace())
    own = f"ept{red.netns[-8:]}"
    with opened(
        Opening("epair0a", "eth0", red, tun.open_tap),
        Opening("epair0b", "eth0", blue, tun.open_tap),
        Opening(own, own, None, tun.open_tap),
        Opening("lo1", "lo1", red, tun.open_tun),
        Opening("epair1a", "eth0", red, tun.open_tap),
    ) as outcomes:
        taps = [each for each in outcomes if isinstance(each, Tap)]
        assert [tap.name for tap in taps] == ["epair0a", "epair0b", own, "lo1"]
        where = [(tunqueue.current_name(tap.fds[0]), tunqueue.namespace_of(tap.fds[0])) for tap in taps]
        assert where == [
            ("eth0", red.fingerprint.identity),
            ("eth0", blue.fingerprint.identity),
            (own, namespace.identity(None)),
            ("lo1", red.fingerprint.identity),
        ]
        refused = outcomes[4]
        assert isinstance(refused, KernelError)
        assert refused.errno == errno.EEXIST
        words = f"cannot be eth0 in namespace {red.netns}: a device of this name exists already"
        assert str(refused) == f"epair1a: {words}"


def test_a_failure_in_one_namespace_does_not_affect_others(new_namespace: Callable[[], str]) -> None:  # noqa: F811
    red = home(new_namespace())
    with opened(
        Opening(
            "epair0a", "eth0", replace(red, fingerprint=Fingerprint(*namespace.identity(None))), tun.open_tap
        ),
        Opening("epair0b", "eth0", replace(red, netns="eptnone"), tun.open_tap),
        Opening("epair1a", "eth0", red, tun.open_tap),
    ) as (other, none, made):
        assert str(other) == f"namespace {red.netns}: was replaced by another one"
        assert str(none).startswith("namespace eptnone: does not exist")
        assert isinstance(made, Tap)
    assert namespace.identity(None) != red.fingerprint.identity


def test_devices_are_configured_in_place(new_namespace: Callable[[], str]) -> None:  # noqa: F811
    red = home(new_namespace())
    with opened(Opening("epair0a", "eth0", red, tun.open_tap)) as (tap,):
        assert isinstance(tap, Tap)
        good = link.configuration_requests(tap.index, link.LinkSettings(1400, 100))
        bad = link.configuration_requests(tap.index, link.LinkSettings(70000, 100))
        here = Location("epair0a", tap.fds[0], tap.index, red.fingerprint.identity)
        elsewhere = replace(here, namespace=namespace.identity(None))
        done, refused, none = configure_all(
            [
                Configuring(here, link.LinkChange("epair0a", good)),
                Configuring(here, link.LinkChange("epair0a", bad)),
                Configuring(elsewhere, link.LinkChange("epair0a", good)),
            ]
        )
        assert done is None
        assert str(refused) == "epair0a: mtu 70000: outside of what the device allows"
        words = "another program moved or replaced the device just now, nothing is changed"
        assert str(none) == f"epair0a: {words}"
        assert tunqueue.is_up(tap.fds[0])
