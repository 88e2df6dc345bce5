from __future__ import annotations

from typing import Any

import pytest

from epaird.impairment.tables import NEEDS, active, merged, merged_phase


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"delay": "1ms", "loss": "1%"}, {"delay": "2ms"}, {"delay": "2ms", "loss": "1%"}),
        ({"rate": "1mbit", "limit": "1kb"}, {"trace": "x"}, {"trace": "x", "limit": "1kb"}),
        ({"trace": "x"}, {"rate": "1mbit"}, {"rate": "1mbit"}),
        ({"trace": "x"}, {"rate": "0bit"}, {"trace": "x", "rate": "0bit"}),
        (
            {"rate": "1mbit", "limit": "1kb", "queue": "codel", "ecn": True},
            {"rate": "0bit"},
            {"rate": "0bit"},
        ),
        (
            {"delay": "1ms", "jitter": "1ms", "distribution": "pareto", "reorder": "1%"},
            {"delay": "0s"},
            {"delay": "0s"},
        ),
        (
            {"delay": "1ms", "jitter": "1ms", "distribution": "pareto"},
            {"jitter": "0s"},
            {"delay": "1ms", "jitter": "0s"},
        ),
        ({"loss": "1%", "loss_burst": 3}, {"loss": "2%"}, {"loss": "2%", "loss_burst": 3}),
        ({"loss": "1%", "loss_burst": 3}, {"loss": "0%"}, {"loss": "0%"}),
        ({"loss": "1%", "loss_burst": 3}, {"loss": {"p": "1%"}}, {"loss": {"p": "1%"}}),
        (
            {"loss": "1%", "loss_burst": 3},
            {"loss_correlation": "1%"},
            {"loss": "1%", "loss_correlation": "1%"},
        ),
        ({"loss": "1%", "loss_correlation": "1%"}, {"loss_burst": 3}, {"loss": "1%", "loss_burst": 3}),
        ({"preset": "a"}, {"preset": "b"}, {}),
        (
            {"limit": "1kb", "queue": "codel", "ecn": True, "rate": "1mbit"},
            {"rate": "0bit", "trace": "x"},
            {"limit": "1kb", "queue": "codel", "ecn": True, "rate": "0bit", "trace": "x"},
        ),
        (
            {"trace": "x", "limit": "1kb"},
            {"rate": "0bit"},
            {"trace": "x", "limit": "1kb", "rate": "0bit"},
        ),
        ({"trace": "x", "limit": "1kb"}, {"trace": ""}, {"trace": ""}),
        (
            {"delay": "1ms", "jitter": "1ms", "distribution": "pareto"},
            {"delay": "0s", "jitter": "2ms"},
            {"delay": "0s", "jitter": "2ms", "distribution": "pareto"},
        ),
        ({"rate": "1mbit"}, {"rate": "2mbit", "trace": "x"}, {"rate": "2mbit", "trace": "x"}),
    ],
)
def test_a_table_takes_precedence_key_by_key(
    below: dict[str, Any], above: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merged((below, above)) == result


def test_a_phase_replaces_the_losses_altogether() -> None:
    line = {"loss": "1%", "loss_burst": 3, "delay": "1ms", "schedule": [{"loss": "100%", "at": "1s"}]}
    assert merged_phase(line, line["schedule"][0]) == {"loss": "100%", "delay": "1ms"}  # type: ignore[index]
    assert merged_phase(line, {"delay": "2ms", "for": "1s", "every": "2s"}) == {
        "loss": "1%", "loss_burst": 3, "delay": "2ms",
    }  # fmt: skip


def test_a_key_that_is_switched_off_is_not_active() -> None:
    assert active({"rate": "1mbit"}, "trace", "rate")
    assert not active({"rate": "0bit", "trace": ""}, "trace", "rate")


def test_what_a_key_needs_comes_before_it() -> None:
    keys = list(NEEDS)
    for key, needed in NEEDS.items():
        assert all(each not in keys or keys.index(each) < keys.index(key) for each in needed)
