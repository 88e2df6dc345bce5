"""A worker with lines on a real loop, given socketpairs for devices: they fail with EAGAIN when full."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from epaird.dataplane.segmenting import segment
from epaird.ipc import ring
from epaird.ipc.impairment import LineParameters, LineSpec
from epaird.ipc.messages import (
    Attach,
    CableKind,
    CableSpec,
    Detach,
    Done,
    Impair,
    Keep,
    Message,
    PortSpec,
)
from tests.dataplane.conftest import Owner
from tests.dataplane.control import Control, receives, worker

MS = 1_000_000


def on_wire(frames: list[bytes]) -> list[bytes]:
    """Return the frames on a wire that some frames are."""
    return [each for frame in frames for each in segment(frame)]


class Impaired:
    """The cable ``epair0``, of which the half ``a`` has a line; its slots are 1, 2 and, of the line, 3."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.ring = ring.create("epair0a", 64 << 20)
        self.a, self.b = Owner(), Owner()
        control.owners |= {"epair0a": self.a, "epair0b": self.b}
        self._request = 100

    def spec(self, **parameters: Any) -> LineSpec:  # noqa: ANN401
        buffer = parameters.pop("buffer", 64 << 20)
        return LineSpec(
            3, 7, time.monotonic_ns(), buffer=buffer, parameters=LineParameters(**parameters)
        )  # fmt: skip

    async def attach(
        self,
        spec: LineSpec | None,
        *,
        offload: bool = True,
        error: str = "",
        coalesce: bool = False,
        kind: str = CableKind.CABLE,
        name: str = "epair0",
        files: Sequence[int] = (),
    ) -> None:
        line = (spec,) if spec else ()
        ports = (PortSpec("epair0a", 1, 1500, line=line), PortSpec("epair0b", 2, 1500, offload))
        fds = [os.dup(owner.device.fileno()) for owner in (self.a, self.b)]
        if spec:
            fds += map(os.dup, (self.ring, *files))
        self._request += 1
        request = Attach(self._request, CableSpec(name, ports, kind, coalesce))
        self.control.worker.handle(request, fds)
        await self.control.answered(request.id, error)

    async def impair(
        self, spec: LineSpec | None, fd: int | None = None, port: int = 0, error: str = ""
    ) -> None:
        self._request += 1
        fds = [os.dup(self.ring if fd is None else fd)] if spec else []
        self.control.worker.handle(Impair(self._request, "epair0", port, (spec,) if spec else ()), fds)
        await self.control.answered(self._request, error)

    async def detach(self) -> None:
        self._request += 1
        self.control.worker.handle(Detach(self._request, "epair0", 0), [])
        assert Done(self._request) in self.control.received

    def close(self) -> None:
        os.close(self.ring)


@asynccontextmanager
async def impaired(spin_us: int = 0) -> AsyncIterator[Impaired]:
    async with worker(poll_spin_us=spin_us) as control:
        cable = Impaired(control)
        try:
            yield cable
        finally:
            if "epair0" in control.worker._cables:
                await cable.detach()
            control.worker._lines.end()
            cable.close()


class Queues:
    """The cables ``epair0.0`` and ``epair0.1`` of an interface with two queues, all of whose queues have a
    line. The slots are 1 and 2 of the sender, 4 and 5 of the receiver, and 3 of the line."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.ring = ring.create("epair0a", 64 << 20)
        self.a, self.b = ([Owner() for _ in range(2)] for _ in "ab")
        control.owners |= {
            f"{half}{queue}": owner for half in "ab" for queue, owner in enumerate(getattr(self, half))
        }
        self._request = 100

    def spec(self, **parameters: Any) -> LineSpec:  # noqa: ANN401
        buffer = parameters.pop("buffer", 64 << 20)
        return LineSpec(
            3, 7, time.monotonic_ns(), buffer=buffer, parameters=LineParameters(**parameters), queues=2,
            receiver=4,
        )  # fmt: skip

    async def attach(self, queue: int, spec: LineSpec, *, error: str = "") -> None:
        ports = (
            PortSpec("epair0a", 1 + queue, 1500, line=(spec,)),
            PortSpec("epair0b", 4 + queue, 1500),
        )
        fds = [self.a[queue].device.fileno(), self.b[queue].device.fileno(), self.ring]
        await self._ask(
            lambda number: Attach(number, CableSpec(f"epair0.{queue}", ports)),
            [os.dup(fd) for fd in fds],
            error,
        )

    async def attach_all(self, spec: LineSpec) -> None:
        for queue in (0, 1):
            await self.attach(queue, spec)

    async def impair(self, queue: int, spec: LineSpec | None) -> None:
        line = (spec,) if spec else ()
        fds = [os.dup(self.ring)] if spec else []
        await self._ask(lambda number: Impair(number, f"epair0.{queue}", 0, line), fds)

    async def detach(self, queue: int) -> None:
        await self._ask(lambda number: Detach(number, f"epair0.{queue}", 0), [])

    async def keep(self, queue: int) -> None:
        await self._ask(lambda number: Keep(number, f"epair0.{queue}", 0), [])

    async def receive(self, queue: int, count: int) -> list[bytes]:
        return await receives(self.b[queue], count)

    async def _ask(self, request: Callable[[int], Message], fds: list[int], error: str = "") -> None:
        self._request += 1
        self.control.worker.handle(request(self._request), fds)
        await self.control.answered(self._request, error)


@asynccontextmanager
async def impaired_queues() -> AsyncIterator[Queues]:
    async with worker() as control:
        queues = Queues(control)
        try:
            yield queues
        finally:
            for queue in (0, 1):
                if f"epair0.{queue}" in {*control.worker._cables, *control.worker._kept}:
                    await queues.detach(queue)
            control.worker._lines.end()
            os.close(queues.ring)
