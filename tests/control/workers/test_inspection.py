"""Worker processes as the control plane sees them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from epaird import __version__
from epaird.control.readings import ProcessReading
from epaird.control.workers.inspection import processes_of, spare_process
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from tests.loop import on_loop
from tests.waiting import eventually


@asynccontextmanager
async def started(spares: Spares | None = None) -> AsyncIterator[Worker]:
    table = Table.create(4)

    async def died(_worker: Worker) -> None:
        pass

    worker = Worker(
        3, table, 1, queue_limit=9, poll_spin_us=0, device_gone=lambda *_: None, died=died, spares=spares
    )
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()
        if spares is not None:
            await spares.stop()
        os.close(table.fd)


def check_sandbox(seen: ProcessReading) -> None:
    """Check what root's workers have on every kernel that the tests run on."""
    assert seen.version == __version__
    assert (seen.uid, seen.capabilities, seen.no_new_privs, seen.seccomp) == (65534, (), True, "filter")
    assert seen.namespaces == ("net", "ipc", "uts", "cgroup", "mnt")
    assert [layer for layer in seen.missing if not layer.startswith("Landlock")] == []
    assert bool(seen.landlock) != bool(seen.missing)


@pytest.mark.real
@on_loop
async def test_a_running_worker_has_its_sandbox_by_the_kernels_account() -> None:
    async with started() as worker:
        (seen,) = processes_of(worker)
        assert (seen.worker, seen.state, seen.pid) == ("3", "running", worker.pid)
        assert (seen.cables, seen.queue_frames, seen.queue_limit) == (0, 0, 9)
        assert seen.cpu_seconds > 0
        assert 0 < seen.age_seconds < 60
        check_sandbox(seen)


@pytest.mark.real
@on_loop
async def test_nothing_of_the_control_plane_is_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    async with started() as worker:
        place = Path(f"/proc/{worker.pid}")
        assert (place / "environ").read_bytes() == b""
        files = [str(each.readlink()) for each in (place / "fd").iterdir()]
        assert files.count("/dev/null") == 2
        others = [name for name in files if not name.startswith(("anon_inode:", "pipe:", "socket:"))]
        assert sorted(set(others)) == [
            "/dev/null",
            "/memfd:epaird-ledger (deleted)",
            f"/proc/{worker.pid}/comm",
        ]
        assert "anon_inode:[io_uring]" not in files
        assert list((place / "root").iterdir()) == []
        lines = (place / "limits").read_text().splitlines()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
        for name in ("Max processes", "Max file size", "Max core file size", "Max locked memory"):
            assert limits[name] == ["0", "0"], name


@pytest.mark.real
@on_loop
async def test_a_spare_is_shown_with_its_sandbox_too_and_then_as_the_worker() -> None:
    spares = Spares()
    spares.keep()
    await eventually(lambda: spares.spare is not None and spares.spare.description is not None)
    assert spares.spare is not None
    seen = spare_process(spares.spare)
    assert (seen.worker, seen.state, seen.pid) == ("", "spare", spares.pid)
    check_sandbox(seen)
    async with started(spares) as worker:
        (same,) = processes_of(worker)
        assert (same.state, same.pid) == ("running", seen.pid)
        check_sandbox(same)


@on_loop
async def test_a_worker_without_a_process_is_dead() -> None:
    table = Table.create(4)

    async def died(_worker: Worker) -> None:
        pass

    worker = Worker(3, table, 1, queue_limit=9, poll_spin_us=0, device_gone=lambda *_: None, died=died)
    (seen,) = processes_of(worker)
    assert (seen.worker, seen.state, seen.pid, seen.queue_limit) == ("3", "dead", None, 9)
    os.close(table.fd)
