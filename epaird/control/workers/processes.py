"""Worker processes: launched, kept ready, adopted, and waited for.

A process that was launched by this very process's program is a child of asyncio's.  One that a predecessor
launched is watched by a pidfd, and reaped where it is our child, as it is after an execve().
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from typing import Final, Protocol

from epaird.control.tasks import spawn, whole

log = logging.getLogger(__name__)

PROGRAM = ("-I", "-m", "epaird.dataplane")
"""What Python is started with; the descriptor of the socketpair's other end is added."""
AGAIN_S: Final = (0.0, 1.0, 5.0, 30.0)
"""Pauses before another spare, when those before did not stay."""


class Process(Protocol):
    """What is asked of a process."""

    @property
    def pid(self) -> int:
        """Its number."""

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once it is gone with all that it held."""

    def kill(self) -> None:
        """SIGKILL."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process, and our end of the socketpair to it."""

    process: Process
    connection: socket.socket
    waited: bool = False
    """It was a spare, which has imported all it needs."""


async def launch() -> Launched:
    """A new process, which waits for its first message.  Raises OSError."""
    with contextlib.ExitStack() as unused:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        unused.callback(ours.close)
        with theirs:
            # A session of its own, so that a terminal's Ctrl-C reaches the control plane alone.
            process = await whole(
                asyncio.create_subprocess_exec(
                    sys.executable, *PROGRAM, str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip
        unused.pop_all()
    return Launched(process, ours)


class Adopted:
    """A process that a predecessor of this one launched."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError when there is none."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    async def wait(self) -> int:
        """Its exit status; 0 when it is not known, since it was no child of ours."""
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        """SIGKILL."""
        if not self._status.done():
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def forget(self) -> None:
        """Watch it no more."""
        if not self._status.done():
            self._close()
            self._status.set_result(0)

    def _ended(self) -> None:
        self._close()
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            self._status.set_result(0)
        else:
            self._status.set_result(os.waitstatus_to_exitcode(status))

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


async def end(process: Process, patience_s: float) -> str:
    """Wait for a process that has reason to end, kill it if it does not, and say how it ended."""
    try:
        async with asyncio.timeout(patience_s):
            code = await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Spares:
    """One process that waits to be needed: it has imported everything and takes orders within milliseconds,
    where a new one takes the better part of a tenth of a second."""

    def __init__(self) -> None:
        self._spare: Launched | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Of the process that waits; None while there is none."""
        return self._spare.process.pid if self._spare is not None else None

    def keep(self) -> None:
        """Have one from now on, unless it has been stopped."""
        if not self._stopped and (self._keeping is None or self._keeping.done()):
            self._keeping = spawn(self._keep(), "keeping a spare worker")

    async def take(self) -> Launched:
        """The one that waits, or else a new one; no other is prepared until :meth:`keep`.  Raises OSError."""
        if self._spare is None:
            return await launch()
        spare, self._spare = self._spare, None
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        return replace(spare, waited=True)

    async def stop(self) -> None:
        """End the one that waits, and have none any more."""
        self._stopped = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        if self._spare is not None:
            spare, self._spare = self._spare, None
            spare.connection.close()
            await end(spare.process, 1.0)

    async def _keep(self) -> None:
        """One after the other, as long as nobody takes it."""
        for failures in range(1 << 62):
            await asyncio.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            try:
                spare = self._spare = await launch()
            except OSError as error:
                log.warning("a spare worker cannot be started: %s", error)
                continue
            code = await spare.process.wait()
            self._spare = None
            spare.connection.close()
            log.warning("the spare worker (pid %d) ended (%d); starting another", spare.process.pid, code)
