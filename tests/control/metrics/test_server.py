"""The metrics page over real HTTP, by the real server on loopback, and by a real Prometheus."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from http import HTTPStatus

import pytest
import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from epaird.control.http.listening import ListenError
from epaird.control.metrics.server import MetricsServer
from epaird.control.readings import Reading
from epaird.ipc.counters import REASONS
from tests.control.metrics_server import Serving, serving
from tests.control.samples import interface, pair, worker
from tests.prometheus import Prometheus, promtool_check


def test_metrics_are_prometheus_text(page: Serving) -> None:
    response, body = page.get("/metrics")
    assert response.status == HTTPStatus.OK
    assert response.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    samples = {sample.name for family in parse_text(body.decode()) for sample in family.samples}
    assert {"epaird_interface_opackets_total", "epaird_interface_info", "process_open_fds"} <= samples
    assert not [name for name in samples if name.endswith("_created")]


def test_metrics_are_openmetrics_on_request(page: Serving) -> None:
    response, body = page.get("/metrics", accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert response.getheader("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family.type for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert families["epaird_interface"] == "info"
    assert families["epaird_interface_opackets"] == "counter"


def test_a_malformed_accept_header_is_no_fault_of_the_server(page: Serving) -> None:
    response, _ = page.get("/metrics", accept="application/openmetrics-text;version=x, ;;=,")
    assert response.status == HTTPStatus.OK


def test_metrics_that_are_not_acceptable(page: Serving) -> None:
    response, body = page.get("/metrics", accept="text/plain;q=0, application/openmetrics-text;q=0")
    assert response.status == HTTPStatus.NOT_ACCEPTABLE
    assert body == (
        b"the metrics are text/plain or application/openmetrics-text, and the request excludes both\n"
    )
    assert page.get("/metrics", accept="application/json")[0].status == HTTPStatus.OK


def test_metrics_are_compressed_on_request(page: Serving) -> None:
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


def test_promtool_finds_nothing(page: Serving) -> None:
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


def test_what_is_missing_is_named_and_is_no_reason_for_a_restart() -> None:
    with serving(lambda: Reading((), (worker(0),), missing=("epair0", "lo1"))) as running:
        response, body = running.get("/healthz")
    assert (response.status, body) == (HTTPStatus.OK, b"ok\nepair0 is missing\nlo1 is missing\n")


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


def test_port_0_is_a_port_of_the_kernels_choice(page: Serving) -> None:
    host, port = page.server.address
    assert (host, port > 0) == ("127.0.0.1", True)
    assert page.server.url == f"http://127.0.0.1:{port}/metrics"


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
