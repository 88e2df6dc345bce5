from __future__ import annotations

import pytest

from epaird.config.refusals import Removed
from epaird.config.values import Location
from tests.config.test_reading import problems


def test_every_problem_is_reported_at_once() -> None:
    text = """
        colour = "red"
        [epair0]
        [metric]
        [daemon]
        workers = 0
        listen = "x"
        [namespaces]
        create = ["red", "a b", "red"]
        [epair]
        foo = 1
        [epair.epair0]
        queues = 300
        mtu = 9000
        [epair.epair0.a]
        mtu = 70000
        mtuu = 3
        addresses = ["10.0.0.1/24", "10.0.0.300/24", "10.0.0.1/24"]
        routes = [{ via = "10.0.0.2" }, "x", { to = "fd01::/64", via = "10.0.0.2", weight = 3 }]
        namespace = "red"
        [epair.epair0.b]
        name = "eth9"
        mtu = "1500"
        [epair.epair1]
        a = 3
        b = { name = "eth9" }
        [epair.epair07]
        [epair.epair2.c]
        """
    assert problems(text) == [
        "daemon.workers: 0 is less than 1, the least allowed",
        "daemon.listen: unknown key here, it belongs to [metrics]",
        'namespaces.create[1]: "a b" has white space in it',
        'epair.foo: "foo" is not a pair\'s name: that is epair and a number, as in "epair0"',
        "epair.epair0.queues: 300 is more than a TAP's 256 queues",
        "epair.epair0.a.mtu: 70000 is more than a TAP's 65521",
        'epair.epair0.a.addresses[1]: "10.0.0.300/24" is not an address with its prefix length, '
        'as in "10.0.0.1/24" or "fd00::1/64"',
        'epair.epair0.a.routes[0].to: missing, it is "default" or the network the route leads to',
        'epair.epair0.a.routes[1]: "x" is not a table, write { to = "default", via = "10.0.0.2" }',
        "epair.epair0.a.routes[2].weight: unknown key, the keys here are to, via and metric",
        "epair.epair0.a.mtuu: unknown key, did you mean mtu?",
        "epair.epair0.a.namespace: unknown key, did you mean netns?",
        'epair.epair0.b.mtu: "1500" is text, leave the quotes out',
        "epair.epair0.mtu: unknown key here, it belongs to a half, [epair.epair0.a]",
        "epair.epair1.a: 3 is not a table, write [epair.epair1.a]",
        'epair.epair07: "epair07" has a leading zero, write "epair7"',
        "epair.epair2.c: unknown key, the keys here are queues, offload, coalesce, pmtu, carrier, schedule, "
        "impair, a and b",
        "colour: unknown key, the keys here are daemon, metrics, namespaces, epair, lo and impairment",
        "epair0: unknown key, a pair is written [epair.epair0]",
        "metric: unknown key, did you mean metrics?",
        'namespaces.create[2]: "red" is listed twice',
        'epair.epair1.b.name: "eth9" is already the name of epair.epair0.b in the daemon\'s own namespace',
        "epair.epair0.a.addresses[2]: 10.0.0.1 is listed twice",
        "epair.epair0.a.routes[2].via: 10.0.0.2 is an IPv4 address, fd01::/64 needs an IPv6 one",
    ]


def test_keys_with_other_names_in_other_tools() -> None:
    text = (
        '[epair.epair3]\nqueue = 2\na = { hwaddr = "x", gateway = "y", adresses = [], MTU = 3, queues = 2 }'
    )
    assert problems(text) == [
        "epair.epair3.a.hwaddr: unknown key, did you mean mac?",
        "epair.epair3.a.gateway: unknown key, the keys here are "
        "netns, name, mac, mtu, up, txqueuelen, sndbuf, addresses, routes, peer and impair",
        "epair.epair3.a.adresses: unknown key, did you mean addresses?",
        "epair.epair3.a.MTU: unknown key, did you mean mtu?",
        "epair.epair3.a.queues: unknown key here, it belongs to a pair, [epair.epair3]",
        "epair.epair3.queue: unknown key, did you mean queues?",
    ]


def test_keys_of_addresses_and_routes_with_other_names_in_other_tools() -> None:
    text = """
        [epair.epair0.a]
        addresses = [
            { peer = "10.0.0.2" },
            { address = "10.0.0.1/24", pointopoint = "10.0.0.2" },
            { address = "fd00::1/64", dad = false, mtu = 9000 },
            { address = "10.0.0.1/24", peer = "fd00::2", nodad = 1 },
        ]
        routes = [{ to = "default", priority = 3 }, { to = "default", metric = "3" }]
        """
    assert problems(text) == [
        "epair.epair0.a.addresses[0].address: missing, it is the address with its prefix length, "
        'as in "10.0.0.1/24"',
        "epair.epair0.a.addresses[1].pointopoint: unknown key, did you mean peer?",
        "epair.epair0.a.addresses[2].dad: unknown key, did you mean nodad?",
        "epair.epair0.a.addresses[2].mtu: unknown key here, it belongs to a half, [epair.epair0.a]",
        'epair.epair0.a.addresses[3].peer: "fd00::2" is not an IPv4 address, as 10.0.0.1/24 is',
        "epair.epair0.a.addresses[3].nodad: 1 is not true or false",
        "epair.epair0.a.routes[0].priority: unknown key, did you mean metric?",
        'epair.epair0.a.routes[1].metric: "3" is text, leave the quotes out',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epair = 3", "epair: 3 is not a table, write [epair.epair0]"),
        ("[[epair]]", "epair: a list is not a table, write [epair.epair0]"),
        ("[[epair.epair0.a]]", "epair.epair0.a: a list is not a table, write [epair.epair0.a]"),
        ("daemon = 2026-01-02", "daemon: the date or time 2026-01-02 is not a table, write [daemon]"),
    ],
)
def test_tables_are_tables(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_an_unknown_key_of_a_loopback_is_told_a_loopbacks_keys() -> None:
    assert problems("[lo.lo1]\ncolour = 1") == [
        "lo.lo1.colour: unknown key, the keys here are "
        "netns, name, mode, policy_routing, mtu, up, txqueuelen and addresses"
    ]


def test_what_is_removed_is_left_out_of_a_document() -> None:
    document = {"a": {"b": [1, 2, 3], "c": 4}, "d": 5, "e": 6}
    removed = Removed([("a", "b", 1), ("d", "deeper"), ("e",)])
    assert removed.without(document) == {"a": {"b": [1, 3], "c": 4}, "d": 5}
    assert Removed().without(document) is document


@pytest.mark.parametrize(
    ("place", "concerned"),
    [
        ((), True),
        (("a",), True),
        (("a", "b"), True),
        (("a", "b", "c"), True),
        (("a", "b", "c", 0), True),
        (("a", "d"), False),
        (("b",), False),
        (("b", "a", "b"), False),
    ],
)
def test_a_removed_part_concerns_what_contains_it_and_what_is_in_it(place: Location, concerned: bool) -> None:
    assert Removed([("a", "b")]).concerns(place) is concerned
