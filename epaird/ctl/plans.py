"""Plans as ``epairctl plan`` and ``epairctl reload`` print them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from epaird.client.plans import PlanReport
from epaird.plan.actions import Verb, lines

_COLOURS: Final[dict[Verb | None, str]] = {
    "create": "green", "destroy": "red", "change": "yellow", "recreate": "magenta", "restore": "cyan",
    "adopt": "dim", "restart": "red", "note": "dim", None: "bold",
}  # fmt: skip


def plain(report: PlanReport) -> str:
    """Return a plan as text, for a script or a file."""
    return "\n".join(line for line, _ in coloured(report))


def coloured(report: PlanReport) -> Iterator[tuple[str, str]]:
    """Return the lines of a plan with their colours, for a terminal."""
    return ((line, _COLOURS[verb]) for verb, line in lines(each.action() for each in report.actions))
