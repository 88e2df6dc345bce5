"""Run the daemon and kill processes at one exact step of its takeover.

``EPAIRD_CUT`` is ``NUMBER:WHAT``. At step ``NUMBER``, counted from 0, the processes in ``WHAT`` are killed:
``w0`` and ``w1`` are the processes of a worker, of two ``w0-older`` and ``w0-newer``, ``newest`` is the
worker or spare that was started last, and ``self`` is the daemon; several are joined by ``+``. Each step is
written to the file ``EPAIRD_STEPS``. Steps are every message that is sent or received, every change of a
worker's state, and every launch of a process. With ``EPAIRD_CUT_AFTER`` set to ``upgrade``, steps are counted
once the daemon has executed itself.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

from epaird.control.handover import asking
from epaird.control.handover.reexec import UPGRADED
from epaird.control.workers import link, processes, worker
from epaird.dataplane.process import SPARE, WORKER
from epaird.ipc import channel
from epaird.kernel import senders

NUMBER, _, WHAT = os.environ["EPAIRD_CUT"].partition(":")
COUNTED: Final = UPGRADED in os.environ or os.environ.get("EPAIRD_CUT_AFTER") != "upgrade"
STEPS: Final = os.open(
    os.environ["EPAIRD_STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
)

taken = 0


def relatives() -> dict[int, str]:
    """Return the names of the workers and spares of this laboratory, by pid.

    They have network namespaces of their own; all processes of a laboratory have one limit in common."""
    mark = _mark("self")
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (directory / "comm").read_text().strip()
            if name.startswith((WORKER, SPARE)) and _mark(directory.name) == mark:
                found[int(directory.name)] = name
    return found


def _mark(pid: str) -> list[str]:
    limits = Path("/proc", pid, "limits").read_text().splitlines()
    return [line for line in limits if line.startswith("Max realtime timeout")]


def kill(what: str) -> None:
    """Kill the processes that a word stands for."""
    if what == "self":
        pids = [os.getpid()]
    elif what == "newest":
        pids = sorted(relatives())[-1:]
    else:
        number, _, which = what[1:].partition("-")
        pids = sorted(pid for pid, name in relatives().items() if name == WORKER + number)
        pids = {"": pids, "older": pids[:1], "newer": pids[-1:]}[which]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def step(name: str) -> None:
    """Take a step, and kill what is to be killed at it."""
    global taken
    if COUNTED:
        os.write(STEPS, f"{taken} {name}\n".encode())
        taken += 1
        if taken - 1 == int(NUMBER):
            for what in WHAT.split("+"):
                kill(what)


def stepping(module: Any, name: str, describe: Callable[..., str]) -> None:  # noqa: ANN401
    """Take a step before and after each call of a function."""
    function = getattr(module, name)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        step(f"before {describe(*args)}")
        result = function(*args, **kwargs)
        step(f"after {describe(*args)}")
        return result

    setattr(module, name, call)


stepping(channel, "packets", lambda message, *_: f"sending {type(message).__name__}")
stepping(link, "validate", lambda message, *_: f"receiving {type(message).__name__}")
stepping(asking, "receive_packet", lambda *_: "receiving an answer")
stepping(senders, "kill_process", lambda *_: "killing an orphan")
stepping(worker, "advance", lambda state, to: f"{state.value} becoming {to.value}")
stepping(processes, "launch", lambda: "launching")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
