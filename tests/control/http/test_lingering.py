"""A client that is still sending when it is answered gets the answer."""

from __future__ import annotations

import socket

import pytest

from epaird.control.http import lingering
from tests.control.metrics_server import Serving, serving
from tests.control.samples import pair
from tests.waiting import until, until_closed

POST = b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n"


def is_reset(client: socket.socket) -> bool:
    """Send a byte; return whether the server has closed the connection."""
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def test_a_client_that_sends_before_it_reads_gets_its_answer(page: Serving) -> None:
    with page.connect(POST) as client:
        client.sendall(bytes(4_000_000))
        client.shutdown(socket.SHUT_WR)
        assert until_closed(client).startswith(b"HTTP/1.1 405 ")


def test_malformed_bytes_are_read_to_their_end(page: Serving) -> None:
    with page.connect(b"nonsense\r\n\r\n") as client:
        client.sendall(bytes(1_000_000))
        assert until_closed(client).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_never_closes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.05)
    with serving(pair) as running, running.connect(b"nonsense\r\n\r\n") as client:
        until(lambda: is_reset(client))


def test_a_whole_request_is_not_waited_for(page: Serving) -> None:
    with page.connect(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") as client:
        assert until_closed(client).endswith(b"ok\n")
