"""The service protocol with a real systemd: the descriptor store and a reload in progress."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import Machine
from tests.waiting import until


class SampleService:
    """A minimal service that uses the service manager as epaird does."""

    NAME = "sample.service"

    def __init__(self, machine: Machine, kind: str) -> None:
        self.machine = machine
        script = Path(__file__).with_name("sample_service.py").read_text()
        machine.write("/root/sample.py", script)
        reload = "" if kind == "notify-reload" else "ExecReload=/bin/kill -HUP $MAINPID\n"
        machine.write(
            f"/etc/systemd/system/{self.NAME}",
            "[Unit]\nRequires=sample.socket\n"
            f"[Service]\nType={kind}\nFileDescriptorStoreMax=16\n{reload}"
            "ExecStart=/usr/lib/epaird/bin/python3 -I /root/sample.py\n",
        )
        machine.write(
            "/etc/systemd/system/sample.socket",
            "[Socket]\nListenStream=/run/sample\nFileDescriptorName=control\n",
        )
        machine.run("systemctl", "daemon-reload")

    def systemctl(self, *arguments: str) -> None:
        self.machine.run("systemctl", *arguments, self.NAME)

    def show(self, name: str) -> str:
        return self.machine.show(self.NAME, name)


@pytest.fixture
def sample(machine: Machine) -> Iterator[SampleService]:
    version = re.match(r"systemd (\d+)", machine.run("systemctl", "--version"))
    kind = "notify-reload" if version and int(version[1]) >= 253 else "notify"
    yield SampleService(machine, kind)
    machine.run("systemctl", "stop", SampleService.NAME, "sample.socket")
    machine.run("rm", "-f", "/run/may-reload")


@pytest.mark.real
def test_a_stored_descriptor_outlives_a_restart_and_can_be_removed(sample: SampleService) -> None:
    listens = "listens: /run/sample"
    sample.systemctl("start")
    assert sample.show("StatusText") == f"stored: {{}}, {listens}"
    until(lambda: sample.show("NFileDescriptorStore") == "1")
    sample.systemctl("restart")
    assert sample.show("StatusText") == f"stored: {{'epair0a': 'a device'}}, {listens}"
    sample.systemctl("kill", "--kill-whom=main", "--signal=USR1")
    until(lambda: sample.show("NFileDescriptorStore") == "0")
    sample.systemctl("restart")
    assert sample.show("StatusText") == f"stored: {{}}, {listens}"


@pytest.mark.real
def test_a_reload_is_in_progress_until_it_is_done(sample: SampleService) -> None:
    sample.systemctl("start")
    sample.systemctl("--no-block", "reload")
    until(lambda: sample.show("ActiveState") == "reloading")
    sample.machine.write("/run/may-reload", "")
    until(lambda: sample.show("StatusText") == "reloaded")
    assert sample.show("ActiveState") == "active"
