"""Namespaces of its own for a run: a mutation may do anything, and must leave nothing behind.

They also permit a mutated module to be seen by every process of the tests, however it is started. Workers are
started with ``python -I`` and an empty environment, which no path and no hook gets past; but each process
reads compiled code from ``__pycache__``, and a file system that only this run sees can be mounted there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ISOLATED: Final = "EPAIRD_MUTATION_ISOLATED"
UNSHARE: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
PREPARE: Final = "mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; ip link set lo up"
ELSEWHERE: Final = ("PYTHONPYCACHEPREFIX", "PYTHONOPTIMIZE")
"""Variables that have Python read compiled code from other files than a process without them."""


def isolate(arguments: list[str]) -> None:
    """Run this program again in namespaces of its own, unless it is in them. Needs root."""
    if ISOLATED in os.environ:
        return
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    script = f'{PREPARE}; exec "$0" -m tests.mutation "$@"'
    command = [*UNSHARE, "sh", "-c", script, sys.executable, *arguments]
    os.execvpe(UNSHARE[0], command, environment | {ISOLATED: "1"})  # noqa: S606


@contextmanager
def private(directory: Path) -> Iterator[None]:
    """While in this context, show an empty directory of this run's own in the place of a directory.

    Raises RuntimeError outside the namespaces, where other programs would see it too."""
    if os.getpid() != 1:
        raise RuntimeError("not in a PID namespace, and so a mount namespace, of its own")
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def end_children() -> None:
    """Kill every child, and those that become one because their parent has ended: in the namespaces, all."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while found := children.read_text().split():
        for pid in map(int, found):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
