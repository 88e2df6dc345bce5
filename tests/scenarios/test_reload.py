"""Reloads of the configuration by a real daemon with real devices, under traffic."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import pytest

from epaird.config.reading import digest
from epaird.kernel.watch import LinkEvent, LinkEventKind, LinkWatch
from tests.scenarios.ctl import epairctl, reload, rewrite, run_epairctl
from tests.scenarios.faults import Cable
from tests.scenarios.lab import CABLE, EPAIRD, NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, RED, Flood, Sink, ping
from tests.waiting import until

pytestmark = pytest.mark.real


@contextmanager
def every_frame_arrives(lab: Lab, source: str = "red", address: str = BLUE) -> Iterator[Sink]:
    """Flood one namespace from the other during the block; every datagram must arrive once and in order."""
    target = "blue" if source == "red" else "red"
    with ExitStack() as stack:
        ping(lab[source], address, count=1)
        sink = stack.enter_context(Sink(lab[target], address))
        flood = stack.enter_context(Flood(lab[source], address, sink.port))
        sink.await_arrivals(100)
        yield sink
        flood.wait_for_frames()
        flood.stop()
        until(lambda: len(sink.arrived()) >= flood.sent, lambda: f"{len(sink.arrived())} of {flood.sent}")
        assert sink.arrived() == list(range(flood.sent))


def other_pairs(count: int) -> str:
    return "".join(f"[epair.epair{number}]\n" for number in range(10, 10 + count))


def test_an_unchanged_pair_loses_nothing_while_others_are_created_changed_and_destroyed(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + other_pairs(100), workers=2)
    red, before = lab["red"].links()["eth0"], daemon.metrics().interface("epair0a")
    with every_frame_arrives(lab), every_frame_arrives(lab, "blue", RED):
        output = reload(daemon, CABLE + other_pairs(100) + "a.mtu = 1400\n", workers=2)
        assert output.splitlines() == [
            "  ~ epair109", "      a.mtu: 1500 -> 1400", "",
            "Plan: 0 to create, 1 to change, 0 to recreate, 0 to destroy.",
        ]  # fmt: skip
        assert lab.home.links()["epair109a"].mtu == 1400
        reload(daemon, CABLE + other_pairs(50) + "queues = 2\n", workers=2)
        assert len(daemon.metrics().devices()) == 2 * 51
        rewrite(daemon, CABLE + other_pairs(50) + "queues = 3\nnonsense = 1\n", workers=2)
        done = run_epairctl(lab, "reload")
        assert (done.returncode, done.stdout) == (1, "")
        assert "epair.epair59.nonsense: unknown key" in done.stderr
    after = daemon.metrics().interface("epair0a")
    assert lab["red"].links()["eth0"].index == red.index
    # Until both halves are up neither has a carrier, and what the first one sends is dropped.
    assert after.oqdrops == before.oqdrops


def test_changing_one_of_a_thousand_pairs_touches_no_other_device(lab: Lab) -> None:
    cable = Cable(lab, other_pairs(999))
    wanted = pair(ipv6=False) + other_pairs(999).replace(
        "[epair.epair500]\n", "[epair.epair500]\na.mtu = 1400\n"
    )

    def links() -> dict[str, int]:
        return {
            name: link.index for place in (lab.home, cable.red) for name, link in place.links("tun").items()
        }

    def settled() -> bool:
        shown = json.loads(lab.home.ip("-j link show type tun"))
        return all("LOWER_UP" in each["flags"] and each["operstate"] != "DOWN" for each in shown if each)

    until(settled)
    before = links()
    assert len(before) == 2 * 999 + 1
    with ExitStack() as stack, cable.stream(5000) as stream:
        with lab.home.inside():
            watch = stack.enter_context(closing(LinkWatch()))
        cable.wait_for_frames(1000)
        rewrite(cable.daemon, wanted, workers=1)
        assert "0 to create, 1 to change, 0 to recreate, 0 to destroy" in epairctl(lab, "reload")
        cable.wait_for_frames(1000)
        events: list[LinkEvent] = []
        while batch := watch.read():
            events += batch
        outcome = stream.end()
    assert (outcome.lost, outcome.ordered) == (0, True)
    assert {(event.kind, event.name) for event in events} == {(LinkEventKind.NEW, "epair500a")}
    assert links() == before


def test_a_pair_changes_in_place_under_traffic(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    index = lab["blue"].links()["eth0"].index
    with every_frame_arrives(lab):
        b = {"mtu": 9000, "addresses": ["10.0.0.2/24", "fd00::2/64", "10.7.0.2/24"], "sndbuf": 1 << 20}
        reload(daemon, NAMESPACES + pair(a={"mtu": 9000}, b=b, coalesce=False), queue_limit=500, workers=3)
        ping(lab["blue"], "10.7.0.2", count=1)
        reload(daemon, NAMESPACES + pair(a={"mtu": 1400}), workers=1, log_level="debug")
    assert lab["blue"].links()["eth0"].index == index
    assert "10.7.0.2" not in lab["blue"].ip("address show dev eth0")
    page = daemon.metrics()
    assert page.interface("epair0a").mtu_bytes == 1400
    assert len(daemon.workers()) == 1


def test_workers_come_and_go_under_traffic(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + other_pairs(9), workers=1)
    before = daemon.metrics().interface("epair0a")

    def has_workers(workers: int) -> bool:
        return len(daemon.workers()) == workers

    with every_frame_arrives(lab), every_frame_arrives(lab, "blue", RED):
        for workers in (4, 2, 3, 1):
            reload(daemon, CABLE + other_pairs(9), workers=workers)
            until(partial(has_workers, workers))
            until(daemon.spares, lambda: "the new workers have taken the spare")
    assert daemon.metrics().interface("epair0a").oqdrops == before.oqdrops


def test_a_reload_repatches_halves(lab: Lab) -> None:
    text = NAMESPACES + pair() + pair(1)
    daemon = lab.daemon(text)
    crossed = NAMESPACES + pair(a={"peer": "epair1b"}) + pair(1, a={"peer": "epair0b"})
    assert "peer: epair0b -> epair1b" in reload(daemon, crossed)
    page = epairctl(lab, "show", "epair0a")
    assert "peer epair1b" in page
    reload(daemon, text)
    ping(lab["red"], BLUE)
    reload(daemon, NAMESPACES + pair(a={"peer": ""}) + pair(1))
    assert lab["red"].ip("link show dev eth0").count("NO-CARRIER") == 1
    reload(daemon, text)
    ping(lab["red"], BLUE)


def test_a_reload_restores_what_others_removed_and_keeps_what_they_added(lab: Lab) -> None:
    route = {"routes": [{"to": "10.50.0.0/16", "via": RED}]}
    daemon = lab.daemon(NAMESPACES + pair(b=route))
    blue = lab["blue"]
    blue.ip("address del 10.0.0.2/24 dev eth0")  # removes the route too
    blue.ip("address add 10.66.0.2/24 dev eth0")
    done = run_epairctl(lab, "reload", "--dry-run")
    assert done.returncode == 2
    assert "routes: (missing) -> 10.50.0.0/16 via 10.0.0.1" in done.stdout
    epairctl(lab, "reload")
    assert {"10.0.0.2/24", "10.66.0.2/24"} <= set(blue.ip("address show dev eth0").split())
    assert "10.50.0.0/16 via 10.0.0.1" in blue.ip("route show")
    assert run_epairctl(lab, "reload", "--dry-run").returncode == 0
    ping(lab["red"], BLUE)
    blue.ip("link del eth0")
    until(lambda: not daemon.metrics().devices())
    assert "+ epair0" in epairctl(lab, "reload")
    ping(lab["red"], BLUE)


def test_a_failure_in_the_middle_leaves_everything_as_it_was(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "[epair.epair5]\n")
    lab.home.ip("link add epair7a type veth peer name x7")
    before = {name: link.index for name, link in lab.home.links("tun").items()}
    with every_frame_arrives(lab):
        green = lab["green"]
        text = f'[namespaces]\ncreate = ["$red", "$blue", "{green}"]\n' + pair(a={"mtu": 1400})
        rewrite(daemon, text + "[epair.epair6]\n[epair.epair7]\n", queue_limit=77)
        done = run_epairctl(lab, "reload")
    assert done.returncode == 1
    assert "epair7a: " in done.stderr
    assert "everything is as it was before" in done.stderr
    assert {name: link.index for name, link in lab.home.links("tun").items()} == before
    assert not green.exists
    page = daemon.metrics()
    assert page.interface("epair0a").mtu_bytes == 1500
    assert page.worker().queue_limit_frames == 2100
    assert page.value("epaird_config_last_reload_successful") == 0
    lab.home.ip("link del epair7a")
    epairctl(lab, "reload")
    assert green.exists
    assert daemon.metrics().value("epaird_config_last_reload_successful") == 1


def test_reloads_by_signal_and_by_watch_are_on_the_metrics_page(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, watch=True)
    page = daemon.metrics()
    assert page.value("epaird_config_reloads_total", result="success") == 0
    assert page.value("epaird_config_sha256_info", sha256=digest(daemon.file.read_bytes())) == 1
    rewrite(daemon, CABLE + "[epair.epair1]\n", watch=True)
    daemon.wait_for_log("reloaded ")
    daemon.file.write_text(daemon.file.read_text() + "[epair.epair2]\n[epair.epair3]\nqueues = 0\n")
    daemon.wait_for_log("not reloaded: epair.epair3.queues: 0 is less than")
    daemon.edit_file("queues = 0", "queues = 1")
    daemon.wait_for_log_lines("reloaded ", 2)
    assert len(daemon.metrics().devices()) == 8
    rewrite(daemon, CABLE)  # without watch
    daemon.wait_for_log_lines("reloaded ", 3)
    rewrite(daemon, CABLE + "[epair.epair4]\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_log_lines("reloaded ", 4)
    page = daemon.metrics()
    assert len(page.devices()) == 4
    assert page.value("epaird_config_reloads_total", result="success") == 4
    assert page.value("epaird_config_reloads_total", result="failure") == 1
    assert page.value("epaird_config_sha256_info", sha256=digest(daemon.file.read_bytes())) == 1
    assert page.value("epaird_config_last_reload_success_timestamp_seconds") > 1_600_000_000


def test_a_saved_file_recreates_everything(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "[lo.lo1]\naddresses = ['10.88.7.1/24']\n")
    epairctl(lab, "create", "epair", "a.netns=$red", "a.name=x1", 'a.addresses=["10.3.0.1/24"]', "queues=2")
    epairctl(lab, "create", "lo", "mode=verbatim")
    epairctl(lab, "create", "epair9")
    epairctl(lab, "set", "epair9a", "mtu=1400")
    epairctl(lab, "reload")
    assert "origin runtime" in epairctl(lab, "show", "epair9a")
    epairctl(lab, "patch", "--force", "epair9a", "epair0b")
    text = epairctl(lab, "save")
    saved = lab.directory / "saved.toml"
    saved.write_text(text)
    assert "ok, 3 pairs" in lab.home.run(EPAIRD, "check", str(saved))
    done = run_epairctl(lab, "plan", str(saved))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    macs = {name: daemon.metrics().interface(name).mac for name in ("epair0a", "epair9b")}
    daemon.stop()
    again = lab.launch_file(saved).wait_ready()
    assert {name: again.metrics().interface(name).mac for name in macs} == macs
    assert "peer epair0b" in epairctl(lab, "show", "epair9a")
    done = run_epairctl(lab, "plan", str(saved))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_successor_applies_its_file_to_adopted_pairs(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "[epair.epair1]\n")
    index = lab["red"].links()["eth0"].index
    with every_frame_arrives(lab):
        daemon.crash()
        rewrite(daemon, NAMESPACES + pair(a={"mtu": 1400}) + "[epair.epair2]\n")
        successor = lab.restart(daemon).wait_ready()
    assert lab["red"].links()["eth0"].index == index
    assert lab["red"].links()["eth0"].mtu == 1400
    assert successor.metrics().devices() == ["epair0a", "epair0b", "epair2a", "epair2b"]
