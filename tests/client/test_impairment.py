from __future__ import annotations

from epaird.client.impairment import PairImpairment


def test_an_answer_is_read_with_its_directions() -> None:
    found = PairImpairment.parse(
        {
            "interface": "epair0", "round_trip": "adds 200ms to a round trip", "later": 1,
            "directions": [{"device": "epair0a", "peer": "", "impairment": {"loss": "1%"}, "seed": 7}],
        }
    )  # fmt: skip
    assert found.directions[0].impairment == {"loss": "1%"}
    assert (found.directions[0].seed, found.expires_in) == (7, None)
