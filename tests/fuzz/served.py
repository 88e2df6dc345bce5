"""A whole control plane on a machine without a kernel, whose event loop runs while an input is tried."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import tomli_w

from epaird.config.reading import read
from epaird.control import daemon, logs, resources
from epaird.control.handover import reexec
from epaird.control.operations import Refused
from epaird.control.reloading import remaking
from epaird.control.reloading.inforce import Source
from epaird.kernel.netnswatch import NameWatch
from tests.control.fake import FakeHost
from tests.fuzz.running import Run, new_loop

_RED: Final = {"netns": "red", "addresses": ["10.0.0.1/24"]}
_BLUE: Final = {"netns": "blue", "addresses": ["10.0.0.2/24"]}


class Served(Run):
    """A running daemon."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path, host: FakeHost) -> None:
        super().__init__(loop)
        self.path = directory / "run" / "control.sock"
        """The control socket."""
        self.host = host
        self.daemon: daemon.Daemon
        self.source = directory / "epaird.toml"
        """The configuration file."""
        self.source.write_text(
            tomli_w.dumps(
                {
                    "daemon": {"workers": 1, "control_socket": str(self.path)},
                    "metrics": {"listen": "127.0.0.1:0"},
                    "namespaces": {"create": ["red", "blue"]},
                    "epair": {"epair0": {"a": _RED, "b": _BLUE}, "epair1": {}},
                    "lo": {"lo1": {}},
                }
            )
        )

    def state(self) -> dict[str, object]:
        """Return everything that a request may change."""
        running = self.daemon
        saved = running._handover._state().model_dump(exclude={"macs_made", "workers"})
        saved["host"] = {
            name: (link.place, link.settings, link.carrier, link.sndbuf)
            for name, link in self.host.links.items()
        }
        saved["namespaces"] = dict(self.host.namespaces)
        saved["configuration"] = running._in_force.current
        saved["cables"] = {
            (worker.number, cable): attachment.spec
            for worker in running._workers
            for cable, attachment in worker.attachments.items()
        }
        return saved

    async def reset(self) -> None:
        """Return to the configuration."""
        running = self.daemon
        wanted = read(self.source).configuration.settings_by_name()
        for clone in tuple(running._registry):
            if clone.name not in wanted:
                await running._front_end.destroy(clone.name)
        with contextlib.suppress(Refused):
            await running.reloads.reload()

    async def start(self) -> None:
        file = read(self.source)
        self.daemon = daemon.Daemon(file.configuration, None, Source(self.source, file.sha256))
        await self.daemon.start()

    async def stop(self) -> None:
        await self.daemon.__aexit__()


@contextlib.contextmanager
def served() -> Iterator[Served]:
    """Run a daemon with two pairs and two loopbacks."""
    host = FakeHost()
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as name,
        new_loop() as loop,
    ):
        directory = Path(name)
        patch.setattr(resources, "Host", lambda _descriptors: host)
        patch.setattr(logs, "set_up", lambda _level, _form: None)
        patch.setattr(remaking, "LOOK_S", 3600.0)
        patch.setattr(remaking, "NameWatch", lambda: NameWatch(str(directory / "netns")))
        patch.setattr(reexec, "objection", _no_upgrade)
        patch.delenv("NOTIFY_SOCKET", raising=False)
        running = Served(loop, directory, host)
        try:
            loop.run_until_complete(running.start())
            yield running
        finally:
            loop.run_until_complete(running.stop())


async def _no_upgrade() -> str:
    return "it is another program"
