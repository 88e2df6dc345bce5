"""What a real systemd makes of what notify says: the descriptor store, a reload under way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import Machine
from tests.waiting import until


class OfAKind:
    """A small service of ours that speaks with its manager as the large one will."""

    NAME = "of-a-kind.service"

    def __init__(self, machine: Machine, kind: str) -> None:
        self.machine = machine
        script = Path(__file__).with_name("service_of_a_kind.py").read_text()
        machine.write("/root/of-a-kind.py", script)
        reload = "" if kind == "notify-reload" else "ExecReload=/bin/kill -HUP $MAINPID\n"
        machine.write(
            f"/etc/systemd/system/{self.NAME}",
            "[Unit]\nRequires=of-a-kind.socket\n"
            f"[Service]\nType={kind}\nFileDescriptorStoreMax=16\n{reload}"
            "ExecStart=/usr/lib/epaird/bin/python3 -I /root/of-a-kind.py\n",
        )
        machine.write(
            "/etc/systemd/system/of-a-kind.socket",
            "[Socket]\nListenStream=/run/of-a-kind\nFileDescriptorName=control\n",
        )
        machine.run("systemctl", "daemon-reload")

    def systemctl(self, *arguments: str) -> None:
        self.machine.run("systemctl", *arguments, self.NAME)

    def shown(self, name: str) -> str:
        return self.machine.shown(self.NAME, name)


@pytest.fixture
def of_a_kind(machine: Machine) -> Iterator[OfAKind]:
    version = re.match(r"systemd (\d+)", machine.run("systemctl", "--version"))
    kind = "notify-reload" if version and int(version[1]) >= 253 else "notify"
    yield OfAKind(machine, kind)
    machine.run("systemctl", "stop", OfAKind.NAME, "of-a-kind.socket")
    machine.run("rm", "-f", "/run/may-reload")


@pytest.mark.real
def test_what_is_stored_outlives_a_restart_and_can_be_removed(of_a_kind: OfAKind) -> None:
    listens = "listens: /run/of-a-kind"
    of_a_kind.systemctl("start")
    assert of_a_kind.shown("StatusText") == f"stored: {{}}, {listens}"
    until(lambda: of_a_kind.shown("NFileDescriptorStore") == "1")
    of_a_kind.systemctl("restart")
    assert of_a_kind.shown("StatusText") == f"stored: {{'epair0a': 'a device'}}, {listens}"
    of_a_kind.systemctl("kill", "--kill-whom=main", "--signal=USR1")
    until(lambda: of_a_kind.shown("NFileDescriptorStore") == "0")
    of_a_kind.systemctl("restart")
    assert of_a_kind.shown("StatusText") == f"stored: {{}}, {listens}"


@pytest.mark.real
def test_a_reload_is_under_way_until_it_is_done(of_a_kind: OfAKind) -> None:
    of_a_kind.systemctl("start")
    of_a_kind.systemctl("--no-block", "reload")
    until(lambda: of_a_kind.shown("ActiveState") == "reloading")
    of_a_kind.machine.write("/run/may-reload", "")
    until(lambda: of_a_kind.shown("StatusText") == "reloaded")
    assert of_a_kind.shown("ActiveState") == "active"
