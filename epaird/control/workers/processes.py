"""Worker processes: launched, kept in reserve, adopted, and waited for.

A process that this one launched is a child of asyncio's. A process that a predecessor launched is watched by
a pidfd, and reaped where it is a child of this process, as it is after an execve().
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from typing import Final, Protocol

from epaird.control.machine.descriptors import raise_limit
from epaird.control.tasks import spawn, whole
from epaird.control.workers.output import Output
from epaird.ipc.channel import receive
from epaird.ipc.encoding import InvalidMessage
from epaird.ipc.messages import Description
from epaird.ipc.validation import worker_message
from epaird.kernel.senders import reap_process

log = logging.getLogger(__name__)

PROGRAM = ("-I", "-m", "epaird.dataplane")
"""Arguments of Python; the descriptor of the process's end of the socketpair and DESCRIBE are appended."""
DESCRIBE: Final = "describe"
"""The argument that has the process report what it is; older workers ignore it."""
AGAIN_S: Final = (0.0, 1.0, 5.0, 30.0)
"""Pauses in seconds before the first, second, ... spare in a row that ends without being used."""


class ProcessHandle(Protocol):
    """A process that can be waited for and killed."""

    @property
    def pid(self) -> int:
        """Process id."""

    async def wait(self) -> int:
        """Wait until the process has ended and released its resources; return its exit status.

        It is negative for a signal."""

    def kill(self) -> None:
        """Send SIGKILL."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process and the control plane's end of the socketpair to it."""

    process: ProcessHandle
    """The process."""
    connection: socket.socket
    """The control plane's end of the socketpair."""
    spare: bool = False
    """True when it was a spare, which has imported everything that it needs."""
    description: Description | None = None
    """What the process has reported of itself; None as long as it has not."""


async def launch() -> Launched:
    """Start a process, which waits for its first message. Raises OSError."""
    try:
        return await _launch()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    # The soft limit was lowered at run time: frames that wait are more important.
    raise_limit()
    return await _launch()


async def _launch() -> Launched:
    with contextlib.ExitStack() as unused:
        own_end, process_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        unused.callback(own_end.close)
        output = Output()
        unused.callback(output.close)
        try:
            with process_end:
                # A session of its own, so that a terminal's Ctrl-C reaches the control plane alone. No
                # environment: it may hold what a worker has no use for, such as NOTIFY_SOCKET.
                process = await whole(
                    asyncio.create_subprocess_exec(
                        sys.executable, *PROGRAM, str(process_end.fileno()), DESCRIBE,
                        pass_fds=(process_end.fileno(),), stdin=asyncio.subprocess.DEVNULL,
                        stdout=asyncio.subprocess.DEVNULL, stderr=output.writing, env={},
                        start_new_session=True,
                    )
                )  # fmt: skip
        finally:
            os.close(output.writing)
        unused.pop_all()
        output.follow(process.pid)
    return Launched(process, own_end)


class AdoptedProcess:
    """A process that a predecessor of this process launched."""

    def __init__(self, pid: int, pidfd: int) -> None:
        """Watch the process of a pidfd, and take the descriptor over. ``pid`` is its id, for the log."""
        self.pid = pid
        self._fd = pidfd
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._fd, self._on_end)

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit status.

        It is 0 when it is unknown, because the process was no child of this one."""
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        """Send SIGKILL."""
        if not self._status.done():
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._status.set_result(reap_process(self._fd))
        os.close(self._fd)


async def reap(process: ProcessHandle, patience_s: float) -> str:
    """Wait for a process that is about to end; kill it when it takes longer than ``patience_s`` seconds.

    Return how it ended, in words."""
    try:
        async with asyncio.timeout(patience_s):
            code = await process.wait()
    except TimeoutError:
        kill(process)
        code = await process.wait()
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def kill(process: ProcessHandle) -> None:
    """Kill a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()


class Spares:
    """One process in reserve: it has imported everything and takes requests within milliseconds, where a new
    one takes almost a tenth of a second."""

    def __init__(self) -> None:
        self._spare: Launched | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def spare(self) -> Launched | None:
        """The spare; None while there is none."""
        return self._spare

    @property
    def pid(self) -> int | None:
        """Process id of the spare; None while there is none."""
        return self._spare.process.pid if self._spare is not None else None

    def keep(self) -> None:
        """Keep a spare from now on; without effect after :meth:`stop`."""
        if not self._stopped and (self._keeping is None or self._keeping.done()):
            self._keeping = spawn(self._keep(), "keeping a spare worker")

    async def take(self) -> Launched:
        """Return the spare, or else a new process. Raises OSError.

        The spare is not replaced until :meth:`keep` is called."""
        if self._spare is None:
            return await launch()
        spare = self._release(self._spare)
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        return replace(spare, spare=True)

    async def stop(self) -> None:
        """End the spare and keep none any more."""
        self._stopped = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        if self._spare is not None:
            spare = self._release(self._spare)
            spare.connection.close()
            await reap(spare.process, 1.0)

    async def _keep(self) -> None:
        """Launch a spare, and another one each time it ends without being used."""
        for failures in range(1 << 62):
            await asyncio.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            try:
                spare = self._spare = await launch()
            except OSError as error:
                log.warning("a spare worker cannot be started: %s", error)
                continue
            asyncio.get_running_loop().add_reader(spare.connection.fileno(), self._described, spare)
            code = await spare.process.wait()
            self._release(spare)
            spare.connection.close()
            log.warning("the spare worker (pid %d) ended (%d); starting another", spare.process.pid, code)

    def _described(self, spare: Launched) -> None:
        """Receive the first message of the spare."""
        asyncio.get_running_loop().remove_reader(spare.connection.fileno())
        try:
            packet, fds = receive(spare.connection)
        except OSError:
            return  # it has ended, or is about to
        for fd in fds:
            os.close(fd)
        if not packet:
            return
        try:
            message = worker_message(packet, len(fds), slots=0)
        except InvalidMessage as error:
            log.warning("the spare worker sent what no worker sends: %s; killing it", error)
            kill(spare.process)
            return
        if isinstance(message, Description):
            self._spare = replace(spare, description=message)

    def _release(self, spare: Launched) -> Launched:
        """Return the spare, which is none from now on."""
        asyncio.get_running_loop().remove_reader(spare.connection.fileno())
        self._spare = None
        return spare
