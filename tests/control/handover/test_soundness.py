"""States that no daemon writes, each with one value that contradicts the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from epaird.control.handover.soundness import fault_of
from epaird.control.handover.state import SavedWorker, State
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop


async def _document() -> dict[str, Any]:
    """Return a state with two pairs that are patched across, one of two queues, and a loopback."""
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await scene.interfaces.create("epair1", {})
        await scene.interfaces.create("epair2", {"queues": 2})
        await scene.interfaces.patch("epair0a", "epair1b", force=True)
        kinds = scene.registry.kinds
        saved = {kind.cloner.name: tuple(kind.save(each, None) for each in kind) for kind in kinds}
        worker = SavedWorker(number=0, slot=scene.worker.slot, pid=77, restarts=1)
        state = State.of(home=(4, 5), macs_made=3, workers=(worker,), clones=saved)
        return state.model_dump(mode="json")


def _with(document: Any, place: str, value: object) -> Any:  # noqa: ANN401
    """Return a copy of a document with another value at a place: ``pairs.0.halves.1.mac``."""
    first, _, rest = place.partition(".")
    copy = dict(document) if isinstance(document, Mapping) else list(document)
    key: Any = int(first) if isinstance(copy, list) else first
    copy[key] = _with(copy[key], rest, value) if rest else value
    return copy


@on_loop
async def test_a_state_of_a_daemon_has_no_fault() -> None:
    assert fault_of(State.model_validate(await _document())) == ""


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        ("home.1", -1, "home has a number that is out of range"),
        ("macs_made", -1, "macs_made has a number that is out of range"),
        ("workers.0.pid", 1 << 40, "a worker has a number that is out of range"),
        ("workers.0.slot", 1 << 16, "a slot has a number that is out of range"),
        ("workers.0.slot", 1, "slot 1 is there twice"),
        ("pairs.1.name", "epair0", '"epair0": its devices have other names'),
        ("pairs.0.name", "eth0", '"eth0" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("pairs.0.halves.0.side", "b", '"epair0": its halves are not a and b'),
        ("pairs.0.halves.0.mac", "x", '"epair0a": "x" is not a hardware address'),
        ("pairs.0.halves.0.peer", "epair1a", '"epair0a" is patched to "epair1a", which is not patched to it'),
        ("pairs.0.halves.0.peer", "epair0a", '"epair0a" is patched to "epair0a", which is not patched to it'),
        ("pairs.0.halves.0.device.mtu", 1, '"epair0a": its MTU has a number that is out of range'),
        ("pairs.0.halves.0.device.tap_index", -1, '"epair0a" has a number that is out of range'),
        ("pairs.0.halves.0.device.bases", [1, 2], '"epair0a": its bases are not those of its queues'),
        ("pairs.0.halves.0.device.bases", [1 << 80], '"epair0a": a base has a number that is out of range'),
        ("pairs.0.halves.0.device.place.name", "a\0", '"epair0a": "a\\x00" has a NUL in it'),
        ("pairs.0.workers", [], '"epair0": it has 1 queues, and another number of slots or workers'),
        ("pairs.2.halves.1.device.slots", [9], '"epair2": it has 2 queues, and another number of slots'),
        ("loopbacks.0.worker", -1, '"lo0": a worker has a number that is out of range'),
    ],
)  # fmt: skip
def test_a_value_that_contradicts_the_others_is_named(place: str, value: object, fault: str) -> None:
    @on_loop
    async def check() -> None:
        damaged = State.model_validate(_with(await _document(), place, value))
        assert fault_of(damaged).startswith(fault)

    check()


@on_loop
async def test_a_peer_that_is_not_there_is_no_fault() -> None:
    """Its pair was being destroyed when the state was written."""
    document = _with(await _document(), "pairs.2.halves.0.peer", "epair9a")
    document = _with(document, "pairs.2.halves.1.peer", None)
    assert fault_of(State.model_validate(document)) == ""
