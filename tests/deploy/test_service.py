"""The service, run by a real systemd on a machine of its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from epaird.kernel.scheduling import LONG_NS
from tests.deploy.service import (
    AT_HOME,
    CONFIGURATION,
    NET_ADMIN,
    NET_BROADCAST,
    SERVICE,
    SYS_ADMIN,
    Service,
)
from tests.scheduling import needs_slices, slice_ns
from tests.waiting import until


@pytest.mark.real
def test_it_is_started_when_it_is_ready(service: Service) -> None:
    service.start()
    assert service.running()
    assert re.fullmatch(r"1 pair, \d+ workers?", service.show("StatusText"))
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


@needs_slices
@pytest.mark.real
def test_its_control_plane_has_long_slices_where_permitted(service: Service) -> None:
    service.add_example("long-slices.conf")
    service.start()
    service.ping()
    assert slice_ns(service.machine.host_pid(service.pid)) == LONG_NS
    assert {slice_ns(service.machine.host_pid(pid)) for pid in service.forwarding()} == {slice_ns()}


@pytest.mark.real
def test_with_two_capabilities_it_sees_changes_by_others_later(service: Service) -> None:
    two = "CAP_NET_ADMIN CAP_SYS_ADMIN"
    service.drop_in(
        f"[Service]\nAmbientCapabilities=\nAmbientCapabilities={two}\n"
        f"CapabilityBoundingSet=\nCapabilityBoundingSet={two}\n"
    )
    run = service.machine.run
    # The daemon has not created this namespace and does not keep it alive.
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
    warnings = [each["MESSAGE"] for each in service.journal() if "CAP_" in each["MESSAGE"]]
    assert [each.partition(" ")[0] for each in warnings] == ["CAP_NET_BROADCAST"]


@pytest.mark.real
def test_it_may_use_no_other_device(service: Service) -> None:
    service.start()
    service.machine.run("sh", "-c", "[ -e /dev/kmsg ] || mknod -m 666 /dev/kmsg c 1 11")
    group = service.show("ControlGroup")
    open_there = 'echo $$ >"/sys/fs/cgroup$1/cgroup.procs" && exec 3<>"$2"'
    for device, may in (("/dev/net/tun", True), ("/dev/null", True), ("/dev/kmsg", False)):
        done = service.machine.try_run("sh", "-c", open_there, "sh", group, device)
        assert ("Operation not permitted" not in done.stderr) == may, device


@pytest.mark.real
def test_its_namespaces_are_visible_to_all(service: Service) -> None:
    service.start()
    names = {each["name"] for each in json.loads(service.machine.run("ip", "-json", "netns", "list"))}
    assert names == {"red", "blue"}
    # Other users cannot remove them, nor can epaird remove those of others.
    assert service.machine.run("stat", "--format=%A %U %G", "/run/netns").split() == [
        "drwxrwxr-t", "root", "epaird",
    ]  # fmt: skip


@pytest.mark.real
def test_stopped_it_leaves_nothing_but_its_socket(service: Service) -> None:
    service.start()
    service.machine.run("systemctl", "stop", SERVICE)
    assert service.show("Result") == "success"
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
    assert run("epairctl", "create", "epair") == "epair1a\n"
    assert run("epairctl", "create", "lo1") == "lo1\n"
    run("epairctl", "set", "epair1a", "mtu=9000")
    run("epairctl", "patch", "--force", "epair1a", "epair0b")
    run("epairctl", "destroy", "epair1b")
    run("epairctl", "destroy", "lo1")
    run("ip", "netns", "add", "green")
    as_member = ("setpriv", "--reuid=nobody", "--clear-groups", "--regid=epaird", "epairctl")
    run(
        *as_member, "create", "epair2", "a.netns=green", "a.name=uplink", "a.mac=02:00:5e:00:53:01",
        'a.addresses=["10.9.0.1/24"]', 'a.routes=[{to="192.0.2.0/24", via="10.9.0.2"}]',
    )  # fmt: skip
    assert "02:00:5e:00:53:01" in run("ip", "-n", "green", "-br", "link", "show", "uplink")
    assert "10.9.0.1/24" in run("ip", "-n", "green", "-br", "address", "show", "uplink")
    assert "192.0.2.0/24 via 10.9.0.2" in run("ip", "-n", "green", "route")
    run(*as_member, "destroy", "epair2")
    run("ip", "netns", "del", "green")


@pytest.mark.real
def test_a_request_to_its_socket_starts_it(service: Service) -> None:
    service.machine.run("systemctl", "start", "epaird.socket")
    assert not service.running()
    assert "epair0a" in service.machine.run("epairctl", "list")
    assert service.running()


@pytest.mark.real
def test_a_control_socket_other_than_the_units_is_reported(service: Service) -> None:
    service.configure('control_socket = "/run/epaird/elsewhere.sock"')
    service.start()
    (warning,) = [each for each in service.journal() if each["PRIORITY"] == "4"]
    assert "elsewhere.sock: the service manager has /run/epaird/control.sock instead" in warning["MESSAGE"]
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
def test_it_pings_the_watchdog(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    first = service.show("WatchdogTimestampMonotonic")
    until(lambda: service.show("WatchdogTimestampMonotonic") != first)
    assert service.show("NRestarts") == "0"


@pytest.mark.real
def test_journal_entries_have_a_severity_and_a_device(service: Service) -> None:
    service.start()
    (greeting,) = [each for each in service.journal() if each["MESSAGE"].startswith("epaird ")]
    assert (greeting["PRIORITY"], greeting["SYSLOG_IDENTIFIER"]) == ("6", "epaird")
    service.machine.run("ip", "-n", "red", "link", "set", "eth0", "mtu", "1400")
    until(lambda: [each for each in service.journal() if "mtu is 1400" in each["MESSAGE"]])
    (entry,) = [each for each in service.journal() if "mtu is 1400" in each["MESSAGE"]]
    assert entry["MESSAGE"] == "epair0a: mtu is 1400 now device=epair0a pair=epair0"
    service.machine.run("ip", "-n", "red", "link", "del", "eth0")
    until(lambda: [each for each in service.journal() if each["PRIORITY"] == "4"])


@pytest.mark.real
def test_it_logs_json_if_configured(service: Service) -> None:
    service.configure('log_format = "json"')
    service.start()
    entries = service.journal()
    lines = [json.loads(each["MESSAGE"]) for each in entries if each["_PID"] == str(service.pid)]
    assert {each["level"] for each in lines} == {"info"}
    assert {each["PRIORITY"] for each in entries} == {"6"}


@pytest.mark.real
def test_an_invalid_configuration_is_logged_as_an_error(service: Service) -> None:
    service.machine.write(CONFIGURATION, "[epair.epair0.a]\nmtu = 70000\n")
    assert service.machine.try_run("systemctl", "start", SERVICE).returncode != 0
    service.machine.run("journalctl", "--sync")
    journal = service.machine.run("journalctl", "--output=cat", "--priority=err", "--unit", SERVICE)
    assert "epair.epair0.a.mtu: 70000 is more than a TAP's 65521" in journal


@pytest.mark.real
def test_without_namespaces_it_needs_less(service: Service) -> None:
    service.add_example("home-only.conf")
    service.machine.write(CONFIGURATION, AT_HOME)
    service.start()
    assert int(service.status(service.pid)["CapBnd"], 16) == NET_ADMIN
    assert not [each for each in service.journal() if each["PRIORITY"] < "6"]
    links = json.loads(service.machine.run("ip", "-json", "link", "show", "type", "tun"))
    assert {each["ifname"] for each in links} == {"epair0a", "epair0b"}
    service.machine.run("systemctl", "stop", SERVICE)
    assert service.show("Result") == "success"


@pytest.mark.real
def test_its_workers_are_confined_as_far_as_the_unit_permits(service: Service) -> None:
    service.start()

    def workers() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(service.machine.run("epairctl", "workers", "-j"))
        return found

    until(lambda: {each["state"] for each in workers()} == {"running", "spare"})
    until(lambda: all(each["version"] for each in workers()))
    uid = int(service.machine.run("id", "--user", "epaird"))
    for each in workers():
        assert (each["uid"], each["capabilities"], each["no_new_privs"]) == (uid, [], True)
        assert each["seccomp"] == "filter"
        # RestrictNamespaces= permits network namespaces only.
        assert each["namespaces"] == ["net"]
        lacking = {layer.partition(":")[0] for layer in each["missing"]}
        assert lacking - {"Landlock"} == {f"{kind} namespace" for kind in ("ipc", "uts", "cgroup", "mnt")}
        assert bool(each["landlock"]) == ("Landlock" not in lacking)
        # One filter of its own for io_uring and one for the rest, besides the unit's.
        filters = int(service.status(each["pid"]).get("Seccomp_filters", "99"))
        assert filters >= int(service.status(service.pid).get("Seccomp_filters", "0")) + 2
    service.ping()
