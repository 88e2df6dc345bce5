"""The page over real HTTP, by the real server on loopback, and by a real Prometheus."""

from __future__ import annotations

import asyncio
import errno
import gzip
import http.client
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from epaird.control.http.listening import ListenError
from epaird.control.metrics import server as web
from epaird.control.metrics.server import MetricsServer
from epaird.control.readings import Reading
from epaird.ipc.counters import REASONS
from tests.control.samples import interface, pair, worker
from tests.prometheus import Prometheus, promtool_check
from tests.waiting import DEADLINE_S, until, until_closed


class Serving:
    """A server that answers on a loop of its own, as the daemon's does, in a thread."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.server = MetricsServer.bind("127.0.0.1", 0, read)
        self.loop_errors: list[dict[str, Any]] = []
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.loop_errors.append(context))
        await self.server.start()
        self._started.set_result(loop)
        await self._stop.wait()
        await self.server.stop()

    def start(self) -> None:
        """Return once it answers."""
        self._thread.start()
        self._loop = self._started.result(DEADLINE_S)

    def stop(self) -> None:
        """Return once it has stopped; a server that does not stop fails the test."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "stop() hangs"

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.server.address, timeout=DEADLINE_S)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def connect(self, *said: bytes) -> socket.socket:
        """A connection on which this was said so far."""
        connection = socket.create_connection(self.server.address, timeout=DEADLINE_S)
        for part in said:
            connection.sendall(part)
        return connection


@contextmanager
def serving(read: Callable[[], Reading]) -> Iterator[Serving]:
    """A running server that has stopped, without errors in its loop, at the end."""
    running = Serving(read)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert running.loop_errors == []


@pytest.fixture
def page() -> Iterator[Serving]:
    """A running server over an idle pair."""
    with serving(pair) as running:
        yield running


# What it answers


def test_metrics_are_prometheus_text(page: Serving) -> None:
    response, body = page.get("/metrics")
    assert response.status == HTTPStatus.OK
    assert response.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    samples = {sample.name for family in parse_text(body.decode()) for sample in family.samples}
    assert {"epaird_interface_opackets_total", "epaird_interface_info", "process_open_fds"} <= samples
    assert not [name for name in samples if name.endswith("_created")]


def test_metrics_are_openmetrics_for_those_who_ask(page: Serving) -> None:
    response, body = page.get("/metrics", accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert response.getheader("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family.type for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert families["epaird_interface"] == "info"
    assert families["epaird_interface_opackets"] == "counter"


def test_a_malformed_accept_header_is_no_fault_of_the_server(page: Serving) -> None:
    response, _ = page.get("/metrics", accept="application/openmetrics-text;version=x, ;;=,")
    assert response.status == HTTPStatus.OK


def test_metrics_are_compressed_for_those_who_ask(page: Serving) -> None:
    response, body = page.get("/metrics", accept_encoding="gzip")
    assert response.getheader("content-encoding") == "gzip"
    assert b"epaird_interface_opackets_total" in gzip.decompress(body)
    assert page.get("/metrics")[0].getheader("content-encoding") is None


def test_a_large_page_is_whole_and_compressed_too() -> None:
    many = Reading(
        tuple(interface(f"epair{unit}{half}") for unit in range(1000) for half in "ab"), (worker(),)
    )
    with serving(lambda: many) as running:
        plain = running.get("/metrics")[1]
        packed = running.get("/metrics", accept_encoding="gzip")[1]
    for body in (plain, gzip.decompress(packed)):
        assert body.count(b"epaird_interface_opackets_total{") == 2000


def test_promtool_has_nothing_to_say(page: Serving) -> None:
    promtool_check(page.get("/metrics")[1])


def test_every_scrape_is_a_fresh_reading() -> None:
    frames = iter(range(100))
    with serving(lambda: pair(opackets=next(frames))) as running:
        seen = [running.get("/metrics")[1] for _ in range(3)]
    for number, body in enumerate(seen):
        assert f'epaird_interface_opackets_total{{device="epair0a"}} {number}\n'.encode() in body


def test_healthy_while_every_worker_is_alive(page: Serving) -> None:
    response, body = page.get("/healthz")
    assert (response.status, body) == (HTTPStatus.OK, b"ok\n")


def test_unhealthy_names_the_workers_that_are_not() -> None:
    reading = Reading((), (worker(0), worker(1, alive=False), worker(2, alive=False)))
    with serving(lambda: reading) as running:
        response, body = running.get("/healthz")
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert body == b"worker 1 is not alive\nworker 2 is not alive\n"


def test_the_root_page_links_to_both(page: Serving) -> None:
    response, body = page.get("/")
    assert response.status == HTTPStatus.OK
    assert b'href="/metrics"' in body
    assert b'href="/healthz"' in body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", HTTPStatus.NOT_FOUND),
        ("POST", "/metrics", HTTPStatus.METHOD_NOT_ALLOWED),
        ("HEAD", "/metrics", HTTPStatus.OK),
        ("HEAD", "/healthz", HTTPStatus.OK),
    ],
)
def test_other_requests(page: Serving, method: str, path: str, status: HTTPStatus) -> None:
    assert page.get(path, method)[0].status == status


def test_headers_say_nothing_about_the_server(page: Serving) -> None:
    assert page.get("/metrics")[0].getheader("server") is None


def test_a_reading_that_fails_costs_only_its_own_answer(caplog: pytest.LogCaptureFixture) -> None:
    readings = iter([pair(), None, pair()])

    def read() -> Reading:
        reading = next(readings)
        if reading is None:
            raise OSError("no such namespace")
        return reading

    with serving(read) as running:
        seen = [running.get("/metrics")[0].status for _ in range(3)]
    assert seen == [HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.OK]
    assert "no such namespace" in caplog.text


# Where it listens


def test_port_0_is_a_port_of_the_kernels_choice(page: Serving) -> None:
    host, port = page.server.address
    assert (host, port > 0) == ("127.0.0.1", True)
    assert page.server.url == f"http://127.0.0.1:{port}/metrics"


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            MetricsServer.bind("127.0.0.1", port, pair)
    assert str(caught.value) == f"metrics.listen: 127.0.0.1:{port} is in use by another program"


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(ListenError) as caught:
        MetricsServer.bind("192.0.2.1", 9862, pair)
    assert str(caught.value) == "metrics.listen: 192.0.2.1:9862 is no address of this machine"


def test_an_unknown_name_is_one_clear_line() -> None:
    with pytest.raises(ListenError) as caught:
        MetricsServer.bind("no such host", 9862, pair)
    assert str(caught.value) == "metrics.listen: 'no such host' is neither an address nor a known host name"


def test_other_faults_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.ENOMEM, "")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ListenError) as caught:
        MetricsServer.bind("::1", 9862, pair)
    assert str(caught.value) == f"metrics.listen: [::1]:9862: {os.strerror(errno.ENOMEM)}"


def test_the_port_is_held_from_binding_on_and_free_after_stop() -> None:
    async def bind_and_stop() -> tuple[str, int]:
        server = MetricsServer.bind("127.0.0.1", 0, pair)
        with pytest.raises(ListenError):
            MetricsServer.bind(*server.address, pair)
        await server.stop()
        return server.address

    address = uvloop.run(bind_and_stop())
    with serving(pair) as running:
        served = running.server.address
    for free in (address, served):
        socket.create_server(free).close()


# What strangers may do


def test_stop_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_who_has_connected_before_it_is_handed_over_is_answered_by_it() -> None:
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


def test_stop_cuts_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
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
        said = [(), (b"GET /met",), (b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",)]
        connections = [running.connect(*said[number % 3]) for number in range(1000)]
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


@pytest.mark.parametrize(
    "said",
    [
        [b"\x00\xff\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10000 + b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"nonsense\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"nonsense\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"],
        [b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n"],
    ],
)
def test_malformed_requests_disturb_nobody_and_are_no_news(
    page: Serving, said: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    connection = page.connect(said[0])
    for part in said[1:]:
        connection.recv(65536)
        connection.sendall(part)
    until_closed(connection)
    assert page.get("/healthz")[1] == b"ok\n"
    assert caplog.records == []


def test_ten_megabytes_nobody_asked_for(page: Serving) -> None:
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


# By those who will use it


def test_a_real_prometheus_scrapes_and_gives_the_counters_back(
    prometheus: Callable[[str], Prometheus],
) -> None:
    now = pair(opackets=7, obytes=1234, oerrors=(3, *[0] * (len(REASONS) - 1)))
    with serving(lambda: now) as running:
        host, port = running.server.address
        scraper = prometheus(f"{host}:{port}")
        scraper.until('up{job="epaird"}', 1)
        scraper.until('epaird_interface_opackets_total{device="epair0a"}', 7)
        assert scraper.value('epaird_interface_oerrors_total{device="epair0a",reason="peer_down"}') == 3
        assert scraper.value('count(epaird_interface_ierrors_total{device="epair0b"})') == len(REASONS)
        assert scraper.value("count(epaird_interface_info)") == 2
        assert scraper.value("epaird_build_info") == 1
        joined = "epaird_interface_obytes_total * on(device) group_left(netns) epaird_interface_info"
        assert {s.labels["netns"]: s.value for s in scraper.query(joined)} == {"red": 1234, "blue": 0}
        now = pair(opackets=2**40)
        scraper.until('epaird_interface_opackets_total{device="epair0a"}', 2**40)
    scraper.until('up{job="epaird"}', 0)
