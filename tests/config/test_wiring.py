"""Which half is plugged into which, and what of it cannot be."""

from __future__ import annotations

import pytest

from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.wiring import at_first, peers


def test_halves_of_a_pair_are_each_others() -> None:
    assert peers(parse({"epair": {"epair0": {}}})) == {"epair0a": "epair0b", "epair0b": "epair0a"}


def test_what_one_says_holds_for_both_and_leaves_the_others_plugged_into_none() -> None:
    found = peers(parse({"epair": {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}}}))
    assert found == {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(parse({"epair": {"epair0": {"b": {"peer": ""}}}})) == {"epair0a": None, "epair0b": None}


def test_those_that_are_to_be_plugged_elsewhere_begin_unplugged() -> None:
    epair = {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}, "epair2": {"a": {"peer": "epair2b"}}}
    pairs = parse({"epair": epair}).epair
    assert at_first("epair0", pairs["epair0"]) == {"epair0a": None, "epair0b": None}
    assert at_first("epair1", pairs["epair1"]) == {"epair1a": "epair1b", "epair1b": "epair1a"}
    assert at_first("epair2", pairs["epair2"]) == {"epair2a": "epair2b", "epair2b": "epair2a"}


@pytest.mark.parametrize(
    ("halves", "problem"),
    [
        ({"0a": "epair0a"}, "epair.epair0.a.peer: epair0a is this half itself"),
        ({"0a": "epair7a"}, 'epair.epair0.a.peer: there is no half "epair7a" here'),
        ({"0a": "eth0"}, 'epair.epair0.a.peer: "eth0" is not a half\'s name, as in "epair1b"'),
        ({"0a": "epair2a", "1a": "epair2a"}, "epair.epair1.a.peer: epair2a is plugged into epair0a already"),
        (
            {"0a": "epair1a", "1a": "epair2a"},
            'epair.epair0.a.peer: epair1a says otherwise, in epair.epair1.a.peer: "epair2a"',
        ),
        (
            {"0a": "epair3a"},
            "epair.epair0.a.peer: epair3a has 2 queues and epair0a has 1: both must have as many",
        ),
    ],
)
def test_what_cannot_be_is_told(halves: dict[str, str], problem: str) -> None:
    epair: dict[str, dict[str, object]] = {f"epair{number}": {} for number in range(3)}
    epair["epair3"] = {"queues": 2}
    for half, peer in halves.items():
        epair[f"epair{half[0]}"][half[1]] = {"peer": peer}
    with pytest.raises(InvalidConfiguration) as wrong:
        parse({"epair": epair})
    assert wrong.value.problems == (problem,)
