"""The units: valid, and with little exposure according to systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.machine import Machine
from tests.deploy.service import (
    SERVICE,
)

UNITS = ROOT / "deploy" / "systemd"


def exposure(directory: Path) -> float:
    """Return the exposure of the unit in a directory according to ``systemd-analyze security``."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(directory / SERVICE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # It warns about settings that it does not know and ignores them.
    assert not done.stderr
    level = re.search(rf"Overall exposure level for {SERVICE}: ([0-9.]+)", done.stdout)
    assert level
    return float(level[1])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a directory with only the service's unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    shutil.copy(UNITS / SERVICE, tmp_path)
    return tmp_path


def test_the_exposure_is_low(unit: Path) -> None:
    assert exposure(unit) < 4.0


def test_the_exposure_is_lower_without_namespaces(unit: Path) -> None:
    drop_ins = unit / f"{SERVICE}.d"
    drop_ins.mkdir()
    shutil.copy(UNITS / "drop-ins" / "home-only.conf", drop_ins)
    assert exposure(unit) < 2.5


@pytest.mark.real
def test_the_units_are_valid(machine: Machine) -> None:
    done = machine.try_run("systemd-analyze", "verify", "--man=yes", SERVICE, "epaird.socket")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
