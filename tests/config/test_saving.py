"""A configuration that is saved and read again is the same."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings

from epaird.config.reading import decode, parse
from epaird.config.saving import COLUMNS, text
from epaird.config.settings import Configuration
from epaird.plan.diff import plan
from tests.plan.configurations import configurations


@settings(max_examples=50, deadline=None)
@given(configurations())
def test_a_saved_configuration_is_read_back_unchanged(configuration: Configuration) -> None:
    written = text(configuration)
    again = decode(written.encode(), "saved.toml")
    assert again == configuration
    assert parse(json.loads(configuration.model_dump_json())) == configuration
    assert plan(configuration, again).empty


def test_a_plain_address_is_a_text_and_others_are_inline_tables() -> None:
    addresses = ["10.0.0.1/24", {"address": "10.0.0.1/32", "peer": "10.9.0.2", "nodad": True}]
    routes = [{"to": "10.1.0.0/16", "metric": 7}]
    written = text(parse({"epair": {"epair0": {"a": {"addresses": addresses, "routes": routes}}}}))
    assert (
        """
epair0.a.addresses = ["10.0.0.1/24", { address = "10.0.0.1/32", peer = "10.9.0.2", nodad = true }]
epair0.a.routes = [{ to = "10.1.0.0/16", metric = 7 }]
"""
        in written
    )


def test_a_remark_is_a_comment() -> None:
    configuration = parse({"epair": {"epair0": {}}})
    written = text(configuration, ["epair0a: one", "epair0b: another"])
    assert "\n# epair0a: one\n# epair0b: another\n" in written
    assert decode(written.encode(), "saved.toml") == configuration


def test_defaults_are_left_out() -> None:
    routes = [{"to": "default", "via": "10.0.0.2"}, {"to": "10.1.0.0/16", "via": "10.0.0.3"}]
    document = {
        "daemon": {"workers": 2, "control_socket": "/run/x.sock", "worker_timeout": 0.0},
        "epair": {"epair0": {"a": {"addresses": ["10.0.0.1/24"], "routes": routes}}, "epair1": {}},
        "lo": {},
    }
    assert tomllib.loads(text(parse(document))) == document


def alike(units: Iterable[int]) -> dict[str, object]:
    """Return the tables of pairs that differ in their numbers only."""
    return {
        f"epair{unit}": {
            "a": {
                "netns": f"left{unit}",
                "name": "eth0",
                "mac": f"02:00:00:00:{unit:02x}:0a",
                "addresses": [f"10.0.{unit}.1/30", f"fd00:{unit + 1:x}::1/64"],
            },
            "b": {"netns": "right", "name": f"port{unit}", "mtu": 9000},
        }
        for unit in units
    }


def test_200_pairs_are_a_table_in_the_order_of_their_numbers() -> None:
    document = {
        "namespaces": {"create": [f"left{n}" for n in range(200)]},
        "epair": alike(range(199, -1, -1)),
    }
    lines = text(parse(document)).splitlines()
    assert tomllib.loads("\n".join(lines)) == document
    assert max(map(len, lines)) <= COLUMNS
    pairs = lines[lines.index("[epair]") + 1 :]
    assert [line.split(" ")[0] for line in pairs] == [
        f"epair{unit}.{side}" for unit in range(200) for side in "ab"
    ]
    assert pairs[2:4] == [
        'epair1.a = { netns = "left1", name = "eth0", mac = "02:00:00:00:01:0a", '
        'addresses = ["10.0.1.1/30", "fd00:2::1/64"] }',
        'epair1.b = { netns = "right", name = "port1", mtu = 9000 }',
    ]


def test_a_short_pair_has_one_line() -> None:
    document = {"epair": {"epair10": {}, "epair2": {"a": {"netns": "red"}, "b": {"up": False}, "queues": 2}}}
    assert text(parse(document)).splitlines()[2:] == [
        "[epair]",
        'epair2 = { queues = 2, a = { netns = "red" }, b = { up = false } }',
        "epair10 = {}",
    ]


def test_a_long_list_is_wrapped() -> None:
    addresses = [f"10.7.{number}.1/24" for number in range(40)]
    routes = [{"to": f"10.{number}.0.0/16", "via": "10.7.0.2"} for number in range(100, 120)]
    document = {"epair": {"epair0": {"carrier": "always", "a": {"addresses": addresses, "routes": routes}}}}
    lines = text(parse(document)).splitlines()
    assert tomllib.loads("\n".join(lines)) == document
    assert max(map(len, lines)) <= COLUMNS
    assert {line.split(" ")[0] for line in lines[3:] if line[0].isalpha()} == {
        "epair0.carrier", "epair0.a.addresses", "epair0.a.routes",
    }  # fmt: skip
    assert 10 < len(lines) < 30


@pytest.mark.parametrize("length", [COLUMNS - 1, COLUMNS, COLUMNS + 1])
def test_an_interface_has_one_line_if_that_is_not_too_long(length: int) -> None:
    short = 'epair0.a = { netns = "", name = "x", mtu = 9000 }'
    netns = "/" + "n" * (length - len(short) - 1)
    document = {"epair": {"epair0": {"a": {"netns": netns, "name": "x", "mtu": 9000}, "b": {"up": False}}}}
    lines = text(parse(document)).splitlines()[3:]
    if length <= COLUMNS:
        assert len(lines[0]) == length
        assert lines[1:] == ["epair0.b = { up = false }"]
    else:
        assert lines[:2] == [f'epair0.a.netns = "{netns}"', 'epair0.a.name = "x"']


def test_a_line_of_a_list_has_as_many_items_as_fit() -> None:
    for size in range(9, 40):
        names = ["n" * size + f"{number:02}" for number in range(60)]
        lines = text(parse({"namespaces": {"create": names}})).splitlines()
        items = [line for line in lines if line.startswith("    ")]
        width = size + 2 + len('"",') + 1
        assert {len(line) for line in items[:-1]} == {3 + (COLUMNS - 3) // width * width}


def test_text_is_written_as_it_is_where_it_prints() -> None:
    """A name of a namespace may have any letters."""
    written = text(parse({"namespaces": {"create": ["größe", 'a"b', "c\\d"]}}))
    assert 'create = ["größe", "a\\"b", "c\\\\d"]' in written
