"""The difference, applied to a model of the kernel's lists of addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel.difference import (
    AddressChanges,
    AddressKey,
    Missing,
    address_changes,
    address_key,
    missing,
    network_route,
    route_changes,
    route_key,
)
from epaird.kernel.link import LinkSettings
from epaird.kernel.policy import TABLES
from epaird.kernel.requests import Address, Route, Rule
from epaird.kernel.state import DeviceState, PresentAddress, PresentRoute
from tests.kernel.addresslist import AddressList, fresh

POOL = (
    *(Address(f"10.0.{subnet}.{host}/24") for subnet in range(3) for host in (1, 2, 3)),
    Address("10.0.0.1/25"),
    Address("10.0.0.1/24", peer="10.9.0.2"),
    Address("10.7.0.1/32", peer="10.7.0.2"),
    Address("10.7.0.1/32"),
    *(Address(f"fd00::{host}/64") for host in (1, 2, 3)),
    Address("fd00::1/64", nodad=True),
    Address("fd00::2/128", peer="fd00::9"),
    Address("fe80::1/64"),
    Address("fe80::2/64"),
)


def _possible(found: Iterable[Address]) -> tuple[Address, ...]:
    """Leave out what the kernel would not let coexist."""
    return tuple({address_key(each).identity: each for each in found}.values())


addresses = st.lists(st.sampled_from(POOL), max_size=7).map(_possible)


def present(found: Iterable[Address]) -> tuple[PresentAddress, ...]:
    return tuple(PresentAddress(each) for each in found)


def settle(
    device: AddressList, wanted: Sequence[Address], released: Sequence[Address], own: set[tuple[int, ...]]
) -> int:
    """Change a device until nothing differs; return the number of rounds."""
    foreign = [each for each in device.addresses if address_key(each).identity not in own]
    for rounds in range(6):
        changes = address_changes(present(device.addresses), wanted, released)
        lost = [each for each in foreign if each not in device.addresses]
        if not changes.remove and not changes.add and not lost:
            return rounds
        for each in changes.remove:
            if each.address in device.addresses:
                device.remove(each.address)
        for address in (*changes.add, *lost):
            if address not in device.addresses:
                device.add(address)
    raise AssertionError("the changes have no end")


def identities(found: Iterable[Address]) -> set[tuple[int, ...]]:
    return {address_key(each).identity for each in found}


@given(addresses, addresses, addresses, st.booleans())
def test_a_device_gets_its_addresses_in_order_and_keeps_foreign_ones(
    before: tuple[Address, ...], wanted: tuple[Address, ...], released: tuple[Address, ...], promote: bool
) -> None:
    device = AddressList(promote, before)
    own = identities((*wanted, *released))
    foreign = [each for each in device.addresses if address_key(each).identity not in own]
    leading = [each for each in device.primaries if each in foreign]
    assert settle(device, wanted, released, own) <= 3
    ours = [address_key(each) for each in device.addresses if each not in foreign]
    assert _by_scope(ours) == _by_scope(fresh(wanted, [each for each in device.primaries if each in foreign]))
    assert set(leading) <= set(device.primaries), "a foreign primary remains one"
    subnets = {address_key(each).subnet for each in wanted if address_key(each).version == 4}
    promoted = [each for each in device.primaries if each in foreign and each not in leading]
    assert not [each for each in promoted if address_key(each).subnet in subnets]
    assert set(foreign) <= set(device.addresses)
    assert missing(DeviceState(addresses=present(device.addresses)), settings(wanted)) == Missing()


@given(addresses, addresses)
def test_a_new_device_lacks_nothing_and_a_subset_stays_in_place(
    wanted: tuple[Address, ...], others: tuple[Address, ...]
) -> None:
    device = AddressList(addresses=wanted)
    others = tuple(each for each in others if not identities([each]) & identities(wanted))
    for each in others:
        device.add(each)
    assert address_changes(present(device.addresses), wanted, ()).remove == ()
    assert not missing(DeviceState(addresses=present(device.addresses)), settings(wanted))
    more = address_changes(present(device.addresses), (*wanted, *others), ())
    assert more == AddressChanges()


def settings(
    wanted: Sequence[Address], routes: Sequence[Route] = (), table: int | None = None
) -> LinkSettings:
    return LinkSettings(1500, 10, addresses=tuple(wanted), routes=tuple(routes), policy_table=table)


def _by_scope(keys: Iterable[AddressKey]) -> list[AddressKey]:
    return sorted(keys, key=lambda key: key.order)


def test_only_one_version_is_changed() -> None:
    wanted = (Address("10.0.0.1/24"), Address("fd00::1/64"))
    assert address_changes((), wanted, versions=(6,)).add == wanted[1:]
    assert address_changes(present(wanted), (), wanted, versions=(6,)).remove == present(wanted[1:])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Route("default", "10.0.0.2"), Route("0.0.0.0/0", "10.0.0.2", 0)),
        (Route("default", "fd00::2"), Route("::/0", "fd00:0::2", 1024)),
        (Route("default", "fd00::2", 0), Route("::/0", "fd00::2", 1024)),
        (Route("default"), Route("0.0.0.0/0", None, 0)),
        (Route("fd09:0::/64"), Route("fd09::/64", None, 1024)),
    ],
)
def test_spellings_of_a_route(one: Route, other: Route) -> None:
    assert route_key(one) == route_key(other)


def test_routes() -> None:
    have = (
        PresentRoute(Route("10.0.0.0/24", None, 0), automatic=True),
        PresentRoute(Route("0.0.0.0/0", "10.0.0.2", 0)),
        PresentRoute(Route("10.1.0.0/16", "10.0.0.2", 0)),
        PresentRoute(Route("10.2.0.0/16", "10.0.0.2", 0)),
        PresentRoute(Route("10.3.0.0/16", "10.0.0.2", 0), table=77),
    )
    wanted = settings(
        (), [Route("default", "10.0.0.2"), Route("10.3.0.0/16", "10.0.0.2"), Route("10.4.0.0/16")]
    )
    released = settings(
        (), [Route("10.1.0.0/16", "10.0.0.2"), Route("10.0.0.0/24"), Route("default", "10.0.0.2")]
    )
    changes = route_changes(DeviceState(up=True, routes=have), wanted, released)
    assert changes.remove == (have[2],)
    assert changes.add == (Route("10.4.0.0/16"), Route("10.3.0.0/16", "10.0.0.2"))
    assert route_changes(DeviceState(up=False, routes=have), wanted, None).add == ()


def test_routes_of_a_policy_table() -> None:
    table = TABLES[7]
    wanted = settings([Address("10.88.7.1/24"), Address("fd88:7::1/64")], table=table)
    changes = route_changes(DeviceState(up=True), wanted, None)
    assert changes.add_policy == (Route("10.88.7.1/32"), Route("fd88:7::1/128"))
    wide = PresentRoute(Route("10.88.7.0/24", None, 0), table=table, source="10.88.7.1")
    good = PresentRoute(Route("10.88.7.1/32", None, 0), table=table, source="10.88.7.1")
    changes = route_changes(DeviceState(up=True, routes=(wide, good)), wanted, None)
    assert changes.remove == (wide,)
    assert changes.add_policy == (Route("fd88:7::1/128"),)
    gone = route_changes(DeviceState(up=True, routes=(good,)), settings(()), wanted)
    assert gone.remove == (good,)


def test_routes_of_networks() -> None:
    def without(present: Sequence[Address], wanted: Sequence[Address], *routes: Route) -> tuple[Address, ...]:
        have = tuple(PresentRoute(each) for each in routes)
        addresses = tuple(PresentAddress(each) for each in present)
        return route_changes(
            DeviceState(up=True, addresses=addresses, routes=have), settings(wanted), None
        ).add_networks

    one, two, host = Address("10.0.0.1/24"), Address("10.0.0.2/24"), Address("10.0.0.3/32")
    peer, six = Address("10.7.0.1/32", peer="10.7.0.2"), Address("fd00::1/64")
    every = (one, two, host, peer, six)
    assert without(every, every) == (one, peer, six)
    assert list(map(network_route, (one, peer, six))) == [
        Route("10.0.0.0/24", metric=0),
        Route("10.7.0.2/32", metric=0),
        Route("fd00::/64", metric=256),
    ]
    assert without(every, every, Route("10.0.0.0/24", None, 7), Route("fd00::/64", None, 256)) == (peer,)
    assert without((one,), (one,), Route("10.0.0.0/24", "10.0.0.9", 0)) == (one,)
    sixes = tuple(Address(f"fd00::{number}/64") for number in range(1, 4))
    assert without(sixes, sixes) == sixes[:1], "they share one route"
    assert without((), every) == (), "the kernel adds them with the addresses"
    assert without((two, one), (one,)) == (), "the network is that of a foreign address"
    assert without((two, one), (one, two)) == (), "the addresses are removed and added again"
    assert without((Address("0.0.0.5/24"),), (Address("0.0.0.5/24"),)) == ()


def test_what_is_missing() -> None:
    table = TABLES[7]
    wanted = settings([Address("10.88.7.1/24")], [Route("10.9.0.0/16")], table)
    lacking = missing(DeviceState(up=True), wanted)
    assert lacking.addresses == wanted.addresses
    assert lacking.routes == (Route("10.9.0.0/16"), Route("10.88.7.1/32"))
    assert Rule(socket.AF_INET, 30, table, to="10.88.7.1/32", iif="lo") in lacking.rules
    assert lacking
    assert missing(DeviceState(), wanted).routes == ()
