"""Requests whose Accept headers exclude every form of the answer, by curl."""

from __future__ import annotations

import json

import pytest

from tests.control.control_server import Control


@pytest.mark.parametrize(
    "accept",
    [
        "*/*", "application/json", "application/json;q=0.1, text/html", "text/html", "application/*",
        "application/problem+json", "", "application/json;q=never",
    ],
)  # fmt: skip
def test_a_request_that_excludes_nothing_is_answered(control: Control, accept: str) -> None:
    answer = control.curl("/v1/interfaces", "-H", f"accept: {accept}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("accept", ["application/json;q=0", "*/*;q=0", "application/*;q=0, text/html"])
def test_a_request_that_excludes_json_is_refused(control: Control, accept: str) -> None:
    answer = control.curl("/v1/interfaces", "-H", f"accept: {accept}")
    assert (answer.status, answer.problem["errno"], answer.problem["title"]) == (
        406,
        "EINVAL",
        "Not Acceptable",
    )
    assert answer.problem["detail"] == "the answer is application/json, which the Accept header excludes"


def test_a_change_whose_answer_is_not_acceptable_is_not_made(control: Control) -> None:
    options = ("-H", "accept: application/json;q=0")
    assert control.curl("/v1/interfaces", *options, data={"name": "epair"}).status == 406
    assert control.operations.requested == []
    control.curl("/v1/interfaces", data={"name": "epair"})
    assert control.curl("/v1/interfaces/epair0", *options, "-X", "DELETE").status == 204  # no answer's body


def test_the_configuration_is_toml(control: Control) -> None:
    for accept, status in (
        ("application/toml", 200),
        ("application/json", 200),
        ("application/toml;q=0", 406),
    ):
        assert control.curl("/v1/configuration", "-H", f"accept: {accept}").status == status
    answer = control.curl("/v1/events", "-H", "accept: application/x-ndjson;q=0, text/event-stream;q=0")
    assert answer.problem["detail"] == (
        "the answer is application/x-ndjson or text/event-stream, which the Accept header excludes"
    )


@pytest.mark.parametrize(
    ("header", "status"),
    [("gzip", 200), ("gzip;q=0", 200), ("identity;q=0, gzip", 406), ("*;q=0", 406), ("*;q=0, identity", 200)],
)
def test_answers_are_not_encoded(control: Control, header: str, status: int) -> None:
    answer = control.curl("/v1/cloners", "-H", f"accept-encoding: {header}")
    assert answer.status == status
    assert "content-encoding" not in answer.headers
    if status == 200:
        assert json.loads(answer.body) == ["epair", "lo"]
    else:
        assert answer.problem["detail"] == (
            "the answer is not encoded, and the Accept-Encoding header excludes identity"
        )
