"""The dashboard: each of its queries finds data in a real Prometheus that scrapes a real daemon."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus import Prometheus, Sample
from tests.scenarios.lab import CABLE, Daemon, Lab
from tests.scenarios.transfers import BLUE
from tests.waiting import until

DASHBOARD = Path(__file__).parent.parent.parent / "deploy" / "grafana" / "epaird.json"
IMPAIRED = '[epair.epair0.impair]\ndelay = "1ms"\nloss = "5%"\nrate = "100mbit"\n'
VARIABLES = {
    "$instance": ".*",
    "$device": ".*",
    "$__rate_interval": "5s",
    "$__range": "1m",
}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Return the purpose and text of every query."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    found += [(note["name"], note["expr"]) for note in dashboard()["annotations"]["list"]]
    return found


def expanded(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height


def test_panels_have_a_title_an_id_and_the_chosen_data_source() -> None:
    all_panels = dashboard()["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    assert all(panel["title"] for panel in all_panels)
    sources = [target["datasource"] for panel in panels() for target in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_queries_use_existing_variables() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = {name for _, query in queries() for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval", "__range"} <= names


@pytest.mark.real
def test_every_query_finds_data(lab: Lab, tmp_path: Path) -> None:
    daemon = lab.daemon(CABLE + IMPAIRED, workers=1)
    lab["red"].start("ping", "-q", "-i", "0.02", BLUE)
    with lab.home.inside(), serving(daemon) as target, Prometheus(tmp_path / "prometheus", target) as server:
        server.until("epaird_worker_restarts_total", 0)
        os.kill(daemon.worker(), signal.SIGKILL)
        for variable in dashboard()["templating"]["list"]:
            if variable["type"] == "query":
                inner = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
                metric, _, label = inner.rpartition(", ")
                assert all(label in each.labels for each in query_data(server, variable["name"], metric))
        for title, query in queries():
            query_data(server, title, query)


def query_data(server: Prometheus, title: str, query: str) -> list[Sample]:
    """Wait until a query finds data and return it."""
    return until(lambda: server.query(expanded(query)), lambda: f"no data for {title}: {expanded(query)}")


@contextmanager
def serving(daemon: Daemon) -> Iterator[str]:
    """Serve the daemon's page outside its network namespace, at the ``host:port`` returned."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, page = daemon.get("/metrics")
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
