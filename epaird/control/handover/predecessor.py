"""The leftovers of a predecessor: orphans that still forward, descriptors of devices, the ledger, its state.

Orphans are found by the sockets that they listen on in the run directory. Descriptors come from them, and
from the process that started this one: a service manager that stored them, or this process before execve().
The orphans are asked one after the other, before anything else is done; they forward in the meantime.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epaird.config.settings import Configuration, InterfaceSettings
from epaird.control.handover import state
from epaird.control.handover.notify import Inherited
from epaird.control.handover.state import State
from epaird.control.workers.link import by_directory, socket_name
from epaird.ipc.channel import Assembler, receive
from epaird.ipc.encoding import encode
from epaird.ipc.messages import PROTOCOL, Adopt, Adopted, Attached, CableSpec, Done, Message
from epaird.kernel.namespace import Identity

log = logging.getLogger(__name__)

LEDGER: Final = "ledger"
"""The name under which the ledger's memory file is passed."""
ANSWER_S: Final = 2.0
"""Time for an orphan to report its settings and cables. One that is stopped never answers."""


@dataclass(slots=True)
class Orphan:
    """A worker whose control plane is gone."""

    path: Path
    """Path of the socket that it listens on."""
    connection: socket.socket
    about: Adopted
    """Its number, settings and protocol."""
    ledger: Identity
    """Device and inode of the ledger that it counts in."""
    cables: dict[str, CableSpec] = field(default_factory=dict)
    """The cables that it forwards, by name."""


@dataclass(slots=True)
class Leftovers:
    """Everything that a predecessor has left."""

    state: State | None = None
    """The contents of its state file."""
    ledgers: dict[Identity, int] = field(default_factory=dict)
    """Descriptors of ledgers, by device and inode: two after a daemon was killed while it copied one."""
    orphans: list[Orphan] = field(default_factory=list)
    fds: dict[int, int] = field(default_factory=dict)
    """Descriptors of devices, by the slot of the ledger of the same queue."""
    passed: set[str] = field(default_factory=set)
    """Names of devices whose descriptors were passed."""
    unknown: list[str] = field(default_factory=list)
    """Names of descriptors that were passed and cannot be used; they are closed."""

    @property
    def usable(self) -> bool:
        """True when the state and the ledger are known: without them nothing can be taken over."""
        return self.state is not None and bool(self.ledgers)

    @property
    def slots(self) -> set[int]:
        """Slots of the ledger that are in use."""
        taken = {orphan.about.slot for orphan in self.orphans}
        if self.state is not None:
            taken |= {worker.slot for worker in self.state.workers}
            taken |= {slot for device in self.state.devices for slot in device.slots}
        return taken

    @property
    def configured(self) -> dict[str, InterfaceSettings]:
        """The settings in the configuration of its interfaces, by name, when the state was written."""
        if self.state is None:
            return {}
        clones = (each for each in self.state.clones if each.origin == "configuration")
        return {each.name: each.said or each.settings for each in clones}

    def withdrawn_from(self, configuration: Configuration) -> set[str]:
        """Return the interfaces that a request had destroyed, and that have the same settings in a
        configuration as then."""
        if self.state is None:
            return set()
        wanted = configuration.settings_by_name()
        return {name for name, each in self.state.withdrawn.items() if wanted.get(name) == each}

    def worker_slot(self, number: int) -> int | None:
        """Return the slot of the worker with this number; None when there was no such worker."""
        found = [each.about.slot for each in self.orphans if each.about.worker == number]
        if self.state is not None:
            found += [each.slot for each in self.state.workers if each.number == number]
        return found[0] if found else None

    def close(self) -> None:
        """Close the descriptors that were not taken over; the kernel then destroys these devices."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


def find_leftovers(
    directory: Path,
    passed: Iterable[Inherited],
    home: Identity,
    *,
    keep: Collection[str] = (),
    check: Callable[[State], None] = lambda _: None,
) -> Leftovers:
    """Return what was left in a run directory that this process has locked, and what was ``passed`` to it.

    Passed descriptors whose name is in ``keep`` are left alone. Orphans are killed and descriptors closed
    when they cannot be used: when they are unknown, or of another namespace than ``home``. Before that
    ``check`` is called with the state, and may raise an exception, after which everything is as it was."""
    leftovers = Leftovers(state.read(directory))
    if leftovers.state is not None and leftovers.state.home != home:
        log.warning("the state that another daemon has left is of another namespace: not taken over")
        leftovers.state = None
    if leftovers.state is not None:
        check(leftovers.state)
    _take_passed(leftovers, passed, keep)
    for path in sorted(directory.glob(socket_name("*"))):
        _take_orphan(leftovers, path)
    # Two have one number if it was being renewed. The first one is adopted.
    leftovers.orphans.sort(key=lambda each: (each.about.protocol == PROTOCOL, len(each.cables)), reverse=True)
    if not leftovers.usable:
        _give_up(leftovers)
    return leftovers


def _take_passed(leftovers: Leftovers, passed: Iterable[Inherited], keep: Collection[str]) -> None:
    by_name: dict[str, list[int]] = {}
    for each in passed:
        by_name.setdefault(each.name, []).append(each.fd)
    for name in keep:
        by_name.pop(name, None)
    for fd in by_name.pop(LEDGER, ()):
        _take_ledger(leftovers, fd)
    for device in leftovers.state.devices if leftovers.state is not None else ():
        for slot, fd in zip(device.slots, by_name.pop(device.name, ()), strict=False):
            leftovers.fds[slot] = fd
            leftovers.passed.add(device.name)
    for name, fds in by_name.items():
        leftovers.unknown.append(name)
        for fd in fds:
            os.close(fd)


def _take_ledger(leftovers: Leftovers, fd: int) -> Identity:
    status = os.fstat(fd)
    identity = Identity(status.st_dev, status.st_ino)
    if leftovers.ledgers.setdefault(identity, fd) != fd:
        os.close(fd)
    return identity


def _take_orphan(leftovers: Leftovers, path: Path) -> None:
    """Request an orphan's settings and cables; kill it if it does not answer."""
    with contextlib.ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        connection.settimeout(ANSWER_S)
        try:
            with by_directory(path) as short:
                connection.connect(short)
            answer = _ask(connection, leftovers.fds)
        except (OSError, EOFError, ValueError) as error:
            _kill(path, error)
            path.unlink(missing_ok=True)
            return
        undo.pop_all()
    connection.setblocking(False)
    ledger = _take_ledger(leftovers, answer.ledger_fd)
    leftovers.orphans.append(Orphan(path, connection, answer.about, ledger, answer.cables))
    for slot, fd in answer.fds:
        if slot in leftovers.fds:
            os.close(fd)
        else:
            leftovers.fds[slot] = fd


@dataclass(slots=True)
class _Answer:
    """The answer of an orphan."""

    about: Adopted
    ledger_fd: int
    cables: dict[str, CableSpec] = field(default_factory=dict)
    fds: list[tuple[int, int]] = field(default_factory=list)
    """Slots of the ledger and descriptors of devices."""


def _ask(connection: socket.socket, known: Container[int]) -> _Answer:
    """Request an orphan's settings and cables. Raises OSError, EOFError or ValueError.

    Descriptors of slots that are ``known`` are closed as they arrive: the limit may not allow all twice."""
    connection.send(encode(Adopt(0)))
    answer: _Answer | None = None
    deadline = time.monotonic() + ANSWER_S
    with contextlib.ExitStack() as undo:
        assembler = Assembler()
        undo.callback(assembler.close)
        held: set[int] = set()
        undo.callback(_close_all, held)
        while time.monotonic() < deadline:
            message, fds = _receive(connection, assembler)
            held.update(fds)
            match message:
                case Adopted():
                    (ledger_fd,) = fds
                    answer = _Answer(message, ledger_fd)
                case Attached() if answer is not None:
                    answer.cables[message.cable.name] = message.cable
                    for slot, fd in zip(message.cable.slots, fds, strict=True):
                        if slot in known:
                            held.discard(fd)
                            os.close(fd)
                        else:
                            answer.fds.append((slot, fd))
                case Done() if answer is not None:
                    undo.pop_all()
                    return answer
                case _:
                    pass  # reports that are not needed
    raise TimeoutError("it does not answer")


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _receive(connection: socket.socket, assembler: Assembler) -> tuple[Message, list[int]]:
    while True:
        packet, fds = receive(connection)
        if not packet:
            raise EOFError("it has ended")
        complete = assembler.add(packet, fds)
        if complete is not None:
            return complete


def _kill(path: Path, error: Exception) -> None:
    """Kill an unusable orphan, if the process is still a worker, and wait until it is gone."""
    pid = int(path.stem.rpartition("-")[2])
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if b"epaird.dataplane" in Path(f"/proc/{pid}/cmdline").read_bytes():
            log.warning("orphan worker (pid %d) cannot be taken over: %s: killing it", pid, error)
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            _wait(fd, pid)
    except OSError:
        pass  # it has ended in the meantime
    finally:
        os.close(fd)


def _wait(pidfd: int, pid: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(int(ANSWER_S * 1000))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _give_up(leftovers: Leftovers) -> None:
    """Kill the orphans and close the descriptors: they cannot be used."""
    for orphan in leftovers.orphans:
        log.warning("killing unusable orphan worker (pid %d)", orphan.about.pid)
        orphan.connection.close()
        _kill(orphan.path, Exception("its cables are unknown"))
        orphan.path.unlink(missing_ok=True)
    leftovers.orphans.clear()
    leftovers.unknown += [*leftovers.passed, *([LEDGER] if leftovers.ledgers else [])]
    leftovers.state = None
    leftovers.close()
    for fd in leftovers.ledgers.values():
        os.close(fd)
    leftovers.ledgers.clear()
