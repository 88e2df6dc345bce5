"""Answers of the daemon as text: for a terminal, for a script, and in the forms that ``ip`` has.

rich is imported only for a terminal: elsewhere nothing has colours, and no column is cut short.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epaird.ctl.rates import totals

if TYPE_CHECKING:
    from rich.table import Table

Interface = Mapping[str, Any]
Row = Sequence[str]

COUNTERS: Final = (
    "ipackets", "ibytes", "imcasts", "ierrors", "opackets", "obytes", "omcasts", "oerrors", "oqdrops",
)  # fmt: skip
_BRIEF_COUNTERS: Final = ("ipackets", "ibytes", "opackets", "obytes")
_RATES: Final = (
    ("ipackets", "ipackets/s", 1),
    ("ibytes", "ibit/s", 8),
    ("ierrors", "ierrors/s", 1),
    ("opackets", "opackets/s", 1),
    ("obytes", "obit/s", 8),
    ("oerrors", "oerrors/s", 1),
    ("oqdrops", "oqdrops/s", 1),
)
"""Of what, its heading, and how many there are in one."""

_STATES: Final = {"up": "green", "no-carrier": "yellow", "down": "red"}
_WHAT: Final = {
    "created": "green", "up": "green", "carrier": "green", "drained": "green",
    "down": "yellow", "nocarrier": "yellow", "renamed": "cyan", "moved": "cyan",
    "unregistering": "red", "destroyed": "red", "overflow": "red", "lost": "bold red",
}  # fmt: skip


@dataclass(slots=True)
class Form:
    """How answers are to look: the options of ``ip``."""

    json: bool = False
    pretty: bool = False
    oneline: bool = False
    brief: bool = False


class NobodyReads(Exception):
    """Standard output is a pipe that nobody reads any more.  (Click would take a BrokenPipeError away.)"""


def write(text: str) -> None:
    """Lines, to standard output, at once.  Raises NobodyReads."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise NobodyReads from None


def document(value: object, form: Form) -> str:
    """A value as JSON, for people when they ask for it."""
    return json.dumps(value, indent=4 if form.pretty else None)


def state(interface: Interface) -> str:
    """Up, and with a carrier; up without one; or down."""
    if not interface["up"]:
        return "down"
    return "up" if interface["carrier"] else "no-carrier"


def brief(interfaces: Iterable[Interface]) -> str:
    """One interface a line: its name, its state, its address, and where it lives."""
    rows = [(each["device"], state(each).upper(), each["mac"] or "-", _where(each)) for each in interfaces]
    return columns(rows)


def listing(interfaces: Sequence[Interface]) -> str:
    """A table of interfaces, for a script."""
    return columns([_HEADINGS, *map(_row, interfaces)])


_HEADINGS: Final = ("NAME", "STATE", "PEER", "MTU", "MAC", "DEVICE", "NETNS", "WORKER")


def _row(interface: Interface) -> Row:
    return (
        interface["device"],
        state(interface),
        interface["peer"] or "-",
        str(interface["mtu"]),
        interface["mac"] or "-",
        interface["name"],
        interface["netns"] or "-",
        interface["worker"],
    )


def columns(rows: Sequence[Row], numbers_from: int = 100) -> str:
    """Rows, one below the other, in columns as wide as they need; numbers stand on the right."""
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


def listing_table(interfaces: Sequence[Interface]) -> Table:
    """A table of interfaces, for a terminal."""
    from rich.text import Text

    table = _table(_HEADINGS)
    for each in interfaces:
        name, seen, *others = _row(each)
        table.add_row(Text(name, "bold"), Text(seen, _STATES[seen]), *map(Text, others))
    return table


def details(interface: Interface, form: Form) -> str:
    """Everything about one interface, in a few lines, or in one as ``ip -o`` has it."""
    flags = ",".join(word for key, word in _FLAGS if interface[key])
    lines = [
        f"{interface['device']}: <{flags}> mtu {interface['mtu']} state {state(interface)}",
        "    " + " ".join(f"{key} {value}" for key, value in _properties(interface) if value),
    ]
    if "stats" in interface:
        stats = interface["stats"]
        lines += [
            f"    in:  {stats['ipackets']} packets, {stats['ibytes']} bytes, {stats['imcasts']} multicast"
            f"{_errors(stats['ierrors'])}",
            f"    out: {stats['opackets']} packets, {stats['obytes']} bytes, {stats['omcasts']} multicast, "
            f"{stats['oqdrops']} dropped{_errors(stats['oerrors'])}",
        ]
    return ("\\" if form.oneline else "\n").join(lines)


_FLAGS: Final = (("up", "UP"), ("carrier", "LOWER_UP"), ("oactive", "OACTIVE"))
_TOLD_ELSEWHERE: Final = frozenset(
    {"device", "kind", "up", "carrier", "oactive", "mtu", "stats", "mac", "name"}
)


def _properties(interface: Interface) -> list[tuple[str, object]]:
    others = [(key, value) for key, value in interface.items() if key not in _TOLD_ELSEWHERE]
    return [("ether", interface["mac"]), ("device", interface["name"]), *others]


def _errors(reasons: Mapping[str, int]) -> str:
    seen = [f"{count} {reason}" for reason, count in reasons.items() if count]
    return ", errors: " + ", ".join(seen) if seen else ""


def statistics(answer: Mapping[str, Any], form: Form) -> str:
    """The counters of every interface."""
    if form.oneline:
        return "\n".join(
            " ".join([each["device"], *(f"{key}={totals(each['stats'])[key]}" for key in COUNTERS)])
            for each in answer["interfaces"]
        )
    names = _BRIEF_COUNTERS if form.brief else COUNTERS
    rows = [("NAME", *names)]
    for each in answer["interfaces"]:
        counts = totals(each["stats"])
        rows.append((each["device"], *(str(counts[name]) for name in names)))
    return columns(rows, 1)


def flow_rows(rates: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Rates of every interface, below their headings."""
    rows: list[Row] = [("NAME", *(heading for _, heading, _ in _RATES))]
    for name, found in rates.items():
        rows.append((name, *(scaled(found[key] * factor) for key, _, factor in _RATES)))
    return rows


def flow_table(rates: Mapping[str, Mapping[str, float]]) -> Table:
    """Rates of every interface, for a terminal."""
    headings, *rows = flow_rows(rates)
    table = _table(headings, numbers_from=1)
    for row in rows:
        table.add_row(*row)
    return table


def scaled(number: float) -> str:
    """A rate in at most five characters: ``999``, ``1.23k``, ``45.6M``."""
    if number < 999.5:
        return f"{number:.0f}"
    for unit in "kMGTP":
        number /= 1000
        if number < 999.5 or unit == "P":
            break
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{unit}"


def event(told: Mapping[str, Any]) -> tuple[str, str, str]:
    """The parts of an event's line: the time, what happened to whom, and its colour."""
    seconds = told["time"]
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}"
    words = [told["interface"] or "-", told["what"], told["detail"]]
    if told["what"] == "lost":
        words[2] = f"{told['detail']} events: this reader was too slow"
    return clock, " ".join(filter(None, words)), _WHAT.get(told["what"], "")


def _where(interface: Interface) -> str:
    return f"{interface['name']}@{interface['netns']}" if interface["netns"] else interface["name"]


def _table(headings: Row, numbers_from: int = 100) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number >= numbers_from else "left", overflow="fold")
    return table
