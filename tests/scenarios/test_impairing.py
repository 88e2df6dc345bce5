"""Links that are impaired from the command line, as a user sees them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.dataplane.impair.oracles import within
from tests.scenarios.ctl import EPAIRCTL, control_socket, epairctl, reload, run_epairctl
from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.lab import CABLE, Lab
from tests.scenarios.test_control import has_client
from tests.scenarios.transfers import BLUE, add_neighbour
from tests.waiting import until

pytestmark = pytest.mark.real

WIRE = 8 * (64 + 8 + 20 + 14 + 24)
"""Bits on the wire of a datagram of a stream."""


def round_trips(lab: Lab, wait: str = "5") -> list[float]:
    """Return the round trips of some pings in milliseconds; those that take longer are not among them."""
    pinging = lab["red"].start("ping", "-n", "-c", "5", "-i", "0.01", "-W", wait, BLUE)
    until(lambda: not pinging.running)
    return [float(each) for each in re.findall(rb"time=([0-9.]+)", pinging.stdout)]


def test_a_link_is_impaired_and_repaired(lab: Lab) -> None:
    lab.daemon(CABLE)
    assert min(round_trips(lab)) < 20
    answer = epairctl(lab, "impair", "epair0", "delay", "10ms")
    assert re.fullmatch(
        r"epair0, each direction: delay 10ms, seed [0-9]+\nadds 20ms to a round trip\n", answer
    )
    assert all(each >= 20 for each in round_trips(lab))
    assert "delay 10ms loss 100%" in epairctl(lab, "impair", "epair0a", "loss", "100%")
    assert round_trips(lab, "0.1") == []
    shown = epairctl(lab, "impair", "epair0a")
    assert "every segment is lost" in shown
    assert re.search(r" [0-9]+ dropped by loss ", shown)
    assert "impaired: delay 10ms loss 100%" in epairctl(lab, "show", "epair0a")
    assert " loss\n" in epairctl(lab, "impair", "epair0a", "log")
    assert epairctl(lab, "impair", "epair0", "off") == "epair0, each direction: not impaired\n"
    assert min(round_trips(lab)) < 20


def test_a_plan_names_the_keys_that_change(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    impaired = CABLE + '[epair.epair0.impair]\ndelay = "{}"\n'
    assert "impair.delay: (none) -> 5ms" in reload(daemon, impaired.format("5ms"))
    assert "impair.delay: 5ms -> 50ms" in reload(daemon, impaired.format("50ms"))
    assert "adds 100ms to a round trip" in epairctl(lab, "impair", "epair0")


NETEM = "delay 100ms 10ms 25% distribution normal loss gemodel 1% 30% 100% 0% limit 1000 seed 7"


def test_netems_words_are_understood_shown_announced_and_saved(lab: Lab, tmp_path: Path) -> None:
    lab.daemon(CABLE)
    monitor = lab.home.start(EPAIRCTL, "--socket", str(control_socket(lab)), "monitor", "-br")
    until(lambda: has_client(lab))
    answer = epairctl(lab, "impair", "epair0a", *NETEM.split())
    words = answer.splitlines()[0].removeprefix("epair0a to epair0b: ")
    assert words == (
        "delay 100ms jitter 10ms jitter_correlation 25% distribution normal "
        """loss '{ p = "1%", r = "30%", bad = "100%", good = "0%" }' seed 7"""
    )
    assert "adds 100ms to a round trip" in answer
    assert len([line for line in answer.splitlines() if line.startswith("note:")]) > 1
    assert "note:" not in epairctl(lab, "impair", "epair0a", "jitter", "20ms")
    monitor.wait_for_output("epair0a impaired")
    file = tmp_path / "saved.toml"
    file.write_text(epairctl(lab, "save"))
    assert run_epairctl(lab, "plan", str(file)).returncode == 0
    epairctl(lab, "impair", "epair0a", "off")
    planned = run_epairctl(lab, "plan", str(file))
    assert planned.returncode == 2
    assert "a.impair.delay: (none) -> 100ms" in planned.stdout


def test_live_statistics_have_what_was_asked_for_beside_what_is_delivered(lab: Lab) -> None:
    lab.daemon(CABLE)
    epairctl(lab, "impair", "epair0a", "delay", "10ms", "loss", "30%", "rate", "100mbit", "seed", "7")
    add_neighbour(lab["red"], lab["blue"], BLUE)
    watch = (EPAIRCTL, "--socket", str(control_socket(lab)), "-j", "stats", "-w", "-i", "0.5", "epair0a")
    with DatagramStream(lab["red"], lab["blue"], BLUE, 2000):
        watching = lab.home.start(*watch)
        until(lambda: watching.stdout.count(b"\n") >= 2, watching.__repr__)
    found = json.loads(watching.stdout.splitlines()[1])["epair0a"]
    live, sent = found["impairment"], found["opackets"]
    asked = {key: live[key] for key in ("delay_seconds", "loss_ratio", "asked_bits_per_second")}
    assert asked == {"delay_seconds": 0.01, "loss_ratio": pytest.approx(0.3), "asked_bits_per_second": 10**8}
    assert within(round(live["lost_ratio"] * sent / 2), round(sent / 2), 0.3)
    delivered = (1 - live["lost_ratio"]) * sent * WIRE
    assert live["bits_per_second"] == pytest.approx(delivered, rel=0.3)
    assert 0 <= live["late_seconds"] < 1
    assert live["queue_drop_ratio"] == 0
