"""Options by which ``epairctl list`` and ``stats`` select interfaces and order them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from epaird.client.client import Client
from epaird.ctl import completion

R = TypeVar("R")

HOME: Final = "-"
"""The daemon's own namespace, as ``list`` prints it; no namespace's name begins so."""


@dataclass(frozen=True)
class ListOptions:
    """The interfaces that are selected, and their order."""

    netns: str | None
    """Namespace of their devices, empty for the daemon's own; None for any."""
    drops: bool
    """True for interfaces that have lost frames."""
    by_rate: bool
    """True for the busiest first; otherwise the order of kinds and numbers."""
    interval_s: float
    """Seconds between two samples of the counters."""

    def rank(self, daemon: Client) -> Callable[[str], float]:
        """Return the sort key of an interface, by its name, for lists in the order of kinds and numbers.

        For the order by rate it takes two samples of the counters."""
        if not self.by_rate:
            return lambda _device: 0
        from epaird.ctl.rates import rates

        before = daemon.statistics()
        time.sleep(self.interval_s)
        sampled = rates(before, daemon.statistics())
        return lambda device: -octets(sampled.get(device, {}))

    def of_rates(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
        """Return the rates, by interface, of those that are selected, in the wanted order."""
        rows = [row for row in found.items() if not self.drops or lost(row[1]) > 0]
        return dict(sorted(rows, key=lambda row: -octets(row[1])) if self.by_rate else rows)


def octets(rates: Mapping[str, float]) -> float:
    """Return the bytes per second of an interface, in both directions."""
    return rates.get("ibytes", 0) + rates.get("obytes", 0)


def lost(rates: Mapping[str, float]) -> float:
    """Return the frames per second that an interface has lost."""
    return sum(rates[name] for name in ("oqdrops", "ierrors", "oerrors"))


def selection_options(interval_help: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add the options to a command, which gets them as its argument ``chosen``."""

    def add(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def select(
            *arguments: Any,  # noqa: ANN401
            netns: str | None,
            drops: bool,
            sort: str,
            interval: float,
            **others: Any,  # noqa: ANN401
        ) -> R:
            wanted = "" if netns == HOME else netns
            chosen = ListOptions(wanted, drops, sort == "rate", interval)
            return command(*arguments, chosen=chosen, **others)

        options = (
            click.option(
                "-n",
                "--netns",
                metavar="NAME",
                shell_complete=completion.namespaces,
                help="Only interfaces in this namespace; - for the daemon's own.",
            ),
            click.option("--drops", is_flag=True, help="Only interfaces that have lost frames."),
            click.option(
                "--sort",
                type=click.Choice(["name", "rate"]),
                default="name",
                show_default=True,
                help="Order: by kind and number, or the busiest first.",
            ),
            click.option(
                "-i",
                "--interval",
                type=click.FloatRange(0.1, 3600),
                default=1.0,
                show_default=True,
                help=interval_help,
            ),
        )
        decorated: Callable[..., R] = select
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return add
