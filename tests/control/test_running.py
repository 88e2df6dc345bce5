"""The daemon as a process: started, signalled and ended, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird import __version__
from epaird.config.settings import Configuration
from epaird.control import running as program
from tests.control.fake import FakeHost
from tests.control.leftovers import nothing_left
from tests.loop import on_loop
from tests.waiting import eventually


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@on_loop
async def test_it_creates_what_is_configured_and_takes_it_down(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    running = asyncio.create_task(program._run(configured()))
    await eventually(lambda: lines()[-1:] and lines()[-1].startswith("metrics: "))
    assert lines()[:3] == [
        f"epaird {__version__}: 1 pair, 2 workers",
        "  epair0: epair0a in red (10.0.0.1/24) <-> epair0b in blue (10.0.0.2/24)",
        "try:     ip netns exec red ping 10.0.0.2",
    ]
    a, b = (host.links[device].owner for device in ("epair0a", "epair0b"))
    a.sends(3)
    await eventually(lambda: len(b.receives()) == 3)
    url = lines()[-1].removeprefix("metrics: ")

    def counted() -> bool:
        with urllib.request.urlopen(url) as response:  # noqa: S310
            page: str = response.read().decode()
        samples = ('opackets_total{device="epair0a"} 3', 'ipackets_total{device="epair0b"} 3')
        return all(f"epaird_interface_{sample}" in page for sample in samples)

    while not await asyncio.to_thread(counted):
        pass
    stop()
    assert await running == 0
    assert lines()[-1] == "stopping"
    assert nothing_left(host, tmp_path)


@on_loop
async def test_whichever_step_fails_one_line_is_logged_and_nothing_left(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    host.failing_step = 7
    assert await program._run(configured()) == 1
    (line,) = lines(logging.ERROR)
    assert line == f"{host.steps[7]}: Input/output error"
    assert nothing_left(host, tmp_path)


@pytest.mark.parametrize("operation", ["make_namespace", "watch", "open_tap", "place", "configure", "find"])
def test_whatever_is_refused_nothing_is_left(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
    operation: str,
) -> None:
    async def fail() -> None:
        host.fail(operation)
        running = asyncio.create_task(program._run(configured()))
        await eventually(lambda: running.done() or (lines()[-1:] and lines()[-1].startswith("metrics: ")))
        if not running.done():  # what has been created works all the same
            stop()
        status = await running
        assert bool(status) == bool(lines(logging.ERROR))
        assert len(lines(logging.WARNING)) == 1
        assert f"{operation}: Input/output error" in lines(logging.WARNING)[0]
        assert nothing_left(host, tmp_path)

    on_loop(fail)()


@pytest.mark.parametrize("operation", ["make_namespace", "open_tap", "place", "configure"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_step_takes_everything_down(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
    operation: str,
    number: int,
) -> None:
    async def interrupt() -> None:
        held = host.hold(operation)
        running = asyncio.create_task(program._run(configured()))
        await eventually(held.reached.is_set)
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
        os.kill(os.getpid(), number)
        held.released.set()
        assert await running == 0
        assert lines() == ["stopping"]
        assert nothing_left(host, tmp_path)

    on_loop(interrupt)()


@on_loop
async def test_a_signal_before_anything_is_created_ends_it(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    for moment_s in (0, 0.003, 0.03):
        running = asyncio.create_task(program._run(configured()))
        await asyncio.sleep(moment_s)
        stop()
        assert await running == 0
        assert nothing_left(host, tmp_path)
        host.__init__()  # type: ignore[misc]
    host.close()


@on_loop
async def test_a_worker_that_does_not_start_is_one_line(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert await program._run(configured()) == 1
    assert lines() == ["worker 0 ended before it was ready: exit status 1"]
    assert nothing_left(host, tmp_path)


@on_loop
async def test_a_port_in_use_is_found_before_anything_is_created(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert await program._run(configured(metrics={"listen": f"127.0.0.1:{port}"})) == 1
    assert lines() == [f"metrics.listen: 127.0.0.1:{port} is in use by another program"]
    assert not host.steps
    assert nothing_left(host, tmp_path)


def test_missing_requirements_are_logged_and_nothing_is_started(
    host: FakeHost,
    configured: Callable[..., Configuration],
    monkeypatch: pytest.MonkeyPatch,
    lines: Callable[..., list[str]],
) -> None:
    requested: list[bool] = []

    def missing(*, namespaces: bool) -> list[str]:
        requested.append(namespaces)
        return ["no root", "no /dev/net/tun"]

    monkeypatch.setattr(program, "missing", missing)
    monkeypatch.setattr("epaird.control.logs.set_up", lambda *_arguments: None)
    assert program.run(configured()) == 1
    assert program.run(configured(namespaces={"create": []}, epair={"epair0": {}})) == 1
    assert requested == [True, False]
    assert lines() == ["no root", "no /dev/net/tun"] * 2
    host.close()
