"""Interfaces of the configuration that others delete are created again when they can be."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.ctl import EPAIRCTL, control_socket, epairctl, refused, reload, rewrite, run_epairctl
from tests.scenarios.lab import CABLE, NAMESPACES, Daemon, Lab, pair
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

pytestmark = pytest.mark.real

GREEN_AND_GREY = pair(a={"netns": "$green"}, b={"netns": "$grey"})
"""A pair between namespaces that others make."""


def missing(daemon: Daemon) -> float:
    """Return the number on the metrics page."""
    return daemon.metrics().value("epaird_interfaces_missing")


def wait_for_missing(daemon: Daemon, count: int) -> None:
    until(lambda: missing(daemon) == count, daemon.__repr__)


def health(daemon: Daemon) -> str:
    status, text = daemon.get("/healthz")
    assert status == 200
    return text.decode()


def test_a_deleted_loopback_and_a_deleted_half_are_created_again(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "[lo]\n")
    events = lab.home.start(EPAIRCTL, "--socket", str(control_socket(lab)), "monitor")
    lab.home.ip("link del lo0")
    daemon.wait_for_log("lo0: others have deleted it or a namespace of it: created again")
    assert "lo0" in lab.home.links()
    lab["red"].ip("link del eth0")
    daemon.wait_for_log("epair0: others have deleted it or a namespace of it: created again")
    ping(lab["red"], BLUE)
    wait_for_missing(daemon, 0)
    assert health(daemon) == "ok\n"
    assert "Nothing to do" in epairctl(lab, "reload", "--dry-run")
    created = {"lo0", "epair0a", "epair0b"}
    until(
        lambda: created <= set(re.findall(r"(\S+) +created\b", events.stdout.decode())),
        lambda: events.stdout.decode(),
    )


def test_a_pair_returns_with_its_namespace_and_everything_else_goes_on(lab: Lab) -> None:
    green, grey = lab.namespace("green"), lab.namespace("grey")
    extra = NAMESPACES + pair(1)
    daemon = lab.daemon(GREEN_AND_GREY + extra)
    green.remove()
    wait_for_missing(daemon, 1)
    assert health(daemon) == "ok\nepair0 is missing\n"
    daemon.wait_for_log(
        f"epair0: missing, and created again when it can be: namespace {green}: does not exist"
    )
    assert refused(lab, "show", "epair0a") == (
        f"epair0 is in the configuration and missing: namespace {green}: does not exist: create it, "
        "or list it under namespaces.create (ENXIO)"
    )
    shown = run_epairctl(lab, "reload", "--dry-run")
    assert "epair0a  missing" in epairctl(lab, "list")
    assert (shown.returncode, "+ epair0  # no longer exists; it stays missing until" in shown.stdout) == (
        2,
        True,
    )
    # A reload changes the rest, and refuses a name that may be a mistake.
    reload(daemon, GREEN_AND_GREY + NAMESPACES + pair(1, a={"mtu": 1400}))
    assert lab["red"].links()["eth1"].mtu == 1400
    assert "does not exist" in refused_reload(daemon, GREEN_AND_GREY.replace("eth0", "eth9") + extra)
    green.create()
    daemon.wait_for_log("epair0: others have deleted it")
    ping(green, BLUE)
    wait_for_missing(daemon, 0)
    # Deleted and made again at once.
    green.remove()
    green.create()
    until(lambda: "eth0" in green.links() and missing(daemon) == 0, daemon.__repr__)
    ping(green, BLUE)
    grey.remove()
    wait_for_missing(daemon, 1)  # and stops like this


def refused_reload(daemon: Daemon, text: str) -> str:
    before = daemon.file.read_text()
    daemon.lab.configuration(text).replace(daemon.file)
    try:
        return refused(daemon.lab, "reload")
    finally:
        daemon.file.write_text(before)


def test_a_namespace_of_the_daemon_is_created_again_with_what_was_in_it(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    lab["red"].remove()
    daemon.wait_for_log(f"namespace {lab['red']}: others have removed it: created again")
    until(lambda: "eth0" in lab["red"].links(), daemon.__repr__)
    wait_for_missing(daemon, 0)
    ping(lab["red"], BLUE)


@contextlib.contextmanager
def mounted(namespace: str, file: Path) -> Iterator[None]:
    """Have a file outside of /run/netns lead to a namespace."""
    file.touch()
    subprocess.run(["mount", "--bind", f"/run/netns/{namespace}", str(file)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(file)], check=True)


def test_a_path_leads_to_a_namespace_again(lab: Lab) -> None:
    green, file = lab.namespace("green"), lab.directory / "a namespace"
    with mounted(green.name, file):
        daemon = lab.daemon(NAMESPACES + pair(a={"netns": str(file)}))
    green.remove()
    wait_for_missing(daemon, 1)
    green.create()
    with mounted(green.name, file):
        daemon.wait_for_log("epair0: others have deleted it")
        ping(green, BLUE)


def test_what_is_deleted_again_and_again_is_created_after_growing_pauses(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    for times in range(1, 4):
        until(lambda: "eth0" in lab["blue"].links(), daemon.__repr__)
        lab["red"].ip("link del eth0")
        daemon.wait_for_log_lines("created again", times)
    taken = lab["red"]
    taken.ip("link del eth0")
    until(lambda: "eth0" not in taken.links())
    taken.ip("link add eth0 type veth peer name other")
    daemon.wait_for_log("epair0: missing, and cannot be created again: ")
    assert "the next attempt is in 16 s" in daemon.stderr
    assert missing(daemon) == 1
    taken.ip("link del eth0")
    epairctl(lab, "reload")  # does not wait
    ping(lab["red"], BLUE)


def test_what_a_request_destroyed_or_created_is_left_alone(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "[epair.epair5]\n[epair.epair6]\n")
    epairctl(lab, "destroy", "epair5")
    epairctl(lab, "create", "epair7")
    lab.home.ip("link del epair7a")
    lab.home.ip("link del epair6a")
    daemon.wait_for_log("epair6: others have deleted it")
    assert not {"epair5a", "epair7a"} & lab.home.links().keys()
    assert missing(daemon) == 1  # it is in the file
    epairctl(lab, "reload")
    assert missing(daemon) == 0


def crash(daemon: Daemon) -> Daemon:
    daemon.crash()
    return daemon.lab.restart(daemon).wait_ready()


def upgrade(daemon: Daemon) -> Daemon:
    daemon.signal(signal.SIGUSR2)
    daemon.wait_for_log("upgraded to epaird")
    return daemon


@pytest.mark.parametrize("go_on", [crash, upgrade])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_successor_starts_although_something_is_missing(
    lab: Lab, go_on: Callable[[Daemon], Daemon], when: str
) -> None:
    green, _ = lab.namespace("green"), lab.namespace("grey")
    daemon = lab.daemon(GREEN_AND_GREY + NAMESPACES + pair(1))
    epairctl(lab, "set", "epair1a", "mtu=1300")
    if when == "before":
        green.remove()
        wait_for_missing(daemon, 1)
    elif go_on is crash:
        daemon.crash()
        green.remove()
    daemon = go_on(daemon) if daemon.running else lab.restart(daemon).wait_ready()
    if green.exists:
        green.remove()
    wait_for_missing(daemon, 1)
    ping(lab["red"], "10.0.1.2")
    assert lab["red"].links()["eth1"].mtu == 1300
    green.create()
    until(lambda: missing(daemon) == 0, daemon.__repr__)
    ping(green, BLUE)


@pytest.mark.parametrize("go_on", [crash, upgrade])
def test_a_successor_starts_although_something_new_in_the_file_cannot_be_created(
    lab: Lab, go_on: Callable[[Daemon], Daemon]
) -> None:
    daemon = lab.daemon(CABLE)
    lab.home.ip("link add epair5b type veth peer name other")
    with daemon.file.open("a") as file:
        file.write("[epair.epair5]\n[epair.epair6]\n")
    daemon = go_on(daemon)
    ping(lab["red"], BLUE)
    assert missing(daemon) == 1
    assert "epair6a" in lab.home.links()
    assert daemon.log_lines_with("epair5: missing, and created again when it can be: ")
    lab.home.ip("link del other")
    until(lambda: "epair5b" in lab.home.links("tun") and missing(daemon) == 0, daemon.__repr__)


@pytest.mark.parametrize("go_on", [crash, upgrade])
def test_what_a_request_destroyed_stays_away_after_a_takeover(
    lab: Lab, go_on: Callable[[Daemon], Daemon]
) -> None:
    text = CABLE + '[epair.epair5]\n[epair.epair6]\n[epair.epair7]\na.peer = "epair5b"\n[lo.lo3]\n'
    daemon = lab.daemon(text)
    for name in ("epair5", "epair6", "lo3"):
        epairctl(lab, "destroy", name)
    state = control_socket(lab).with_name("state.json")
    until(lambda: len(json.loads(state.read_text())["withdrawn"]) == 3, daemon.__repr__)
    rewrite(daemon, text.replace("epair6]", "epair6.a]\nmtu = 1400"))
    daemon = go_on(daemon)
    assert lab.home.links()["epair6a"].mtu == 1400  # the file has other settings for it now
    assert missing(daemon) == 2
    assert not {"epair5a", "lo3"} & lab.home.links().keys()
    epairctl(lab, "reload")
    assert missing(daemon) == 0
    assert "peer epair5b" in epairctl(lab, "show", "epair7a")


def test_the_number_of_what_is_missing_is_not_free(lab: Lab) -> None:
    green, _ = lab.namespace("green"), lab.namespace("grey")
    daemon = lab.daemon(GREEN_AND_GREY + "[epair.epair1]\n")
    green.remove()
    wait_for_missing(daemon, 1)
    assert epairctl(lab, "create", "epair") == "epair2a\n"
    green.create()
    until(lambda: missing(daemon) == 0, daemon.__repr__)
    ping(green, BLUE)
    epairctl(lab, "destroy", "epair1")
    assert epairctl(lab, "create", "epair") == "epair1a\n"


def test_a_missing_namespace_refuses_a_start_without_a_predecessor(lab: Lab) -> None:
    daemon = lab.launch(GREEN_AND_GREY)
    assert daemon.wait_exit() == 1
    assert "does not exist" in daemon.stderr


def test_stopping_while_interfaces_are_deleted_leaves_nothing(lab: Lab) -> None:
    daemon = lab.daemon(CABLE + "".join(f"[epair.epair{unit}]\n" for unit in range(5, 25)))
    for unit in range(5, 25):
        lab.home.ip(f"link del epair{unit}b")
    lab["red"].remove()
    until(lambda: any("created again" in line for line in daemon.log), daemon.__repr__)
    daemon.stop()
