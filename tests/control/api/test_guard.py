"""Requests that the guard accepts and refuses."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epaird.config.bounds import MAX_BYTES
from epaird.control.api import guard
from epaird.control.http.lingering import LINGER_BYTES
from tests.control.control_server import Control
from tests.waiting import DEADLINE_S, until, until_closed


def test_a_body_without_a_content_type_is_json(control: Control) -> None:
    data = {"name": "epair"}
    for kind in ("content-type:", "content-type: application/json; charset=utf-8"):
        assert control.curl("/v1/interfaces", "-H", kind, data=data).status == 201


def test_another_content_type_is_refused(control: Control) -> None:
    answer = control.curl("/v1/interfaces", "-H", "content-type: text/toml", data="name = 1")
    assert (answer.status, answer.problem["detail"]) == (415, "the body is not application/json")


def test_the_bound_of_a_body_is_far_above_what_settings_take(control: Control) -> None:
    addresses: list[Any] = [f"10.{high}.{low}.1/24" for high in range(4) for low in range(250)]
    half = {"addresses": addresses, "routes": []}
    data = {"name": "epair", "settings": {"a": half, "b": half}}
    assert len(json.dumps(data)) < guard.BODY_MAX / 5
    assert control.curl("/v1/interfaces", "--max-time", str(DEADLINE_S), data=data).status == 201


def test_ten_megabytes_are_refused_before_they_are_sent(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"name": "' + b"x" * 10_000_000 + b'"}')
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}")
    assert (answer.status, answer.problem["errno"]) == (413, "EMSGSIZE")
    chunked = control.curl("/v1/interfaces", "--data-binary", f"@{body}", "-H", "transfer-encoding: chunked")
    assert (chunked.status, chunked.problem["errno"]) == (413, "EMSGSIZE")
    assert control.operations.requested == []


def test_ten_megabytes_that_are_sent_all_the_same_disturb_no_other_client(control: Control) -> None:
    sent = b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n"
    with control.connect(sent) as connection:
        connection.sendall(bytes(10_000_000))  # the client reads only once it has sent everything
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        assert control.curl("/v1/cloners").status == 200


def test_a_client_that_sends_on_and_on_is_cut(control: Control) -> None:
    chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
    with control.connect(CHUNKED) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(chunks * (2 * LINGER_BYTES // 65536))


def test_a_body_in_another_encoding_is_refused(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes('{"name": "epair"}'.encode("utf-16"))
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}")
    assert (answer.status, answer.problem["detail"]) == (400, "the body is not JSON in UTF-8")


def test_a_configuration_may_be_much_larger_than_settings(control: Control, tmp_path: Path) -> None:
    text = "#\n" * (MAX_BYTES // 2)
    body = tmp_path / "body"
    body.write_text(json.dumps({"text": text}))
    assert control.curl("/v1/plan", "--data-binary", f"@{body}").status == 200
    body.write_bytes(bytes(guard.PLAN_MAX + 1))
    answer = control.curl("/v1/plan", "--data-binary", f"@{body}")
    assert (answer.status, answer.problem["errno"]) == (413, "EMSGSIZE")


def test_plans_at_a_time_are_bounded(control: Control) -> None:
    """Each may hold a configuration of the largest size."""
    start = b"POST /v1/plan HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(guard.PLANS_MAX):
            stack.enter_context(control.connect(start))

        def refused() -> bool:
            answer = control.curl("/v1/plan", data={"text": ""})
            return answer.status == 503 and answer.problem["errno"] == "EAGAIN"

        until(refused)
        assert control.curl("/v1/cloners").status == 200
    until(lambda: control.curl("/v1/plan", data={"text": ""}).status == 200)


CHUNKED: Final = (
    b"POST /v1/interfaces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense\r\n",
        b"5\r\nhelloX\r\n",
        b"f" * 40 + b"\r\n",
        b'10\r\n{"name":"epair"}\r\n0\r\nno trailer\r\n\r\n',
    ],
)
def test_an_invalid_chunk_is_answered_once_and_nothing_is_carried_out(
    control: Control, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with control.connect(CHUNKED + body) as connection:
        head, _, document = until_closed(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert document.count(b"Invalid HTTP request") == 1
    assert control.curl("/v1/cloners").status == 200
    assert control.operations.requested == []
    assert caplog.records == []


def test_a_client_that_disconnects_in_the_middle_of_a_body_has_requested_nothing(control: Control) -> None:
    """The part that it has sent is a valid request, but not the whole one."""
    with control.connect(CHUNKED + b'10\r\n{"name":"epair"}\r\n'):
        pass
    assert control.curl("/v1/cloners").status == 200
    assert control.operations.requested == []


REQUEST: Final = CHUNKED + b'8\r\n{"name":\r\n8\r\n"epair"}\r\n0\r\n\r\n'


@given(
    position=st.integers(0, len(REQUEST) - 1),
    replaced=st.integers(0, 12),
    by=st.binary(max_size=12),
    cuts=st.sets(st.integers(1, len(REQUEST)), max_size=4),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_requests_that_are_split_anywhere_cause_no_internal_error(
    control: Control,
    caplog: pytest.LogCaptureFixture,
    position: int,
    replaced: int,
    by: bytes,
    cuts: set[int],
) -> None:
    data = REQUEST[:position] + by + REQUEST[position + replaced :]
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with control.connect() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has been refused already
            for first, last in pairwise(places):
                connection.sendall(data[first:last])
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert b"HTTP/1.1 500" not in until_closed(connection)
    assert caplog.records == []


def test_a_body_of_the_largest_size_is_accepted(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    for size, status in ((guard.BODY_MAX, 201), (guard.BODY_MAX + 1, 413)):
        body.write_bytes(b'{"name": "epair"}'.ljust(size))
        for options in ((), ("-H", "transfer-encoding: chunked")):
            answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}", *options)
            assert answer.status == status
