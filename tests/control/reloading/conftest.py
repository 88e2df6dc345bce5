"""A daemon that was started with a file, on a machine without a kernel."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from epaird.config.reading import read
from epaird.control import daemon, logs, resources
from epaird.control.machine.host import Place
from epaird.control.reloading import remaking
from epaird.control.reloading.inforce import Source
from epaird.kernel.netnswatch import NameWatch
from epaird.kernel.tun import Tap
from tests.control.fake import FakeHost
from tests.control.reloading.running import Running, log_formats
from tests.loop import has_children


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost()
    set_property = host.set_property

    async def reported(tap: Tap, place: Place, key: str, value: object) -> None:
        await set_property(tap, place, key, value)
        if key == "name":
            host.report(host.event(tap.name))

    monkeypatch.setattr(host, "set_property", reported)
    monkeypatch.setattr(resources, "Host", lambda _descriptors: host)

    def set_up(level: str, form: str) -> None:
        logging.getLogger().setLevel(level.upper())
        log_formats[:] = [form]

    log_formats.clear()
    monkeypatch.setattr(logs, "set_up", set_up)
    # Looks for what is missing are steps too: none at intervals, or when others create namespaces.
    monkeypatch.setattr(remaking, "LOOK_S", 3600.0)
    monkeypatch.setattr(remaking, "NameWatch", lambda: NameWatch(str(tmp_path / "netns")))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return host


@pytest.fixture
def started(tmp_path: Path, host: FakeHost) -> Callable[..., contextlib.AbstractAsyncContextManager[Running]]:
    """A daemon that was started with a file."""

    @contextlib.asynccontextmanager
    async def begin(**tables: Any) -> AsyncIterator[Running]:  # noqa: ANN401
        running = Running(tmp_path / "epaird.toml", host)
        running.base |= tables
        running.write()
        file = read(running.path)
        level = logging.getLogger().level
        logging.getLogger().setLevel(file.configuration.daemon.log_level.upper())
        try:
            async with daemon.Daemon(file.configuration, None, Source(running.path, file.sha256)) as begun:
                await begun.start()
                running.daemon = begun
                host.steps.clear()
                yield running
        finally:
            logging.getLogger().setLevel(level)
        assert not host.links
        assert not has_children()

    return begin
