"""The epaird service on a machine with a real systemd."""

from __future__ import annotations

import json

from epaird.dataplane.process import WORKER
from tests.deploy.machine import Machine
from tests.waiting import until

SERVICE = "epaird.service"
DROP_INS = f"/etc/systemd/system/{SERVICE}.d"
CONFIGURATION = "/etc/epaird/epaird.toml"

NET_ADMIN, NET_BROADCAST, SYS_ADMIN = 1 << 12, 1 << 11, 1 << 21
"""Bits of linux/capability.h."""

AT_HOME = """
[epair.epair0.a]
addresses = ["10.1.0.1/24"]
[epair.epair0.b]
"""


class Service:
    """The service and its machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        self.machine.run("systemctl", "start", SERVICE)

    def shown(self, name: str) -> str:
        return self.machine.shown(SERVICE, name)

    @property
    def pid(self) -> int:
        """Process id of the control plane."""
        return int(self.shown("MainPID"))

    @property
    def workers(self) -> list[int]:
        return [pid for pid in self.machine.processes(SERVICE) if pid != self.pid]

    def forwarding(self) -> list[int]:
        """Return the workers without the spare."""
        return [pid for pid in self.workers if self.status(pid)["Name"].startswith(WORKER)]

    def carries(self, frames: int) -> None:
        """Wait until the kernel counts ``frames`` more received frames in blue."""

        def arrived() -> int:
            (link,) = json.loads(self.machine.run("ip", "-n", "blue", "-s", "-json", "link", "show", "eth0"))
            return int(link["stats64"]["rx"]["packets"])

        before = arrived()
        until(lambda: arrived() >= before + frames)

    def running(self) -> bool:
        return self.shown("ActiveState") == "active" and self.shown("SubState") == "running"

    def drop_in(self, text: str) -> None:
        """Add a drop-in that applies from the next start on."""
        self.machine.write(f"{DROP_INS}/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def add(self, example: str) -> None:
        """Add a drop-in that the package contains."""
        self.machine.run("mkdir", "-p", DROP_INS)
        self.machine.run("cp", f"/usr/share/doc/epaird/examples/{example}", DROP_INS)
        self.machine.run("systemctl", "daemon-reload")

    def status(self, pid: int) -> dict[str, str]:
        """Return the fields of /proc/PID/status."""
        lines = self.machine.run("cat", f"/proc/{pid}/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def journal(self) -> list[dict[str, str]]:
        """Return the journal entries of the current run."""
        invocation = self.shown("InvocationID")
        self.machine.run("journalctl", "--sync")
        lines = self.machine.run("journalctl", "--output=json", f"_SYSTEMD_INVOCATION_ID={invocation}")
        return [json.loads(line) for line in lines.splitlines()]

    def ping(self) -> None:
        """Check that the cable forwards."""
        self.machine.run(
            "ip", "netns", "exec", "red", "ping", "-q", "-c", "3", "-i", "0.01", "-w", "20", "10.0.0.2"
        )
