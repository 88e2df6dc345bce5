"""epairctl as a user has it, and the configuration's file as an editor leaves it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from tests.scenarios.lab import EPAIRD, Daemon, Lab
from tests.waiting import DEADLINE_S

EPAIRCTL: Final = str(Path(EPAIRD).with_name("epairctl"))


def control_socket(lab: Lab) -> Path:
    """Where the daemon of a laboratory is controlled."""
    return lab.directory / "run" / "control.sock"


def asked(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever comes of it."""
    command = [EPAIRCTL, "--socket", str(control_socket(lab)), *map(lab.expanded, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False)


def epairctl(lab: Lab, *arguments: str) -> str:
    """What a command that succeeds prints."""
    done = asked(lab, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(lab: Lab, *arguments: str) -> str:
    """The line that a command which fails prints."""
    done = asked(lab, *arguments)
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    return line.removeprefix("epairctl: ")


def rewrite(daemon: Daemon, text: str, **settings: Any) -> None:  # noqa: ANN401
    """Have its file say this instead, as an editor does: another file in its place."""
    fresh = daemon.lab.configuration(text, **settings)
    fresh.replace(daemon.file)


def reload(daemon: Daemon, text: str, **settings: Any) -> str:  # noqa: ANN401
    """What ``epairctl reload`` prints of such a file."""
    rewrite(daemon, text, **settings)
    return epairctl(daemon.lab, "reload")
