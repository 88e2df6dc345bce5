"""The service protocol with a real systemd: the descriptor store, a reload in progress."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import Machine
from tests.waiting import until


class SmallService:
    """A minimal service that uses the same protocol as epaird."""

    NAME = "small.service"

    def __init__(self, machine: Machine, kind: str) -> None:
        self.machine = machine
        script = Path(__file__).with_name("small_service.py").read_text()
        machine.write("/root/small.py", script)
        reload = "" if kind == "notify-reload" else "ExecReload=/bin/kill -HUP $MAINPID\n"
        machine.write(
            f"/etc/systemd/system/{self.NAME}",
            "[Unit]\nRequires=small.socket\n"
            f"[Service]\nType={kind}\nFileDescriptorStoreMax=16\n{reload}"
            "ExecStart=/usr/lib/epaird/bin/python3 -I /root/small.py\n",
        )
        machine.write(
            "/etc/systemd/system/small.socket",
            "[Socket]\nListenStream=/run/small\nFileDescriptorName=control\n",
        )
        machine.run("systemctl", "daemon-reload")

    def systemctl(self, *arguments: str) -> None:
        self.machine.run("systemctl", *arguments, self.NAME)

    def shown(self, name: str) -> str:
        return self.machine.shown(self.NAME, name)


@pytest.fixture
def small(machine: Machine) -> Iterator[SmallService]:
    version = re.match(r"systemd (\d+)", machine.run("systemctl", "--version"))
    kind = "notify-reload" if version and int(version[1]) >= 253 else "notify"
    yield SmallService(machine, kind)
    machine.run("systemctl", "stop", SmallService.NAME, "small.socket")
    machine.run("rm", "-f", "/run/may-reload")


@pytest.mark.real
def test_stored_descriptors_survive_a_restart_and_can_be_removed(small: SmallService) -> None:
    listens = "listens: /run/small"
    small.systemctl("start")
    assert small.shown("StatusText") == f"stored: {{}}, {listens}"
    until(lambda: small.shown("NFileDescriptorStore") == "1")
    small.systemctl("restart")
    assert small.shown("StatusText") == f"stored: {{'epair0a': 'a device'}}, {listens}"
    small.systemctl("kill", "--kill-whom=main", "--signal=USR1")
    until(lambda: small.shown("NFileDescriptorStore") == "0")
    small.systemctl("restart")
    assert small.shown("StatusText") == f"stored: {{}}, {listens}"


@pytest.mark.real
def test_systemd_shows_a_reload_until_it_is_done(small: SmallService) -> None:
    small.systemctl("start")
    small.systemctl("--no-block", "reload")
    until(lambda: small.shown("ActiveState") == "reloading")
    small.machine.write("/run/may-reload", "")
    until(lambda: small.shown("StatusText") == "reloaded")
    assert small.shown("ActiveState") == "active"
