"""The daemon's state, written to a file beside its control socket for the next daemon.

The file has what no other process can report: the interfaces that exist, their settings, their slots of the
ledger, and their peers. It is written shortly after each change, in one step, so that a
reader always finds it complete. What a client requested is in the journal before the client has its answer
(:mod:`epaird.control.handover.journal`). When the machine stops, the devices and the file are lost together;
so nothing is synchronised to a disk.

A file that cannot be written ends nothing: it is logged, counted, shown by /healthz, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

from epaird.config.settings import InterfaceSettings
from epaird.control.handover import journal
from epaird.control.handover.journal import Entry
from epaird.control.interfaces.saved import SavedClone, SavedDevice, SavedLoopback, SavedPair
from epaird.control.machine.privatefiles import BYTES_MAX, append_file, read_file, remove_file, replace_file
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
STATE: Final = "state"
"""Name under which this process passes the state to the program that it executes."""


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
    journal: str = ""
    """Token of the journal that belongs to this file."""

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
        by_key: dict[str, Any] = {journal.KEYS[kind]: found for kind, found in clones.items()}
        return cls(home=home, macs_made=macs_made, workers=workers, withdrawn=dict(withdrawn), **by_key)

    def of_kind(self, kind: str) -> tuple[SavedClone, ...]:
        """Return the clones of a kind."""
        found: tuple[SavedClone, ...] = getattr(self, journal.KEYS[kind])
        return found

    def after(self, entry: Entry) -> State:
        """Return the state after an entry of the journal."""
        return self.model_copy(
            update={
                "pairs": journal.merged(self.pairs, entry.pairs, entry.gone),
                "loopbacks": journal.merged(self.loopbacks, entry.loopbacks, entry.gone),
                "withdrawn": journal.withdrawn(self.withdrawn, entry),
                "macs_made": max(self.macs_made, entry.macs_made),
            }
        )

    def encodable(self, last: State | None) -> tuple[State, str]:
        """Return the state without what JSON cannot express, and the reason; as it is and "" if it can.

        A clone that it cannot express is as in the ``last`` state, or left out."""
        known = {each.name: each for each in last.clones} if last is not None else {}
        reason, update = "", dict[str, tuple[SavedClone, ...]]()
        for kind, key in journal.KEYS.items():
            found: list[SavedClone] = []
            for clone in self.of_kind(kind):
                try:
                    clone.model_dump_json()
                except ValueError as error:
                    reason = f"{clone.name}: {reason_of(error)}"
                    found += [known[clone.name]] if clone.name in known else []
                else:
                    found.append(clone)
            update[key] = tuple(found)
        return self.model_copy(update=update) if reason else self, reason

    @property
    def clones(self) -> tuple[SavedClone, ...]:
        """The clones of all kinds."""
        return tuple(clone for kind in journal.KEYS for clone in self.of_kind(kind))

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
    except (OSError, ValueError) as error:
        log.warning("%s: not used: %s", file, reason_of(error))
        return None
    if not state.journal:
        return state
    found: list[Entry] = []
    try:
        found.extend(journal.entries(read_file(directory, journal.FILE), state.journal))
    except FileNotFoundError:
        pass  # the predecessor was killed before it began one
    except (OSError, journal.DamagedJournal) as error:
        log.warning("%s: %s", directory / journal.FILE, reason_of(error))
    return state.after(journal.combined(found)) if found else state


def memory_file(state: State) -> int:
    """Return the descriptor of a file in memory that has the state.

    Raises OSError, or ValueError for what JSON cannot express."""
    data = memoryview(state.model_dump_json().encode())
    fd = os.memfd_create("epaird-state", os.MFD_CLOEXEC)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memory_file(fd: int) -> State | None:
    """Return the state that this process has passed to itself, and close its file; None for none."""
    try:
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            return State.model_validate_json(file.read(BYTES_MAX))
    except (OSError, ValueError) as error:
        log.warning("the state that was passed is not used: %s", reason_of(error))
        return None


def remove(directory: Path) -> None:
    """Remove the file and its journal."""
    for name in (FILE, journal.FILE):
        with contextlib.suppress(OSError):
            remove_file(directory, name)


class Keeper:
    """Writes the file and its journal."""

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
        self._problem = ""
        self._left_out = ""
        """The clone that JSON cannot express, and the reason, as logged last."""
        self._journal_ready = False
        """True while the journal belongs to the file."""
        self.errors = 0
        """Failed attempts to write the file or its journal."""

    @property
    def failed(self) -> bool:
        """True when the last attempt to write the file failed."""
        return bool(self._problem)

    @property
    def problem(self) -> str:
        """The reason why the last attempt to write the file failed; empty after one that succeeded."""
        return self._problem

    def changed(self) -> None:
        """Write the file soon: the state has changed."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._pause_s, self.write)

    def write(self) -> None:
        """Write the file now. A failure is logged once for each reason, and leaves the file as it was."""
        self.cancel()
        began = time.monotonic()
        token = journal.new_token()
        try:
            replace_file(self._directory, FILE, self._encoded(token))
        except Exception as error:  # noqa: BLE001  no failure may end what called this
            self._fail(error)
        else:
            if self._problem:
                log.info("%s: can be written again", self._file)
            self._problem = ""
            self._begin_journal(token)
        self._written()
        self._pause_s = max(AGAIN_S if self.failed else SOON_S, SHARE * (time.monotonic() - began))
        if self.failed:
            self.changed()

    def commit(self, entry: Callable[[], Entry]) -> None:
        """Append an entry to the journal: from now on a successor knows of the change.

        Without a journal the whole file is written; after a failure, at its next attempt."""
        if self._journal_ready:
            try:
                append_file(self._directory, journal.FILE, entry().line())
            except Exception as error:  # noqa: BLE001  no failure may end what called this
                self._journal_ready = False
                self.errors += 1
                log.debug(
                    "%s: %s: the file is written instead", self._directory / journal.FILE, reason_of(error)
                )
            else:
                return
        if self.failed:
            self.changed()
        else:
            self.write()

    def cancel(self) -> None:
        """Cancel a write that is due."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def remove(self) -> None:
        """Remove the file and its journal."""
        self.cancel()
        self._journal_ready = False
        remove(self._directory)

    def _encoded(self, token: str) -> bytes:
        """Return the file's text. What JSON cannot express is as it was in the file. Raises ValueError."""
        state = self._state().model_copy(update={"journal": token})
        try:
            return state.model_dump_json().encode()
        except ValueError:
            state, reason = state.encodable(read(self._directory))
            data = state.model_dump_json().encode()
            self.errors += 1
            if reason != self._left_out:
                log.warning("%s: %s: a successor gets its last known state", self._file, reason)
            self._left_out = reason
            return data

    def _begin_journal(self, token: str) -> None:
        self._journal_ready = False
        try:
            replace_file(self._directory, journal.FILE, journal.header(token))
        except OSError as error:
            self._fail(error)
        else:
            self._journal_ready = True

    def _fail(self, error: Exception) -> None:
        self.errors += 1
        reason = reason_of(error)
        if reason != self._problem:
            log.warning("%s: %s: a successor would not know of the last changes", self._file, reason)
        self._problem = reason


def reason_of(error: Exception) -> str:
    """Return the reason of a failure in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
