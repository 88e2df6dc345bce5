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
"""Capabilities of linux/capability.h."""

AT_HOME = """
[epair.epair0.a]
addresses = ["10.1.0.1/24"]
[epair.epair0.b]
"""


class Service:
    """The epaird service on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        self.machine.run("systemctl", "start", SERVICE)

    def show(self, name: str) -> str:
        return self.machine.show(SERVICE, name)

    @property
    def pid(self) -> int:
        """The pid of the control plane."""
        return int(self.show("MainPID"))

    @property
    def workers(self) -> list[int]:
        return [pid for pid in self.machine.processes(SERVICE) if pid != self.pid]

    def forwarding(self) -> list[int]:
        """Return the pids of the workers, without the spare."""
        return [pid for pid in self.workers if self.status(pid)["Name"].startswith(WORKER)]

    def wait_for_frames(self, frames: int) -> None:
        """Wait until blue has received this many more frames, by the kernel's count."""

        def arrived() -> int:
            (link,) = json.loads(self.machine.run("ip", "-n", "blue", "-s", "-json", "link", "show", "eth0"))
            return int(link["stats64"]["rx"]["packets"])

        before = arrived()
        until(lambda: arrived() >= before + frames)

    def running(self) -> bool:
        return self.show("ActiveState") == "active" and self.show("SubState") == "running"

    def configure(self, setting: str) -> None:
        """Add a setting to the [daemon] table of the configuration file."""
        text = self.machine.run("cat", CONFIGURATION)
        self.machine.write(CONFIGURATION, text.replace("[daemon]\n", f"[daemon]\n{setting}\n"))

    def drop_in(self, text: str) -> None:
        """Add a drop-in, which takes effect with the next start."""
        self.machine.write(f"{DROP_INS}/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def add_example(self, example: str) -> None:
        """Add a drop-in that comes with the package."""
        self.machine.run("mkdir", "-p", DROP_INS)
        self.machine.run("cp", f"/usr/share/doc/epaird/examples/{example}", DROP_INS)
        self.machine.run("systemctl", "daemon-reload")

    def status(self, pid: int) -> dict[str, str]:
        """Return the fields of /proc/PID/status."""
        lines = self.machine.run("cat", f"/proc/{pid}/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def journal(self) -> list[dict[str, str]]:
        """Return the journal entries since the service was started."""
        invocation = self.show("InvocationID")
        self.machine.run("journalctl", "--sync")
        lines = self.machine.run("journalctl", "--output=json", f"_SYSTEMD_INVOCATION_ID={invocation}")
        return [json.loads(line) for line in lines.splitlines()]

    def ping(self) -> None:
        """Check that the cable forwards."""
        self.machine.run(
            "ip", "netns", "exec", "red", "ping", "-q", "-c", "3", "-i", "0.01", "-w", "20", "10.0.0.2"
        )
