"""The service survives the end of its processes under a real systemd."""

from __future__ import annotations

import pytest

from tests.deploy.service import (
    SERVICE,
    Service,
)
from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.hanging import hang
from tests.waiting import until


@pytest.mark.real
def test_the_death_of_a_worker_restarts_no_service(service: Service) -> None:
    service.start()
    control, worker = service.pid, service.workers[0]
    service.machine.run("kill", "-KILL", str(worker))
    until(lambda: worker not in service.workers and service.workers)
    until(lambda: any("forwards" in each["MESSAGE"] for each in service.journal()))
    service.ping()
    assert (service.pid, service.show("NRestarts")) == (control, "0")


@pytest.mark.real
def test_killed_it_comes_back_while_its_workers_carry_on_and_nothing_is_lost(service: Service) -> None:
    service.start()
    before, control, workers = device(service), service.pid, service.forwarding()
    service.ping()
    red, blue = map(service.machine.namespace, ("red", "blue"))
    with DatagramStream(red, blue, "10.0.0.2", 20_000) as stream:
        service.wait_for_frames(2000)
        service.machine.run("kill", "-KILL", str(control))
        service.wait_for_frames(2000)
        until(lambda: service.show("NRestarts") == "1" and service.running())
        service.wait_for_frames(2000)
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
    service.configure("orphan_timeout = 1")
    service.start()
    service.machine.run("kill", "-KILL", str(service.pid))
    until(lambda: service.show("Result") == "signal" and not service.machine.processes(SERVICE))
    until(lambda: not service.machine.run("ip", "-n", "red", "link", "show", "type", "tun"))
    service.start()  # removes the namespaces


@pytest.mark.real
def test_stopped_while_it_hangs_it_is_ended_with_its_workers(service: Service) -> None:
    service.drop_in("[Service]\nTimeoutStopSec=1s\n")
    service.start()
    assert service.forwarding()
    with hang(service.machine.host_pid(service.pid)):
        service.machine.run("systemctl", "stop", SERVICE)
    assert service.show("Result") == "timeout"
    assert service.machine.processes(SERVICE) == []
    assert service.machine.run("ip", "-n", "red", "link", "show", "type", "tun") == ""
    service.start()  # removes the namespaces


def device(service: Service) -> str:
    """Return the index and hardware address of red's device, which a recreated device would not have."""
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
    until(lambda: service.show("NRestarts") == "1" and service.running())
    assert not processes & {service.pid, *service.workers}
    assert device(service) == before
    assert taken_over(service)
    service.ping()
    service.machine.run("systemctl", "stop", "epaird.service")
    until(lambda: service.show("NFileDescriptorStore") == "0")


@pytest.mark.real
def test_its_devices_outlive_a_restart_with_keep_devices(service: Service) -> None:
    service.configure("keep_devices = true")
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
    assert (service.pid, service.show("NRestarts")) == (control, "0")
    assert service.running()
    assert device(service) == before
    assert workers.isdisjoint(service.workers)
    service.ping()
    service.machine.run("epairctl", "list")


@pytest.mark.real
def test_a_hung_control_plane_is_restarted(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    service.machine.run("kill", "-STOP", str(service.pid))
    until(lambda: service.show("NRestarts") == "1" and service.running())
    service.ping()


@pytest.mark.real
def test_a_hung_worker_is_replaced(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    worker = service.workers[0]
    service.machine.run("kill", "-STOP", str(worker))
    # Either the control plane kills it or systemd does, because the watchdog pings stop.
    until(lambda: worker not in service.workers and service.running() and service.workers)
    service.ping()
