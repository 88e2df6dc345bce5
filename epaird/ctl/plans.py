"""Plans as ``epairctl plan`` and ``epairctl reload`` print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from epaird.plan.actions import Action, Detail, Verb, lines

_COLOURS: Final[dict[Verb | None, str]] = {
    "create": "green", "destroy": "red", "change": "yellow", "recreate": "magenta", "restore": "cyan",
    "adopt": "dim", "restart": "red", None: "bold",
}  # fmt: skip


def actions(told: Mapping[str, Any]) -> tuple[Action, ...]:
    """What the daemon has answered."""
    return tuple(
        Action(
            each["verb"],
            each["kind"],
            each["name"],
            tuple(Detail(**one) for one in each["details"]),
            each["note"],
        )
        for each in told["actions"]
    )


def plain(plan: Iterable[Action]) -> str:
    """For a script or a file."""
    return "\n".join(line for _, line in lines(plan))


def coloured(plan: Iterable[Action]) -> Iterable[tuple[str, str]]:
    """Lines and their colours, for a terminal."""
    return ((line, _COLOURS[verb]) for verb, line in lines(plan))
