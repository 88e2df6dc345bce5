"""Lists of interfaces by namespace, lost frames and rate, by the real epairctl."""

from __future__ import annotations

import json
import signal

import pytest

from epaird.client.client import Client
from epaird.ctl.selecting import ListOptions
from tests.control.samples import interface
from tests.ctl.epairctl import Cli
from tests.waiting import DEADLINE_S


@pytest.fixture
def several(cli: Cli) -> Cli:
    """epairctl, and a daemon with interfaces that were not created in the order of their numbers."""
    cli.operations.interfaces = {
        "epair10": (interface("epair10a", netns="red"), interface("epair10b", netns="")),
        "epair2": (interface("epair2a", netns="red", oqdrops=7), interface("epair2b", netns="blue")),
    }
    return cli


def first_words(text: str) -> list[str]:
    """Return the first word of each line below the headings."""
    return [line.split()[0] for line in text.splitlines()[1:]]


@pytest.mark.parametrize("command", ["list", "stats"])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["epair2a", "epair2b", "epair10a", "epair10b"]),
        (("-n", "red"), ["epair2a", "epair10a"]),
        (("--netns", "-"), ["epair10b"]),
        (("-n", "nowhere"), []),
        (("--drops",), ["epair2a"]),
        (("--drops", "-n", "blue"), []),
        (("--sort", "rate", "-i", "0.1"), ["epair2a", "epair2b", "epair10a", "epair10b"]),
    ],
)
def test_selected(several: Cli, command: str, options: tuple[str, ...], found: list[str]) -> None:
    assert first_words(several.output(command, *options)) == found
    documents = json.loads(several.output(command, "-j", *options))
    assert [each["device"] for each in documents] == found


def test_names_and_conditions_hold_together(several: Cli) -> None:
    assert first_words(several.output("stats", "-n", "red", "epair10")) == ["epair10a"]


def test_mistakes(several: Cli) -> None:
    assert several.fails("list", "--sort", "size", status=2) == (
        "Invalid value for '--sort': 'size' is not one of 'name', 'rate'."
    )
    assert several.fails("stats", "-i", "0", status=2).startswith("Invalid value for '-i' / '--interval'")


RATES = {
    "epair1a": {"ibytes": 5.0, "obytes": 5.0, "oqdrops": 0.0, "ierrors": 0.0, "oerrors": 0.0},
    "epair2a": {"ibytes": 0.0, "obytes": 20.0, "oqdrops": 1.0, "ierrors": 0.0, "oerrors": 0.0},
    "epair3a": {"ibytes": 10.0, "obytes": 0.0, "oqdrops": 0.0, "ierrors": 2.0, "oerrors": 0.0},
}


@pytest.mark.parametrize(
    ("drops", "by_rate", "found"),
    [
        (False, False, ["epair1a", "epair2a", "epair3a"]),
        (False, True, ["epair2a", "epair1a", "epair3a"]),
        (True, False, ["epair2a", "epair3a"]),
        (True, True, ["epair2a", "epair3a"]),
    ],
)
def test_rates_are_selected_and_ordered(drops: bool, by_rate: bool, found: list[str]) -> None:
    chosen = ListOptions(None, drops, by_rate, 1.0)
    assert list(chosen.of_rates(RATES)) == found


def test_the_order_by_name_needs_no_sample() -> None:
    rank = ListOptions(None, False, False, 1.0).rank(Client("/nowhere"))
    assert rank("epair0a") == rank("epair9a")


def test_rates_of_a_namespace(several: Cli) -> None:
    process = several.start("stats", "-w", "-i", "0.1", "-n", "red", "--sort", "rate")
    assert process.stdout is not None
    assert [process.stdout.readline().split()[0] for _ in range(3)] == ["NAME", "epair2a", "epair10a"]
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    process.communicate()
