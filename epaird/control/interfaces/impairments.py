"""The impairments of pairs: from their settings to the lines of their halves, in place.

A line keeps its seed and the moment when its impairment was applied for as long as nothing of it changes, so
that its decisions and its schedule go on, whatever else is changed.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from epaird.config.settings import PairSettings
from epaird.config.syntax import lowered
from epaird.config.tracefiles import UnusableTrace, read
from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.lines import Applied, OutgoingLine
from epaird.control.interfaces.patching import Patching
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.control.tasks import in_thread
from epaird.impairment import traces
from epaird.impairment.effective import Impairment, UnknownPreset, impairment_of
from epaird.impairment.expected import described
from epaird.impairment.seeds import SEED_MAX, direction_seed
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Table
from epaird.ipc.slots import LedgerFull, Slots
from epaird.kernel.errors import KernelError
from epaird.names.cloners import SIDES, Side

SEEDS: Final = 1 << 32
"""Random seeds are below this, so that people can copy them."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Impairments:
    """Applies the impairments of pairs."""

    def __init__(self, host: Host, table: Table, slots: Slots, patching: Patching, bus: EventBus) -> None:
        self.presets: Mapping[str, Mapping[str, Any]] = {}
        """The named sets of the configuration that is in force, or is being applied."""
        self.configuration = Path("/etc/epaird/epaird.toml")
        """The configuration's file, in whose directory traces are looked for."""
        self._host = host
        self._table = table
        self._slots = slots
        self._patching = patching
        self._bus = bus

    def use(self, presets: Mapping[str, Mapping[str, Any]], configuration: Path | None) -> None:
        """Use the named sets of a configuration, and look for traces beside its file if it has one."""
        self.presets = presets
        self.configuration = configuration if configuration is not None else self.configuration

    def wanted(self, settings: PairSettings) -> dict[Side, Impairment]:
        """Return the impairment of each direction. Raises Refused."""
        try:
            return {side: impairment_of(settings, side, self.presets) for side in SIDES}
        except UnknownPreset as error:
            raise Refused(errno.EINVAL, f"preset: {error}") from error

    async def record(self, pair: Pair, settings: PairSettings) -> list[Half]:
        """Record the impairments of a pair's settings with its halves; return the halves whose lines differ.

        Raises Refused or KernelError, and then some lines may differ."""
        wanted = self.wanted(settings)
        return [half for half in pair.halves if await self._record(half, wanted[half.side])]

    async def restore(self, before: Mapping[Half, Applied]) -> list[Half]:
        """Give the lines of halves the impairments that they had; return those whose lines differ."""
        changed = []
        for half, former in before.items():
            if half.line is not None and half.line.applied != former:
                spec = former.spec
                if spec is not None and spec.trace:
                    half.line.replace_files(trace=await self._trace(former.trace))
                half.line.seed, half.line.trace = former.seed, former.trace
                half.line.apply(spec)
                changed.append(half)
        return changed

    async def apply(self, halves: Collection[Half], *, rewired: bool) -> None:
        """Have the workers apply the impairments that were recorded, unless the halves were rewired since.

        Raises WorkerLost or WorkerRefused."""
        for half in halves:
            cable = half.cable
            if not rewired and cable is not None and half.line is not None:
                if len(set(cable.workers)) > 1 or half.line.is_small:
                    # One worker is to have all queues, or none the ring, which a larger one replaces.
                    await self._patching.rewire_pair(half.pair)
                else:
                    if half.peer is not None and half.peer.cable is cable:
                        half.line.begin(half.peer.slots[0])
                    await cable.impair(half)
            self._bus.publish("impaired", half.device, describe(half.line))

    def replay(self, half: Half, decisions: Iterable[tuple[int, int]]) -> None:
        """Record that a line repeats decisions: pairs of a segment's number, which ascends, and a fate.

        Raises KernelError."""
        line = half.line
        if line is None or line.spec is None:
            return
        self._host.check_descriptors(half.device, 1)
        flat = array.array("Q", (number for pair in decisions for number in pair))
        try:
            fd = memory_file("replay", flat.tobytes())
        except OSError as error:
            raise KernelError.about(half.device, error.errno or errno.ENOMEM) from error
        line.replace_replay(fd)
        line.apply(replace(line.spec, replay=True, applied_ns=time.monotonic_ns()))

    def release(self, half: Half) -> None:
        """Remove the line of a half that cannot be created."""
        if half.outgoing is not None:
            half.outgoing.close()
            self._slots.release(half.outgoing.slot)
            half.outgoing = None

    async def _record(self, half: Half, wanted: Impairment) -> bool:
        line = half.outgoing
        if wanted.nothing:
            if line is None or line.spec is None:
                return False
            line.apply(None)
            return True
        if line is not None and line.spec is not None and _equal(line, wanted):
            return False
        self._host.check_descriptors(half.device, (line is None) + bool(wanted.trace))
        if line is None:
            line = half.outgoing = self._create(half, wanted)
        if wanted.seed is not None:
            line.seed = wanted.seed
        elif line.spec is None:
            # Both directions have one seed.
            other = next((each.line for each in half.pair.halves if each.line and each.line.spec), None)
            line.seed = secrets.randbelow(SEEDS) if other is None else other.seed
        trace = await self._trace(wanted.trace) if wanted.trace else -1
        line.replace_files(trace=trace)
        line.trace = wanted.trace
        line.apply(
            LineSpec(
                seed=direction_seed((line.seed or 0) & SEED_MAX, half.side),
                applied_ns=time.monotonic_ns(),
                buffer=wanted.buffer,
                parameters=wanted.parameters,
                phases=wanted.phases,
                trace=trace >= 0,
            )
        )
        return True

    def _create(self, half: Half, wanted: Impairment) -> OutgoingLine:
        try:
            slot = self._slots.take()
        except LedgerFull as error:
            raise KernelError(errno.ENOSPC, f"{half.device}: {error}") from error
        try:
            return OutgoingLine.create(half.device, self._table, slot, wanted.buffer)
        except BaseException:
            self._slots.release(slot)
            raise

    async def _trace(self, name: str) -> int:
        """Return a sealed memory file with the opportunities of a trace. Raises Refused."""
        path = traces.located(name, self.configuration)
        try:
            return await in_thread(_read_trace, path, unwanted=os.close)
        except UnusableTrace as error:
            raise Refused(error.errno, f"trace: {error}") from error
        except OSError as error:
            raise Refused(
                error.errno or errno.EIO, f"trace: {lowered(error.strerror or str(error))}"
            ) from error


def tables(settings: PairSettings) -> dict[str, Any]:
    """Return the tables of a pair's impairments, as in a request to change the pair."""
    halves: dict[str, Any] = {side: {"impair": settings.half(side).impair.given()} for side in SIDES}
    return {"impair": settings.impair.given(), **halves}


def describe(line: OutgoingLine | None) -> str:
    """Return the impairment of a line for people."""
    if line is None or line.spec is None:
        return "off"
    trace = [f"trace {line.trace}"] if line.trace else []
    return " ".join([*described(line.spec.parameters), *trace, f"seed {line.seed}"])


def _equal(line: OutgoingLine, wanted: Impairment) -> bool:
    spec = line.spec
    return (
        spec is not None
        and not spec.replay
        and (spec.parameters, spec.phases, spec.buffer) == (wanted.parameters, wanted.phases, wanted.buffer)
        and line.trace == wanted.trace
        and wanted.seed in (None, line.seed)
    )


def _read_trace(path: Path) -> int:
    return memory_file("trace", read(path).tobytes())


def memory_file(name: str, contents: bytes) -> int:
    """Return the descriptor of a sealed memory file. Raises OSError."""
    fd = os.memfd_create(f"epaird-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(contents)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
