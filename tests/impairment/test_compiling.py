from __future__ import annotations

from epaird.impairment.compiling import line_parameters, phases_of
from epaird.ipc.impairment import LineParameters, LossChain, Phase

ALL = {
    "delay": "100ms", "jitter": "10ms", "jitter_correlation": "25%", "distribution": "pareto", "loss": "50%",
    "loss_correlation": "50%", "duplicate": "0.1%", "corrupt": "0.01%", "ber": 1e-9, "reorder": "1%",
    "rate": "10mbit", "limit": "64kb", "queue": "codel", "ecn": True,
}  # fmt: skip


def test_every_key_is_a_number_of_a_line() -> None:
    assert line_parameters(ALL) == LineParameters(
        delay_ns=100_000_000,
        jitter_ns=10_000_000,
        jitter_correlation=0.25,
        distribution="pareto",
        loss=LossChain(0.25, 0.25),
        duplicate=0.001,
        corrupt=0.0001,
        ber=1e-9,
        reorder=0.01,
        rate=10_000_000,
        limit_bytes=65536,
        codel=True,
        ecn=True,
    )
    assert line_parameters({}) == LineParameters()
    assert line_parameters({"queue": "droptail", "ecn": False}) == LineParameters()
    packets = line_parameters({"limit": "100p"})
    assert (packets.limit_segments, packets.limit_bytes) == (100, 0)


def test_a_phase_has_all_parameters() -> None:
    keys = {
        "delay": "1ms",
        "loss": "1%",
        "schedule": [
            {"at": "10s", "for": "2s", "loss": "100%"},
            {"for": "1s", "every": "30s", "delay": "2ms"},
        ],
    }
    assert phases_of(keys) == (
        Phase(10 * 10**9, 2 * 10**9, 0, line_parameters({"delay": "1ms", "loss": "100%"})),
        Phase(0, 10**9, 30 * 10**9, line_parameters({"delay": "2ms", "loss": "1%"})),
    )
