"""Executing the program again: the same process continues with new code and keeps some descriptors.

Descriptors are passed as a service manager passes them (sd_listen_fds(3)), so that the program that begins
need not distinguish the two.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from typing import Final, NoReturn

from epaird.control.handover.notify import FIRST_FD
from epaird.startup import SIGNALS

CHECK_ONLY: Final = "EPAIRD_CHECK_ONLY"
"""In the environment: exit with status 0 where the daemon would begin."""
UPGRADED: Final = "EPAIRD_UPGRADED"
"""In the environment: the workers run older code and are to be replaced."""
CHECK_S: Final = 30.0
"""Time for the check of the new code."""


def command() -> list[str]:
    """Return the command line of this process."""
    return [sys.executable, *sys.orig_argv[1:]]


async def objection() -> str | None:
    """Return why the program as it is on disk now cannot run with its configuration; None if it can."""
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
            _, errors = await process.communicate()
    except TimeoutError:
        return f"its check takes longer than {CHECK_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


def arrange(fds: Sequence[int]) -> None:
    """Give descriptors the numbers from FIRST_FD on, in order, and make them inheritable.

    At most one more descriptor is open at any time. Whatever has such a number is closed."""
    at = {fd: position for position, fd in enumerate(fds)}
    now = list(fds)
    for position, number in enumerate(range(FIRST_FD, FIRST_FD + len(fds))):
        fd = now[position]
        if fd != number:
            if (other := at.pop(number, None)) is not None:
                now[other] = os.dup(number)  # it is needed later
                at[now[other]] = other
            os.dup2(fd, number)
            os.close(fd)
        at.pop(fd, None)
        os.set_inheritable(number, True)


def execute(fds: Sequence[tuple[str, int]], *, stopped: Callable[[], bool] = lambda: False) -> NoReturn:
    """Execute the program as it is now, with these descriptors by name. Raises OSError.

    ``stopped`` returns whether a signal has requested the end. The program that begins receives it too: only
    that one can take everything down."""
    # Blocked until the handlers are installed again: until then each signal would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if stopped():
        os.kill(os.getpid(), signal.SIGTERM)  # every thread blocks it now: it waits for the program
    arrange([fd for _, fd in fds])
    environment: MutableMapping[str, str] = {
        **os.environ,
        UPGRADED: "1",
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(fds)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in fds),
    }
    os.execve(sys.executable, command(), dict(environment))  # noqa: S606
