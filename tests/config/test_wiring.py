"""The peers that follow from a configuration, and peers that are refused."""

from __future__ import annotations

import pytest

from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.wiring import initial_peers, peers


def test_halves_of_a_pair_are_peers() -> None:
    assert peers(parse({"epair": {"epair0": {}}})) == {"epair0a": "epair0b", "epair0b": "epair0a"}


def test_a_named_peer_holds_for_both_halves_and_leaves_the_others_unplugged() -> None:
    found = peers(parse({"epair": {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}}}))
    assert found == {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(parse({"epair": {"epair0": {"b": {"peer": ""}}}})) == {"epair0a": None, "epair0b": None}


def test_halves_that_are_plugged_elsewhere_later_begin_unplugged() -> None:
    epair = {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}, "epair2": {"a": {"peer": "epair2b"}}}
    pairs = parse({"epair": epair}).epair
    assert initial_peers("epair0", pairs["epair0"]) == {"epair0a": None, "epair0b": None}
    assert initial_peers("epair1", pairs["epair1"]) == {"epair1a": "epair1b", "epair1b": "epair1a"}
    assert initial_peers("epair2", pairs["epair2"]) == {"epair2a": "epair2b", "epair2b": "epair2a"}


@pytest.mark.parametrize(
    ("halves", "problem"),
    [
        ({"0a": "epair0a"}, "epair.epair0.a.peer: epair0a is this half itself"),
        ({"0a": "epair7a"}, 'epair.epair0.a.peer: there is no half "epair7a"'),
        ({"0a": "eth0"}, 'epair.epair0.a.peer: "eth0" is not a half\'s name, as in "epair1b"'),
        ({"0a": "epair2a", "1a": "epair2a"}, "epair.epair1.a.peer: epair2a is already plugged into epair0a"),
        (
            {"0a": "epair1a", "1a": "epair2a"},
            'epair.epair0.a.peer: epair1a has another peer, "epair2a", in epair.epair1.a.peer',
        ),
        (
            {"0a": "epair3a"},
            "epair.epair0.a.peer: epair3a has 2 queues and epair0a has 1: both need the same number",
        ),
    ],
)
def test_an_impossible_peer_is_reported(halves: dict[str, str], problem: str) -> None:
    epair: dict[str, dict[str, object]] = {f"epair{number}": {} for number in range(3)}
    epair["epair3"] = {"queues": 2}
    for half, peer in halves.items():
        epair[f"epair{half[0]}"][half[1]] = {"peer": peer}
    with pytest.raises(InvalidConfiguration) as wrong:
        parse({"epair": epair})
    assert wrong.value.problems == (problem,)
