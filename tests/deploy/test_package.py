"""The Debian package: its contents, and its installation, upgrade and removal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from epaird import __version__
from tests.deploy.conftest import new_machine
from tests.deploy.machine import Machine


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the package without installing it."""
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--extract", package, root], check=True, timeout=60)
    return root


def field(package: Path, name: str) -> str:
    command = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_its_control_fields(package: Path) -> None:
    assert field(package, "Package") == "epaird"
    assert field(package, "Version") == __version__
    python = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    minor = int(python.stdout)
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)" in field(package, "Depends")


def test_it_contains_the_files_of_the_service(unpacked: Path) -> None:
    for file in (
        "usr/lib/systemd/system/epaird.service",
        "usr/lib/systemd/system/epaird.socket",
        "usr/lib/sysusers.d/epaird.conf",
        "usr/lib/tmpfiles.d/epaird.conf",
        "usr/share/epaird/notify-reload.conf",
        "usr/share/man/man5/epaird.toml.5.gz",
        "usr/share/man/man8/epaird.8.gz",
        "usr/share/man/man8/epairctl.8.gz",
        "usr/share/bash-completion/completions/epairctl",
        "usr/share/doc/epaird/copyright",
        "etc/epaird/epaird.toml",
    ):
        assert (unpacked / file).is_file(), file


def test_no_file_names_the_build_directory(unpacked: Path) -> None:
    home = unpacked / "usr" / "lib" / "epaird"
    for script in (home / "bin").glob("epair*"):
        assert script.read_text().startswith("#!/usr/lib/epaird/bin/python3 -I\n")
    assert str(unpacked) not in (home / "pyvenv.cfg").read_text()
    compiled = next(home.glob("lib/python3.*/site-packages/epaird/__pycache__/cli.*.pyc")).read_bytes()
    assert b"/usr/lib/epaird/lib/python3" in compiled
    assert b"/tmp/" not in compiled


def test_it_runs_in_any_directory(unpacked: Path) -> None:
    python = unpacked / "usr" / "lib" / "epaird" / "bin" / "python3"
    command = [str(python), "-I", "-m", "epaird", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"epaird {__version__}\n", done.stderr
    sample = unpacked / "etc" / "epaird" / "epaird.toml"
    check = [str(python), "-I", "-m", "epaird", "check", str(sample)]
    assert subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.real
def test_installation_creates_the_user_and_the_directories(machine: Machine) -> None:
    assert machine.run("epaird", "--version") == f"epaird {__version__}\n"
    name, _, _, _, _, home, shell = machine.run("getent", "passwd", "epaird").strip().split(":")
    assert (name, home, shell) == ("epaird", "/run/epaird", "/usr/sbin/nologin")
    assert machine.run("getent", "group", "epaird").startswith("epaird:")
    assert machine.run("stat", "--format=%a %U %G", "/run/epaird") == "755 epaird epaird\n"
    assert machine.run("dpkg", "--verify", "epaird") == ""
    assert "epaird.toml" in machine.run("man", "--pager=cat", "5", "epaird.toml")
    # The package does not enable the service: the administrator configures the network first.
    assert machine.try_run("systemctl", "is-enabled", "epaird.service").stdout == "disabled\n"


@pytest.mark.real
def test_the_service_type_is_one_that_systemd_supports(machine: Machine) -> None:
    version = int(machine.run("systemctl", "--version").split()[1])
    expected = "notify-reload" if version >= 253 else "notify"
    assert machine.shown("epaird.service", "Type") == expected


@pytest.mark.real
def test_an_upgrade_restarts_the_service_and_a_purge_removes_everything(package: Path) -> None:
    with new_machine(package) as machine:
        machine.run("systemctl", "enable", "--now", "epaird.service")
        before = machine.shown("epaird.service", "MainPID")
        machine.run("dpkg", "--install", "/root/epaird.deb")
        assert machine.shown("epaird.service", "ActiveState") == "active"
        assert machine.shown("epaird.service", "MainPID") != before
        machine.run("dpkg", "--purge", "epaird")
        assert machine.shown("epaird.service", "LoadState") == "not-found"
        assert machine.run("ip", "-br", "link", "show", "type", "tun") == ""
        paths = ("/etc/epaird", "/run/epaird", "/usr/lib/epaird", "/usr/bin/epaird",
                 "/usr/lib/systemd/system/epaird.service.d",
                 "/etc/systemd/system/multi-user.target.wants/epaird.service",
                 "/etc/systemd/system/sockets.target.wants/epaird.socket")  # fmt: skip
        for path in paths:
            assert machine.try_run("test", "-e", path).returncode == 1, path
