"""Fixtures: the package that ``make deb`` builds, a machine to install it on, and the scenarios' lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.deploy.machine import CannotBoot, Machine
from tests.deploy.service import CONFIGURATION, DROP_INS, SERVICE, Service
from tests.scenarios.conftest import lab

__all__ = ["lab"]

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def manual_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the manual pages and return their directory."""
    directory = tmp_path_factory.mktemp("man")
    build = [sys.executable, str(ROOT / "deploy" / "man" / "build.py"), str(directory)]
    subprocess.run(build, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return directory


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, manual_pages: Path) -> Path:
    """Build the Debian package and return its path."""
    directory = tmp_path_factory.mktemp("deb")
    build = [str(ROOT / "deploy" / "debian" / "build"), sys.executable, str(manual_pages), str(directory)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Machine]:
    """Yield a machine with the package installed and the service stopped; every test leaves it so."""
    with new_machine(package) as machine:
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """Yield the stopped service with the installed configuration."""
    configuration = machine.run("cat", CONFIGURATION)
    yield Service(machine)
    machine.run("systemctl", "stop", SERVICE)
    machine.try_run("systemctl", "reset-failed", SERVICE)
    machine.run("rm", "-rf", DROP_INS)
    machine.run("systemctl", "daemon-reload")
    machine.write(CONFIGURATION, configuration)


def new_machine(package: Path) -> Machine:
    """Return another machine, to be entered; skips the test where it cannot boot."""
    return _Installed(package)


class _Installed(Machine):
    def __init__(self, package: Path) -> None:
        super().__init__()
        self._package = package

    def __enter__(self) -> Self:
        try:
            super().__enter__()
        except CannotBoot as error:
            pytest.skip(f"cannot boot systemd here, only the stand-in is tested: {error}")
        try:
            self.write("/root/epaird.deb", self._package.read_bytes())
            self.run("dpkg", "--install", "/root/epaird.deb")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self
