"""Responses as JSON, and the refusals that routes document."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import TypeAdapter

from epaird.control.api.problems import STATUSES
from epaird.control.api.responses import CHANGE_REFUSALS, json_response, refusals


def test_a_response_is_one_line_of_json() -> None:
    response = json_response(TypeAdapter(list[str]), ["a"], HTTPStatus.CREATED, {"location": "/x"})
    assert (response.status_code, response.body) == (201, b'["a"]\n')
    assert (response.headers["content-type"], response.headers["location"]) == ("application/json", "/x")


def test_every_status_of_an_errno_is_documented_for_changes() -> None:
    assert set(STATUSES.values()) <= refusals(*CHANGE_REFUSALS).keys()
    assert refusals().keys() == {400, 403, 406, 500}
