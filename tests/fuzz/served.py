"""A whole control plane on a machine without a kernel, whose event loop runs while an input is tried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import tomli_w
import uvloop

from epaird.config.reading import read
from epaird.control import daemon, logs, resources
from epaird.control.handover import reexec
from epaird.control.operations import Refused
from epaird.control.reloading import remaking
from epaird.control.reloading.inforce import Source
from epaird.kernel.netnswatch import NameWatch
from tests.control.fake import FakeHost
from tests.waiting import DEADLINE_S

T = TypeVar("T")

_RED: Final = {"netns": "red", "addresses": ["10.0.0.1/24"]}
_BLUE: Final = {"netns": "blue", "addresses": ["10.0.0.2/24"]}


class Served:
    """A running daemon, and what it has logged and raised."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path, host: FakeHost) -> None:
        self.path = directory / "run" / "control.sock"
        """The control socket."""
        self.host = host
        self.daemon: daemon.Daemon
        self._loop = loop
        self._faults: list[str] = []
        loop.set_exception_handler(lambda _loop, context: self._faults.append(str(context)))
        self._log = _Faults(self._faults)
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

    def run(self, trial: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine while the daemon runs; it fails when anything is logged as an error or raised."""
        try:
            result = self._loop.run_until_complete(asyncio.wait_for(trial, DEADLINE_S))
            assert not self._faults, "\n".join(self._faults)
        except BaseException as error:
            for fault in self._faults:
                error.add_note(fault)
            raise
        finally:
            self._faults.clear()
        return result

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
        logging.getLogger().addHandler(self._log)

    async def stop(self) -> None:
        logging.getLogger().removeHandler(self._log)
        await self.daemon.__aexit__()


class _Faults(logging.Handler):
    """Collects errors, and everything with a traceback."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or not message.isprintable():
            self._faults.append(
                f"{message!r} {logging.Formatter().format(record) if record.exc_info else ''}"
            )


@contextlib.contextmanager
def served() -> Iterator[Served]:
    """Run a daemon with two pairs and two loopbacks."""
    loop = uvloop.new_event_loop()
    host = FakeHost()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        patch.setattr(resources, "Host", lambda: host)
        patch.setattr(logs, "set_up", lambda _level, _form: None)
        patch.setattr(remaking, "LOOK_S", 3600.0)
        patch.setattr(remaking, "NameWatch", lambda: NameWatch(str(directory / "netns")))
        patch.setattr(reexec, "objection", _no_upgrade)
        patch.delenv("NOTIFY_SOCKET", raising=False)
        asyncio.set_event_loop(loop)
        running = Served(loop, directory, host)
        try:
            loop.run_until_complete(running.start())
            yield running
        finally:
            loop.run_until_complete(running.stop())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            asyncio.set_event_loop(None)


async def _no_upgrade() -> str:
    return "it is another program"
