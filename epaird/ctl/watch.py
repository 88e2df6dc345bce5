"""Commands that show counters, rates and events."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from epaird.client.client import Client, selecting
from epaird.ctl import completion, show
from epaird.ctl.context import JSON, LINES, Context, form_options
from epaird.ctl.selecting import ListOptions, selection_options
from epaird.ctl.show import Form

if TYPE_CHECKING:
    from epaird.client.statistics import Statistics
    from epaird.ctl.lines import LineRates


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.names)
@click.option("-w", "--watch", is_flag=True, help="Print rates repeatedly, until Ctrl-C.")
@selection_options("Seconds between two samples of -w and of --sort rate.")
@form_options(*JSON, *LINES)
@click.pass_obj
def stats(context: Context, names: tuple[str, ...], watch: bool, chosen: ListOptions) -> None:
    """Show counters, or with -w rates.

    Counters have the viewpoint of an interface's owner: o is what it transmits, i what is delivered to it.
    Rarer ones have a column only if they are not 0; -o and -j print all of them. With -w, --drops shows the
    interfaces that have lost frames in the interval, and a second table has what impairments did in it beside
    what was asked for: late is the time by which frames were delivered after they were due, lost the share of
    segments, delivered the rate on the wire."""
    form, daemon = context.form, context.daemon
    if watch:
        _watch(_rates(daemon, names, chosen), form)
        return
    devices, rank = _devices(daemon, names), chosen.rank(daemon)
    if form.json:
        query = selecting(netns=chosen.netns, drops=chosen.drops)
        documents = daemon.ask("GET", "stats", query=query)["interfaces"]
        wanted = [each for each in documents if devices is None or each["device"] in devices]
        context.write_json(sorted(wanted, key=lambda each: rank(each["device"])))
    else:
        found = _statistics(daemon, devices, chosen.netns, drops=chosen.drops).interfaces
        show.write(show.statistics(sorted(found, key=lambda each: rank(each.device)), form))


@click.command()
@form_options(*JSON, *LINES)
@click.pass_obj
def monitor(context: Context) -> None:
    """Print events as they happen.

    Ends at Ctrl-C, or when the daemon ends."""
    form = context.form
    if form.json:
        for document in context.daemon.stream("events"):
            context.write_json(document)
        return
    console = show.console() if sys.stdout.isatty() else None
    for event in context.daemon.events():
        clock, words, colour = show.event_line(event)
        if console is None:
            show.write(words if form.brief else f"{clock} {words}")
        else:
            from rich.text import Text

            console.print(Text.assemble((clock + " ", "dim"), (words, colour)), soft_wrap=True)


def _devices(daemon: Client, names: tuple[str, ...]) -> set[str] | None:
    """Return the interfaces with these names; None for all."""
    if not names:
        return None
    return {each.device for name in names for each in daemon.interface(name)}


def _statistics(
    daemon: Client, devices: set[str] | None, netns: str | None, *, drops: bool = False
) -> Statistics:
    """Return the counters of these interfaces."""
    return _only(daemon.statistics(netns=netns, drops=drops), devices)


def _only(found: Statistics, devices: Container[str] | None) -> Statistics:
    """Return the counters of these interfaces; None for all."""
    if devices is None:
        return found
    return replace(found, interfaces=[each for each in found.interfaces if each.device in devices])


@dataclass(frozen=True)
class _Sample:
    """What happened in an interval."""

    rates: Mapping[str, Mapping[str, float]]
    """Rates of each interface."""
    lines: Mapping[str, LineRates]
    """What the impairment of each interface did, of those that are impaired."""


def _rates(daemon: Client, names: tuple[str, ...], chosen: ListOptions) -> Iterator[_Sample]:
    """Yield the rates of interfaces after each interval.

    All interfaces are read, because what an impairment delivers is counted by the peer."""
    from epaird.ctl.rates import rates

    _devices(daemon, names)
    before = daemon.statistics()
    while True:
        time.sleep(chosen.interval_s)
        after = daemon.statistics()
        found = chosen.of_rates(rates(before, _selected(daemon, after, names, chosen.netns)))
        yield _Sample(found, _lines(before, after, found))
        before = after


def _selected(daemon: Client, found: Statistics, names: tuple[str, ...], netns: str | None) -> Statistics:
    """Return the counters of the interfaces with these names in a namespace."""
    devices = _devices(daemon, names)
    if netns is not None:
        devices = {each.device for each in _statistics(daemon, devices, netns).interfaces}
    return _only(found, devices)


def _lines(before: Statistics, after: Statistics, devices: Container[str]) -> dict[str, LineRates]:
    if not after.lines:
        return {}
    from epaird.ctl.lines import line_rates

    return {name: each for name, each in line_rates(before, after).items() if name in devices}


def _watch(samples: Iterator[_Sample], form: Form) -> None:
    if form.json:
        for each in samples:
            show.write(show.document(_document(each), form))
    elif not sys.stdout.isatty():
        for each in samples:
            show.write("\n".join(show.columns(rows, 1) for rows in _tables(each)))
    else:
        from rich.console import Group
        from rich.live import Live

        with Live(console=show.console(), auto_refresh=False, screen=False) as live:
            for each in samples:
                live.update(Group(*map(show.number_table, _tables(each))), refresh=True)


def _tables(sample: _Sample) -> Iterator[list[show.Row]]:
    yield show.rate_rows(sample.rates)
    if sample.lines:
        from epaird.ctl.lines import line_rows

        yield line_rows(sample.lines)


def _document(sample: _Sample) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {name: {**each} for name, each in sample.rates.items()}
    for name, line in sample.lines.items():
        found[name]["impairment"] = asdict(line)
    return found
