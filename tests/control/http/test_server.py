"""Clients that disturb an HTTP server, by the example of the metrics page's."""

from __future__ import annotations

import http.client
import logging
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from epaird.control.metrics import server as web
from epaird.control.metrics.server import MetricsServer
from epaird.control.readings import Reading
from tests.control.metrics_server import Serving, serving
from tests.control.samples import interface, pair, worker
from tests.waiting import DEADLINE_S, until, until_closed


def test_stop_does_not_wait_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STOP_SECONDS", 2 * DEADLINE_S)
    with serving(pair) as running:
        silent = running.connect()
        half = running.connect(b"GET /metrics HTTP/1.1\r\nhost:")
        body = running.connect(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nx")
        idle = running.connect(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert body.recv(65536).startswith(b"HTTP/1.1 405")
    for connection in (silent, half, body, idle):
        until_closed(connection)


def test_a_client_that_connected_before_the_handover_is_answered() -> None:
    with serving(pair) as running:
        early = running.connect()
        assert running.get("/healthz")[1] == b"ok\n"  # it was accepted before this was
        successor = socket.socket(fileno=running.server.copy())
        stopping = threading.Thread(target=running.stop)
        stopping.start()
        until(lambda: running.server.listener.fileno() < 0)
        late = running.connect(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        early.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert until_closed(early).endswith(b"ok\n")
        stopping.join()
        taken, _ = successor.accept()
        assert taken.recv(65536).startswith(b"GET /healthz")
        for each in (late, taken, successor):
            each.close()


def test_stop_cuts_clients_that_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STOP_SECONDS", 0.01)
    many = Reading(tuple(interface(f"epair{unit}a") for unit in range(1000)), (worker(),))
    scraped = threading.Semaphore(0)

    def read() -> Reading:
        scraped.release()
        return many

    with serving(read) as running:
        deaf = running.connect(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * 20)
        for _ in range(2):
            assert scraped.acquire(timeout=DEADLINE_S)
    until_closed(deaf)


def test_a_thousand_idle_connections_hold_few_descriptors() -> None:
    with serving(pair) as running, ExitStack() as open_connections:
        before = len(list(Path("/proc/self/fd").iterdir()))
        sent = [(), (b"GET /met",), (b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",)]
        connections = [running.connect(*sent[number % 3]) for number in range(1000)]
        for connection in connections:
            open_connections.enter_context(connection)
        assert running.get("/healthz")[1] == b"ok\n"

        def held() -> int:
            return len(list(Path("/proc/self/fd").iterdir())) - before - len(connections)

        until(lambda: held() <= web.CONNECTIONS_MAX)


def test_a_connection_without_an_exchange_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "EXCHANGE_SECONDS", 0.2)
    with serving(pair) as running:
        assert until_closed(running.connect()) == b""
        assert until_closed(running.connect(b"GET /healthz HTTP/1.1\r\n")) == b""
        answered = running.connect(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert until_closed(answered).endswith(b"ok\n")


@pytest.mark.parametrize(
    "sent",
    [
        [b"\x00\xff\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10000 + b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"nonsense\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"nonsense\r\n"],
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n"],
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n"],
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"],
        [b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n"],
    ],
)
def test_malformed_requests_disturb_no_other_client_and_are_not_logged(
    page: Serving, sent: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    connection = page.connect(sent[0])
    for part in sent[1:]:
        connection.recv(65536)
        connection.sendall(part)
    until_closed(connection)
    assert page.get("/healthz")[1] == b"ok\n"
    assert caplog.records == []


def test_ten_megabytes_of_unexpected_body(page: Serving) -> None:
    connection = page.connect(b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n")
    connection.sendall(bytes(10_000_000))
    assert connection.recv(65536).startswith(b"HTTP/1.1 405")
    connection.close()
    assert page.get("/healthz")[1] == b"ok\n"


def test_signal_handlers_and_logging_stay_the_programs() -> None:
    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        return (
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            root.level,
            list(root.handlers),
        )

    async def serve() -> tuple[Any, ...]:
        before = state()
        server = MetricsServer.bind("127.0.0.1", 0, pair)
        await server.start()
        during = state()
        await server.stop()
        return before, during

    before, during = uvloop.run(serve())
    assert before == during


def test_connections_are_kept_for_the_next_scrape(page: Serving) -> None:
    connection = http.client.HTTPConnection(*page.server.address, timeout=DEADLINE_S)
    connection.connect()
    assert connection.sock is not None
    name = connection.sock.getsockname()
    for _ in range(3):
        connection.request("GET", "/metrics")
        assert connection.getresponse().read()
        assert connection.sock.getsockname() == name
    connection.close()
