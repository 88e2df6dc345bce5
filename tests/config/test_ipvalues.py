from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config import ipvalues
from tests.config.test_values import TOML_VALUES, refusal

LONG_NAME = ".".join(("x" * 63, "x" * 63, "x" * 63, "x" * 61))
"""A host's name of 253 characters, the most that DNS allows."""
READERS: list[Callable[[object], object]] = [
    ipvalues.interface_address,
    ipvalues.destination,
    ipvalues.next_hop,
    ipvalues.listen_address,
]


@pytest.mark.parametrize("reader", READERS)
@given(value=TOML_VALUES | st.from_regex(r"[0-9a-f.:/%\[\]]{1,20}", fullmatch=True))
def test_any_value_is_accepted_or_refused(reader: Callable[[object], object], value: object) -> None:
    try:
        accepted, reason = reader(value), ""
    except ValueError as error:
        accepted, reason = None, str(error)
    if reason:
        assert reason.isprintable()
        assert len(reason) < 1000
    else:
        assert reader(accepted) == accepted


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9862", "127.0.0.1", 9862),
        ("[::1]:9862", "::1", 9862),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("localhost:0", "localhost", 0),
        (f"{LONG_NAME}:1", LONG_NAME, 1),
        ("metrics.example.org:65535", "metrics.example.org", 65535),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int) -> None:
    assert ipvalues.listen_address(text) == text
    assert ipvalues.split_listen(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", '"127.0.0.1" has no port, as in "127.0.0.1:9862"'),
        ("[::1]", '"[::1]" has no port, as in "[::1]:9862"'),
        (":9862", '":9862" has no address, "0.0.0.0:9862" and "[::]:9862" mean every one'),
        ("::1:9862", '"::1:9862": an IPv6 address needs brackets, "[::1]:9862"'),
        ("[10.0.0.1]:80", '"[10.0.0.1]:80": "10.0.0.1" is not an IPv6 address'),
        ("[fe80::1]:80", '"[fe80::1]:80" is a link-local address, which needs its interface: fe80::1%eth0'),
        (
            "[::ffff:10.0.0.1]:80",
            '"[::ffff:10.0.0.1]:80" is an IPv4 address, write "10.0.0.1"',
        ),
        ("127.0.0.300:80", '"127.0.0.300:80": "127.0.0.300" is not an IPv4 address'),
        ("localhost:http", '"localhost:http": "http" is not a port, 0 to 65535'),
        ("localhost:65536", '"localhost:65536": "65536" is not a port, 0 to 65535'),
        ("localhost:", '"localhost:": "" is not a port, 0 to 65535'),
        ("[fd00::1:80", '"[fd00::1:80": "[fd00::1" is not an address or a host\'s name'),
        ("a..b:1", '"a..b:1": "a..b" is not an address or a host\'s name'),
        ("a b:1", '"a b:1": "a b" is not an address or a host\'s name'),
        (
            "http://localhost:1",
            '"http://localhost:1": "http://localhost" is not an address or a host\'s name',
        ),
    ],
)
def test_refused_addresses_to_listen_on(text: str, reason: str) -> None:
    assert refusal(ipvalues.listen_address, text) == reason


def test_a_host_has_a_name_that_dns_allows() -> None:
    assert "is not an address or a host's name" in refusal(ipvalues.listen_address, f"{LONG_NAME}x:1")


@pytest.mark.parametrize(
    "text", ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "fd00::1/64", "fe80::1/64", "fd00::/127"]
)
def test_addresses_of_interfaces(text: str) -> None:
    found = ipvalues.interface_address(text)
    assert found == ipvalues.interface_address(found) == ipaddress.ip_interface(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.1", '"10.0.0.1" has no prefix length, as in "10.0.0.1/24"'),
        ("fd00::1", '"fd00::1" has no prefix length, as in "fd00::1/64"'),
        ("10.0.0.1/33", '"10.0.0.1/33": "33" is not a prefix length of IPv4, 0 to 32'),
        (
            "10.0.0.1/255.255.255.0",
            '"10.0.0.1/255.255.255.0": "255.255.255.0" is not a prefix length of IPv4, 0 to 32',
        ),
        ("fd00::1/129", '"fd00::1/129": "129" is not a prefix length of IPv6, 0 to 128'),
        ("10.0.0.0/24", '"10.0.0.0/24" is the network itself, its first address is 10.0.0.1'),
        ("10.0.0.4/30", '"10.0.0.4/30" is the network itself, its first address is 10.0.0.5'),
        ("fd00::/64", '"fd00::/64" is the network itself, its first address is fd00::1'),
        ("10.0.0.255/24", '"10.0.0.255/24" is its network\'s broadcast address'),
        ("127.0.0.1/8", '"127.0.0.1/8" is a loopback address, it belongs to lo'),
        ("::1/128", '"::1/128" is a loopback address, it belongs to lo'),
        ("224.0.0.1/24", '"224.0.0.1/24" is a group\'s address'),
        ("0.0.0.0/0", '"0.0.0.0/0" is no address, only a placeholder for one'),
        ("fe80::1%eth0/64", '"fe80::1%eth0/64" has a zone (%), the half itself is the zone here'),
        (
            "10.0.0.256/24",
            '"10.0.0.256/24" is not an address with its prefix length, as in "10.0.0.1/24" or "fd00::1/64"',
        ),
    ],
)
def test_refused_addresses_of_interfaces(text: str, reason: str) -> None:
    assert refusal(ipvalues.interface_address, text) == reason


def test_destinations() -> None:
    assert ipvalues.destination("default") == "default"
    assert ipvalues.destination("10.1.0.0/16") == ipaddress.ip_network("10.1.0.0/16")
    assert ipvalues.destination("10.1.0.5") == ipaddress.ip_network("10.1.0.5/32")
    assert ipvalues.destination("fd01::/64") == ipaddress.ip_network("fd01::/64")
    network = ipaddress.ip_network("10.1.0.0/16")
    assert ipvalues.destination(network) == network
    assert refusal(ipvalues.destination, "fe80::%eth0/64") == (
        '"fe80::%eth0/64" has a zone (%), the half itself is the zone here'
    )
    assert refusal(ipvalues.destination, "10.1.0.5/16") == (
        '"10.1.0.5/16" is one address of a network, the network is 10.1.0.0/16'
    )
    assert refusal(ipvalues.destination, "home") == (
        '"home" is not "default" or a network, as in "10.1.0.0/16"'
    )


def test_next_hops() -> None:
    found = ipvalues.next_hop("fe80::1")
    assert found == ipvalues.next_hop(found) == ipaddress.ip_address("fe80::1")
    assert refusal(ipvalues.next_hop, "fe80::1%eth0") == (
        '"fe80::1%eth0" has a zone (%), the half itself is the zone here'
    )
    assert refusal(ipvalues.next_hop, "10.0.0.2/24") == (
        '"10.0.0.2/24" has a prefix length, the next hop is one address'
    )
    assert "placeholder" in refusal(ipvalues.next_hop, "0.0.0.0")  # noqa: S104


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("10.0.0.2", None),
        ("10.0.0.0", None),
        ("10.0.0.2", "10.0.0.1/24"),
        ("10.0.0.2/24", "10.0.0.1/24"),
        ("10.9.0.2", "10.0.0.1/32"),
        ("10.0.0.0", "10.0.0.1/31"),
        ("fd01::2", "fd00::1/64"),
        ("fd01::", "fd00::1/64"),
        ("fe80::2/64", "fe80::1/64"),
    ],
)
def test_peers_of_an_address(text: str, own: str | None) -> None:
    interface = ipaddress.ip_interface(own) if own is not None else None
    found = ipvalues.peer_address(text, interface)
    assert found == ipvalues.peer_address(found, interface) == ipaddress.ip_address(text.partition("/")[0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0", '"10.0.0" is not the address at the other end, as in "10.0.0.2"'),
        ("fe80::2%eth0", '"fe80::2%eth0" has a zone (%), the half itself is the zone here'),
        ("224.0.0.1", '"224.0.0.1" is a group\'s address'),
        ("fd00::2", '"fd00::2" is not an IPv4 address, as 10.0.0.1/24 is'),
        ("10.0.0.2/25", '"10.0.0.2/25" has another prefix length than 10.0.0.1/24, leave it out here'),
        ("10.0.0.1", '"10.0.0.1" is the own address, a peer has another one'),
        ("10.1.0.0", '"10.1.0.0" is the network itself, its first address is 10.1.0.1'),
        ("10.1.0.255", '"10.1.0.255" is its network\'s broadcast address'),
    ],
)
def test_refused_peers_of_an_address(text: str, reason: str) -> None:
    own = ipaddress.ip_interface("10.0.0.1/24")
    assert refusal(lambda value: ipvalues.peer_address(value, own), text) == reason
