"""The Debian package: its contents, and its installation, upgrade and removal."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from epaird import __version__
from tests.deploy.conftest import new_machine
from tests.deploy.machine import Machine


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the package's files, unpacked and not installed."""
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


def test_it_has_all_files_of_the_service(unpacked: Path) -> None:
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


def test_its_copyright_file_names_every_project_that_it_contains(unpacked: Path) -> None:
    text = (unpacked / "usr/share/doc/epaird/copyright").read_text()
    packages = next((unpacked / "usr/lib/epaird/lib").glob("python3*/site-packages"))
    found = {each.name: each for each in distributions(path=[str(packages)])}
    assert {"epaird", "pyroute2", "uvloop", "pydantic-core", "python-pytun"} <= {
        name.lower().replace("_", "-") for name in found
    }
    paragraphs = text.split("\nFiles: ")[1:]
    assert len(paragraphs) == len(found)
    for name, each in found.items():
        if name != "epaird":
            (paragraph,) = (it for it in paragraphs if f"\nComment: {name} {each.version}" in it)
            license_name, license_text = paragraph.split("\nLicense: ")[1].split("\n", 1)
            assert license_name, name
            assert not license_name.endswith("License"), name  # the format's name is MIT
            assert len(license_text) > 500, name
    assert "libuv (MIT)" in text
    assert re.search(r"\bserde \d+\.\d+\.\d+ \(MIT OR Apache-2\.0\)", text)  # a part of pydantic-core
    assert text.endswith("\n")
    assert not re.search(r"^$\n^ ", text, re.MULTILINE)  # an empty line ends a paragraph


def test_no_package_is_built_with_a_project_that_states_no_license(tmp_path: Path) -> None:
    metadata = tmp_path / "odd-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("odd.py,,\nodd-1.0.dist-info/METADATA,,\n")
    command = [sys.executable, "deploy/debian/copyright.py", "LICENSE", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "odd 1.0: has no license text, so it cannot be part of the package\n"
    (metadata / "LICENSE").write_text("As you like.\n")
    (metadata / "RECORD").write_text("odd.py,,\nodd-1.0.dist-info/LICENSE,,\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "odd 1.0: states no license, so it cannot be part of the package\n"


def test_no_file_names_the_build_directory(unpacked: Path) -> None:
    home = unpacked / "usr" / "lib" / "epaird"
    for script in (home / "bin").glob("epair*"):
        assert script.read_text().startswith("#!/usr/lib/epaird/bin/python3 -I\n")
    assert str(unpacked) not in (home / "pyvenv.cfg").read_text()
    compiled = next(home.glob("lib/python3.*/site-packages/epaird/__pycache__/cli.*.pyc")).read_bytes()
    assert b"/usr/lib/epaird/lib/python3" in compiled
    assert b"/tmp/" not in compiled


def test_it_runs_from_any_directory(unpacked: Path) -> None:
    python = unpacked / "usr" / "lib" / "epaird" / "bin" / "python3"
    command = [str(python), "-I", "-m", "epaird", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"epaird {__version__}\n", done.stderr
    sample = unpacked / "etc" / "epaird" / "epaird.toml"
    check = [str(python), "-I", "-m", "epaird", "check", str(sample)]
    assert subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.real
def test_installed_it_runs_and_has_its_user_and_its_directories(machine: Machine) -> None:
    assert machine.run("epaird", "--version") == f"epaird {__version__}\n"
    name, _, _, _, _, home, shell = machine.run("getent", "passwd", "epaird").strip().split(":")
    assert (name, home, shell) == ("epaird", "/run/epaird", "/usr/sbin/nologin")
    assert machine.run("getent", "group", "epaird").startswith("epaird:")
    assert machine.run("stat", "--format=%a %U %G", "/run/epaird") == "755 epaird epaird\n"
    assert machine.run("dpkg", "--verify", "epaird") == ""
    assert "epaird.toml" in machine.run("man", "--pager=cat", "5", "epaird.toml")
    # A package does not decide on a machine's network.
    assert machine.try_run("systemctl", "is-enabled", "epaird.service").stdout == "disabled\n"


@pytest.mark.real
def test_the_unit_type_suits_the_systemd_version(machine: Machine) -> None:
    version = int(machine.run("systemctl", "--version").split()[1])
    expected = "notify-reload" if version >= 253 else "notify"
    assert machine.show("epaird.service", "Type") == expected


@pytest.mark.real
def test_upgraded_while_it_runs_it_runs_again_and_removed_it_is_gone(package: Path) -> None:
    with new_machine(package) as machine:
        machine.run("systemctl", "enable", "--now", "epaird.service")
        before = machine.show("epaird.service", "MainPID")
        machine.run("dpkg", "--install", "/root/epaird.deb")
        assert machine.show("epaird.service", "ActiveState") == "active"
        assert machine.show("epaird.service", "MainPID") != before
        machine.run("dpkg", "--purge", "epaird")
        assert machine.show("epaird.service", "LoadState") == "not-found"
        assert machine.run("ip", "-br", "link", "show", "type", "tun") == ""
        paths = ("/etc/epaird", "/run/epaird", "/usr/lib/epaird", "/usr/bin/epaird",
                 "/usr/lib/systemd/system/epaird.service.d",
                 "/etc/systemd/system/multi-user.target.wants/epaird.service",
                 "/etc/systemd/system/sockets.target.wants/epaird.socket")  # fmt: skip
        for path in paths:
            assert machine.try_run("test", "-e", path).returncode == 1, path
