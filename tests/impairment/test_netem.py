from __future__ import annotations

from typing import Any

import pytest

from epaird.config.impairtables import ImpairSettings
from epaird.impairment import netem
from epaird.impairment.netem import NotAnImpairment
from epaird.impairment.rules import faults
from epaird.impairment.words import translated

EVERYTHING = "delay 100ms 10ms 25% distribution normal loss gemodel 1% 30% 100% 0% limit 1000 seed 7"


def test_words_as_people_type_them() -> None:
    found = translated(EVERYTHING.split())
    assert found.patch == {
        "delay": "100ms",
        "jitter": "10ms",
        "jitter_correlation": "25%",
        "distribution": "normal",
        "loss": {"p": "1%", "r": "30%", "bad": "100%", "good": "0%"},
        "seed": 7,
    }
    assert found.differences == (netem.IN_ORDER, netem.KNOTS, netem.PER_SEGMENT, netem.NO_QUEUE)


@pytest.mark.parametrize(
    ("words", "patch", "differences"),
    [
        ("netem delay 100", {"delay": "100us"}, (netem.MICROSECONDS,)),
        ("latency 100ms", {"delay": "100ms"}, ()),
        ("delay 100ms 0ms 0", {"delay": "100ms", "jitter": "0s", "jitter_correlation": "0%"}, ()),
        ("loss 0 duplicate 0% rate 0", {"loss": "0%", "duplicate": "0%", "rate": "0bit"}, ()),
        (
            "delay 100ms 10ms",
            {"delay": "100ms", "jitter": "10ms", "distribution": "uniform"},
            (netem.IN_ORDER, netem.UNIFORM),
        ),
        ("loss 1", {"loss": "1%"}, (netem.PER_SEGMENT,)),
        ("loss random 1%", {"loss": "1%"}, (netem.PER_SEGMENT,)),
        (
            "loss 10% 25%",
            {"loss": "10%", "loss_correlation": "25%"},
            (netem.PER_SEGMENT, netem.SAME_SHARE),
        ),
        ("loss gemodel 1%", {"loss": {"p": "1%"}}, (netem.PER_SEGMENT,)),
        (
            "loss gemodel 1% 10% 70% 0.1%",
            {"loss": {"p": "1%", "r": "10%", "bad": "70%", "good": "0.1%"}},
            (netem.PER_SEGMENT,),
        ),
        ("loss state 1%", {"loss": {"p": "1%"}}, (netem.PER_SEGMENT,)),
        ("loss state 1% 30% 0% 100% 0%", {"loss": {"p": "1%", "r": "30%"}}, (netem.PER_SEGMENT,)),
        ("duplicate 1% 0%", {"duplicate": "1%"}, (netem.PER_SEGMENT,)),
        ("corrupt 0.1%", {"corrupt": "0.1%"}, (netem.PER_SEGMENT, netem.CORRUPTED)),
        ("delay 1ms reorder 25% gap 1", {"delay": "1ms", "reorder": "25%"}, (netem.PER_SEGMENT,)),
        ("rate 1mbit", {"rate": "1mbit"}, (netem.OVERHEAD,)),
        ("rate 1000000 0 0 0", {"rate": "1mbit"}, (netem.OVERHEAD,)),
        (
            "rate 1mbit limit 1000",
            {"rate": "1mbit", "limit": "1000p"},
            (netem.OVERHEAD, netem.SEGMENT_LIMIT),
        ),
    ],
)
def test_words_and_their_differences(words: str, patch: dict[str, Any], differences: tuple[str, ...]) -> None:
    found = translated(words.split())
    assert (found.patch, found.differences) == (patch, differences)
    keys = ImpairSettings.model_validate(found.patch).given()
    assert keys == found.patch
    assert list(faults(keys)) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("delay soon", 'delay needs a value after it, not "soon"'),
        ("delay 1x", 'delay: "1x" is not a duration, as in "100ms": the units are ns, us, ms and s'),
        ("delay 1ms 1ms 101%", 'jitter_correlation: "101%" is more than 100%'),
        (
            "distribution experimental",
            'distribution: "experimental" is not uniform, normal, pareto or paretonormal',
        ),
        ("distribution", 'distribution: "" is not uniform, normal, pareto or paretonormal'),
        (
            "loss state 1% 30% 5% 80% 1%",
            "loss state: p32, p23 and p14 need four states, epaird has two: "
            "loss gemodel P R BAD GOOD is the nearest",
        ),
        ("loss gemodel", "loss gemodel needs a value after it"),
        (
            "loss 1% ecn",
            "ecn: epaird marks for congestion, not for losses: write queue codel ecn true, with a rate",
        ),
        ("duplicate 1% 5%", "duplicate has no correlation in epaird: leave 5% out"),
        ("corrupt 1% 5%", "corrupt has no correlation in epaird: leave 5% out"),
        ("reorder 25% 50% gap 5", "reorder has no correlation in epaird: leave 50% out"),
        (
            "reorder 25% gap 5",
            "gap 5: epaird has no gap, reorder 25% chooses a quarter of all segments at random",
        ),
        ("gap 5", "gap: epaird has no gap, reorder 25% chooses a quarter of all segments at random"),
        (
            "rate 5kbit 20 100 5",
            "rate: epaird has no overheads or cells, leave 20 100 5 out: "
            "each segment counts with its Ethernet overhead",
        ),
        (
            "rate 1mbit -14",
            "rate: epaird has no overheads or cells, leave -14 out: "
            "each segment counts with its Ethernet overhead",
        ),
        ("slot 20ms", "slot: epaird has no slots, a trace determines when a link delivers"),
    ],
)
def test_what_epaird_does_not_have_is_one_clear_line(words: str, message: str) -> None:
    with pytest.raises(NotAnImpairment) as caught:
        translated(words.split())
    assert str(caught.value) == message
