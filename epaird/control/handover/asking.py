"""Asking orphans for their settings and cables: all at once, each answer checked, none waited for too long.

An orphan listens on a socket in the daemon's run directory, which only the daemon's user may write to; the
previous control plane has made it. So whatever answers there was started by a control plane. It handles
frames of strangers, however, and may have been taken over by one of them since: nothing that it says is
believed (:mod:`epaird.ipc.validation`). Which process it is, the kernel reports
(:mod:`epaird.kernel.senders`); its answers are not asked for that.

1. A connection is made to each, and Adopt is sent.
2. It answers with Adopted, an Attached for each of its cables, and Done.
3. If the kernel passes no pidfds, one is opened by the process id that the kernel reports, and Detach is sent
   for a cable that does not exist, which every version answers with Done. When that comes from the same
   process id, the pidfd is that of the orphan.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import time
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epaird.control.workers.socketfile import by_directory
from epaird.ipc.encoding import InvalidMessage, encode
from epaird.ipc.ledger import is_constant, is_memory_file
from epaird.ipc.messages import Adopt, Adopted, Attached, CableKind, CableSpec, Detach, Done, Message
from epaird.ipc.ringfile import same
from epaird.ipc.validation import worker_message
from epaird.kernel import tunqueue
from epaird.kernel.privileges import NOBODY
from epaird.kernel.senders import (
    Packet,
    Sender,
    open_process,
    pass_pidfds,
    receive_packet,
    report_senders,
)

ANSWER_S: Final = 2.0
"""Time for an orphan to answer, and to report each further cable. One that is stopped never answers."""
ALL_S: Final = 30.0
"""Time for an orphan to answer and report all its cables: the start of the daemon waits for that."""
OTHERS_MAX: Final = 4096
"""Other messages that an orphan may send meanwhile: reports about its interfaces."""
_ADOPT, _CONFIRM = range(2)
_ETHERNET: Final[Mapping[str, bool]] = {
    CableKind.CABLE: True,
    CableKind.UNPLUGGED: True,
    CableKind.REFLECT: False,
    CableKind.VERBATIM: False,
}
"""By kind of cable, whether its devices are TAPs or TUNs."""


class UnusableOrphan(Exception):
    """An orphan cannot be taken over. ``str()`` is one line."""


@dataclass(slots=True)
class OrphanAnswer:
    """What an orphan has reported, as far as it was checked; its receiver closes the descriptors."""

    connection: socket.socket
    """The connection to it."""
    about: Adopted = field(default_factory=Adopted)
    """Its number, settings and protocol."""
    ledger_fd: int = -1
    """The ledger that it counts in."""
    cables: dict[str, CableSpec] = field(default_factory=dict)
    """Its cables by name."""
    fds: dict[int, int] = field(default_factory=dict)
    """Descriptors of devices that are not known otherwise, by the slot of the ledger."""
    lines: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Descriptors of lines that are not known otherwise, by the slot of the ledger."""
    in_use: set[int] = field(default_factory=set)
    """Slots of those lines whose ring it uses; others may have been replaced by larger ones."""
    pid: int = 0
    """Its process id, from the kernel; 0 while it is not known."""
    pidfd: int = -1
    """A pidfd of its process; -1 while it is not known."""

    def close(self) -> None:
        """Close everything except the pidfd."""
        self.connection.close()
        for fd in (self.ledger_fd, *self.fds.values(), *itertools.chain(*self.lines.values())):
            if fd >= 0:
                os.close(fd)
        self.ledger_fd = -1
        self.fds.clear()
        self.lines.clear()


@dataclass(slots=True, eq=False)
class Inquiry:
    """The conversation with one orphan."""

    path: Path
    """Path of the socket that it listens on."""
    answer: OrphanAnswer
    """Its answer so far."""
    slots: int
    """Slots of the largest ledger."""
    known: Container[int]
    """Slots whose descriptors are known: others of them are closed as they arrive, because the limit may not
    allow all twice."""
    rings: Mapping[int, int] = field(default_factory=dict)
    """The known rings of lines, by their slot."""
    done: bool = False
    """True when everything is known."""
    error: Exception | None = None
    """Why it cannot be taken over."""
    deadline: float = 0
    """CLOCK_MONOTONIC in seconds when it has to have answered."""
    _latest: float = 0
    """The latest deadline, however many cables it reports."""
    _reported: bool = False
    """True when it has reported all its cables."""
    _read: set[int] = field(default_factory=set)
    """Slots of the devices that it reads."""
    _others: int = 0
    """Messages of it that were ignored."""

    def begin(self) -> None:
        """Connect and send the first request."""
        connection = self.answer.connection
        now = time.monotonic()
        self.deadline, self._latest = now + ANSWER_S, now + ALL_S
        try:
            connection.setblocking(False)
            report_senders(connection, on=True)
            with by_directory(self.path) as short:
                connection.connect(short)
            connection.send(encode(Adopt(_ADOPT)))
        except OSError as error:
            self.error = error

    def proceed(self) -> None:
        """Read what has arrived."""
        try:
            packet = receive_packet(self.answer.connection)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = error
            return
        with contextlib.ExitStack() as unused:
            for fd in packet.fds:
                unused.callback(os.close, fd)
            pidfd = packet.sender.pidfd if packet.sender is not None else None
            if pidfd is not None:
                if self.answer.pidfd < 0:
                    self.answer.pidfd = pidfd
                else:
                    unused.callback(os.close, pidfd)
            try:
                if self._take(packet):
                    unused.pop_all()
            except (InvalidMessage, UnusableOrphan) as error:
                self.error = error

    def _take(self, packet: Packet) -> bool:
        """Take one packet; return whether its descriptors are taken over, too."""
        if not packet.data:
            raise UnusableOrphan("it has ended")
        if packet.cut:
            raise UnusableOrphan("too many files are open to receive its descriptors")
        self._identify(packet.sender)
        message = worker_message(packet.data, len(packet.fds), self.slots)
        match message:
            case Adopted() if self.answer.ledger_fd < 0:
                self._take_settings(message, packet.fds[0])
                return True
            case Attached() if self.answer.ledger_fd >= 0 and not self._reported:
                self._take_cable(message.cable, packet.fds)
                return True
            case Done(id=0) if self.answer.ledger_fd >= 0 and not self._reported:
                self._reported = True
                self._confirm()
            case Done(id=1) if self._reported:
                self.done = True
            case _:
                self._ignore(message)
        return False

    def _identify(self, sender: Sender | None) -> None:
        """Check that all packets come from one process, which may be a worker."""
        if sender is None or sender.pid <= 0:
            raise UnusableOrphan("the kernel does not report which process it is")
        if sender.uid not in (os.geteuid(), NOBODY):
            raise UnusableOrphan(f"it is a process of user {sender.uid}")
        if self.answer.pid == 0:
            self.answer.pid = sender.pid
            pass_pidfds(self.answer.connection, on=False)
        elif self.answer.pid != sender.pid:
            raise UnusableOrphan("two processes answer")

    def _take_settings(self, about: Adopted, fd: int) -> None:
        if not is_memory_file(fd):
            raise InvalidMessage("its ledger is no memory file")
        self.answer.about, self.answer.ledger_fd = about, fd

    def _take_cable(self, cable: CableSpec, fds: Sequence[int]) -> None:
        answer = self.answer
        if cable.name in answer.cables or not self._read.isdisjoint(cable.slots):
            raise InvalidMessage(f"it reports {cable.name} twice")
        ports, files = fds[: len(cable.ports)], iter(fds[len(cable.ports) :])
        if not all(tunqueue.is_queue(fd, ethernet=_ETHERNET.get(cable.kind)) for fd in ports):
            raise InvalidMessage(f"{cable.name}: a descriptor is not that of a device")
        lines = {
            line.slot: tuple(itertools.islice(files, 1 + line.trace + line.replay))
            for port in cable.ports
            for line in port.line
        }
        for ring, *others in lines.values():
            if not is_memory_file(ring) or not all(map(is_constant, others)):
                raise InvalidMessage(f"{cable.name}: a descriptor is not that of a line's file")
        answer.cables[cable.name] = cable
        self._read.update(cable.slots)
        for slot, fd in zip(cable.slots, ports, strict=True):
            if slot in self.known:
                os.close(fd)
            else:
                answer.fds[slot] = fd
        for slot, found in lines.items():
            unwanted = found
            if self._wants(slot, found, in_use=cable.kind != CableKind.KEPT):
                unwanted, answer.lines[slot] = answer.lines.get(slot, ()), found
            for fd in unwanted:
                os.close(fd)
        self.deadline = min(time.monotonic() + ANSWER_S, self._latest)

    def _wants(self, slot: int, found: Sequence[int], *, in_use: bool) -> bool:
        """Return whether the descriptors of a line are those to use: what is stored, or kept by a worker, may
        be a ring that a larger one has replaced."""
        answer = self.answer
        if not in_use or (slot in self.rings and same(found[0], self.rings[slot])):
            return slot not in self.known and slot not in answer.lines
        answer.in_use.add(slot)
        return True

    def _confirm(self) -> None:
        """Conclude, or have an orphan of which there is no pidfd confirm the one that is opened now."""
        if self.answer.pidfd >= 0:
            self.done = True
            return
        pidfd = open_process(self.answer.pid)
        if pidfd is None:
            raise UnusableOrphan("it has ended")
        self.answer.pidfd = pidfd
        try:
            self.answer.connection.send(encode(Detach(_CONFIRM)))
        except OSError as error:
            raise UnusableOrphan(f"it has ended: {error.strerror}") from error

    def _ignore(self, message: Message) -> None:
        """Ignore a message that is not needed."""
        if isinstance(message, Adopted | Attached):
            raise InvalidMessage(f"{type(message).__name__} comes at the wrong time")
        self._others += 1
        if self._others > OTHERS_MAX:
            raise InvalidMessage("it sends too many messages")


def ask(
    paths: Collection[Path], slots: int, known: Container[int] = (), rings: Mapping[int, int] | None = None
) -> list[Inquiry]:
    """Ask the orphans that listen at these paths; return each with its answer, or the error.

    ``slots`` is the size of the largest ledger; ``known`` are the slots whose descriptors are not needed,
    unless a worker uses another ring than the one in ``rings``."""
    inquiries = [
        Inquiry(
            path,
            OrphanAnswer(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)),
            slots,
            known,
            rings or {},
        )
        for path in paths
    ]
    for each in inquiries:
        each.begin()
    _converse({each.answer.connection.fileno(): each for each in inquiries if each.error is None})
    for each in inquiries:
        if each.error is None:
            report_senders(each.answer.connection, on=False)
    return inquiries


def _converse(pending: dict[int, Inquiry]) -> None:
    """Read answers until all are complete or late."""
    poll = select.poll()
    for fd in pending:
        poll.register(fd, select.POLLIN)
    while pending:
        left = min(each.deadline for each in pending.values()) - time.monotonic()
        for fd, _ in poll.poll(max(0, int(left * 1000) + 1)):
            pending[fd].proceed()
        for fd, each in tuple(pending.items()):
            if not each.done and each.error is None and each.deadline < time.monotonic():
                each.error = TimeoutError("it does not answer")
            if each.done or each.error is not None:
                poll.unregister(fd)
                del pending[fd]
