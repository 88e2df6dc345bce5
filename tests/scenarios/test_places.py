"""Namespaces whose names lead elsewhere: nothing foreign is touched, and interfaces follow the names."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from epaird.client.client import Client
from tests.scenarios.ctl import control_socket, epairctl, reload, run_epairctl
from tests.scenarios.lab import EPAIRD, Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

pytestmark = pytest.mark.real

CREATE = '[namespaces]\ncreate = ["$red"]\n'
"""Blue is another program's: its name can lead elsewhere."""
KEEPER = ("sleep", "1000")


@dataclass(frozen=True, slots=True)
class Kept:
    """A pair from red to blue, whose name leads to another namespace; a process keeps the old one."""

    daemon: Daemon
    red: Namespace
    blue: Namespace
    """The new namespace, with a foreign device of the half's name and index."""
    old: Namespace
    """The old one, by the path of its process."""
    before: dict[str, Any]
    """The foreign device."""

    def foreign(self) -> dict[str, Any]:
        """Return the foreign device with its addresses."""
        (found,) = json.loads(self.blue.run("ip", "-j", "addr", "show", "dev", "eth0"))
        return dict(found)

    def assert_foreign_is_untouched(self) -> None:
        """Check that the foreign device is as it was made."""
        assert self.foreign() == self.before

    def half(self) -> dict[str, Any]:
        """Return the half in blue as the API shows it."""
        return shown(self.daemon.lab)["epair0b"]


def shown(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return every interface as ``epairctl list`` shows it."""
    return {each["device"]: each for each in json.loads(epairctl(lab, "-j", "list"))}


def planned(lab: Lab) -> str:
    """Return the plan of the daemon's own file."""
    (daemon,) = (each for each in lab._daemons if each.running)
    done = run_epairctl(lab, "plan", str(daemon.file))
    assert done.returncode in (0, 2), done
    return done.stdout


def make_again(lab: Lab, blue: Namespace, index: int) -> dict[str, Any]:
    """Make blue again under its name, with a foreign device of this name and index; return the device.

    The device is there before the name leads there: it prevents that the half follows the name."""
    fresh = lab.namespace("fresh")
    fresh.ip(f"link add eth0 index {index} mtu 1234 type veth peer name other index 999")
    fresh.ip("addr add 10.99.0.7/24 dev eth0")
    fresh.ip("link set eth0 up")
    blue.remove()
    path = Path("/run/netns", blue.name)
    path.touch()
    lab.home.run("mount", "--bind", f"/run/netns/{fresh}", str(path))
    fresh.remove()
    (found,) = json.loads(blue.run("ip", "-j", "addr", "show", "dev", "eth0"))
    return dict(found)


@contextlib.contextmanager
def kept(lab: Lab, settings: str = "") -> Iterator[Kept]:
    """Provide a pair whose half in blue is in a namespace that the name no longer leads to."""
    blue = lab.namespace("blue")
    keeper = blue.start(*KEEPER)
    daemon = lab.daemon(CREATE + pair(0, b={"netns": "$blue"}) + settings, workers=1)
    red, old = lab["red"], lab.by_name(f"/proc/{keeper.pid}/ns/net")
    ping(red, BLUE)
    before = make_again(lab, blue, old.links("tun")["eth0"].index)
    yield Kept(daemon, red, blue, old, before)
    keeper.kill()


def make_way(blue: Namespace) -> None:
    """Rename the foreign device, so that the half can follow the name."""
    blue.ip("link set eth0 down")
    blue.ip("link set eth0 name foreign")


def await_return(scene: Kept, daemon: Daemon) -> None:
    """Wait until the half is configured where the name leads, and its peer has carrier again."""
    daemon.wait_for_log(f"epair0b: in namespace {scene.blue} again")
    scene.red.wait_for_carrier("eth0")
    assert "eth0" in scene.blue.links("tun")


def test_a_half_in_a_namespace_that_was_made_again_is_changed_where_it_is(lab: Lab) -> None:
    with kept(lab) as scene:
        ping(scene.red, BLUE)
        scene.blue.ip("link add wan type veth peer name lan")  # it does not follow under that name either
        for settings in ("mtu=1400", "up=false", "up=true", "name=wan", "txqueuelen=500", "mtu=1450"):
            epairctl(lab, "set", "epair0b", settings)
            scene.assert_foreign_is_untouched()
        link = scene.old.links("tun")["wan"]
        assert (link.mtu, link.up) == (1450, True)
        ping(scene.red, BLUE)
        half = scene.half()
        assert half["netns"].startswith("net:[")
        assert (half["strayed"], half["leads_to"][:5]) == (scene.blue.name, "net:[")
        assert half["leads_to"] != half["netns"]
        assert half["netns"] in epairctl(lab, "list")
        assert f"strayed {scene.blue}" in epairctl(lab, "show", "epair0b")
        epairctl(lab, "destroy", "epair0")
        assert not scene.old.links("tun")
        scene.assert_foreign_is_untouched()


@pytest.mark.parametrize("how", ["by itself", "by a reload"])
def test_a_half_is_brought_to_where_the_name_leads(lab: Lab, how: str) -> None:
    route = '[[epair.epair0.b.routes]]\nto = "10.7.0.0/16"\nvia = "10.0.0.1"\n'
    with kept(lab, route) as scene:
        before = scene.daemon.metrics().interface("epair0b")
        plan = planned(lab)
        assert f"netns: {scene.half()['netns']} -> {scene.blue}" in plan
        assert "1 to change, 0 to recreate" in plan
        make_way(scene.blue)
        if how == "by a reload":
            epairctl(lab, "reload")
        await_return(scene, scene.daemon)
        ping(scene.red, BLUE)
        half = scene.half()
        assert (half["netns"], half["strayed"], half["mac"]) == (scene.blue.name, "", before.mac)
        assert "10.7.0.0/16 via 10.0.0.1" in scene.blue.ip("route")
        assert not scene.old.links("tun")
        assert not scene.daemon.metrics().interface("epair0b").goes_back(before)
        assert "Nothing to do" in planned(lab)
    scene.daemon.at_rest()


def test_a_move_that_is_refused_leaves_the_half_where_it_is(lab: Lab) -> None:
    with kept(lab) as scene:
        done = run_epairctl(lab, "reload")
        assert done.returncode == 1
        assert "epair0b: cannot be eth0 in namespace" in done.stderr
        scene.assert_foreign_is_untouched()
        ping(scene.red, BLUE)
        assert scene.half()["strayed"] == scene.blue.name


def test_a_name_that_leads_nowhere_is_a_remark(lab: Lab) -> None:
    blue = lab.namespace("blue")
    keeper = blue.start(*KEEPER)
    configuration = CREATE + pair(0, b={"netns": "$blue"})
    lab.daemon(configuration, workers=1)
    blue.remove()
    plan = planned(lab)
    assert f"epair0b  # namespace {blue} does not exist any more, stays in net:[" in plan
    assert "Nothing to do" in plan
    half = shown(lab)["epair0b"]
    assert (half["strayed"], half["leads_to"]) == (blue.name, "")
    reloaded = reload(
        lab._daemons[0], configuration.replace("[epair.epair0.a]", "[epair.epair0.a]\nmtu = 1400")
    )
    assert "a.mtu" in reloaded, "other changes are made"
    old = lab.by_name(f"/proc/{keeper.pid}/ns/net")
    blue.create()
    epairctl(lab, "reload")
    assert set(blue.links("tun")) == {"eth0"}
    assert not old.links("tun")
    keeper.kill()


def test_a_half_that_others_have_moved_is_none_of_it(lab: Lab) -> None:
    with kept(lab) as scene:
        green = lab.namespace("green")
        scene.old.ip(f"link set eth0 netns {green}")
        until(lambda: scene.half()["netns"] == green.name)
        assert scene.half()["strayed"] == ""
        scene.daemon.lab.home.run("true")
        assert "netns" not in planned(lab)
        scene.assert_foreign_is_untouched()


@pytest.mark.parametrize("how", ["upgrade", "crash"])
def test_a_stray_is_recognised_by_the_next_control_plane(lab: Lab, how: str) -> None:
    with kept(lab) as scene:
        daemon = scene.daemon
        assert scene.half()["strayed"] == scene.blue.name
        if how == "upgrade":
            daemon.signal(signal.SIGUSR2)
            daemon.wait_for_log("upgraded to epaird")
            make_way(scene.blue)
        else:
            daemon.crash()
            make_way(scene.blue)
            daemon = lab.restart(daemon).wait_ready()
        await_return(scene, daemon)
        ping(scene.red, BLUE)
        assert scene.half()["strayed"] == ""
        assert not scene.old.links("tun")


def test_a_path_of_a_process_whose_number_is_another_ones(lab: Lab) -> None:
    """A symbolic link of the test's stands for /proc/PID/ns/net."""
    blue, green = lab.namespace("blue"), lab.namespace("green")
    keepers = [each.start(*KEEPER) for each in (blue, green)]
    path = lab.directory / "net"
    path.symlink_to(f"/proc/{keepers[0].pid}/ns/net")
    daemon = lab.daemon(CREATE + pair(0, b={"netns": str(path)}), workers=1)
    index = blue.links("tun")["eth0"].index
    green.ip(f"link add eth0 index {index} type veth peer name other index 999")
    fresh = lab.directory / "new"
    fresh.symlink_to(f"/proc/{keepers[1].pid}/ns/net")
    fresh.replace(path)
    epairctl(lab, "set", "epair0b", "mtu=1400")
    assert (blue.links()["eth0"].mtu, green.links()["eth0"].mtu) == (1400, 1500)
    assert shown(lab)["epair0b"]["strayed"] == str(path)
    green.ip("link set eth0 name eth9")
    epairctl(lab, "reload")
    assert set(green.links("tun")) == {"eth0"}
    assert green.links()["eth9"].mtu == 1500
    ping(lab["red"], BLUE)
    daemon.stop()
    for keeper in keepers:
        keeper.kill()


def test_a_path_that_leads_elsewhere_all_the_time(lab: Lab) -> None:
    """Whichever namespace each half gets, it is configured there and a foreign device nowhere."""
    blue, green = lab.namespace("blue"), lab.namespace("green")
    path, ended = lab.directory / "current", threading.Event()
    path.symlink_to(f"/run/netns/{blue}")

    def flip() -> None:
        while not ended.is_set():
            for target in (green, blue):
                fresh = lab.directory / "new"
                fresh.symlink_to(f"/run/netns/{target}")
                fresh.replace(path)

    lab.daemon(CREATE + pair(0, b={"netns": "$blue"}), workers=1)
    client = Client(str(control_socket(lab)))
    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        for number in range(1, 101):
            half = {"netns": str(path), "name": f"e{number}", "addresses": [f"10.{number}.0.1/24"]}
            client.create(f"epair{number}", {"b": half})
    finally:
        ended.set()
        flipping.join()

    def configured() -> int:
        """Return how many halves have their address; some may follow the path at the moment."""
        found = [
            each for place in (blue, green) for each in json.loads(place.run("ip", "-j", "addr")) if each
        ]
        return sum(
            f"10.{each['ifname'][1:]}.0.1" in {address["local"] for address in each["addr_info"]}
            for each in found
        )

    until(lambda: configured() == 100)


def test_a_bind_mount_that_is_replaced(lab: Lab) -> None:
    with kept(lab) as scene:
        scene.blue.ip("link add eth7 type veth peer name other7")
        green, path = lab.namespace("green"), lab.directory / "mounted"
        path.touch()
        lab.home.run("mount", "--bind", f"/run/netns/{green}", str(path))
        try:
            epairctl(lab, "create", "epair7", f"b.netns={path}", "b.name=eth7")
            assert "eth7" in green.links("tun")
            lab.home.run("umount", str(path))
            lab.home.run("mount", "--bind", f"/run/netns/{scene.blue}", str(path))
            epairctl(lab, "set", "epair7b", "mtu=1400")
            assert green.links("tun")["eth7"].mtu == 1400
            assert shown(lab)["epair7b"]["strayed"] == str(path)
        finally:
            lab.home.run("umount", str(path))


@pytest.mark.parametrize("kind", ["fifo", "device", "file"])
def test_a_path_that_is_no_namespace(lab: Lab, kind: str) -> None:
    path = lab.directory / "net"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/ptmx")
        case "file":
            path.touch()
    daemon = lab.daemon(CREATE + "[epair.epair0]\n", workers=1)
    done = run_epairctl(lab, "create", "epair1", f"b.netns={path}")
    assert (done.returncode, done.stderr.strip()) == (
        1, f"epairctl: namespace {path}: is not a network namespace (EINVAL)",
    )  # fmt: skip
    daemon.stop()
    checked = lab.home.start(
        EPAIRD, "check", str(lab.configuration(CREATE + pair(0, b={"netns": str(path)})))
    )
    assert checked.wait_exit() == 1
    assert checked.stderr.endswith(f"epair.epair0.b.netns: {path}: is not a network namespace\n")
    failing = lab.launch(CREATE + pair(0, b={"netns": str(path)}))
    failing.assert_clean_exit(1)
    (line,) = failing.log_lines_with("is not a network namespace")
    assert str(path) in line


def test_namespaces_of_ours_that_others_replaced_are_theirs(lab: Lab) -> None:
    daemon = lab.daemon('[namespaces]\ncreate = ["$red", "$blue"]\n[epair.epair0]\n', workers=1)
    red, blue = lab["red"], lab["blue"]
    daemon.crash()
    for _ in range(20):
        red.remove()
        red.create()
    refused = lab.restart(daemon)
    assert refused.wait_exit() != 0
    assert f"{red} exists already and was not created by epaird" in refused.stderr
    assert red.exists, "it is another program's"
    red.remove()
    with contextlib.suppress(OSError):
        blue.remove()


def test_the_loss_is_told_once_as_an_event(lab: Lab) -> None:
    with kept(lab) as scene:
        for _ in range(3):
            assert scene.half()["strayed"]
        (line,) = scene.daemon.log_lines_with("leads to net:[")
        assert line.startswith(f"epair0b: namespace {scene.blue} leads to net:[")
