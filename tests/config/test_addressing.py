from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from epaird.config.addressing import AddressSettings, RouteSettings, installed_routes

PEER = {"address": "10.0.0.1/32", "peer": "10.0.0.2"}
PEER_OF_NETWORK = {"address": "10.0.0.1/24", "peer": "10.1.0.2"}
IPV6_PEER = {"address": "fd00::1/64", "peer": "fd01::2", "nodad": True}


@st.composite
def addresses(draw: st.DrawFn) -> AddressSettings:
    """Return any address with any peer of its family."""
    version: Literal[4, 6] = draw(st.sampled_from([4, 6]))
    own, peer = (draw(st.ip_addresses(v=version)) for _ in range(2))
    length = draw(st.integers(0, own.max_prefixlen))
    table: dict[str, object] = {"address": f"{own}/{length}", "nodad": draw(st.booleans())}
    if draw(st.booleans()):
        table["peer"] = draw(st.sampled_from([str(peer), f"{peer}/{length}"]))
    try:
        return AddressSettings.model_validate(table)
    except ValidationError:  # neither a network's own address nor a group's is an interface's
        assume(False)
        raise


def address(value: object) -> AddressSettings:
    return AddressSettings.model_validate(value)


def route(**table: object) -> RouteSettings:
    return RouteSettings.model_validate(table)


@given(addresses())
def test_an_address_is_read_as_it_was_written(found: AddressSettings) -> None:
    for written in (
        found.model_dump(),
        found.model_dump(mode="json"),
        found.model_dump(exclude_defaults=True),
    ):
        assert address(written) == found
        assert isinstance(written, dict) == (found.peer is not None or found.nodad)
    assert AddressSettings.model_validate_json(found.model_dump_json()) == found
    assert address(found) == found
    assert hash(address(found.model_dump())) == hash(found)


def test_an_address_in_a_schema_is_a_text_or_a_table() -> None:
    text, table = AddressSettings.model_json_schema()["anyOf"]
    assert text == {"type": "string", "examples": ["10.0.0.1/24"]}
    assert table["properties"].keys() == {"address", "peer", "nodad"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("fe80::1/64", True), ("169.254.0.1/16", True), ("fd00::1/64", False), ("10.0.0.1/24", False)],
)
def test_an_address_is_valid_on_one_link_or_on_several(text: str, expected: bool) -> None:
    assert address(text).is_link_local is expected


@given(addresses())
def test_the_networks_of_an_address(found: AddressSettings) -> None:
    assert {network.version for network in found.networks} == {found.version}
    if found.peer is not None:
        assert any(found.peer in network for network in found.networks)
    if found.peer is None or found.version == 6:
        assert found.ip in found.network


@pytest.mark.parametrize(
    ("value", "written", "text"),
    [
        ("10.0.0.1/24", "10.0.0.1/24", "10.0.0.1/24"),
        ({"address": "10.0.0.1/24"}, "10.0.0.1/24", "10.0.0.1/24"),
        ({"address": "fd00::1/64", "peer": None, "nodad": False}, "fd00::1/64", "fd00::1/64"),
        (PEER, PEER, "10.0.0.1 peer 10.0.0.2/32"),
        (PEER | {"peer": "10.0.0.2/32"}, PEER, "10.0.0.1 peer 10.0.0.2/32"),
        (PEER_OF_NETWORK, PEER_OF_NETWORK, "10.0.0.1 peer 10.1.0.2/24"),
        (IPV6_PEER, IPV6_PEER, "fd00::1 peer fd01::2/64 nodad"),
        (PEER | {"nodad": True}, PEER | {"nodad": True}, "10.0.0.1 peer 10.0.0.2/32 nodad"),
        (
            {"address": "fd00::1/64", "nodad": True},
            {"address": "fd00::1/64", "nodad": True},
            "fd00::1/64 nodad",
        ),
    ],
)
def test_a_plain_address_is_written_as_a_text(value: object, written: object, text: str) -> None:
    assert address(value).model_dump(mode="json") == written
    assert str(address(value)) == text


def test_the_prefix_length_is_that_of_the_peers_network_with_ipv4() -> None:
    found = address(PEER_OF_NETWORK)
    assert (found.ip, found.version) == (ip_address("10.0.0.1"), 4)
    assert found.networks == (found.network,) == (ip_network("10.1.0.0/24"),)
    assert address(PEER).networks == (ip_network("10.0.0.2/32"),)
    assert address("10.0.0.1/24").networks == (ip_network("10.0.0.0/24"),)


def test_the_prefix_length_is_that_of_the_own_network_with_ipv6() -> None:
    found = address(IPV6_PEER)
    assert found.network == ip_network("fd00::/64")
    assert found.networks == (ip_network("fd00::/64"), ip_network("fd01::2/128"))
    assert found.address == ip_interface("fd00::1/64")


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        (3, (), "3 is not an address with its prefix length"),
        ([], (), "a list is not an address with its prefix length"),
        ("10.0.0.1", (), '"10.0.0.1" has no prefix length'),
        ({"address": "10.0.0.1", "peer": "10.0.0.2/32"}, ("address",), '"10.0.0.1" has no prefix length'),
        (PEER | {"peer": "10.0.0.1"}, ("peer",), '"10.0.0.1" is the own address, a peer has another one'),
        (PEER | {"peer": "fd00::2"}, ("peer",), '"fd00::2" is not an IPv4 address, as 10.0.0.1/32 is'),
        (PEER | {"peer": 3}, ("peer",), '3 is not the address at the other end, as in "10.0.0.2"'),
        (PEER | {"peer": ""}, ("peer",), '"" is not the address at the other end, as in "10.0.0.2"'),
        (
            PEER | {"peer": "10.0.0.2/24"},
            ("peer",),
            '"10.0.0.2/24" has another prefix length than 10.0.0.1/32',
        ),
        (PEER | {"peer": "10.0.0.2/x"}, ("peer",), '"10.0.0.2/x": "x" is not a prefix length of IPv4'),
        (PEER | {"peer": "224.0.0.2"}, ("peer",), '"224.0.0.2" is a group\'s address'),
        (PEER_OF_NETWORK | {"peer": "10.1.0.0"}, ("peer",), '"10.1.0.0" is the network itself'),
        (PEER_OF_NETWORK | {"peer": "10.1.0.255"}, ("peer",), '"10.1.0.255" is its network\'s broadcast'),
        (PEER | {"nodad": "yes"}, ("nodad",), '"yes" is not true or false'),
    ],
)
def test_refused_addresses(value: object, where: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        address(value)
    (detail,) = caught.value.errors()
    assert detail["loc"] == where
    assert str(detail["ctx"]["error"]).startswith(reason)


def test_default_has_the_address_family_of_the_next_hop_and_else_ipv4() -> None:
    assert route(to="default", via="10.0.0.2").destination == ip_network("0.0.0.0/0")
    assert route(to="default", via="fe80::1").destination == ip_network("::/0")
    assert route(to="default").destination == ip_network("0.0.0.0/0")
    assert route(to="::/0").destination == ip_network("::/0")
    assert route(to="10.1.0.0/16", via="10.0.0.2").destination == ip_network("10.1.0.0/16")


def test_the_effective_metric_is_that_of_the_kernel() -> None:
    assert [route(to="10.1.0.0/16", metric=metric).effective_metric for metric in (None, 0, 5)] == [0, 0, 5]
    assert [route(to="fd01::/64", metric=metric).effective_metric for metric in (None, 0, 5)] == [
        1024,
        1024,
        5,
    ]
    assert route(to="default", metric=2**32 - 1).effective_metric == 2**32 - 1


def test_a_route_in_words() -> None:
    assert str(route(to="default", via="10.0.0.2")) == "default via 10.0.0.2"
    assert str(route(to="10.1.0.0/16", metric=5)) == "10.1.0.0/16 metric 5"
    assert str(route(to="10.1.0.0/16", metric=0)) == "10.1.0.0/16"


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (-1, "-1 is less than 0, the least allowed"),
        (2**32, "4294967296 is more than 4294967295, the most allowed"),
        (True, "true is not a whole number from 0 to 4294967295"),
    ],
)
def test_refused_metrics(metric: object, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        route(to="default", metric=metric)
    (detail,) = caught.value.errors()
    assert (detail["loc"], str(detail["ctx"]["error"])) == (("metric",), reason)


def test_an_ipv6_peer_has_a_route() -> None:
    assert address(IPV6_PEER).route_to_peer == route(to="fd01::2")
    link_local = {"address": "fe80::1/64", "peer": "fe80::2"}
    assert [address(value).route_to_peer for value in ("fd00::1/64", PEER, link_local)] == [None] * 3


def test_routes_are_installed_once_and_after_those_that_their_next_hop_needs() -> None:
    to_peer, by_peer, default = route(to="fd01::2"), route(to="fd02::/64", via="fd01::2"), route(to="::/0")
    own = address(IPV6_PEER)
    assert installed_routes([own], [by_peer, default]) == (to_peer, default, by_peer)
    assert len(installed_routes([own, own], [by_peer, route(to="fd01::2", metric=0)])) == 2
    assert installed_routes([own], [route(to="fd01::2", metric=5)]) == (
        to_peer,
        route(to="fd01::2", metric=5),
    )
