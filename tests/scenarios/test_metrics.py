"""The metrics page as its users read it: Prometheus, promtool and curl."""

from __future__ import annotations

import re
import signal
import urllib.request
from collections.abc import Callable

import pytest

from epaird import __version__
from epaird.ipc.counters import REASONS
from tests.prometheus import Prometheus, promtool_check
from tests.scenarios.background_thread import BackgroundThread
from tests.scenarios.lab import CABLE, NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, datagrams, ping, tcp
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.real

Series = tuple[str, frozenset[tuple[str, str]]]


def test_prometheus_stores_the_counters(lab: Lab, prometheus: Callable[[str], Prometheus]) -> None:
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False), workers=1)
    with lab.home.inside():
        server = prometheus("127.0.0.1:9862")
        datagrams(red, blue, BLUE, 1000)
        tcp(red, blue, BLUE, 1_000_000)
        daemon.at_rest()

        def on_page() -> dict[Series, float]:
            return {
                series(each.name, each.labels): each.value
                for each in daemon.metrics().samples
                if each.name.startswith("epaird_interface_")
            }

        def in_prometheus() -> dict[Series, float]:
            found = server.query('{__name__=~"epaird_interface_.*"}')
            return {series(each.labels["__name__"], each.labels): each.value for each in found}

        until(
            lambda: in_prometheus() == on_page(),
            lambda: sorted(map(str, in_prometheus().items() ^ on_page().items())),
        )
        assert server.value('epaird_worker_queue_limit_frames{worker="0"}') == 2100
        assert (server.value('epaird_interface_opackets_total{device="epair0a"}') or 0) > 1000
        (info,) = server.query('epaird_interface_info{device="epair0b"}')
        assert (info.labels["pair"], info.labels["half"]) == ("epair0", "b")
        assert (info.labels["name"], info.labels["netns"]) == ("eth0", blue.name)
        (target,) = server.targets()
        assert (target["health"], target["lastError"]) == ("up", "")


def series(name: str, labels: dict[str, str]) -> Series:
    """Return a series as its name and the daemon's own labels."""
    return name, frozenset((key, labels[key]) for key in labels.keys() - {"__name__", "instance", "job"})


def test_promtool_accepts_the_page(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1), workers=2)
    ping(lab["red"], BLUE)
    promtool_check(daemon.metrics().text)


def test_curl_gets_the_page_and_health(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    (line,) = daemon.log_lines_with("metrics:")
    url = line.removeprefix("metrics:").strip()
    page = lab.home.run("curl", "--fail", "--silent", "--show-error", "--compressed", url)
    assert f'epaird_build_info{{version="{__version__}"}} 1' in page
    assert re.search(r'^epaird_interface_info\{.*device="epair0a".*\} 1$', page, re.MULTILINE)
    assert lab.home.run("curl", "--fail", "--silent", url.replace("metrics", "healthz")) == "ok\n"


class Scrapes(BackgroundThread):
    """A scraper that never pauses and uses a new connection each time."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.answers = 0
        self.faults: list[str] = []
        """Answers that were not the page with every interface."""
        self._home = lab.home

    def wait_for_answers(self) -> None:
        """Wait for some more answers."""
        before = self.answers
        until(lambda: self.answers >= before + 5, lambda: self.faults)

    def step(self) -> None:
        """Scrape the page once."""
        try:
            with urllib.request.urlopen("http://127.0.0.1:9862/metrics", timeout=DEADLINE_S) as page:
                whole = b'epaird_interface_info{device="epair0b"' in page.read()
            self.faults += [] if whole else ["without interfaces"]
        except OSError as error:
            self.faults.append(str(error))
        self.answers += 1

    def _run(self) -> None:
        with self._home.inside():
            super()._run()


def test_a_scrape_during_an_upgrade_waits_and_is_answered(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    with Scrapes(lab) as one, Scrapes(lab) as other:
        one.wait_for_answers()
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for_log("upgraded")
        one.wait_for_answers()
        other.wait_for_answers()
    assert one.faults == other.faults == []


def test_an_upgraded_daemon_listens_where_its_file_now_says(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    lab.configuration(CABLE, listen="0.0.0.0:9862").replace(daemon.file)
    daemon.signal(signal.SIGUSR2)
    daemon.wait_for_log("upgraded")
    assert lab.home.run("ss", "-Htln").split()[3::5] == ["0.0.0.0:9862"]


def test_every_reason_is_exported_from_the_start(lab: Lab) -> None:
    page = lab.daemon(CABLE).metrics()
    for device in ("epair0a", "epair0b"):
        interface = page.interface(device)
        assert interface.ierrors == interface.oerrors == dict.fromkeys(REASONS, 0)


def test_the_metrics_page_is_optional(lab: Lab) -> None:
    daemon = lab.launch(CABLE, listen="")
    daemon.wait_for_log("try:")
    ping(lab["red"], BLUE)
    assert not daemon.log_lines_with("metrics:")
    assert "LISTEN" not in lab.home.run("ss", "-Htln")
    daemon.stop()


def test_link_attributes_match_the_kernel(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    ping(lab["red"], BLUE, count=20)
    page = daemon.at_rest()
    kernel = lab["red"].links()["eth0"]
    a = page.interface("epair0a")
    assert (a.up, a.mtu_bytes, a.mac) == (kernel.up, kernel.mtu, kernel.mac)
    until(lambda: daemon.metrics().interface("epair0a").carrier == 1)
