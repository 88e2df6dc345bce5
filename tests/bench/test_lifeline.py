from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from epaird.bench import lifeline
from tests.waiting import until

LIFELINE = [sys.executable, "-I", "-S", lifeline.__file__]
PARENT = f"""
import os, signal, subprocess
command = {LIFELINE!r} + [str(os.getpid()), str(int(signal.SIGTERM)), "sh", "-c", "echo $$; exec sleep 1000"]
subprocess.Popen(command)
signal.pause()
"""


def test_the_command_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        assert parent.stdout.read() == ""  # the last holder of the pipe has ended
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_the_command_replaces_the_process() -> None:
    arguments = [str(os.getpid()), str(int(signal.SIGKILL)), "sh", "-c", "echo $$; exit 7"]
    with subprocess.Popen([*LIFELINE, *arguments], stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate()
    assert (int(out), process.returncode) == (process.pid, 7)


def test_the_command_does_not_start_after_its_parents_end() -> None:
    another = str(os.getppid())
    done = subprocess.run(
        [*LIFELINE, another, str(int(signal.SIGKILL)), "echo", "started"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
