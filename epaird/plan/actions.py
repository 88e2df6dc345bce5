"""Actions of a plan and their text, for the log, the API and epairctl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Verb = Literal["create", "destroy", "change", "recreate", "restore", "adopt", "restart", "note"]

MARKS: Final[dict[Verb, str]] = {
    "create": "  +", "destroy": "  -", "change": "  ~", "recreate": "-/+", "restore": "  ~", "adopt": "   ",
    "restart": "  !", "note": "   ",
}  # fmt: skip
"""Marks at the start of a line, those of ``terraform plan``."""
CHANGE_NOTHING: Final[frozenset[Verb]] = frozenset(("adopt", "note"))
"""Verbs of actions that change nothing."""
NOTHING: Final = "Nothing to do: everything is as the configuration says."


@dataclass(frozen=True, slots=True)
class Detail:
    """One key that changes, or one address or route that is put back."""

    key: str
    """``a.mtu``."""
    old: str
    """The present value; empty if it is missing."""
    new: str
    """The wanted value."""
    note: str = ""
    """Reason why the key cannot change in place, or another remark."""

    def __str__(self) -> str:
        return f"{self.key}: {self.old or '(missing)'} -> {self.new}" + (
            f"  # {self.note}" if self.note else ""
        )


@dataclass(frozen=True, slots=True)
class Action:
    """One action on an interface, a namespace or a table of the daemon."""

    verb: Verb
    """``recreate`` destroys and creates, ``restore`` puts back what others removed, ``adopt`` makes what was
    created at runtime part of the configuration and changes nothing, ``restart`` needs a restart of the
    daemon, ``note`` is a remark and changes nothing."""
    kind: str
    """``epair``, ``lo``, ``namespace`` or ``daemon``."""
    name: str
    """Name of the interface or namespace; ``daemon`` or ``metrics``."""
    details: tuple[Detail, ...] = ()
    """The keys that change, or the addresses and routes that are put back."""
    note: str = ""
    """Reason why it happens without a request, or another remark."""

    def __str__(self) -> str:
        prefix = f"{self.kind} " if self.kind == "namespace" else ""
        return f"{prefix}{self.name}" + (f"  # {self.note}" if self.note else "")


def lines(actions: Iterable[Action]) -> Iterator[tuple[Verb | None, str]]:
    """Yield the lines of a plan for people, each with the verb of its action, or None for no action."""
    actions = tuple(actions)
    if all(action.verb in CHANGE_NOTHING for action in actions):
        for action in actions:
            yield action.verb, f"{MARKS[action.verb]} {action}"
        yield None, NOTHING
        return
    for action in actions:
        yield action.verb, f"{MARKS[action.verb]} {action}"
        for detail in action.details:
            text = f"{detail.key} = {detail.new}" if action.verb == "create" else str(detail)
            yield action.verb, f"      {text}"
    yield None, ""
    yield None, f"Plan: {summary(actions)}."


def summary(actions: Iterable[Action]) -> str:
    """Return the number of actions of each kind, on one line."""
    counts: Counter[str] = Counter(action.verb for action in actions)
    counts["change"] += counts["restore"]
    parts = [f"{counts[verb]} to {verb}" for verb in ("create", "change", "recreate", "destroy")]
    if counts["restart"]:
        parts.append(f"{counts['restart']} to restart the daemon for")
    return ", ".join(parts)
