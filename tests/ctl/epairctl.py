"""The real epairctl, started as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.control.control_server import Control
from tests.waiting import DEADLINE_S

EPAIRCTL = str(Path(sys.executable).with_name("epairctl"))


class Cli:
    """epairctl, and the daemon that it controls."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.operations = control.operations
        self.environment = os.environ | {"EPAIRD_SOCKET": str(control.path), "LC_ALL": "C.UTF-8"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [EPAIRCTL, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def output(self, *arguments: str) -> str:
        """Return the output of a command that succeeds."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        return done.stdout

    def fails(self, *arguments: str, status: int = 1) -> str:
        """Return the one line on stderr of a command that fails."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (status, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("epairctl: ")
        return line.removeprefix("epairctl: ")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that keeps running."""
        return subprocess.Popen(
            [EPAIRCTL, *arguments],
            env=self.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
