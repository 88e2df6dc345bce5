"""The leftovers of a predecessor: orphans that still forward, descriptors of devices, the ledger, its state.

Orphans are found by the sockets that they listen on in the run directory. Descriptors come from them, and
from the process that started this one: a service manager that stored them, or this process before execve().
The orphans are asked (:mod:`epaird.control.handover.asking`) before anything else is done; they forward in
the meantime. One that does not answer, or whose answer is wrong, is killed.

A process is killed by a pidfd. If the kernel has not reported the process, because the orphan never answered,
its id is taken from the name of its socket, which the control plane that started it chose. The socket shows
that the id is still its own: a connection to it is accepted only as long as a process listens, and the worker
is the only one that does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epaird.config.settings import Configuration, InterfaceSettings
from epaird.control.handover import state
from epaird.control.handover.asking import ANSWER_S, Inquiry, OrphanAnswer, ask
from epaird.control.handover.ledgers import SLOTS
from epaird.control.handover.notify import Inherited
from epaird.control.handover.soundness import fault_of
from epaird.control.handover.state import State
from epaird.control.interfaces.saved import SavedLine
from epaird.control.workers.socketfile import by_directory, socket_name
from epaird.ipc.encoding import InvalidMessage
from epaird.ipc.messages import PROTOCOL, Adopted, CableSpec
from epaird.kernel.namespace import Identity
from epaird.kernel.senders import has_ended, kill_process, open_process, reap_process

log = logging.getLogger(__name__)

LEDGER: Final = "ledger"
"""The name under which the ledger's memory file is passed."""
LINE: Final = ".line"
"""Suffix of a device's name in the name under which the files of its line are passed."""


@dataclass(slots=True)
class Orphan:
    """A worker whose control plane is gone."""

    path: Path
    """Path of the socket that it listens on."""
    connection: socket.socket
    pid: int
    """Its process id, from the kernel."""
    pidfd: int
    """A pidfd of its process."""
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
    lines: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Descriptors of lines, by their slot of the ledger: the ring, the trace and the replay, as far as each
    has them."""
    passed: set[str] = field(default_factory=set)
    """Names of devices whose descriptors were passed."""
    filed: set[int] = field(default_factory=set)
    """Slots of the ledger that the state file names, where it is older than the state that was passed."""
    unknown: list[str] = field(default_factory=list)
    """Names of descriptors that were passed and cannot be used; they are closed."""

    @property
    def usable(self) -> bool:
        """True when the state and the ledger are known: without them nothing can be taken over."""
        return self.state is not None and bool(self.ledgers)

    @property
    def slots(self) -> set[int]:
        """Slots of the ledger that are in use, or that a successor would believe to be."""
        taken = {orphan.about.slot for orphan in self.orphans}
        return taken | self.filed | _owners(self.state).keys()

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
        found = [each.about.slot for each in self.orphans if each.about.worker == number][:1]
        if self.state is not None:
            found += [each.slot for each in self.state.workers if each.number == number]
        return found[0] if found else None

    def close(self) -> None:
        """Close the descriptors that were not taken over; the kernel then destroys these devices."""
        for fd in (*self.fds.values(), *(fd for fds in self.lines.values() for fd in fds)):
            os.close(fd)
        self.fds.clear()
        self.lines.clear()


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
    passed = tuple(passed)
    leftovers = Leftovers(_passed_state(passed))
    filed = state.read(directory)
    if leftovers.state is None:
        leftovers.state = filed
    elif filed is not None and not fault_of(filed):
        leftovers.filed = set(_owners(filed))
    if leftovers.state is not None and leftovers.state.home != home:
        log.warning("the state that another daemon has left is of another namespace: not taken over")
        leftovers.state = None
    if leftovers.state is not None and (fault := fault_of(leftovers.state)):
        log.warning("the state that another daemon has left is damaged: %s: not taken over", fault)
        leftovers.state = None
    if leftovers.state is not None:
        check(leftovers.state)
    _take_passed(leftovers, passed, (*keep, state.STATE))
    known, rings = {*leftovers.fds, *leftovers.lines}, {slot: fds[0] for slot, fds in leftovers.lines.items()}
    for inquiry in ask(sorted(directory.glob(socket_name("*"))), SLOTS, known, rings):
        _take_orphan(leftovers, inquiry)
    # Two have one number if it was being renewed. The first one is adopted.
    leftovers.orphans.sort(key=lambda each: (each.about.protocol == PROTOCOL, len(each.cables)), reverse=True)
    if not leftovers.usable:
        _give_up(leftovers)
    return leftovers


def _passed_state(passed: Iterable[Inherited]) -> State | None:
    """Return the state that this process has passed to itself; None if there is none that can be used."""
    found = [state.read_memory_file(each.fd) for each in passed if each.name == state.STATE]
    return found[-1] if found else None


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
    for device_name, line in _lines(leftovers.state).items():
        if fds := by_name.pop(device_name + LINE, None):
            leftovers.lines[line.slot] = tuple(fds)
            leftovers.passed.add(device_name + LINE)
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


def _take_orphan(leftovers: Leftovers, inquiry: Inquiry) -> None:
    """Take an orphan's answer over; kill the orphan if it has none, or a wrong one."""
    path, answer = inquiry.path, inquiry.answer
    error = inquiry.error or _contradiction(leftovers, answer)
    if error is not None:
        answer.close()
        _kill(path, answer.pidfd, error)
        return
    ledger = _take_ledger(leftovers, answer.ledger_fd)
    leftovers.orphans.append(
        Orphan(path, answer.connection, answer.pid, answer.pidfd, answer.about, ledger, answer.cables)
    )
    for slot, fd in answer.fds.items():
        if slot in leftovers.fds:
            os.close(fd)
        else:
            leftovers.fds[slot] = fd
    for slot, fds in answer.lines.items():
        unwanted = fds
        if slot in answer.in_use or slot not in leftovers.lines:
            unwanted, leftovers.lines[slot] = leftovers.lines.get(slot, ()), fds
        for fd in unwanted:
            os.close(fd)


def _contradiction(leftovers: Leftovers, answer: OrphanAnswer) -> Exception | None:
    """Return why an orphan's answer contradicts the state file, or None."""
    # A slot that the file does not name is that of an interface or a worker that is newer than the file.
    owners = _owners(leftovers.state)
    for orphan in leftovers.orphans:
        owners.setdefault(orphan.about.slot, f"another process of {_worker(orphan.about.worker)}")
    worker, slot = _worker(answer.about.worker), answer.about.slot
    if owners.setdefault(slot, worker) != worker:
        return InvalidMessage(f"it reports {worker} in the slot of {owners[slot]}")
    for cable in answer.cables.values():
        for port in cable.ports:
            if owners.get(port.slot, port.name) != port.name:
                return InvalidMessage(f"it reports {port.name} in the slot of {owners[port.slot]}")
            name = port.name + LINE
            for line in port.line:
                if owners.get(line.slot, name) != name:
                    return InvalidMessage(f"it reports {name} in the slot of {owners[line.slot]}")
    return None


def _owners(known: State | None) -> dict[int, str]:
    """Return the worker or device that has each slot of the ledger."""
    if known is None:
        return {}
    owners = {worker.slot: _worker(worker.number) for worker in known.workers}
    owners |= {line.slot: device + LINE for device, line in _lines(known).items()}
    return owners | {slot: device.name for device in known.devices for slot in device.slots}


def _lines(known: State | None) -> dict[str, SavedLine]:
    """Return the lines of all devices, by the name of the device."""
    clones = known.clones if known is not None else ()
    return {device: line for clone in clones for device, line in clone.lines.items()}


def _worker(number: int) -> str:
    return f"worker {number}"


def _kill(path: Path, pidfd: int, error: Exception) -> None:
    """Kill an unusable orphan, if its process is known and lives, and wait until it is gone.

    ``pidfd``, which is closed, is that of its process, or -1."""
    try:
        if pidfd < 0:
            pidfd = _listening(path)
        if pidfd >= 0 and has_ended(pidfd):
            reap_process(pidfd)
        elif pidfd >= 0:
            pid = path.stem.rpartition("-")[2]
            log.warning("orphan worker (pid %s) cannot be taken over: %s: killing it", pid, error)
            kill_process(pidfd, ANSWER_S)
    except OSError as failure:
        log.warning("%s: the orphan worker cannot be killed: %s", path.name, failure.strerror)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    path.unlink(missing_ok=True)


def _listening(path: Path) -> int:
    """Return a pidfd of the worker that listens at a path; -1 when none does."""
    number = path.stem.rpartition("-")[2]
    if not number.isascii() or not number.isdecimal() or (pidfd := open_process(int(number))) is None:
        return -1
    # After the pidfd was opened, so that the id was the worker's at that time.
    with contextlib.suppress(OSError):
        if _accepts(path) and b"epaird.dataplane" in Path(f"/proc/{number}/cmdline").read_bytes():
            return pidfd
    os.close(pidfd)
    return -1


def _accepts(path: Path) -> bool:
    """Return whether a process listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection, by_directory(path) as short:
        connection.setblocking(False)
        try:
            connection.connect(short)
        except BlockingIOError:  # as many connections wait as it has room for
            pass
        except OSError:
            return False
    return True


def _give_up(leftovers: Leftovers) -> None:
    """Kill the orphans and close the descriptors: they cannot be used."""
    for orphan in leftovers.orphans:
        orphan.connection.close()
        _kill(orphan.path, orphan.pidfd, InvalidMessage("its cables are unknown"))
    leftovers.orphans.clear()
    leftovers.unknown += [*leftovers.passed, *([LEDGER] if leftovers.ledgers else [])]
    leftovers.state = None
    leftovers.close()
    for fd in leftovers.ledgers.values():
        os.close(fd)
    leftovers.ledgers.clear()
