"""The daemon's state, written to a file beside its control socket for the next daemon.

The file has what no other process can report: the interfaces that exist, their settings, their slots of the
ledger, and their peers. It is written shortly after each change, in one step, so that a
reader always finds it complete. When the machine stops, the devices and the file are lost together; so
nothing is synchronised to a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from epaird.config.settings import InterfaceSettings
from epaird.control.interfaces.saved import SavedClone, SavedDevice, SavedLoopback, SavedPair
from epaird.control.machine.privatefiles import read_file, remove_file, replace_file
from epaird.control.workers.worker import Worker

log = logging.getLogger(__name__)

FILE: Final = "state.json"
VERSION: Final = 2
"""Version of the file's form. Any version is read, as far as this program knows its fields: 1 is that of
epaird 0.1.0."""
SOON_S: Final = 0.02
"""Delay from a change to writing the file, so that many changes are written once."""
AGAIN_S: Final = 1.0
"""Delay from a failure to the next attempt."""
SHARE: Final = 20
"""At most 1/SHARE of the time goes into writing the file."""
_KEYS: Final = {"epair": "pairs", "lo": "loopbacks"}
"""The file's key of each kind of interface."""


class SavedWorker(BaseModel):
    """A worker."""

    number: int
    slot: int
    pid: int
    restarts: int


class State(BaseModel):
    """The whole state."""

    version: int = VERSION
    home: tuple[int, int]
    """Device and inode of the daemon's own namespace."""
    macs_made: int
    """Indices of hardware addresses used so far."""
    workers: tuple[SavedWorker, ...]
    pairs: tuple[SavedPair, ...]
    loopbacks: tuple[SavedLoopback, ...]
    withdrawn: dict[str, InterfaceSettings] = {}
    """Pairs and loopbacks of the configuration that a request had destroyed, and their settings there."""

    @classmethod
    def of(
        cls,
        *,
        home: tuple[int, int],
        macs_made: int,
        workers: tuple[SavedWorker, ...],
        clones: Mapping[str, tuple[SavedClone, ...]],
        withdrawn: Mapping[str, InterfaceSettings] = MappingProxyType({}),
    ) -> State:
        """Return a state with the ``clones`` of each kind, by the name of the kind's cloner."""
        by_key: dict[str, Any] = {_KEYS[kind]: found for kind, found in clones.items()}
        return cls(home=home, macs_made=macs_made, workers=workers, withdrawn=dict(withdrawn), **by_key)

    def of_kind(self, kind: str) -> tuple[SavedClone, ...]:
        """Return the clones of a kind."""
        found: tuple[SavedClone, ...] = getattr(self, _KEYS[kind])
        return found

    @property
    def clones(self) -> tuple[SavedClone, ...]:
        """The clones of all kinds."""
        return tuple(clone for kind in _KEYS for clone in self.of_kind(kind))

    @property
    def devices(self) -> tuple[SavedDevice, ...]:
        """The devices of all clones."""
        return tuple(device for clone in self.clones for device in clone.devices)


def saved_worker(worker: Worker) -> SavedWorker:
    """Return a worker in the form of the state file."""
    return SavedWorker(number=worker.number, slot=worker.slot, pid=worker.pid or 0, restarts=worker.restarts)


def read(directory: Path) -> State | None:
    """Return the state that a predecessor has written; None when there is none that can be used."""
    file = directory / FILE
    try:
        state = State.model_validate_json(read_file(directory, FILE))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("%s: not used: %s", file, str(error).splitlines()[0])
        return None
    return state


def remove(directory: Path) -> None:
    """Remove the file."""
    with contextlib.suppress(OSError):
        remove_file(directory, FILE)


class Keeper:
    """Writes the file."""

    def __init__(
        self, directory: Path, state: Callable[[], State], written: Callable[[], None] = lambda: None
    ) -> None:
        """``state`` returns what is to be written; ``written`` is called after each attempt to write it."""
        self._written = written
        self._directory = directory
        self._file = directory / FILE
        self._state = state
        self._due: asyncio.TimerHandle | None = None
        self._pause_s = SOON_S
        self._failed = False

    @property
    def failed(self) -> bool:
        """True when the last attempt to write the file failed."""
        return self._failed

    def changed(self) -> None:
        """Write the file soon: the state has changed."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._pause_s, self.write)

    def write(self) -> None:
        """Write the file now. A failure is logged once, and leaves the file as it was."""
        self.cancel()
        began = time.monotonic()
        try:
            replace_file(self._directory, FILE, self._state().model_dump_json().encode())
        except OSError as error:
            if not self._failed:
                log.warning(
                    "%s: %s: a successor would not know of the last changes", self._file, error.strerror
                )
            self._failed = True
        else:
            if self._failed:
                log.info("%s: can be written again", self._file)
            self._failed = False
        self._written()
        self._pause_s = max(AGAIN_S if self._failed else SOON_S, SHARE * (time.monotonic() - began))
        if self._failed:
            self.changed()

    def cancel(self) -> None:
        """Cancel a write that is due."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def remove(self) -> None:
        """Remove the file."""
        self.cancel()
        remove(self._directory)
