"""Requests that the guard accepts and refuses."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from epaird.control.api import guard
from tests.control.control_server import Control
from tests.waiting import DEADLINE_S


def test_a_body_without_a_content_type_is_json(control: Control) -> None:
    data = {"name": "epair"}
    for kind in ("content-type:", "content-type: application/json; charset=utf-8"):
        assert control.curl("/v1/interfaces", "-H", kind, data=data).status == 201


def test_another_content_type_is_refused(control: Control) -> None:
    answer = control.curl("/v1/interfaces", "-H", "content-type: text/toml", data="name = 1")
    assert (answer.status, answer.problem["detail"]) == (415, "the body is not application/json")


def test_the_bound_of_a_body_is_far_above_what_settings_take(control: Control) -> None:
    addresses: list[Any] = [f"10.{high}.{low}.1/24" for high in range(4) for low in range(250)]
    settings = {"addresses": addresses, "routes": []}
    data = {"name": "epair", "settings": {"a": settings, "b": settings}}
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
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(bytes(10_000_000))
        assert control.curl("/v1/cloners").status == 200


def test_a_body_of_the_largest_size_is_accepted(control: Control, tmp_path: Path) -> None:
    body = tmp_path / "body"
    for size, status in ((guard.BODY_MAX, 201), (guard.BODY_MAX + 1, 413)):
        body.write_bytes(b'{"name": "epair"}'.ljust(size))
        for options in ((), ("-H", "transfer-encoding: chunked")):
            answer = control.curl("/v1/interfaces", "--data-binary", f"@{body}", *options)
            assert answer.status == status
