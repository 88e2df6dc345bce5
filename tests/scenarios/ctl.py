"""epairctl, run as a user runs it, and the configuration file, replaced as an editor replaces it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from tests.scenarios.lab import EPAIRD, Daemon, Lab
from tests.waiting import DEADLINE_S

EPAIRCTL: Final = str(Path(EPAIRD).with_name("epairctl"))


def control_socket(lab: Lab) -> Path:
    """Return the control socket of a laboratory's daemon."""
    return lab.directory / "run" / "control.sock"


def run_epairctl(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run epairctl to its end, with any result."""
    command = [EPAIRCTL, "--socket", str(control_socket(lab)), *map(lab.expand, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False)


def epairctl(lab: Lab, *arguments: str) -> str:
    """Return the output of an epairctl command, which must succeed."""
    done = run_epairctl(lab, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(lab: Lab, *arguments: str) -> str:
    """Return the error line of an epairctl command, which must fail."""
    done = run_epairctl(lab, *arguments)
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    return line.removeprefix("epairctl: ")


def rewrite(daemon: Daemon, text: str, **settings: Any) -> None:  # noqa: ANN401
    """Replace the daemon's configuration file by another file, as an editor does."""
    fresh = daemon.lab.configuration(text, **settings)
    fresh.replace(daemon.file)


def reload(daemon: Daemon, text: str, **settings: Any) -> str:  # noqa: ANN401
    """Replace the configuration file and return the output of ``epairctl reload``."""
    rewrite(daemon, text, **settings)
    return epairctl(daemon.lab, "reload")
