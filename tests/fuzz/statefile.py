"""The state file: any bytes are a state that is taken over without an error, or are refused in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from epaird.config.settings import Configuration
from epaird.control.handover.notify import Inherited
from epaird.control.handover.predecessor import LEDGER, Leftovers, find_leftovers
from epaird.control.handover.state import FILE, SavedWorker, State
from epaird.control.handover.takeover import Takeover
from epaird.control.interfaces.registry import Registry
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.kernel import tun
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity
from epaird.kernel.tun import Tap
from epaird.names.macpool import MacPool
from tests.control.fake import HOME
from tests.control.handover.orphan import StartedWorker
from tests.control.interfaces.scene import Scene, make_scene
from tests.fuzz.mutations import JSON, document_mutated, mutated
from tests.fuzz.running import Run, running
from tests.fuzz.target import Target
from tests.loop import descriptors

_TOKENS: Final = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"-",
    b"9" * 5000,
    b"null",
    b"\xff",
    b"\0",
    b"1e5",
    b"[" * 5000,
)
_FOREIGN: Final = "foreign"
"""A file of others in the run directory."""
SLOTS: Final = 1 << 16


async def _made(made: Scene) -> None:
    """Create interfaces of every kind, patched across, with several queues, and with settings."""
    table = {"mtu": 9000, "addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}]}
    await made.interfaces.create("epair0", {"a": table, "carrier": "always"})
    await made.interfaces.create("epair1", {"b": {"mac": "stable", "sndbuf": 100_000}})
    await made.interfaces.create("epair2", {"queues": 2})
    await made.interfaces.create("lo1", {"mode": "verbatim", "policy_routing": True})
    await made.interfaces.patch("epair0a", "epair1b", force=True)


def _state(made: Scene) -> State:
    saved = {kind.cloner.name: tuple(kind.save(each, None) for each in kind) for kind in made.registry.kinds}
    worker = SavedWorker(number=0, slot=made.worker.slot, pid=os.getpid(), restarts=3)
    return State.of(
        home=(HOME.device, HOME.inode),
        macs_made=9,
        workers=(worker,),
        clones=saved,
        withdrawn={"lo7": saved["lo"][0].settings},
    )


@contextlib.contextmanager
def _opened() -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch, running() as run:
        patch.setattr(Table, "create", lambda _slots, create=Table.create: create(SLOTS))
        yield run


def _example() -> Any:  # noqa: ANN401
    """Return the document of a state."""

    async def make() -> str:
        async with make_scene() as made:
            await _made(made)
            return _state(made).model_dump_json()

    with running() as run:
        return json.loads(run.run(make()))


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    document = draw(document_mutated(_EXAMPLE, 2))
    if draw(st.integers(0, 3)) == 0:
        return draw(mutated(json.dumps(document).encode(), _TOKENS))
    return json.dumps(document if draw(st.integers(0, 9)) else draw(JSON)).encode()


def _taken_over(scope: Run, file: bytes) -> None:
    """Check that a start by a state file succeeds, uses no foreign file, and logs each fault in one line."""

    async def trial() -> None:
        before = descriptors()
        async with make_scene() as made:
            await _made(made)
            with tempfile.TemporaryDirectory() as name, _adopting(made) as passed:
                directory = Path(name)
                (directory / FILE).write_bytes(file)
                (directory / _FOREIGN).write_text("kept")
                await _succeed(made, directory, passed)
                assert (directory / _FOREIGN).read_text() == "kept"
        assert descriptors() == before

    scope.run(trial())


@contextlib.contextmanager
def _adopting(made: Scene) -> Iterator[list[Inherited]]:
    """Have devices adopted from copies of their descriptors; provide these, by name."""
    passed = [Inherited(os.dup(fd), ifnet.device) for ifnet in made.registry.ifnets for fd in ifnet.tap.fds]
    passed.append(Inherited(os.dup(made.table.fd), LEDGER))

    def adopt(name: str, _index: int, fds: tuple[int, ...], _offloads: int, _missing: tuple[str, ...]) -> Tap:
        if name not in made.host.links:
            raise KernelError(errno.EBADFD, f"{name}: no device")
        for fd in fds:
            os.close(fd)
        return made.host.links[name].tap

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tun, "adopt", adopt)
        yield passed


async def _succeed(made: Scene, directory: Path, passed: list[Inherited]) -> None:
    """Do what a daemon does with what was left, up to the registry of its interfaces."""
    with _lines() as lines:
        leftovers = find_leftovers(directory, passed, Identity(*HOME))
    assert len(lines) <= (0 if leftovers.state is not None else 1), lines
    slots = Slots(made.table, leftovers.slots | {made.worker.slot}, resting=True)
    number = leftovers.worker_slot(0)
    worker = StartedWorker(
        0, made.table, number if number is not None else slots.take(), device_gone=_no_report, died=_no_report
    )
    macs = MacPool(1, leftovers.state.macs_made if leftovers.state is not None else 0)
    registry = Registry(made.host, made.table, slots, [worker], macs, loopbacks=True)
    try:
        await Takeover(leftovers, made.host, made.table, slots, [worker], registry).take_over()
        leftovers.withdrawn_from(Configuration())
        assert len(leftovers.configured) <= len(registry.names)
        registry.reading()
    finally:
        _close(leftovers)


def _close(leftovers: Leftovers) -> None:
    leftovers.close()
    for fd in leftovers.ledgers.values():
        os.close(fd)


@contextlib.contextmanager
def _lines() -> Iterator[list[str]]:
    """Provide the warnings that are logged."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("epaird").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("epaird").removeHandler(handler)


def _no_report(*_arguments: object) -> Any:  # noqa: ANN401
    """Do nothing."""


_EXAMPLE: Final = _example()

STATE_FILE: Final = Target(
    name="state-file",
    inputs=_files() | st.binary(max_size=100),
    holds=_taken_over,
    opened=_opened,
    examples=200,
    subjects=("epaird.control.handover", "epaird.control.interfaces.saved"),
)
