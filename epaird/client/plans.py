"""Plans that the API answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epaird.client.base import Model
from epaird.plan.actions import Action, Detail, Verb


@dataclass(frozen=True)
class PlannedDetail(Model):
    """A key that changes, or an address or route that is put back."""

    key: str
    """Key of the configuration: `a.mtu`."""
    old: str
    """Value now; empty when it is missing."""
    new: str
    """Value afterwards."""
    note: str = ""
    """Reason why it cannot change in place, or another remark."""


@dataclass(frozen=True)
class PlannedAction(Model):
    """One action of a plan."""

    verb: Verb
    """`recreate` destroys and creates; `restore` puts back what others removed; `adopt` makes what was
    created at runtime part of the configuration, and changes nothing; `restart` needs a restart of the
    daemon; `note` is a remark, and changes nothing."""
    kind: str
    """`epair`, `lo`, `namespace` or `daemon`."""
    name: str
    """Name of the interface or namespace; `daemon` or `metrics`."""
    details: list[PlannedDetail]
    """Keys that change."""
    note: str = ""
    """Reason why it happens without a request, or another remark."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        details = [PlannedDetail.parse(each) for each in document["details"]]
        return super().arguments(document) | {"details": details}

    def action(self) -> Action:
        """Return it as an :class:`Action`."""
        details = tuple(Detail(each.key, each.old, each.new, each.note) for each in self.details)
        return Action(self.verb, self.kind, self.name, details, self.note)


@dataclass(frozen=True)
class PlanReport(Model):
    """The result of a reload, or what it would be."""

    changes: bool
    """True if it changes anything."""
    actions: list[PlannedAction]
    """Actions in the order in which they are done."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "changes": document["changes"],
            "actions": [PlannedAction.parse(each) for each in document["actions"]],
        }
