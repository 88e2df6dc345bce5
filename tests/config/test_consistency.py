from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.addressing import AddressSettings
from epaird.config.consistency import conflicts, remarks
from epaird.config.settings import Configuration, ConfiguredInterface
from epaird.config.values import dotted


def found(document: dict[str, Any]) -> list[str]:
    configuration = Configuration.model_validate(document)
    return [f"{dotted(conflict.location)}: {conflict.message}" for conflict in conflicts(configuration)]


def pair(a: dict[str, Any], b: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"epair": {"epair0": {"a": a, "b": b or {}}}}


def pairs(*settings: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {"epair": {f"epair{unit}": {"a": a, "b": b} for unit, (a, b) in enumerate(settings)}}


@pytest.mark.parametrize(
    "document",
    [
        {},
        pair({}),
        pair({"netns": "red"}, {"netns": "red"}),
        pair({"netns": "red", "name": "eth0"}, {"netns": "blue", "name": "eth0"}),
        pair({"name": "epair0a"}),
        pair({"addresses": ["10.0.0.1/24"]}, {"addresses": ["10.0.0.2/24"]}),
        pair({"addresses": ["fe80::1/64"]}, {"addresses": ["fe80::2/64"]}),
        pairs(({"addresses": ["fe80::1/64"]}, {}), ({"addresses": ["fe80::1/64"]}, {})),
        pairs(
            ({"netns": "red", "addresses": ["10.0.0.1/24"]}, {}),
            ({"netns": "blue", "addresses": ["10.0.0.1/24"]}, {}),
        ),
        pair({"mtu": 68, "addresses": ["10.0.0.1/24"]}),
        pair({"mtu": 1280, "addresses": ["fd00::1/64"]}),
        pairs(
            ({"addresses": ["10.0.0.1/24", {"address": "10.0.0.1/32", "peer": "10.9.0.2"}]}, {}),
            ({"addresses": [{"address": "10.0.0.1/32", "peer": "10.9.0.3"}]}, {}),
        ),
        pair({"addresses": [{"address": "10.0.0.1/32", "peer": f"10.0.0.{end}"} for end in (2, 3)]}),
        pair({"mac": "stable"}, {"mac": "stable"}),
        pair({"mac": "02:00:00:00:00:0a"}, {"mac": "02:00:00:00:00:0b"}),
        {"lo": {"lo1": {"mode": "verbatim", "policy_routing": True}, "lo2": {}}},
        pair({"peer": "epair0b"}, {"peer": "epair0a"}),
        pair({"peer": ""}),
        pairs(({"peer": "epair1b"}, {}), ({}, {"peer": "epair0a"})),
        pairs(({"peer": "epair1b"}, {"peer": ""}), ({"peer": ""}, {})),
    ],
)
def test_consistent_configurations(document: dict[str, Any]) -> None:
    assert found(document) == []


@pytest.mark.parametrize(
    ("document", "conflict"),
    [
        (
            {"namespaces": {"create": ["red", "blue", "red"]}},
            'namespaces.create[2]: "red" is listed twice',
        ),
        (
            pair({"netns": "red", "name": "eth0"}, {"netns": "red", "name": "eth0"}),
            'epair.epair0.b.name: "eth0" is already the name of epair.epair0.a in namespace "red"',
        ),
        (
            pair({"netns": "red", "name": "eth0"}, {"netns": "/run/netns/red", "name": "eth0"}),
            'epair.epair0.b.name: "eth0" is already the name of epair.epair0.a in namespace "red"',
        ),
        (
            pair({"name": "epair0b"}),
            'epair.epair0.a.name: "epair0b" is already the name of epair.epair0.b '
            "in the daemon's own namespace",
        ),
        (
            pair({"name": "epair0b"}, {"netns": "red"}),
            'epair.epair0.a.name: "epair0b" is the name under which epair.epair0.b is created '
            "in the daemon's own namespace",
        ),
        (
            pair({"addresses": ["10.0.0.1/24", "10.0.0.1/16"]}),
            "epair.epair0.a.addresses[1]: 10.0.0.1 is listed twice",
        ),
        (
            pair(
                {"netns": "red", "addresses": ["10.0.0.1/24"]},
                {"netns": "blue", "addresses": ["10.0.0.1/24"]},
            ),
            "epair.epair0.b.addresses[0]: 10.0.0.1 is also an address of the other half, "
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(({"addresses": ["10.0.0.1/24"]}, {}), ({"addresses": ["10.0.0.1/24"]}, {})),
            "epair.epair1.a.addresses[0]: 10.0.0.1 is already an address in the daemon's own namespace, "
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(
                ({"netns": "red", "addresses": ["fd00::1/64"]}, {}),
                ({}, {"netns": "/var/run/netns/red", "addresses": ["fd00:0::1/48"]}),
            ),
            'epair.epair1.b.addresses[0]: fd00::1 is already an address in namespace "red", '
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(({"mac": "02:00:00:00:00:0a"}, {}), ({}, {"mac": "02:00:00:00:00:0A"})),
            "epair.epair1.b.mac: 02:00:00:00:00:0a is already the address of epair.epair0.a",
        ),
        (
            pair({"mtu": 1279, "addresses": ["10.0.0.1/24", "fd00::1/64"]}),
            "epair.epair0.a.mtu: 1279 is less than the 1280 that IPv6 needs, for fd00::1/64 in addresses",
        ),
        (
            pair(
                {"addresses": ["10.0.0.1/24"]},
                {"addresses": [{"address": "10.0.0.1/32", "peer": "10.9.0.2"}]},
            ),
            "epair.epair0.b.addresses[0]: 10.0.0.1 is also an address of the other half, "
            "in epair.epair0.a.addresses",
        ),
        (
            pairs(
                ({"addresses": [{"address": "10.0.0.1/32", "peer": "10.0.0.2"}]}, {}),
                ({"addresses": [{"address": "10.0.0.1/32", "peer": "10.0.0.2"}]}, {}),
            ),
            "epair.epair1.a.addresses[0]: 10.0.0.1 is already an address in the daemon's own namespace, "
            "in epair.epair0.a.addresses",
        ),
        (
            pair(
                {
                    "addresses": [
                        {"address": "10.0.0.1/24", "peer": "10.0.1.2"},
                        {"address": "10.0.0.1/24", "peer": "10.0.1.3"},
                    ]
                }
            ),
            "epair.epair0.a.addresses[1]: 10.0.0.1 is listed twice",
        ),
        (
            pair(
                {
                    "addresses": [
                        {"address": "fd00::1/128", "peer": "fd00::2"},
                        {"address": "fd00::1/128", "peer": "fd00::3"},
                    ]
                }
            ),
            "epair.epair0.a.addresses[1]: fd00::1 is listed twice",
        ),
        (
            pair({"addresses": ["10.0.0.2/24", {"address": "10.0.0.1/32", "peer": "10.0.0.2"}]}),
            "epair.epair0.a.addresses[1].peer: 10.0.0.2 is this interface's own address, "
            "a peer has another one",
        ),
        (
            pair({"mtu": 1000, "routes": [{"to": "fd01::/64"}]}),
            "epair.epair0.a.mtu: 1000 is less than the 1280 that IPv6 needs, for fd01::/64 in routes",
        ),
        (
            pair(
                {
                    "addresses": [
                        "10.0.0.1/24",
                        {"address": "10.0.0.1/32", "peer": "10.0.9.1"},
                        "10.0.0.1/16",
                    ]
                }
            ),
            "epair.epair0.a.addresses[2]: 10.0.0.1 is listed twice",
        ),
        (
            pair({"addresses": ["fd00::1/64", {"address": "fd00::1/128", "peer": "fd00::2"}]}),
            "epair.epair0.a.addresses[1]: fd00::1 is listed twice",
        ),
        (
            pair({"mtu": 1000, "addresses": ["fd00::1/64", "fd00::2/64"], "routes": [{"to": "fd01::/64"}]}),
            "epair.epair0.a.mtu: 1000 is less than the 1280 that IPv6 needs, for fd00::1/64 in addresses",
        ),
        (
            {"lo": {"lo1": {"policy_routing": True}}},
            'lo.lo1.policy_routing: true needs mode = "verbatim": '
            "a reflected packet passes the loopback without any rules",
        ),
        (pair({"peer": "epair0a"}), "epair.epair0.a.peer: epair0a is this half itself"),
        (pair({"peer": "epair7b"}), 'epair.epair0.a.peer: there is no half "epair7b"'),
        (pair({}, {"peer": "epair7b"}), 'epair.epair0.b.peer: there is no half "epair7b"'),
        (
            pairs(({"peer": "epair1a"}, {"peer": "epair1a"}), ({"peer": "epair0a"}, {})),
            "epair.epair0.b.peer: epair1a is already plugged into epair0a",
        ),
        (
            pairs(({"peer": "epair1a"}, {}), ({"peer": ""}, {})),
            'epair.epair0.a.peer: epair1a has another peer, "", in epair.epair1.a.peer',
        ),
        (
            pairs(({"peer": "epair1a"}, {}), ({"peer": "epair2a"}, {}), ({}, {})),
            'epair.epair0.a.peer: epair1a has another peer, "epair2a", in epair.epair1.a.peer',
        ),
        (
            {
                "epair": {
                    "epair0": {"queues": 2, "a": {"peer": "epair1a"}},
                    "epair1": {"queues": 4},
                }
            },
            "epair.epair0.a.peer: epair1a has 4 queues and epair0a has 2: both need the same number",
        ),
    ],
)
def test_conflicts_are_reported(document: dict[str, Any], conflict: str) -> None:
    assert found(document) == [conflict]


@pytest.mark.parametrize(
    ("document", "causes"),
    [
        (
            pair({"netns": "red", "name": "eth0"}, {"netns": "red", "name": "eth0"}),
            ["epair.epair0.b.netns", "epair.epair0.b.name", "epair.epair0.a.netns", "epair.epair0.a.name"],
        ),
        (
            pairs(({"addresses": ["10.0.0.1/24"]}, {}), ({"addresses": ["10.0.0.1/24"]}, {})),
            ["epair.epair1.a.netns", "epair.epair0.a.netns"],
        ),
        (pair({"mtu": 1000, "addresses": ["fd00::1/64"]}), ["epair.epair0.a.mtu"]),
        ({"lo": {"lo1": {"policy_routing": True}}}, ["lo.lo1.mode"]),
        (pair({"peer": "epair7b"}), ["epair.epair7"]),
        (
            pairs(({"peer": "epair1a"}, {"peer": "epair1a"}), ({"peer": "epair0a"}, {})),
            ["epair.epair0.a.peer", "epair.epair0.b.peer"],
        ),
        (pairs(({"peer": "epair1a"}, {}), ({"peer": ""}, {})), ["epair.epair1.a.peer"]),
        (
            {
                "epair": {
                    "epair0": {"queues": 2, "a": {"peer": "epair1a"}},
                    "epair1": {"queues": 4},
                }
            },
            ["epair.epair0.queues", "epair.epair1.queues"],
        ),
    ],
)
def test_a_conflict_names_the_values_that_may_have_caused_it(
    document: dict[str, Any], causes: list[str]
) -> None:
    """It is not reported when one of these was refused itself."""
    (conflict,) = conflicts(Configuration.model_validate(document))
    assert [dotted(each) for each in conflict.rests_on] == causes


@pytest.mark.parametrize(
    "settings",
    [
        {"up": False, "addresses": ["10.0.0.1/24"]},
        {"up": False},
        {"addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}]},
        {"addresses": [{"address": "fd00::1/64", "nodad": True}, "10.0.0.1/24"]},
    ],
)
def test_usual_values_are_not_remarked(settings: dict[str, Any]) -> None:
    assert list(remarks(Configuration.model_validate(pair(settings)))) == []


def test_routes_of_a_half_that_is_down_are_remarked() -> None:
    down = pair({"up": False, "addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}]})
    assert found(down) == []
    ((location, text),) = remarks(Configuration.model_validate(down))
    assert dotted(location) == "epair.epair0.a.routes"
    assert text.startswith("not installed while up = false")


def test_an_ipv4_address_with_nodad_is_remarked() -> None:
    document = pair({"addresses": [{"address": "10.0.0.1/24", "nodad": True}, "10.0.1.1/24"]})
    document["lo"] = {"lo1": {"addresses": [{"address": "fd00::1/64", "nodad": True}]}}
    assert found(document) == []
    ((location, text),) = remarks(Configuration.model_validate(document))
    assert dotted(location) == "epair.epair0.a.addresses[0]"
    assert text == "nodad has no effect, IPv4 has no duplicate address detection"


def excludes(
    one: ConfiguredInterface, address: AddressSettings, other: ConfiguredInterface, earlier: AddressSettings
) -> bool:
    """Return whether two equal addresses exclude each other: the rule, for each pair of addresses."""
    if one is other:
        plain = address.peer is None and earlier.peer is None
        return address.version == 6 or address.network == earlier.network or plain
    if one.interface == other.interface:
        return True
    same = one.namespace == other.namespace and address.peer == earlier.peer
    return same and not address.is_link_local


_addresses = st.lists(
    st.sampled_from(["10.0.0.1/24", "10.0.0.1/16", "fe80::1/64", "fd00::1/64", "fd00::1/48"])
    | st.builds(
        lambda address, peer: {"address": address, "peer": peer},
        st.sampled_from(["10.0.0.1/24", "10.0.0.1/16", "10.0.0.1/32"]),
        st.sampled_from(["10.0.0.2", "10.0.0.3"]),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.sampled_from(["red", "blue"]), _addresses), min_size=2, max_size=6))
def test_repeated_addresses_are_those_of_a_comparison_of_each_with_each(
    halves: list[tuple[str, Any]],
) -> None:
    tables: dict[str, Any] = {}
    for number, (netns, addresses) in enumerate(halves):
        half = {"netns": netns, "addresses": addresses}
        tables.setdefault(f"epair{number // 2}", {})["ab"[number % 2]] = half
    configuration = Configuration.model_validate({"epair": tables})
    wanted = []
    seen: list[tuple[ConfiguredInterface, AddressSettings]] = []
    for interface in configuration.interfaces:
        for index, address in enumerate(interface.settings.addresses):
            earlier = [
                other for other, each in seen
                if each.ip == address.ip and excludes(interface, address, other, each)
            ]  # fmt: skip
            if earlier:
                wanted.append(((*interface.location, "addresses", index), dotted(earlier[0].location)))
            seen.append((interface, address))
    reported = [each for each in conflicts(configuration) if "addresses" in each.location]
    assert [each.location for each in reported] == [place for place, _ in wanted]
    for each, (place, holder) in zip(reported, wanted, strict=True):
        assert "listed twice" in each.message or holder in each.message, place
