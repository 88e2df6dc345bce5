"""A plan in words: one action for each interface, namespace or table of the daemon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import BaseModel

from epaird.config.immutable import NEEDS_RESTART
from epaird.config.settings import InterfaceSettings
from epaird.names.cloners import EPAIR, cloner_of
from epaird.plan.actions import Action, Detail, Verb
from epaird.plan.diff import flattened
from epaird.plan.steps import (
    Change,
    Create,
    Destroy,
    Difference,
    Patch,
    Plan,
    Recreate,
    Relocate,
    Restore,
    Step,
)

_ADOPTED: Final = "created at runtime, belongs to the configuration from now on"
_RESET: Final = "changed at runtime, reset to the configuration"
_LOST: Final = "no longer exists"
_WAITS: Final = "it stays missing until it can be created: "
_RESTORED: Final = "removed by others, put back"
_ORDERED: Final = "in another order, put in the order of the file"
_RELOCATED: Final = "the name leads to another namespace now; moved there, addresses and routes are set again"
_NEEDS_RESTART: Final = "only a restart of the daemon applies it"
_IMMUTABLE: Final = "cannot change in place: "


def actions(plan: Plan) -> tuple[Action, ...]:
    """Return the actions of a plan in the order in which people read them."""
    return (
        *(Action("create", "namespace", name) for name in plan.namespaces_created),
        *(Action("adopt", _kind(name), name, (), _ADOPTED) for name in plan.adopted),
        *(_of_step(step) for step in (*plan.destroyed_last, *plan.steps)),
        *(_of_patch(patch) for patch in plan.patches),
        *(_of_restore(restore) for restore in plan.restored),
        *(_of_relocation(each) for each in plan.relocated),
        *(Action("destroy", "namespace", name) for name in plan.namespaces_removed),
        *_of_daemon(plan.daemon),
    )


def _kind(name: str) -> str:
    return cloner_of(name).name


def _of_step(step: Step) -> Action:
    kind = _kind(step.name)
    match step:
        case Create():
            note = _LOST if step.lost else ""
            if step.waits:
                note = f"{_LOST}; {_WAITS}{step.waits}"
            return Action("create", kind, step.name, tuple(_created_with(step.settings)), note)
        case Destroy():
            return Action("destroy", kind, step.name)
        case Change():
            return Action("change", kind, step.name, tuple(map(_detail, step.differences)))
        case Recreate():
            details = tuple(_detail(each, step.waits) for each in step.differences)
            return Action("recreate", kind, step.name, details)


def _created_with(settings: InterfaceSettings) -> Iterator[Detail]:
    """Yield the values that are not at their default."""
    defaults = flattened(type(settings)())
    for key, value in flattened(settings).items():
        if value != defaults[key]:
            yield Detail(key, "", _shown(value))


def _detail(difference: Difference, holder: str = "") -> Detail:
    """Return the detail of a difference; ``holder`` is the interface that has the wanted name or address."""
    note = difference.reason and _IMMUTABLE + difference.reason
    if not note and difference.reset:
        note = _RESET
    if holder and difference.name in ("name", "mac"):
        note = f"{_IMMUTABLE}{holder} may have it now"
    return Detail(difference.key, _shown(difference.old), _shown(difference.new), note)


def _of_patch(patch: Patch) -> Action:
    old, new = (peer or "(none)" for peer in (patch.old, patch.new))
    detail = Detail("peer", old, new, _RESET if patch.reset else "")
    return Action("change", EPAIR.name, patch.half, (detail,))


def _of_restore(restore: Restore) -> Action:
    details = (
        *(Detail("addresses", "", address, _RESTORED) for address in restore.addresses),
        *(Detail("addresses", f"{each}, misplaced", each, _ORDERED) for each in restore.misplaced),
        *(Detail("routes", "", route, _RESTORED) for route in restore.routes),
        *(Detail("rules", "", rule, _RESTORED) for rule in restore.rules),
    )
    return Action("restore", _kind(restore.device), restore.device, details)


def _of_relocation(each: Relocate) -> Action:
    if not each.leads_to:
        note = f"namespace {each.netns} does not exist any more, stays in {each.here}"
        return Action("note", _kind(each.device), each.device, (), note)
    return Action(
        "change", _kind(each.device), each.device, (Detail("netns", each.here, each.netns, _RELOCATED),)
    )


def _of_daemon(differences: Iterable[Difference]) -> Iterator[Action]:
    found: dict[tuple[Verb, str], list[Detail]] = {}
    for each in differences:
        table, _, key = each.key.partition(".")
        verb: Verb = "restart" if each.key in NEEDS_RESTART else "change"
        note = _NEEDS_RESTART if verb == "restart" else ""
        found.setdefault((verb, table), []).append(Detail(key, _shown(each.old), _shown(each.new), note))
    for (verb, table), details in found.items():
        yield Action(verb, "daemon", table, tuple(details))


def _shown(value: object) -> str:
    """Return a value as a plan shows it, on one line with every member of a list."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    if isinstance(value, BaseModel):
        return _shown(value.model_dump(exclude_defaults=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_shown(each)}" for key, each in value.items()) + "}"
    return str(value) or '""'
