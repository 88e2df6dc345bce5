"""What a plan would do, in words: for the log, for the API and for epairctl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Verb = Literal["create", "destroy", "change", "recreate", "restore", "adopt", "restart"]

MARKS: Final[dict[Verb, str]] = {
    "create": "  +", "destroy": "  -", "change": "  ~", "recreate": "-/+", "restore": "  ~", "adopt": "   ",
    "restart": "  !",
}  # fmt: skip
"""As ``terraform plan`` has them."""
NOTHING: Final = "Nothing to do: everything is as the configuration says."


@dataclass(frozen=True, slots=True)
class Detail:
    """One key that changes, or one thing that is put back."""

    key: str
    """``a.mtu``."""
    old: str
    """As it is; empty when it is missing."""
    new: str
    """As it shall be."""
    note: str = ""
    """Why it cannot be had in place, or what else is to be known."""

    def __str__(self) -> str:
        return f"{self.key}: {self.old or '(missing)'} -> {self.new}" + (
            f"  # {self.note}" if self.note else ""
        )


@dataclass(frozen=True, slots=True)
class Action:
    """What becomes of one thing."""

    verb: Verb
    """``recreate`` is to destroy and create, ``restore`` to put back what others took away, ``adopt`` to
    take what was made at runtime for the configuration's: nothing is done to it; ``restart`` is what only a
    restart of the daemon does."""
    kind: str
    """``epair``, ``lo``, ``namespace`` or ``daemon``."""
    name: str
    """The interface's, the namespace's; ``daemon`` or ``metrics``."""
    details: tuple[Detail, ...] = ()
    note: str = ""
    """Why, where nobody has asked for it, or what else is to be known."""

    def __str__(self) -> str:
        prefix = f"{self.kind} " if self.kind == "namespace" else ""
        return f"{prefix}{self.name}" + (f"  # {self.note}" if self.note else "")


def lines(actions: Iterable[Action]) -> Iterator[tuple[Verb | None, str]]:
    """The plan for people, a line each, with what it is about; None is about nothing."""
    actions = tuple(actions)
    if all(each.verb == "adopt" for each in actions):
        for each in actions:
            yield each.verb, f"{MARKS[each.verb]} {each}"
        yield None, NOTHING
        return
    for each in actions:
        yield each.verb, f"{MARKS[each.verb]} {each}"
        for detail in each.details:
            text = f"{detail.key} = {detail.new}" if each.verb == "create" else str(detail)
            yield each.verb, f"      {text}"
    yield None, ""
    yield None, f"Plan: {summary(actions)}."


def summary(actions: Iterable[Action]) -> str:
    """The numbers, in a line."""
    counted: Counter[str] = Counter(each.verb for each in actions)
    counted["change"] += counted["restore"]
    told = [f"{counted[verb]} to {verb}" for verb in ("create", "change", "recreate", "destroy")]
    if counted["restart"]:
        told.append(f"{counted['restart']} to restart the daemon for")
    return ", ".join(told)
