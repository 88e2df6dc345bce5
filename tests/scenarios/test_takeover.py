"""Changes made at run time survive the control plane's restart and upgrade."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.ctl import epairctl, rewrite
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.waiting import until

pytestmark = pytest.mark.real

TEXT = NAMESPACES + pair() + "".join(f"[epair.epair{unit}]\n" for unit in range(1, 6)) + "[lo.lo1]\n"


def kill_and_restart(lab: Lab, daemon: Daemon) -> Daemon:
    """Kill the control plane and start it again."""
    daemon.crash()
    return lab.restart(daemon).wait_ready()


def upgrade(lab: Lab, daemon: Daemon) -> Daemon:
    """Upgrade the daemon by command."""
    epairctl(lab, "upgrade")
    daemon.wait_for_log("upgraded to epaird")
    return daemon


def running_configuration(lab: Lab) -> str:
    """Return the running configuration."""
    return epairctl(lab, "save")


def namespaces() -> set[str]:
    """Return the names of all network namespaces."""
    return {each.name for each in Path("/run/netns").iterdir()}


def change_everything(lab: Lab) -> None:
    """Change everything that can be changed, each setting on its own pair."""
    for words in (
        "set epair0a mtu=9000 txqueuelen=77",
        'set epair0b addresses=["10.0.0.2/24","10.7.0.2/24"]',
        "set epair1 up=false coalesce=false",
        "set epair2 carrier=always",
        "set epair2 carrier=off",
        "patch --force epair3a epair4b",
        "unpatch epair5a",
        "set lo1 mtu=1400",
    ):
        epairctl(lab, *words.split())


@pytest.mark.parametrize("how", [kill_and_restart, upgrade])
def test_everything_that_was_changed_stays(lab: Lab, how: Callable[[Lab, Daemon], Daemon]) -> None:
    daemon = lab.daemon(TEXT, workers=2)
    before = running_configuration(lab)
    change_everything(lab)
    rewrite(daemon, TEXT, workers=2, queue_limit=77)
    daemon.signal(signal.SIGHUP)
    # The reload reverts all changes, so they are made again.
    daemon.wait_for_log("reloaded")
    change_everything(lab)
    found = running_configuration(lab)
    assert found != before
    # The state file is written some milliseconds later, with all changes.
    until(lambda: '"mtu":1400' in (lab.directory / "run" / "state.json").read_text())
    daemon = how(lab, daemon)
    assert running_configuration(lab) == found
    assert "mtu 9000" in lab["red"].ip("link show eth0")
    assert "qlen 77" in lab["red"].ip("link show eth0")
    assert "10.7.0.2/24" in lab["blue"].ip("address show eth0")
    assert not lab.home.links()["epair1a"].up
    for device in ("epair2a", "epair5a", "epair5b"):
        assert "NO-CARRIER" in lab.home.ip(f"link show {device}"), device
    assert all(daemon.metrics().worker(str(number)).queue_limit_frames == 77 for number in range(2))
    epairctl(lab, "set", "epair2", "carrier=on")
    assert re.search(r'carrier = "always"', running_configuration(lab))
    # A reload still knows the settings of the file.
    assert "carrier: always -> peer" in epairctl(lab, "reload")
    assert running_configuration(lab).replace("queue_limit = 77\n", "") == before


def test_changes_to_the_file_while_no_daemon_runs_apply(lab: Lab) -> None:
    daemon = lab.daemon(TEXT)
    epairctl(lab, "set", "epair1a", "mtu=9000")
    epairctl(lab, "set", "epair2", "carrier=off")
    until(lambda: '"carrier":"off"' in (lab.directory / "run" / "state.json").read_text())
    daemon.crash()
    rewrite(daemon, TEXT.replace("[epair.epair1]\n", "[epair.epair1]\na.mtu = 1400\n"))
    lab.restart(daemon).wait_ready()
    assert lab.home.links()["epair1a"].mtu == 1400
    assert "NO-CARRIER" in lab.home.ip("link show epair2a")


def test_an_adopted_worker_uses_the_new_configuration(lab: Lab) -> None:
    """Settings of the daemon change while there is no control plane."""
    daemon = lab.daemon(TEXT)
    daemon.crash()
    rewrite(daemon, TEXT, orphan_timeout=0.2)
    daemon = lab.restart(daemon).wait_ready()
    daemon.crash()
    # With the old setting the workers would live for 30 s.
    until(lambda: not lab.processes("epaird"))


@pytest.mark.parametrize("alone", [False, True], ids=["workers alive", "workers dead"])
def test_a_namespace_removed_from_the_file_is_removed(lab: Lab, alone: bool) -> None:
    daemon = lab.daemon(TEXT + '[epair.epair9]\na.netns = "$red"\n')
    if alone:
        # A stopped control plane cannot replace them.
        daemon.signal(signal.SIGSTOP)
        for pid in lab.processes("epaird.dataplane"):
            os.kill(pid, signal.SIGKILL)
    daemon.crash()
    rewrite(daemon, '[namespaces]\ncreate = ["$red"]\n[epair.epair9]\na.netns = "$red"\n')
    daemon = lab.restart(daemon).wait_ready()
    red, blue = lab.expand("$red"), lab.expand("$blue")
    assert blue not in namespaces()
    assert red in namespaces()
    assert list(json.loads((lab.directory / "run" / "namespaces.json").read_text())) == [red]


def test_a_namespace_removed_from_the_file_stays_while_a_runtime_interface_uses_it(lab: Lab) -> None:
    daemon = lab.daemon(TEXT)
    epairctl(lab, "create", "lo7", "mode=verbatim", "netns=$blue")
    until(lambda: '"lo7"' in (lab.directory / "run" / "state.json").read_text())
    daemon.crash()
    rewrite(daemon, '[namespaces]\ncreate = ["$red"]\n')
    lab.restart(daemon).wait_ready()
    blue = lab.expand("$blue")
    assert "Nothing to do" in epairctl(lab, "reload")
    assert blue in namespaces()
    assert blue in running_configuration(lab)
    epairctl(lab, "destroy", "lo7")
    assert "1 to destroy" in epairctl(lab, "reload")
    assert blue not in namespaces()
