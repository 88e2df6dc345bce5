"""The service, run by a real systemd on a machine of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.dataplane.process import WORKER
from tests.deploy.conftest import ROOT
from tests.deploy.machine import Machine, until
from tests.scenarios.hanging import hung
from tests.scenarios.paced import Stream

UNITS = ROOT / "deploy" / "systemd"
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

    def carries(self, frames: int) -> None:
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


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """The service as installed, with the configuration as installed, not running."""
    configuration = machine.run("cat", CONFIGURATION)
    yield Service(machine)
    machine.run("systemctl", "stop", SERVICE)
    machine.try_run("systemctl", "reset-failed", SERVICE)
    machine.run("rm", "-rf", DROP_INS)
    machine.run("systemctl", "daemon-reload")
    machine.write(CONFIGURATION, configuration)


def exposure(directory: Path) -> float:
    """How exposed ``systemd-analyze security`` finds the unit there."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(directory / SERVICE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # What it does not understand it says, and finds nothing wrong with.
    assert not done.stderr
    level = re.search(rf"Overall exposure level for {SERVICE}: ([0-9.]+)", done.stdout)
    assert level
    return float(level[1])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A directory with the service's unit alone."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    shutil.copy(UNITS / SERVICE, tmp_path)
    return tmp_path


def test_the_exposure(unit: Path) -> None:
    assert exposure(unit) < 4.0


def test_the_exposure_without_namespaces(unit: Path) -> None:
    drop_ins = unit / f"{SERVICE}.d"
    drop_ins.mkdir()
    shutil.copy(UNITS / "drop-ins" / "home-only.conf", drop_ins)
    assert exposure(unit) < 2.5


@pytest.mark.real
def test_the_units_are_without_fault(machine: Machine) -> None:
    done = machine.try_run("systemd-analyze", "verify", "--man=yes", SERVICE, "epaird.socket")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.real
def test_it_is_started_when_it_is_ready(service: Service) -> None:
    service.start()
    assert service.running()
    assert re.fullmatch(r"1 pair, \d+ workers?", service.shown("StatusText"))
    service.ping()


@pytest.mark.real
def test_its_control_plane_has_three_capabilities_and_its_workers_none(service: Service) -> None:
    service.start()
    uid = service.machine.run("id", "--user", "epaird").strip()
    control = service.status(service.pid)
    assert control["Uid"].split() == [uid] * 4
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(control[kind], 16) == NET_ADMIN | NET_BROADCAST | SYS_ADMIN
    assert service.workers
    for pid in service.workers:
        worker = service.status(pid)
        assert worker["Uid"].split() == [uid] * 4
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(worker[kind], 16) == 0
        assert (worker["NoNewPrivs"], worker["Seccomp"]) == ("1", "2")


@pytest.mark.real
def test_with_two_capabilities_it_sees_what_others_do_a_little_later(service: Service) -> None:
    two = "CAP_NET_ADMIN CAP_SYS_ADMIN"
    service.drop_in(
        f"[Service]\nAmbientCapabilities=\nAmbientCapabilities={two}\n"
        f"CapabilityBoundingSet=\nCapabilityBoundingSet={two}\n"
    )
    run = service.machine.run
    # Which the daemon has not made, and does not keep alive.
    run("ip", "netns", "add", "green")
    service.start()
    assert int(service.status(service.pid)["CapEff"], 16) == NET_ADMIN | SYS_ADMIN
    run("epairctl", "create", "epair1", "a.netns=green")
    service.ping()

    def carrier(netns: str, name: str) -> bool:
        return "NO-CARRIER" not in run("ip", "-n", netns, "link", "show", name)

    run("ip", "-n", "red", "link", "set", "eth0", "down")
    until(lambda: not carrier("blue", "eth0"))
    run("ip", "-n", "red", "link", "set", "eth0", "mtu", "1400", "up")
    until(lambda: carrier("blue", "eth0"))
    until(lambda: "mtu 1400" in run("epairctl", "show", "epair0a"))
    run("ip", "-n", "green", "link", "set", "epair1a", "down")
    run("ip", "-n", "green", "link", "set", "epair1a", "name", "eth7")
    until(lambda: "eth7" in run("epairctl", "show", "epair1a"))
    run("ip", "netns", "del", "green")
    until(lambda: "epair1a" not in run("epairctl", "list"))
    said = [each["MESSAGE"] for each in service.journal() if "CAP_" in each["MESSAGE"]]
    assert [each.partition(" ")[0] for each in said] == ["CAP_NET_BROADCAST"]


@pytest.mark.real
def test_it_may_use_no_other_device(service: Service) -> None:
    service.start()
    service.machine.run("sh", "-c", "[ -e /dev/kmsg ] || mknod -m 666 /dev/kmsg c 1 11")
    group = service.shown("ControlGroup")
    open_there = 'echo $$ >"/sys/fs/cgroup$1/cgroup.procs" && exec 3<>"$2"'
    for device, may in (("/dev/net/tun", True), ("/dev/null", True), ("/dev/kmsg", False)):
        done = service.machine.try_run("sh", "-c", open_there, "sh", group, device)
        assert ("Operation not permitted" not in done.stderr) == may, device


@pytest.mark.real
def test_its_namespaces_are_everybodys(service: Service) -> None:
    service.start()
    names = {each["name"] for each in json.loads(service.machine.run("ip", "-json", "netns", "list"))}
    assert names == {"red", "blue"}
    # And whoever is not epaird cannot remove them, nor epaird another's.
    assert service.machine.run("stat", "--format=%A %U %G", "/run/netns").split() == [
        "drwxrwxr-t", "root", "epaird",
    ]  # fmt: skip


@pytest.mark.real
def test_stopped_it_leaves_nothing_but_its_socket(service: Service) -> None:
    service.start()
    service.machine.run("systemctl", "stop", SERVICE)
    assert service.shown("Result") == "success"
    assert service.machine.run("ip", "-br", "link", "show", "type", "tun") == ""
    assert service.machine.run("ip", "netns", "list") == ""
    assert service.machine.run("ls", "/run/epaird") == "control.sock\n"
    assert service.machine.processes(SERVICE) == []


@pytest.mark.real
def test_the_control_socket_is_its_groups_and_outlives_it(service: Service) -> None:
    def socket() -> list[str]:
        shown = "%F %a %U %G %i"
        return service.machine.run("stat", f"--format={shown}", "/run/epaird/control.sock").split()

    service.machine.run("systemctl", "start", "epaird.socket")
    before = socket()
    assert before[:-1] == ["socket", "660", "epaird", "epaird"]
    service.start()
    service.machine.run("systemctl", "restart", SERVICE)
    assert socket() == before


@pytest.mark.real
def test_interfaces_are_made_changed_and_destroyed_under_its_restrictions(service: Service) -> None:
    run = service.machine.run
    text = run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text + "\n[lo]\n")
    service.start()
    assert run("epairctl", "create", "epair") == "epair1\n"
    assert run("epairctl", "create", "lo1") == "lo1\n"
    run("epairctl", "set", "epair1a", "mtu=9000")
    run("epairctl", "patch", "--force", "epair1a", "epair0b")
    run("epairctl", "destroy", "epair1b")
    run("epairctl", "destroy", "lo1")
    run("ip", "netns", "add", "green")
    run("epairctl", "create", "epair2", "a.netns=green")
    assert "epair2a" in run("ip", "-n", "green", "-br", "link")
    run("epairctl", "destroy", "epair2")
    run("ip", "netns", "del", "green")


@pytest.mark.real
def test_whoever_asks_it_for_something_starts_it(service: Service) -> None:
    service.machine.run("systemctl", "start", "epaird.socket")
    assert not service.running()
    assert "epair0a" in service.machine.run("epairctl", "list")
    assert service.running()


@pytest.mark.real
def test_a_control_socket_elsewhere_than_configured_is_told(service: Service) -> None:
    text = service.machine.run("cat", CONFIGURATION)
    elsewhere = 'control_socket = "/run/epaird/elsewhere.sock"'
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", f"[daemon]\n{elsewhere}\n"))
    service.start()
    (told,) = [each for each in service.journal() if each["PRIORITY"] == "4"]
    assert "elsewhere.sock: the service manager has /run/epaird/control.sock instead" in told["MESSAGE"]
    service.machine.run("epairctl", "list")


@pytest.mark.real
def test_its_group_may_control_it_and_others_may_not(service: Service) -> None:
    service.start()
    ask = ("setpriv", "--reuid=nobody", "--clear-groups", "--regid=epaird", "epairctl", "list")
    assert "epair0a" in service.machine.run(*ask)
    refused = service.machine.try_run(*(word.replace("=epaird", "=nogroup") for word in ask))
    assert refused.returncode == 1
    assert "ermission denied" in refused.stderr


@pytest.mark.real
def test_a_worker_that_dies_is_no_reason_to_start_again(service: Service) -> None:
    service.start()
    control, worker = service.pid, service.workers[0]
    service.machine.run("kill", "-KILL", str(worker))
    until(lambda: worker not in service.workers and service.workers)
    until(lambda: any("forwards" in each["MESSAGE"] for each in service.journal()))
    service.ping()
    assert (service.pid, service.shown("NRestarts")) == (control, "0")


@pytest.mark.real
def test_killed_it_comes_back_while_its_workers_carry_on_and_nothing_is_lost(service: Service) -> None:
    service.start()
    before, control, workers = device(service), service.pid, service.forwarding()
    service.ping()
    red, blue = map(service.machine.namespace, ("red", "blue"))
    with Stream(red, blue, "10.0.0.2", 20_000) as stream:
        service.carries(2000)
        service.machine.run("kill", "-KILL", str(control))
        service.carries(2000)
        until(lambda: service.shown("NRestarts") == "1" and service.running())
        service.carries(2000)
        outcome = stream.end()
    assert (outcome.lost, outcome.ordered) == (0, True)
    assert service.pid != control
    assert service.forwarding() == workers
    assert device(service) == before
    assert taken_over(service)
    service.machine.run("systemctl", "restart", SERVICE)
    assert not {control, *workers} & set(service.machine.processes(SERVICE))
    service.machine.run("systemctl", "stop", SERVICE)
    assert service.machine.processes(SERVICE) == []
    assert service.machine.run("ip", "netns", "list") == ""


@pytest.mark.real
def test_killed_and_not_started_again_it_leaves_nothing_behind_for_long(service: Service) -> None:
    service.drop_in("[Service]\nRestart=no\n")
    text = service.machine.run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", "[daemon]\norphan_timeout = 1\n"))
    service.start()
    service.machine.run("kill", "-KILL", str(service.pid))
    until(lambda: service.shown("Result") == "signal" and not service.machine.processes(SERVICE))
    until(lambda: not service.machine.run("ip", "-n", "red", "link", "show", "type", "tun"))
    service.start()  # which removes the namespaces


@pytest.mark.real
def test_stopped_while_it_hangs_it_is_ended_with_its_workers(service: Service) -> None:
    service.drop_in("[Service]\nTimeoutStopSec=1s\n")
    service.start()
    assert service.forwarding()
    with hung(service.machine.outside(service.pid)):
        service.machine.run("systemctl", "stop", SERVICE)
    assert service.shown("Result") == "timeout"
    assert service.machine.processes(SERVICE) == []
    assert service.machine.run("ip", "-n", "red", "link", "show", "type", "tun") == ""
    service.start()  # which removes the namespaces


def device(service: Service) -> str:
    """Red's device, by its index and hardware address: another one has others."""
    shown = service.machine.run("ip", "-n", "red", "-o", "link", "show", "eth0").split()
    return f"{shown[0]} {shown[shown.index('link/ether') + 1]}"


def taken_over(service: Service) -> bool:
    words = "taken over from a daemon that ended: 2 interfaces"
    return any(words in each["MESSAGE"] for each in service.journal())


@pytest.mark.real
def test_its_devices_outlive_all_its_processes_in_the_managers_store(service: Service) -> None:
    service.start()
    before, processes = device(service), {service.pid, *service.workers}
    service.machine.run("systemctl", "kill", "--signal=KILL", SERVICE)
    until(lambda: service.shown("NRestarts") == "1" and service.running())
    assert not processes & {service.pid, *service.workers}
    assert device(service) == before
    assert taken_over(service)
    service.ping()
    service.machine.run("systemctl", "stop", "epaird.service")
    until(lambda: service.shown("NFileDescriptorStore") == "0")


@pytest.mark.real
def test_its_devices_outlive_a_restart_where_they_are_to_be_kept(service: Service) -> None:
    text = service.machine.run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", "[daemon]\nkeep_devices = true\n"))
    service.start()
    before = device(service)
    service.machine.run("systemctl", "restart", "epaird.service")
    assert device(service) == before
    assert taken_over(service)
    service.ping()


@pytest.mark.real
def test_it_is_upgraded_as_the_same_process(service: Service) -> None:
    service.start()
    before, control, workers = device(service), service.pid, set(service.workers)
    service.machine.run("epairctl", "upgrade")
    until(lambda: any("upgraded to epaird" in each["MESSAGE"] for each in service.journal()))
    assert (service.pid, service.shown("NRestarts")) == (control, "0")
    assert service.running()
    assert device(service) == before
    assert workers.isdisjoint(service.workers)
    service.ping()
    service.machine.run("epairctl", "list")


@pytest.mark.real
def test_hung_it_is_started_again(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    service.machine.run("kill", "-STOP", str(service.pid))
    until(lambda: service.shown("NRestarts") == "1" and service.running())
    service.ping()


@pytest.mark.real
def test_a_hung_worker_is_not_left_so(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    worker = service.workers[0]
    service.machine.run("kill", "-STOP", str(worker))
    # By the control plane, or else by systemd, since there is no sign of life meanwhile.
    until(lambda: worker not in service.workers and service.running() and service.workers)
    service.ping()


@pytest.mark.real
def test_alive_it_shows_signs_of_life(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    first = service.shown("WatchdogTimestampMonotonic")
    until(lambda: service.shown("WatchdogTimestampMonotonic") != first)
    assert service.shown("NRestarts") == "0"


@pytest.mark.real
def test_what_it_says_has_a_severity_and_a_subject(service: Service) -> None:
    service.start()
    (greeting,) = [each for each in service.journal() if each["MESSAGE"].startswith("epaird ")]
    assert (greeting["PRIORITY"], greeting["SYSLOG_IDENTIFIER"]) == ("6", "epaird")
    service.machine.run("ip", "-n", "red", "link", "set", "eth0", "mtu", "1400")
    until(lambda: [each for each in service.journal() if "mtu is 1400" in each["MESSAGE"]])
    (said,) = [each for each in service.journal() if "mtu is 1400" in each["MESSAGE"]]
    assert said["MESSAGE"] == "epair0a: mtu is 1400 now device=epair0a pair=epair0"
    service.machine.run("ip", "-n", "red", "link", "del", "eth0")
    until(lambda: [each for each in service.journal() if each["PRIORITY"] == "4"])


@pytest.mark.real
def test_it_says_json_if_told_so(service: Service) -> None:
    text = service.machine.run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", '[daemon]\nlog_format = "json"\n'))
    service.start()
    entries = service.journal()
    said = [json.loads(each["MESSAGE"]) for each in entries if each["_PID"] == str(service.pid)]
    assert {each["level"] for each in said} == {"info"}
    assert {each["PRIORITY"] for each in entries} == {"6"}


@pytest.mark.real
def test_a_configuration_that_cannot_be_is_told_as_an_error(service: Service) -> None:
    service.machine.write(CONFIGURATION, "[epair.epair0.a]\nmtu = 70000\n")
    assert service.machine.try_run("systemctl", "start", SERVICE).returncode != 0
    service.machine.run("journalctl", "--sync")
    journal = service.machine.run("journalctl", "--output=cat", "--priority=err", "--unit", SERVICE)
    assert "epair.epair0.a.mtu: 70000 is more than a TAP's 65521" in journal


@pytest.mark.real
def test_without_namespaces_it_needs_less(service: Service) -> None:
    service.machine.run("mkdir", "-p", DROP_INS)
    service.machine.run("cp", "/usr/share/doc/epaird/examples/home-only.conf", DROP_INS)
    service.machine.run("systemctl", "daemon-reload")
    service.machine.write(CONFIGURATION, AT_HOME)
    service.start()
    assert int(service.status(service.pid)["CapBnd"], 16) == NET_ADMIN
    assert not [each for each in service.journal() if each["PRIORITY"] < "6"]
    links = json.loads(service.machine.run("ip", "-json", "link", "show", "type", "tun"))
    assert {each["ifname"] for each in links} == {"epair0a", "epair0b"}
    service.machine.run("systemctl", "stop", SERVICE)
    assert service.shown("Result") == "success"


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
