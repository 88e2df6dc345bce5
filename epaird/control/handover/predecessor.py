"""What a predecessor has left: workers that still forward, descriptors of devices, the ledger, its state.

Workers are found by the sockets they listen on in the run directory.  Descriptors come from them, and from
whoever started us: a service manager that kept them, or we ourselves before an execve().  The workers are
asked one after the other, before anything else is done; they go on forwarding meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epaird.config.settings import LoopbackSettings, PairSettings
from epaird.control.handover import state
from epaird.control.handover.notify import Inherited
from epaird.control.handover.state import SavedDevice, State
from epaird.control.workers.link import by_directory, socket_name
from epaird.ipc.channel import Assembler, receive
from epaird.ipc.messages import PROTOCOL, Adopt, Adopted, Attached, CableSpec, Done, Message, encode
from epaird.kernel.namespace import Identity

log = logging.getLogger(__name__)

LEDGER: Final = "ledger"
"""The name under which the ledger's memory file is passed."""
ANSWER_S: Final = 2.0
"""How long a worker may take to say what it has.  One that is stopped never does."""


@dataclass(slots=True)
class Survivor:
    """A worker that goes on without a control plane."""

    path: Path
    """Where it listens."""
    connection: socket.socket
    about: Adopted
    ledger: Identity
    """Device and inode of the ledger that it counts in."""
    cables: dict[str, CableSpec] = field(default_factory=dict)
    """What it forwards, by the name of the cable."""


@dataclass(slots=True)
class Remains:
    """Everything that was left."""

    state: State | None = None
    ledgers: dict[Identity, int] = field(default_factory=dict)
    """Descriptors of ledgers, by device and inode: two after a daemon was killed while it copied one."""
    survivors: list[Survivor] = field(default_factory=list)
    fds: dict[int, int] = field(default_factory=dict)
    """Descriptors of devices, by the slot of the ledger that stands for the same queue."""
    passed: set[str] = field(default_factory=set)
    """Names of devices whose descriptors were passed."""
    unknown: list[str] = field(default_factory=list)
    """Names of descriptors that were passed and are of no use; they are closed."""

    @property
    def usable(self) -> bool:
        """Whether there is anything to go on from."""
        return self.state is not None and bool(self.ledgers)

    @property
    def slots(self) -> set[int]:
        """Slots of the ledger that are somebody's."""
        taken = {survivor.about.slot for survivor in self.survivors}
        if self.state is not None:
            taken |= {worker.slot for worker in self.state.workers}
            taken |= {slot for device in devices(self.state) for slot in device.slots}
        return taken

    @property
    def said(self) -> dict[str, PairSettings | LoopbackSettings]:
        """What the configuration said of its interfaces, by name, when the state was written."""
        if self.state is None:
            return {}
        found: dict[str, PairSettings | LoopbackSettings] = {
            each.device.name: each.said or each.settings
            for each in self.state.loopbacks
            if each.origin == "configuration"
        }
        pairs = (each for each in self.state.pairs if each.origin == "configuration")
        return found | {each.name: each.said or each.settings for each in pairs}

    def worker_slot(self, number: int) -> int | None:
        """The slot of the worker of a number; None when there was no such worker."""
        found = [each.about.slot for each in self.survivors if each.about.worker == number]
        if self.state is not None:
            found += [each.slot for each in self.state.workers if each.number == number]
        return found[0] if found else None

    def close(self) -> None:
        """Close the descriptors that nobody has taken: devices that are nobody's go."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


def devices(saved: State) -> Iterator[SavedDevice]:
    """Every device that a predecessor had."""
    for pair in saved.pairs:
        for half in pair.halves:
            yield half.device
    for loopback in saved.loopbacks:
        yield loopback.device


def find(
    directory: Path, passed: Iterable[Inherited], home: Identity, *, keep: Collection[str] = ()
) -> Remains:
    """What was left in a run directory of which we have the lock, and what was ``passed`` to us, less what
    bears one of the names to ``keep``.

    What cannot be used, because nobody knows what it is, or because it is of another namespace than
    ``home``, ends here."""
    remains = Remains(state.read(directory))
    if remains.state is not None and remains.state.home != home:
        log.warning("what another daemon has left is of another namespace: not taken over")
        remains.state = None
    _take_passed(remains, passed, keep)
    for path in sorted(directory.glob(socket_name("*"))):
        _take_survivor(remains, path)
    # Of two with one number, while it was renewed, the first is the one to go on with.
    remains.survivors.sort(key=lambda each: (each.about.protocol == PROTOCOL, len(each.cables)), reverse=True)
    if not remains.usable:
        _give_up(remains)
    return remains


def _take_passed(remains: Remains, passed: Iterable[Inherited], keep: Collection[str]) -> None:
    by_name: dict[str, list[int]] = {}
    for each in passed:
        by_name.setdefault(each.name, []).append(each.fd)
    for name in keep:
        by_name.pop(name, None)
    for fd in by_name.pop(LEDGER, ()):
        _take_ledger(remains, fd)
    for device in devices(remains.state) if remains.state is not None else ():
        for slot, fd in zip(device.slots, by_name.pop(device.name, ()), strict=False):
            remains.fds[slot] = fd
            remains.passed.add(device.name)
    for name, fds in by_name.items():
        remains.unknown.append(name)
        for fd in fds:
            os.close(fd)


def _take_ledger(remains: Remains, fd: int) -> Identity:
    status = os.fstat(fd)
    identity = Identity(status.st_dev, status.st_ino)
    if remains.ledgers.setdefault(identity, fd) != fd:
        os.close(fd)
    return identity


def _take_survivor(remains: Remains, path: Path) -> None:
    """Ask a worker what it has; one that does not answer is killed."""
    with contextlib.ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        connection.settimeout(ANSWER_S)
        try:
            with by_directory(path) as short:
                connection.connect(short)
            answer = _ask(connection)
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            _kill(path, error)
            path.unlink(missing_ok=True)
            return
        undo.pop_all()
    connection.setblocking(False)
    ledger = _take_ledger(remains, answer.ledger_fd)
    remains.survivors.append(Survivor(path, connection, answer.about, ledger, answer.cables))
    for slot, fd in answer.fds:
        if slot in remains.fds:
            os.close(fd)
        else:
            remains.fds[slot] = fd


@dataclass(slots=True)
class _Answer:
    """What a worker has answered."""

    about: Adopted
    ledger_fd: int
    cables: dict[str, CableSpec] = field(default_factory=dict)
    fds: list[tuple[int, int]] = field(default_factory=list)
    """Slots of the ledger and descriptors of devices."""


def _ask(connection: socket.socket) -> _Answer:
    """Ask a worker what it has.  Raises OSError, EOFError or what decode() does."""
    connection.send(encode(Adopt(0)))
    answer: _Answer | None = None
    deadline = time.monotonic() + ANSWER_S
    with contextlib.ExitStack() as undo:
        assembler = Assembler()
        undo.callback(assembler.close)
        while time.monotonic() < deadline:
            message, fds = _receive(connection, assembler)
            for fd in fds:
                undo.callback(os.close, fd)
            match message:
                case Adopted():
                    (ledger_fd,) = fds
                    answer = _Answer(message, ledger_fd)
                case Attached() if answer is not None:
                    answer.cables[message.cable.name] = message.cable
                    answer.fds += zip(message.cable.slots, fds, strict=True)
                case Done() if answer is not None:
                    undo.pop_all()
                    return answer
                case _:
                    pass  # news that is found out anyway
    raise TimeoutError("it does not answer")


def _receive(connection: socket.socket, assembler: Assembler) -> tuple[Message, list[int]]:
    while True:
        packet, fds = receive(connection)
        if not packet:
            raise EOFError("it has ended")
        complete = assembler.add(packet, fds)
        if complete is not None:
            return complete


def _kill(path: Path, error: Exception) -> None:
    """Kill a worker that cannot be asked, if it is one still, and wait until it is gone."""
    pid = int(path.stem.rpartition("-")[2])
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if b"epaird.dataplane" in Path(f"/proc/{pid}/cmdline").read_bytes():
            log.warning("a worker that was left (pid %d) cannot be taken over: %s: killing it", pid, error)
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            _wait(fd, pid)
    except OSError:
        pass  # it has ended meanwhile
    finally:
        os.close(fd)


def _wait(pidfd: int, pid: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(int(ANSWER_S * 1000))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _give_up(remains: Remains) -> None:
    """End what nobody can go on from."""
    for survivor in remains.survivors:
        log.warning("a worker that was left (pid %d) is of no use: killing it", survivor.about.pid)
        survivor.connection.close()
        _kill(survivor.path, Exception("it is not known what it is for"))
        survivor.path.unlink(missing_ok=True)
    remains.survivors.clear()
    remains.unknown += [*remains.passed, *([LEDGER] if remains.ledgers else [])]
    remains.state = None
    remains.close()
    for fd in remains.ledgers.values():
        os.close(fd)
    remains.ledgers.clear()
