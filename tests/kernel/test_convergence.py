"""Convergence of real devices, which others change too."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaird.kernel import abi, link
from epaird.kernel.convergence import Scope, Target, converge, default_qdiscs
from epaird.kernel.difference import AddressKey, address_key, missing, route_key
from epaird.kernel.link import LinkSettings
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.policy import TABLES
from epaird.kernel.requests import Address, Route
from tests.kernel.addresslist import fresh
from tests.kernel.named import at, within
from tests.kernel.twodevices import NOTHING, TwoDevices, two_devices

pytestmark = pytest.mark.real

_numbers = itertools.count()

OWN = tuple(
    (
        *(Address(f"10.{device}.{subnet}.{host}/24") for subnet in range(2) for host in (1, 2, 3)),
        Address(f"10.{device}.7.1/32", peer=f"10.{device}.7.2"),
        *(Address(f"fd00:{device}::{host}/64") for host in (1, 2, 3)),
        Address(f"fd00:{device}::4/64", nodad=True),
        Address(f"fe80::{device}1/64"),
        Address(f"fe80::{device}2/64"),
    )
    for device in range(2)
)
FOREIGN_ADDRESSES = ("10.{0}.0.9/24", "10.{0}.1.9/24", "10.{0}.8.9/24", "10.{0}.0.1/25", "fd00:{0}::9/64")
FOREIGN_ROUTES = (
    "10.200.{0}.0/24 dev {1}",
    "10.201.{0}.0/24 via 10.{0}.0.77 dev {1}",
    "10.202.{0}.0/24 via 10.{0}.8.77 dev {1} metric 7",
    "10.203.{0}.0/24 dev {1} src 10.{0}.0.1",
    "10.204.{0}.0/24 via 10.{0}.0.78 dev {1} table 77",
    "fd20:{0}::/64 dev {1}",
    "fd21:{0}::/64 via fd00:{0}::77 dev {1} metric 9",
    "10.205.{0}.0/24 dev {2} src 10.{0}.1.1",
)


def _reachable(device: int, addresses: Sequence[Address]) -> list[Route]:
    """Return the routes that a device with these addresses can have."""
    texts = [each.address for each in addresses]
    found = [Route(f"10.10{device}.0.0/16"), Route(f"fd10:{device}::/64")]
    for subnet in range(2):
        if any(text.startswith(f"10.{device}.{subnet}.") for text in texts):
            via = f"10.{device}.{subnet}.70"
            found += [
                Route("default", via),
                Route("10.90.0.0/16", via, 5 + device),
                Route("10.91.0.0/16", via),
            ]
    if any(each.peer for each in addresses):
        found.append(Route("10.92.0.0/16", f"10.{device}.7.2"))
    if any(text.startswith(f"fd00:{device}") for text in texts):
        found += [Route("default", f"fd00:{device}::70"), Route("fd90::/64", f"fd00:{device}::71", 99)]
    return found


@st.composite
def _wanted(draw: st.DrawFn) -> tuple[LinkSettings, LinkSettings]:
    """Settings of both devices without two routes that exclude each other."""
    made = []
    taken: set[tuple[int, int, int, int]] = set()
    for device in range(2):
        addresses = tuple(draw(st.lists(st.sampled_from(OWN[device]), max_size=6, unique=True)))
        routes = []
        for route in draw(st.lists(st.sampled_from(_reachable(device, addresses)), max_size=5)):
            key = route_key(route)
            if (place := (key.version, key.to, key.length, key.metric)) not in taken:
                taken.add(place)
                routes.append(route)
        table = draw(st.sampled_from((None, TABLES[device])))
        made.append(replace(NOTHING, addresses=addresses, routes=tuple(routes), policy_table=table))
    return made[0], made[1]


DEVICES = st.sampled_from((0, 1))
ACTIONS = st.one_of(
    st.tuples(st.just("want"), _wanted()),
    st.tuples(st.just("want"), _wanted()),
    st.tuples(st.just("flap"), DEVICES),
    st.tuples(st.just("rename"), DEVICES),
    st.tuples(st.just("down"), DEVICES),
    st.tuples(st.just("promote"), st.booleans()),
    st.tuples(st.just("add"), st.tuples(DEVICES, st.sampled_from(FOREIGN_ADDRESSES))),
    st.tuples(st.just("route"), st.tuples(DEVICES, st.sampled_from(FOREIGN_ROUTES))),
    st.tuples(st.just("flush"), DEVICES),
    st.tuples(st.just("steal"), st.tuples(DEVICES, st.integers(0, 5))),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=10))
def test_after_any_sequence_the_devices_are_as_wanted(actions: list[tuple[str, object]]) -> None:
    with two_devices(f"ept{os.getpid() % 100_000}v{next(_numbers)}") as devices:
        history = History(devices)
        for action, argument in (*actions, ("reload", None)):
            getattr(history, action)(argument)
        history.end()


class History:
    """Changes of two devices by epaird and by others, each with its check."""

    def __init__(self, devices: TwoDevices) -> None:
        self.devices = devices
        self.rules = devices.states()[0].rules
        self.up = [True, True]

    def want(self, wanted: Sequence[LinkSettings]) -> None:
        """epaird gives the devices other settings."""
        before = self.devices.wanted
        with self.foreign_things_stay((*before, *wanted)):
            assert self.devices.want(wanted) == [None, None]
        self.check()

    def reload(self, _: object) -> None:
        """epaird gives them the same ones again."""
        self.want(self.devices.wanted)

    def flap(self, device: int) -> None:
        """Others set a device down and up."""
        self.devices.link(device, "down")
        self.devices.link(device, "up")
        self.up[device] = True
        self.restore()

    def down(self, device: int) -> None:
        """Others set a device down."""
        self.devices.link(device, "down")
        self.up[device] = False

    def rename(self, device: int) -> None:
        """Others rename a device."""
        self.devices.rename(device, f"y{next(_numbers)}")
        self.restore()

    def promote(self, wanted: bool) -> None:
        """Others choose what becomes of secondary addresses."""
        for name in self.devices.names:
            self.devices.sysctl(f"ipv4/conf/{name}/promote_secondaries", str(int(wanted)))

    def add(self, argument: tuple[int, str]) -> None:
        """Others add an address."""
        device, text = argument
        self.devices.ip("addr", "add", text.format(device), "dev", self.devices.names[device])

    def route(self, argument: tuple[int, str]) -> None:
        """Others add a route."""
        device, text = argument
        names = self.devices.names
        self.devices.ip("route", "add", *text.format(device, names[device], names[1 - device]).split())

    def steal(self, argument: tuple[int, int]) -> None:
        """Others remove an address that epaird has set."""
        device, number = argument
        for each in self.devices.wanted[device].addresses[number : number + 1]:
            peer = ["peer", f"{each.peer}/32"] if each.peer else []
            own = each.address.partition("/")[0] if each.peer else each.address
            self.devices.ip("addr", "del", own, *peer, "dev", self.devices.names[device])

    def flush(self, device: int) -> None:
        """Others remove all routes of a device, those of its addresses' networks too."""
        for family in ("-4", "-6"):
            self.devices.ip(family, "route", "flush", "dev", self.devices.names[device])

    def restore(self) -> None:
        """epaird restores what the kernel removed."""
        with self.foreign_things_stay(self.devices.wanted):
            outcomes, _ = self.devices.converge(*self.devices.targets(scope=Scope.TAKEN_ALONG))
        assert outcomes == [None, None]
        for state, wanted in zip(self.devices.states(), self.devices.wanted, strict=True):
            lacking = missing(state, wanted)
            assert not [each for each in lacking.addresses if ":" in each.address]
            assert not lacking.rules
            if not lacking.addresses:
                assert not lacking.routes

    def check(self) -> None:
        """Check that both devices are as wanted, and that nothing is left to do."""
        for state, wanted in zip(self.devices.states(), self.devices.wanted, strict=True):
            assert not missing(state, wanted)
            ours = _own((wanted,))
            keys = [address_key(each.address) for each in state.addresses]
            foreign = [each for each in state.addresses if address_key(each.address).identity not in ours]
            assert sorted((key for key in keys if key.identity in ours), key=lambda key: key.order) == sorted(
                fresh(wanted.addresses, _primaries([each.address for each in foreign], keys)),
                key=lambda key: key.order,
            )
            assert state.qdisc == "noqueue"
        outcomes, requests = self.devices.converge(*self.devices.targets(self.devices.wanted))
        assert (outcomes, requests) == ([None, None], 0)

    def end(self) -> None:
        """Remove everything that epaird has set."""
        for device in range(2):
            self.devices.link(device, "up")
        self.want((NOTHING, NOTHING))
        assert self.devices.states()[0].rules == self.rules

    @contextlib.contextmanager
    def foreign_things_stay(self, settings: Sequence[LinkSettings]) -> Iterator[None]:
        """Check that others' addresses and routes are there after the block, as far as the kernel allows."""
        ours = _own(settings)
        routes = {route_key(each) for one in settings for each in one.routes}
        addresses = [
            {str(each.address) for each in state.addresses if address_key(each.address).identity not in ours}
            for state in self.devices.states()
        ]
        before = [
            each
            for each in self.devices.routes()
            if each.table not in TABLES and (each.table == 77 or route_key(each.route) not in routes)
        ]
        yield
        for state, foreign in zip(self.devices.states(), addresses, strict=True):
            texts = {str(each.address) for each in state.addresses}
            assert foreign <= texts
        after = {each.message for each in self.devices.routes()}
        for each in before:
            if each.message not in after:
                assert not self.devices.accepts(each), f"{each.route} could have stayed"


def _own(settings: Iterable[LinkSettings]) -> set[tuple[int, ...]]:
    return {address_key(each).identity for one in settings for each in one.addresses}


def _primaries(foreign: Sequence[Address], keys: Sequence[AddressKey]) -> list[Address]:
    """Return the foreign addresses that are the first ones of their subnets."""
    first: dict[tuple[int, int], AddressKey] = {}
    for key in keys:
        if key.version == 4:
            first.setdefault(key.subnet, key)
    return [each for each in foreign if address_key(each) in first.values()]


@pytest.fixture
def devices() -> Iterator[TwoDevices]:
    with two_devices(f"ept{os.getpid() % 100_000}v{next(_numbers)}") as made:
        yield made


def wanted(*addresses: str, routes: Sequence[Route] = (), table: int | None = None) -> LinkSettings:
    return replace(
        NOTHING, addresses=tuple(map(Address, addresses)), routes=tuple(routes), policy_table=table
    )


DEFAULTS = (Route("default", "10.0.0.70"), Route("default", "fd00::70"))


def test_a_default_route_moves_to_another_device_and_back(devices: TwoDevices) -> None:
    addresses = ("10.0.0.1/24", "fd00::1/64")
    for leader in (0, 1, 0):
        settings = [
            wanted(*addresses, routes=DEFAULTS) if leader == number else NOTHING for number in range(2)
        ]
        assert devices.want(settings) == [None, None]
        for family in ("-4", "-6"):
            shown = devices.shown(family, "route", "show", "default")
            assert [each["dev"] for each in shown] == [devices.names[leader]]


def test_routes_of_an_address_are_those_of_the_kernel(devices: TwoDevices) -> None:
    peer = Address("10.3.0.1/32", peer="10.3.0.2")
    goal = wanted("10.0.0.1/24", "10.0.0.2/24", "10.9.0.1/32", "fd00::1/64", "fd09::1/128", routes=DEFAULTS)
    goal = replace(goal, addresses=(*goal.addresses, peer))

    def networks() -> list[dict[str, object]]:
        shown = [
            *devices.shown("route", "show", "dev", "x0"),
            *devices.shown("-6", "route", "show", "dev", "x0"),
        ]
        return [each for each in shown if each["protocol"] == "kernel" and each["dst"] != "fe80::/64"]

    assert devices.want([goal, NOTHING]) == [None, None]
    expected = networks()
    assert [each["dst"] for each in expected] == ["10.0.0.0/24", "10.3.0.2", "fd00::/64", "fd09::1"]
    for family in ("-4", "-6"):
        assert devices.ip(family, "route", "flush", "dev", "x0")
    lacking = {str(each) for each in missing(devices.states()[0], goal).routes}
    assert {"10.0.0.0/24", "10.3.0.2/32", "fd00::/64 metric 256"} <= lacking
    assert devices.want([goal, NOTHING]) == [None, None]
    assert networks() == expected
    assert devices.want([wanted("10.5.0.1/24"), NOTHING]) == [None, None]
    assert [each["dst"] for each in networks()] == ["10.5.0.0/24"]


def test_a_route_of_another_device_is_named(devices: TwoDevices) -> None:
    assert devices.ip("addr", "add", "10.1.0.1/24", "dev", "x1")
    assert devices.ip("route", "add", "default", "via", "10.1.0.70")
    error, fine = devices.want([wanted("10.0.0.1/24", routes=DEFAULTS[:1]), NOTHING])
    assert fine is None
    assert error is not None
    assert str(error) == "epair0a: route default via 10.0.0.70: exists already: x1 has it via 10.1.0.70"
    assert error.errno == errno.EEXIST
    assert [each["dev"] for each in devices.shown("route", "show", "default")] == ["x1"]


def test_a_device_that_is_in_the_way_may_have_any_name(devices: TwoDevices) -> None:
    at(devices.netns, link.set_name, devices.indexes[1], "x\\xff\\x1b")
    devices.names[1] = os.fsdecode(b"x\xff\x1b")
    assert devices.ip("addr", "add", "10.1.0.1/24", "dev", devices.names[1])
    assert devices.ip("route", "add", "default", "via", "10.1.0.70")
    error, _ = devices.want([wanted("10.0.0.1/24", routes=DEFAULTS[:1]), NOTHING])
    assert str(error).endswith("exists already: x\\xff\\x1b has it via 10.1.0.70")


def test_rules_of_an_earlier_version_for_a_device_of_any_name(devices: TwoDevices) -> None:
    name = os.fsdecode(b"l\xff\x1b")
    for rule in (f"pref 10 iif {name} lookup local", f"pref 20 oif {name} lookup {TABLES[1]}"):
        assert devices.ip("rule", "add", *rule.split())
    assert "l\\xff\\x1b" in {rule.oif for rule in devices.states()[0].rules}
    assert devices.want([wanted("10.88.7.1/24", table=TABLES[1]), NOTHING]) == [None, None]
    assert not {10, 20} & {each["priority"] for each in devices.shown("rule", "show")}


def test_a_refused_address_does_not_keep_others_from_their_places(devices: TwoDevices) -> None:
    devices.sysctl("ipv6/conf/x0/disable_ipv6", "1")
    goal = wanted("10.0.0.1/24", "fd00::1/64", "10.0.0.2/24", routes=DEFAULTS)
    error, _ = devices.want([goal, NOTHING])
    assert str(error) == "epair0a: address fd00::1/64: IPv6 is disabled on this device"
    assert devices.local_addresses(0) == ["10.0.0.1/24", "10.0.0.2/24"]
    assert [each["gateway"] for each in devices.shown("route", "show", "default")] == ["10.0.0.70"]
    devices.sysctl("ipv6/conf/x0/disable_ipv6", "0")
    assert devices.want([goal, NOTHING]) == [None, None]
    assert [each["gateway"] for each in devices.shown("-6", "route", "show", "default")] == ["fd00::70"]


def test_ipv6_needs_a_larger_mtu(devices: TwoDevices) -> None:
    goal = wanted("fd00::1/64")
    assert devices.want([goal, NOTHING]) == [None, None]
    at(devices.netns, link.set_mtu, devices.indexes[0], 1000)
    error, _ = devices.want([goal, NOTHING])
    assert str(error) == "epair0a: address fd00::1/64: IPv6 needs an MTU of at least 1280 bytes"
    assert devices.want([NOTHING, NOTHING]) == [None, None]
    at(devices.netns, link.set_mtu, devices.indexes[0], 1280)
    assert devices.want([goal, NOTHING]) == [None, None]


def test_a_device_that_is_down_gets_addresses_and_no_routes(devices: TwoDevices) -> None:
    goal = wanted("10.0.0.1/24", "fd00::1/64", routes=DEFAULTS, table=TABLES[1])
    devices.link(0, "down")
    assert devices.want([goal, NOTHING]) == [None, None]
    assert devices.local_addresses(0) == ["10.0.0.1/24", "fd00::1/64"]
    assert not missing(devices.states()[0], goal)
    devices.link(0, "up")
    assert missing(devices.states()[0], goal).routes
    assert devices.want([goal, NOTHING]) == [None, None]
    assert not missing(devices.states()[0], goal)


def test_an_address_in_another_form_is_replaced(devices: TwoDevices) -> None:
    for text in ("10.0.0.1 peer 10.0.0.2/24", "fd00::1/128"):
        assert devices.ip("addr", "add", *text.split(), "dev", "x0")
    goal = wanted("10.0.0.1/24", "fd00::1/64")
    assert [str(each) for each in missing(devices.states()[0], goal).addresses] == [
        "10.0.0.1/24",
        "fd00::1/64",
    ]
    assert devices.want([goal, NOTHING]) == [None, None]
    assert devices.local_addresses(0) == ["10.0.0.1/24", "fd00::1/64"]


@pytest.mark.parametrize("promote", ["0", "1"])
def test_a_foreign_secondary_and_its_routes_are_put_back(devices: TwoDevices, promote: str) -> None:
    devices.sysctl("ipv4/conf/x0/promote_secondaries", promote)
    assert devices.want([wanted("10.0.0.1/24", "10.5.0.1/24"), NOTHING]) == [None, None]
    assert devices.ip("addr", "add", "10.0.0.9/24", "label", "x0:other", "dev", "x0")
    assert devices.ip("route", "add", "10.200.0.0/16", "via", "10.0.0.77", "proto", "77")
    assert devices.ip("route", "add", "10.201.0.0/16", "dev", "x1", "src", "10.0.0.1", "table", "77")
    for goal in (wanted("10.5.0.1/24", "10.0.0.1/24"), wanted("10.0.0.2/24", "10.0.0.1/24")):
        assert devices.want([goal, NOTHING]) == [None, None]
        shown = devices.shown("addr", "show", "dev", "x0")[0]["addr_info"]
        assert ("10.0.0.9", "x0:other", True) in [
            (each["local"], each.get("label"), each.get("secondary", False)) for each in shown
        ]
        assert [each["dst"] for each in devices.shown("route", "show", "proto", "77")] == ["10.200.0.0/16"]
        assert [each["prefsrc"] for each in devices.shown("route", "show", "table", "77")] == ["10.0.0.1"]


def test_the_queueing_discipline(devices: TwoDevices) -> None:
    for number, kind in enumerate(("pfifo_fast", "pfifo")):
        command = ["tc", "-n", devices.netns, "qdisc", "replace", "dev", f"x{number}", "root", kind]
        subprocess.run(command, check=True)
    devices.converge(*devices.targets())
    assert [state.qdisc for state in devices.states()] == ["noqueue", "pfifo"]
    assert default_qdiscs() >= {
        "noop",
        "pfifo_fast",
        "mq",
        Path("/proc/sys/net/core/default_qdisc").read_text().strip(),
    }


def test_rules_of_an_earlier_version_are_replaced(devices: TwoDevices) -> None:
    table = str(TABLES[1])
    for family, network in (("-4", "10.88.7.0/24"), ("-6", "fd88:7::/64")):
        for rule in (
            "pref 10 iif lo7 lookup local",
            f"pref 20 oif lo7 lookup {table}",
            f"pref 30 to {network} lookup {table}",
            "pref 100 lookup local",
        ):
            assert devices.ip(family, "rule", "add", *rule.split())
        assert devices.ip(family, "rule", "del", "pref", "0")
        assert devices.ip(family, "route", "add", network, "dev", "x0", "table", table)
    goal = wanted("10.88.7.1/24", "fd88:7::1/64", table=TABLES[1])
    assert devices.want([goal, NOTHING]) == [None, None]
    for family, host in (("-4", "10.88.7.1"), ("-6", "fd88:7::1")):
        rules = [(each["priority"], each.get("dst")) for each in devices.shown(family, "rule", "show")]
        assert rules[:3] == [(30, host), (100, None), (32766, None)]
        assert [each["dst"] for each in devices.shown(family, "route", "show", "table", table)] == [host]
        assert devices.ip(
            "route", "get", host, "from", "10.88.7.9" if family == "-4" else "fd88:7::9", "iif", "x1"
        )
        assert devices.shown(family, "route", "get", host)[0]["dev"] == "x0"
    devices.rename(0, "lo8")
    for state in ("down", "up"):
        devices.link(0, state)
    (error, _), _ = devices.converge(*devices.targets(scope=Scope.TAKEN_ALONG))
    assert error is None
    assert not missing(devices.states()[0], goal)
    outcomes, _ = devices.converge(Target("lo1", 4711, NOTHING, goal))
    assert outcomes == [None]
    assert [each["priority"] for each in devices.shown("rule", "show")] == [0, 32766, 32767]


def test_a_device_that_is_gone_is_reported(devices: TwoDevices) -> None:
    (error,), _ = devices.converge(Target("epair7a", 4711, wanted("10.0.0.1/24")))
    assert str(error) == "epair7a: the device is gone"


def test_a_program_that_undoes_each_change_is_reported(devices: TwoDevices) -> None:
    class Opponent(RouteSocket):
        """Removes each address right after it was added."""

        def execute(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
            made = super().execute(requests)
            super().execute(
                [(abi.RTM_DELADDR, 0, payload) for kind, _, payload in requests if kind == abi.RTM_NEWADDR]
            )
            return made

    with within(devices.netns), contextlib.closing(Opponent()) as route:
        (error,) = converge(route, [Target("epair0a", devices.indexes[0], wanted("10.0.0.1/24"))])
    assert str(error) == "epair0a: address 10.0.0.1/24: another program undoes the change"


def test_a_route_beside_others_to_the_same_network(devices: TwoDevices) -> None:
    route = Route("fd90::/64", "fd00::70")
    goal = [wanted("fd00::1/64", routes=[route]), wanted("fd01::1/64")]
    assert devices.want(goal) == [None, None]
    for via, device in (("fd00::71", "x0"), ("fd01::70", "x1")):
        assert devices.ip("-6", "route", "append", "fd90::/64", "via", via, "dev", device)
    (shown,) = devices.shown("-6", "route", "show", "fd90::/64")
    assert len(shown["nexthops"]) == 3
    assert not missing(devices.states()[0], goal[0])
    assert devices.want([wanted("fd00::1/64"), goal[1]]) == [None, None]
    (shown,) = devices.shown("-6", "route", "show", "fd90::/64")
    assert sorted(each["gateway"] for each in shown["nexthops"]) == ["fd00::71", "fd01::70"]
