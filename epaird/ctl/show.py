"""Answers of the daemon as text: for a terminal, for a script, and in the forms that ``ip`` has.

rich is imported only for a terminal. Elsewhere there are no colours, and no column is cut short.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epaird.client.counters import InterfaceCounters
from epaird.client.models import Interface, InterfaceDetails, MissingInterface
from epaird.ctl.rates import totals

if TYPE_CHECKING:
    from rich.table import Table

    from epaird.client.events import Event
    from epaird.client.statistics import InterfaceStatistics

Row = Sequence[str]

COLUMNS: Final = (
    "ipackets", "ibytes", "imcasts", "ierrors", "opackets", "obytes", "omcasts", "oerrors", "oqdrops",
)  # fmt: skip
"""Counters that always have a column in the table."""
BRIEF_COLUMNS: Final = ("ipackets", "ibytes", "opackets", "obytes")
"""Counters in the brief table."""
OTHERS: Final = tuple(name for name in vars(InterfaceCounters()) if name not in COLUMNS)
"""Counters that are shown where they are not 0, and always on one line."""
RATE_COLUMNS: Final = (
    ("ipackets", "ipackets/s", 1),
    ("ibytes", "ibit/s", 8),
    ("ierrors", "ierrors/s", 1),
    ("opackets", "opackets/s", 1),
    ("obytes", "obit/s", 8),
    ("oerrors", "oerrors/s", 1),
    ("oqdrops", "oqdrops/s", 1),
)
"""Columns of rates: the counter, the heading, and the units shown for each one counted."""

_STATES: Final = {"up": "green", "no-carrier": "yellow", "down": "red", "missing": "bold red"}
_WHAT: Final = {
    "created": "green", "up": "green", "carrier": "green", "drained": "green",
    "down": "yellow", "nocarrier": "yellow", "renamed": "cyan", "moved": "cyan",
    "strayed": "yellow", "impaired": "yellow", "returned": "green",
    "unregistering": "red", "destroyed": "red", "overflow": "red", "lost": "bold red",
}  # fmt: skip
_HEADINGS: Final = ("NAME", "STATE", "PEER", "MTU", "MAC", "DEVICE", "NETNS", "WORKER")
_FLAGS: Final = (("up", "UP"), ("carrier", "LOWER_UP"), ("oactive", "OACTIVE"))
_HEADING_KEYS: Final = frozenset(
    {"device", "kind", "up", "carrier", "oactive", "mtu", "stats", "mac", "name"}
)
"""Fields of an interface that details() does not print by their names."""


@dataclass
class Form:
    """Form in which answers are printed: the options of ``ip``."""

    json: bool = False
    """Print JSON."""
    pretty: bool = False
    """Indent JSON."""
    oneline: bool = False
    """Print one line for each interface."""
    brief: bool = False
    """Print only the main values."""


class OutputClosed(Exception):
    """Standard output is a pipe whose reader is gone. (Click would handle a BrokenPipeError itself.)"""


def write(text: str) -> None:
    """Write lines to standard output at once. Raises OutputClosed."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def document(value: object, form: Form) -> str:
    """Return a value as JSON, indented if the form requires it."""
    return json.dumps(value, indent=4 if form.pretty else None)


def state(interface: Interface) -> str:
    """Return ``up``, ``no-carrier`` (up without a carrier) or ``down``."""
    if not interface.up:
        return "down"
    return "up" if interface.carrier else "no-carrier"


def brief(interfaces: Iterable[Interface | MissingInterface]) -> str:
    """Return one line for each interface: its name, state, address and place."""
    return columns([(row[0], row[1].upper(), row[4], _place(row)) for row in map(_row, interfaces)])


def listing(interfaces: Sequence[Interface | MissingInterface]) -> str:
    """Return a table of interfaces, for a script."""
    return columns([_HEADINGS, *map(_row, interfaces)])


def _row(interface: Interface | MissingInterface) -> Row:
    if isinstance(interface, MissingInterface):
        return _missing_row(interface)
    return (
        interface.device,
        state(interface),
        interface.peer or "-",
        str(interface.mtu),
        interface.mac or "-",
        interface.name,
        interface.netns or "-",
        interface.worker,
    )


def _missing_row(interface: MissingInterface) -> Row:
    return (interface.device, "missing", "-", "-", "-", interface.name, interface.netns or "-", "-")


def columns(rows: Sequence[Row], numbers_from: int = 100) -> str:
    """Return rows in columns as wide as they need, aligned to the right from ``numbers_from`` on."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number >= numbers_from else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def listing_table(interfaces: Sequence[Interface | MissingInterface]) -> Table:
    """Return a table of interfaces, for a terminal."""
    from rich.text import Text

    table = _table(_HEADINGS)
    for each in interfaces:
        name, seen, *others = _row(each)
        table.add_row(Text(name, "bold"), Text(seen, _STATES[seen]), *map(Text, others))
    return table


def details(interface: Interface | MissingInterface, form: Form, impairment: str = "") -> str:
    """Return everything about one interface in a few lines, or in one as ``ip -o`` does.

    ``impairment`` is that of what it transmits, in words."""
    if isinstance(interface, MissingInterface):
        wanted = {"device": interface.name, "netns": interface.netns, "reason": interface.reason}
        words = " ".join(f"{key} {value}" for key, value in wanted.items() if value)
        return ("\\" if form.oneline else "\n").join(
            (f"{interface.device}: <> state missing", "    " + words)
        )
    flags = ",".join(word for key, word in _FLAGS if getattr(interface, key))
    lines = [
        f"{interface.device}: <{flags}> mtu {interface.mtu} state {state(interface)}",
        "    " + " ".join(f"{key} {value}" for key, value in _properties(interface) if value),
    ]
    if isinstance(interface, InterfaceDetails):
        lines += _counter_lines(interface.stats)
    if impairment:
        lines.append(f"    impaired: {impairment}")
    return ("\\" if form.oneline else "\n").join(lines)


def _properties(interface: Interface) -> list[tuple[str, object]]:
    others = [(key, value) for key, value in vars(interface).items() if key not in _HEADING_KEYS]
    return [("ether", interface.mac), ("device", interface.name), *others]


def _counter_lines(stats: InterfaceCounters) -> list[str]:
    lines = [
        f"    in:  {stats.ipackets} packets, {stats.ibytes} bytes, {stats.imcasts} multicast"
        f"{_errors(stats.ierrors)}",
        f"    out: {stats.opackets} packets, {stats.obytes} bytes, {stats.omcasts} multicast, "
        f"{stats.oqdrops} dropped{_errors(stats.oerrors)}",
    ]
    others = ", ".join(_not_zero((name, totals(stats)[name]) for name in OTHERS))
    return [*lines, f"    other: {others}"] if others else lines


def _errors(reasons: Mapping[str, int]) -> str:
    seen = _not_zero(reasons.items())
    return ", errors: " + ", ".join(seen) if seen else ""


def _not_zero(counts: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{count} {name}" for name, count in counts if count]


def statistics(interfaces: Sequence[InterfaceStatistics], form: Form) -> str:
    """Return the counters of interfaces: a table, or one line for each."""
    counts = [(each.device, totals(each.stats)) for each in interfaces]
    if form.oneline:
        names = (*COLUMNS, *OTHERS)
        return "\n".join(
            " ".join([device, *(f"{key}={found[key]}" for key in names)]) for device, found in counts
        )
    seen = (name for name in OTHERS if any(found[name] for _, found in counts))
    names = BRIEF_COLUMNS if form.brief else (*COLUMNS, *seen)
    return columns(
        [("NAME", *names), *((device, *(str(found[key]) for key in names)) for device, found in counts)], 1
    )


def rate_rows(rates: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Return the rates of every interface below their headings."""
    rows: list[Row] = [("NAME", *(heading for _, heading, _ in RATE_COLUMNS))]
    for name, found in rates.items():
        rows.append((name, *(scaled(found[key] * factor) for key, _, factor in RATE_COLUMNS)))
    return rows


def number_table(rows: Sequence[Row]) -> Table:
    """Return numbers below their headings, behind the name of each interface, for a terminal."""
    headings, *rows = rows
    table = _table(headings, numbers_from=1)
    for row in rows:
        table.add_row(*row)
    return table


def scaled(number: float) -> str:
    """Return a rate in at most five characters: ``999``, ``1.23k``, ``45.6M``."""
    if number < 999.5:
        return f"{number:.0f}"
    for unit in "kMGTP":
        number /= 1000
        if number < 999.5 or unit == "P":
            break
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{unit}"


def event_line(event: Event) -> tuple[str, str, str]:
    """Return the parts of an event's line: the time, what happened to which interface, and the colour."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.time)) + f".{int(event.time * 1000) % 1000:03d}"
    detail = event.detail
    if event.what == "lost":
        detail += " events: this reader was too slow"
    words = (event.interface or "-", event.what, detail)
    return clock, " ".join(filter(None, words)), _WHAT.get(event.what, "")


def console() -> Any:  # noqa: ANN401 - rich is not imported yet
    """Return a console for a terminal, which prints text as it is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _place(row: Row) -> str:
    name, netns = row[5:7]
    return f"{name}@{netns}" if netns != "-" else name


def _table(headings: Row, numbers_from: int = 100) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number >= numbers_from else "left", overflow="fold")
    return table
