"""Survival of the service under a real systemd when its processes die, hang or are upgraded."""

from __future__ import annotations

import pytest

from tests.deploy.service import (
    CONFIGURATION,
    SERVICE,
    Service,
)
from tests.scenarios.hanging import hung
from tests.scenarios.paced import Stream
from tests.waiting import until


@pytest.mark.real
def test_a_worker_dies_and_the_service_is_not_restarted(service: Service) -> None:
    service.start()
    control, worker = service.pid, service.workers[0]
    service.machine.run("kill", "-KILL", str(worker))
    until(lambda: worker not in service.workers and service.workers)
    until(lambda: any("forwards" in each["MESSAGE"] for each in service.journal()))
    service.ping()
    assert (service.pid, service.shown("NRestarts")) == (control, "0")


@pytest.mark.real
def test_the_control_plane_is_killed_and_its_successor_loses_no_frame(service: Service) -> None:
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
def test_the_control_plane_is_killed_without_successor_and_workers_end(service: Service) -> None:
    service.drop_in("[Service]\nRestart=no\n")
    text = service.machine.run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", "[daemon]\norphan_timeout = 1\n"))
    service.start()
    service.machine.run("kill", "-KILL", str(service.pid))
    until(lambda: service.shown("Result") == "signal" and not service.machine.processes(SERVICE))
    until(lambda: not service.machine.run("ip", "-n", "red", "link", "show", "type", "tun"))
    service.start()  # removes the namespaces


@pytest.mark.real
def test_a_hung_control_plane_is_stopped_with_its_workers(service: Service) -> None:
    service.drop_in("[Service]\nTimeoutStopSec=1s\n")
    service.start()
    assert service.forwarding()
    with hung(service.machine.outside(service.pid)):
        service.machine.run("systemctl", "stop", SERVICE)
    assert service.shown("Result") == "timeout"
    assert service.machine.processes(SERVICE) == []
    assert service.machine.run("ip", "-n", "red", "link", "show", "type", "tun") == ""
    service.start()  # removes the namespaces


def device(service: Service) -> str:
    """Return the index and the hardware address of red's device, which identify it."""
    shown = service.machine.run("ip", "-n", "red", "-o", "link", "show", "eth0").split()
    return f"{shown[0]} {shown[shown.index('link/ether') + 1]}"


def taken_over(service: Service) -> bool:
    words = "taken over from a daemon that ended: 2 interfaces"
    return any(words in each["MESSAGE"] for each in service.journal())


@pytest.mark.real
def test_devices_survive_all_processes_in_the_descriptor_store(service: Service) -> None:
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
def test_devices_survive_a_restart_with_keep_devices(service: Service) -> None:
    text = service.machine.run("cat", CONFIGURATION)
    service.machine.write(CONFIGURATION, text.replace("[daemon]\n", "[daemon]\nkeep_devices = true\n"))
    service.start()
    before = device(service)
    service.machine.run("systemctl", "restart", "epaird.service")
    assert device(service) == before
    assert taken_over(service)
    service.ping()


@pytest.mark.real
def test_an_upgrade_keeps_the_process(service: Service) -> None:
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
def test_a_hung_control_plane_is_restarted(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    service.machine.run("kill", "-STOP", str(service.pid))
    until(lambda: service.shown("NRestarts") == "1" and service.running())
    service.ping()


@pytest.mark.real
def test_a_hung_worker_is_replaced(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start()
    worker = service.workers[0]
    service.machine.run("kill", "-STOP", str(worker))
    # The control plane replaces it, or else systemd restarts the service for want of a watchdog signal.
    until(lambda: worker not in service.workers and service.running() and service.workers)
    service.ping()
