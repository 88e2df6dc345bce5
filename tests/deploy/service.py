"""Our service, as a test sees it on a machine with a real systemd."""

from __future__ import annotations

import json

from epaird.dataplane.process import WORKER
from tests.deploy.machine import Machine
from tests.waiting import until

SERVICE = "epaird.service"
DROP_INS = f"/etc/systemd/system/{SERVICE}.d"
CONFIGURATION = "/etc/epaird/epaird.toml"

NET_ADMIN, NET_BROADCAST, SYS_ADMIN = 1 << 12, 1 << 11, 1 << 21
"""Of linux/capability.h."""

AT_HOME = """
[epair.epair0.a]
addresses = ["10.1.0.1/24"]
[epair.epair0.b]
"""


class Service:
    """Ours, on its machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self.machine.run("systemctl", "start", SERVICE)

    def shown(self, name: str) -> str:
        return self.machine.shown(SERVICE, name)

    @property
    def pid(self) -> int:
        """The control plane's."""
        return int(self.shown("MainPID"))

    @property
    def workers(self) -> list[int]:
        return [pid for pid in self.machine.processes(SERVICE) if pid != self.pid]

    def forwarding(self) -> list[int]:
        """Its workers without the process that is none yet."""
        return [pid for pid in self.workers if self.status(pid)["Name"].startswith(WORKER)]

    def wait_for_frames(self, frames: int) -> None:
        """Wait until so many more have come to blue, by the kernel's count."""

        def arrived() -> int:
            (link,) = json.loads(self.machine.run("ip", "-n", "blue", "-s", "-json", "link", "show", "eth0"))
            return int(link["stats64"]["rx"]["packets"])

        before = arrived()
        until(lambda: arrived() >= before + frames)

    def running(self) -> bool:
        return self.shown("ActiveState") == "active" and self.shown("SubState") == "running"

    def drop_in(self, text: str) -> None:
        """What is to be otherwise, from the next start on."""
        self.machine.write(f"{DROP_INS}/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def add(self, example: str) -> None:
        """A drop-in that comes with it."""
        self.machine.run("mkdir", "-p", DROP_INS)
        self.machine.run("cp", f"/usr/share/doc/epaird/examples/{example}", DROP_INS)
        self.machine.run("systemctl", "daemon-reload")

    def status(self, pid: int) -> dict[str, str]:
        """What /proc/PID/status says."""
        lines = self.machine.run("cat", f"/proc/{pid}/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def journal(self) -> list[dict[str, str]]:
        """What it has said since it was started."""
        invocation = self.shown("InvocationID")
        self.machine.run("journalctl", "--sync")
        lines = self.machine.run("journalctl", "--output=json", f"_SYSTEMD_INVOCATION_ID={invocation}")
        return [json.loads(line) for line in lines.splitlines()]

    def ping(self) -> None:
        """See that the cable carries."""
        self.machine.run(
            "ip", "netns", "exec", "red", "ping", "-q", "-c", "3", "-i", "0.01", "-w", "20", "10.0.0.2"
        )
