"""Executing ourselves again, with new code: the same process goes on, and keeps what it names.

Descriptors are passed as a service manager passes them (sd_listen_fds(3)), so that who begins need not
know which of the two it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import MutableMapping, Sequence
from typing import Final, NoReturn

from epaird.control.handover.notify import FIRST_FD

CHECK_ONLY: Final = "EPAIRD_CHECK_ONLY"
"""In the environment: end well where the daemon would begin."""
UPGRADED: Final = "EPAIRD_UPGRADED"
"""In the environment: begin with workers of older code, to be replaced."""
CHECK_S: Final = 30.0
"""How long the check of the new code may take."""


def command() -> list[str]:
    """What this process was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


async def objection() -> str | None:
    """What keeps the program, as it is on disk now, from running with its configuration; None if nothing."""
    environment = {**os.environ, CHECK_ONLY: "1"}
    process = await asyncio.create_subprocess_exec(
        *command(),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHECK_S):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"it does nothing for {CHECK_S:.0f} s"
    if process.returncode == 0:
        return None
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def let_signals_in() -> None:
    """Handlers stand: what has come since :func:`execute` began is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def execute(fds: Sequence[tuple[str, int]]) -> NoReturn:
    """Become the program as it is now, with these descriptors by name.  Raises OSError."""
    # They wait until there are handlers again; without, each would be our end.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    clear = FIRST_FD + len(fds)
    moved = []
    for _, fd in fds:
        moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, clear))
        os.close(fd)
    for number, fd in enumerate(moved, FIRST_FD):
        os.dup2(fd, number)
    environment: MutableMapping[str, str] = {
        **os.environ,
        UPGRADED: "1",
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(fds)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in fds),
    }
    os.execve(sys.executable, command(), dict(environment))  # noqa: S606
