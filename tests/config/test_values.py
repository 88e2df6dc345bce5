from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config import values
from epaird.config.values import WholeNumber, dotted, shown

EXAMPLE = WholeNumber(2, 9, upper_limit="a hand's 9 fingers")
TOML_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates() | st.times(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
READERS: list[Callable[[object], object]] = [
    EXAMPLE,
    values.number_or("auto", EXAMPLE),
    values.one_of("this", "that"),
    values.boolean,
    values.device_name,
    values.namespace_name,
    values.namespace,
    values.socket_path,
    values.hardware_address,
    values.interface_address,
    values.destination,
    values.next_hop,
    values.listen_address,
    values.list_of("[1]"),
]


def refusal(reader: Callable[[object], object], value: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        reader(value)
    return str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@given(value=TOML_VALUES | st.from_regex(r"[0-9a-f.:/%\[\]]{1,20}", fullmatch=True))
def test_any_value_is_taken_or_refused_in_one_line(reader: Callable[[object], object], value: object) -> None:
    try:
        taken, reason = reader(value), ""
    except ValueError as error:
        taken, reason = None, str(error)
    if reason:
        assert reason.isprintable()
        assert len(reason) < 1000
    else:
        assert reader(taken) == taken


def test_whole_numbers() -> None:
    assert EXAMPLE(2) == 2
    assert EXAMPLE(9) == 9
    assert refusal(EXAMPLE, 1) == "1 is less than 2, the least allowed"
    assert refusal(EXAMPLE, 10) == "10 is more than a hand's 9 fingers"
    assert refusal(EXAMPLE, 3.0) == "3.0 is not a whole number from 2 to 9"
    assert refusal(EXAMPLE, True) == "true is not a whole number from 2 to 9"
    assert refusal(EXAMPLE, "3") == '"3" is text, leave the quotes out'
    assert refusal(EXAMPLE, "three") == '"three" is not a whole number from 2 to 9'
    assert refusal(EXAMPLE, 16**5000) == f"0x1{'0' * 37}... is more than a hand's 9 fingers"


def test_words() -> None:
    reader = values.one_of("a", "b", "c")
    assert reader("b") == "b"
    assert refusal(reader, "B") == '"B" is not a, b or c'
    auto = values.number_or("auto", EXAMPLE)
    assert auto("auto") == "auto"
    assert auto(3) == 3
    assert refusal(auto, "many") == '"many" is not "auto" or a whole number from 2 to 9'


def test_true_and_false() -> None:
    assert values.boolean(False) is False
    assert refusal(values.boolean, "true") == '"true" is text, leave the quotes out'
    assert refusal(values.boolean, "yes") == '"yes" is not true or false'
    assert refusal(values.boolean, 1) == "1 is not true or false"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9862", "127.0.0.1", 9862),
        ("[::1]:9862", "::1", 9862),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("localhost:0", "localhost", 0),
        ("metrics.example.org:65535", "metrics.example.org", 65535),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int) -> None:
    assert values.listen_address(text) == text
    assert values.split_listen(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", '"127.0.0.1" has no port, as in "127.0.0.1:9862"'),
        ("[::1]", '"[::1]" has no port, as in "[::1]:9862"'),
        (":9862", '":9862" has no address, "0.0.0.0:9862" and "[::]:9862" mean every one'),
        ("::1:9862", '"::1:9862": an IPv6 address stands in brackets, "[::1]:9862"'),
        ("[10.0.0.1]:80", '"[10.0.0.1]:80": "10.0.0.1" is not an IPv6 address'),
        ("127.0.0.300:80", '"127.0.0.300:80": "127.0.0.300" is not an IPv4 address'),
        ("localhost:http", '"localhost:http": "http" is not a port, 0 to 65535'),
        ("localhost:65536", '"localhost:65536": "65536" is not a port, 0 to 65535'),
        ("localhost:", '"localhost:": "" is not a port, 0 to 65535'),
        ("a b:1", '"a b:1": "a b" is not an address or a host\'s name'),
        (
            "http://localhost:1",
            '"http://localhost:1": "http://localhost" is not an address or a host\'s name',
        ),
    ],
)
def test_what_cannot_be_listened_on(text: str, reason: str) -> None:
    assert refusal(values.listen_address, text) == reason


@pytest.mark.parametrize(
    "text", ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "fd00::1/64", "fe80::1/64", "fd00::/127"]
)
def test_an_interfaces_addresses(text: str) -> None:
    assert values.interface_address(text) == ipaddress.ip_interface(text)


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
def test_what_is_no_interfaces_address(text: str, reason: str) -> None:
    assert refusal(values.interface_address, text) == reason


def test_destinations() -> None:
    assert values.destination("default") == "default"
    assert values.destination("10.1.0.0/16") == ipaddress.ip_network("10.1.0.0/16")
    assert values.destination("10.1.0.5") == ipaddress.ip_network("10.1.0.5/32")
    assert values.destination("fd01::/64") == ipaddress.ip_network("fd01::/64")
    assert refusal(values.destination, "10.1.0.5/16") == (
        '"10.1.0.5/16" is one address of a network, the network is 10.1.0.0/16'
    )
    assert refusal(values.destination, "home") == (
        '"home" is not "default" or a network, as in "10.1.0.0/16"'
    )


def test_next_hops() -> None:
    assert values.next_hop("fe80::1") == ipaddress.ip_address("fe80::1")
    assert refusal(values.next_hop, "10.0.0.2/24") == (
        '"10.0.0.2/24" has a prefix length, the next hop is one address'
    )
    assert "placeholder" in refusal(values.next_hop, "0.0.0.0")  # noqa: S104


def test_namespaces_and_paths() -> None:
    assert values.namespace("red") == "red"
    assert values.namespace("/proc/4711/ns/net") == "/proc/4711/ns/net"
    assert refusal(values.namespace, "netns/red") == (
        '"netns/red" is not an absolute path, it must start with /'
    )
    assert "leave the key out" in refusal(values.namespace, "")
    assert values.socket_path("/run/x.sock") == Path("/run/x.sock")
    assert "has 108 bytes, a socket's path has at most 107" in refusal(values.socket_path, "/" + "x" * 107)


def test_lists() -> None:
    assert values.list_of('["x"]')(["a"]) == ["a"]
    assert refusal(values.list_of('["x"]'), "a") == '"a" is not a list, write ["a"]'
    assert refusal(values.list_of('["x"]'), 3) == '3 is not a list, as in ["x"]'


def test_locations_are_written_as_in_the_file() -> None:
    assert dotted(("epair", "epair0", "a", "addresses", 1)) == "epair.epair0.a.addresses[1]"
    assert dotted(("epair", "a key\n", "x")) == 'epair."a key\\n".x'
    assert dotted(("",)) == '""'


def test_values_are_shown_on_one_line() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert shown(True) == "true"
    assert shown(3) == "3"
    assert shown(float("inf")) == "inf"
    assert shown([1]) == "a list"
    assert shown({}) == "a table"
    assert shown(datetime(2026, 1, 2, tzinfo=UTC)) == "the date or time 2026-01-02 00:00:00+00:00"
