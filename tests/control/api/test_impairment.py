"""The routes of impairments, by curl, over operations without interfaces."""

from __future__ import annotations

import pytest

from tests.control.control_server import Control, create

PATH = "/v1/interfaces/epair0/impairment"


@pytest.mark.parametrize(
    ("method", "query", "requested"),
    [
        ("PUT", "", ({"delay": "100ms"}, True, None)),
        ("PATCH", "", ({"delay": "100ms"}, False, None)),
        ("PUT", "?for=30s", ({"delay": "100ms"}, True, 30.0)),
        ("PATCH", "?for=500ms", ({"delay": "100ms"}, False, 0.5)),
    ],
)
def test_keys_arrive_and_the_impairment_is_the_answer(
    control: Control, method: str, query: str, requested: tuple[object, ...]
) -> None:
    create(control)
    answer = control.curl(PATH + query, "-X", method, data={"delay": "100ms"})
    assert answer.status == 200
    (direction,) = answer.json["directions"]
    assert (direction["impairment"], direction["seed"]) == ({"delay": "100ms"}, 7)
    assert control.operations.requested[1:] == [("impair", "epair0", *requested)]
    assert control.curl(PATH).json == answer.json


def test_delete_removes_all_keys(control: Control) -> None:
    create(control)
    assert control.curl(PATH, "-X", "DELETE").status == 200
    assert control.operations.requested[1:] == [("impair", "epair0", {}, True, None)]


def test_a_bad_time_is_refused_in_one_line(control: Control) -> None:
    create(control)
    answer = control.curl(PATH + "?for=30", "-X", "PUT", data={})
    assert answer.status == 422
    assert answer.problem["detail"].startswith('for: "30" ')
    assert control.operations.requested[1:] == []


def test_decisions_are_shown_and_repeated(control: Control) -> None:
    create(control)
    log = control.curl(PATH + "/log?most=2").json
    assert log == [{"segment": 0, "decision": "loss"}, {"segment": 1, "decision": "loss"}]
    assert control.curl(PATH + "/replay", "-X", "PUT", data=log).status == 204
    assert control.operations.requested[1:] == [("replay", "epair0", [(0, 1), (1, 1)])]
    refused: list[object] = [
        [{"segment": -1, "decision": "loss"}],
        [{"segment": 1, "decision": "jam"}],
        [{}],
        {},
    ]
    for wrong in refused:
        assert control.curl(PATH + "/replay", "-X", "PUT", data=wrong).status == 422
    answer = control.curl(PATH + "/replay", "-X", "PUT", data=[{"segment": 1, "decision": "jam"}])
    assert answer.problem["detail"].startswith(
        '[0]: not a decision, as in {"segment": 17, "decision": "loss"}: '
    )
