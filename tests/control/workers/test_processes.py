"""Worker processes: kept in reserve, adopted, waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.control.workers import processes
from epaird.control.workers.processes import AdoptedProcess, Spares, reap
from epaird.dataplane.process import SPARE
from tests.loop import has_children, on_loop, turns
from tests.waiting import eventually


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@on_loop
async def test_a_spare_is_kept_taken_and_ended() -> None:
    spares = Spares()
    assert spares.pid is None
    spares.keep()
    spares.keep()
    await eventually(lambda: spares.pid is not None and comm(spares.pid) == SPARE)
    pid = spares.pid
    taken = await spares.take()
    assert taken.process.pid == pid
    assert spares.pid is None
    spares.keep()
    await eventually(lambda: spares.pid is not None)
    await spares.stop()
    taken.connection.close()
    assert await reap(taken.process, 10) == "exit status 0"
    assert not has_children()


@on_loop
async def test_without_a_spare_a_process_is_started() -> None:
    spares = Spares()
    taken = await spares.take()
    taken.connection.close()
    await reap(taken.process, 10)
    await spares.stop()


@on_loop
async def test_a_spare_that_dies_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "AGAIN_S", (0.0, 0.01))
    spares = Spares()
    spares.keep()
    await eventually(lambda: spares.pid is not None)
    first = spares.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: spares.pid not in (None, first))
    assert caplog.messages == [f"the spare worker (pid {first}) ended (-9); starting another"]
    await spares.stop()


@on_loop
async def test_no_spare_is_kept_after_the_end() -> None:
    """A worker may have been replaced while everything is taken down."""
    spares = Spares()
    spares.keep()
    await spares.stop()
    spares.keep()
    await turns()
    assert spares.pid is None
    assert not has_children()


@on_loop
async def test_a_spare_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "AGAIN_S", (0.0, 0.01))
    right = sys.executable
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    spares = Spares()
    spares.keep()
    await eventually(lambda: len(caplog.messages) > 1)
    monkeypatch.setattr(sys, "executable", right)
    await eventually(lambda: spares.pid is not None)
    await spares.stop()


@on_loop
async def test_an_adopted_child_is_waited_for_and_reaped() -> None:
    child = subprocess.Popen(["sleep", "100"])  # noqa: ASYNC220  asyncio is not to know of it
    adopted = AdoptedProcess(child.pid, os.pidfd_open(child.pid))
    waiting = asyncio.create_task(adopted.wait())
    adopted.kill()
    assert await waiting == -signal.SIGKILL
    assert await adopted.wait() == -signal.SIGKILL
    adopted.kill()
    assert not has_children()
    child.returncode = -9


@on_loop
async def test_an_adopted_process_that_is_no_child_has_an_unknown_status() -> None:
    shell = ["sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!"]
    done = subprocess.run(shell, check=True, capture_output=True)  # noqa: ASYNC221
    pid = int(done.stdout)
    adopted = AdoptedProcess(pid, os.pidfd_open(pid))
    os.kill(pid, signal.SIGKILL)
    assert await adopted.wait() == 0
