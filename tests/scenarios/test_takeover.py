"""What was changed at runtime outlives the control plane: killed and started again, or upgraded."""

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


def killed(lab: Lab, daemon: Daemon) -> Daemon:
    """-9, and started again."""
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    return lab.restart(daemon).wait_ready()


def upgraded(lab: Lab, daemon: Daemon) -> Daemon:
    """By command."""
    epairctl(lab, "upgrade")
    daemon.wait_for_log("upgraded to epaird")
    return daemon


def saved(lab: Lab) -> str:
    """The configuration that would make what there is."""
    return epairctl(lab, "save")


def namespaces() -> set[str]:
    """Those that have a name."""
    return {each.name for each in Path("/run/netns").iterdir()}


def changed(lab: Lab) -> None:
    """Everything that can be changed, each in its pair, is."""
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


@pytest.mark.parametrize("how", [killed, upgraded])
def test_everything_that_was_changed_stays(lab: Lab, how: Callable[[Lab, Daemon], Daemon]) -> None:
    daemon = lab.daemon(TEXT, workers=2)
    before = saved(lab)
    changed(lab)
    rewrite(daemon, TEXT, workers=2, queue_limit=77)
    daemon.signal(signal.SIGHUP)
    # Which takes all of it back, so once more.
    daemon.wait_for_log("reloaded")
    changed(lab)
    found = saved(lab)
    assert found != before
    # What was changed last is written down some milliseconds later, with all before it.
    until(lambda: '"mtu":1400' in (lab.directory / "run" / "state.json").read_text())
    daemon = how(lab, daemon)
    assert saved(lab) == found
    assert "mtu 9000" in lab["red"].ip("link show eth0")
    assert "qlen 77" in lab["red"].ip("link show eth0")
    assert "10.7.0.2/24" in lab["blue"].ip("address show eth0")
    assert not lab.home.links()["epair1a"].up
    for device in ("epair2a", "epair5a", "epair5b"):
        assert "NO-CARRIER" in lab.home.ip(f"link show {device}"), device
    assert all(daemon.metrics().worker(str(number)).queue_limit_frames == 77 for number in range(2))
    epairctl(lab, "set", "epair2", "carrier=on")
    assert re.search(r'carrier = "always"', saved(lab))
    # And a reload still knows what the file says.
    assert "carrier: always -> peer" in epairctl(lab, "reload")
    assert saved(lab).replace("queue_limit = 77\n", "") == before


def test_what_the_file_says_otherwise_meanwhile_holds(lab: Lab) -> None:
    daemon = lab.daemon(TEXT)
    epairctl(lab, "set", "epair1a", "mtu=9000")
    epairctl(lab, "set", "epair2", "carrier=off")
    until(lambda: '"carrier":"off"' in (lab.directory / "run" / "state.json").read_text())
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    rewrite(daemon, TEXT.replace("[epair.epair1]\n", "[epair.epair1]\na.mtu = 1400\n"))
    lab.restart(daemon).wait_ready()
    assert lab.home.links()["epair1a"].mtu == 1400
    assert "NO-CARRIER" in lab.home.ip("link show epair2a")


def test_a_worker_that_is_adopted_works_by_the_configuration_there_is_now(lab: Lab) -> None:
    """Settings of the daemon that were changed while there was no control plane."""
    daemon = lab.daemon(TEXT)
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    rewrite(daemon, TEXT, orphan_timeout=0.2)
    daemon = lab.restart(daemon).wait_ready()
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    # After 30 s it would have ended, had it not been told.
    until(lambda: not lab.processes("epaird"))


@pytest.mark.parametrize("alone", [False, True], ids=["the workers live", "nobody lives"])
def test_a_namespace_that_is_off_the_list_meanwhile_goes(lab: Lab, alone: bool) -> None:
    daemon = lab.daemon(TEXT + '[epair.epair9]\na.netns = "$red"\n')
    if alone:
        # While the control plane cannot start others.
        daemon.signal(signal.SIGSTOP)
        for pid in lab.processes("epaird.dataplane"):
            os.kill(pid, signal.SIGKILL)
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    rewrite(daemon, '[namespaces]\ncreate = ["$red"]\n[epair.epair9]\na.netns = "$red"\n')
    daemon = lab.restart(daemon).wait_ready()
    red, blue = lab.expand("$red"), lab.expand("$blue")
    assert blue not in namespaces()
    assert red in namespaces()
    assert list(json.loads((lab.directory / "run" / "namespaces.json").read_text())) == [red]


def test_a_namespace_that_is_off_the_list_stays_while_something_made_at_runtime_lives_in_it(lab: Lab) -> None:
    daemon = lab.daemon(TEXT)
    epairctl(lab, "create", "lo7", "mode=verbatim", "netns=$blue")
    until(lambda: '"lo7"' in (lab.directory / "run" / "state.json").read_text())
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    rewrite(daemon, '[namespaces]\ncreate = ["$red"]\n')
    lab.restart(daemon).wait_ready()
    blue = lab.expand("$blue")
    assert "Nothing to do" in epairctl(lab, "reload")
    assert blue in namespaces()
    assert blue in saved(lab)
    epairctl(lab, "destroy", "lo7")
    assert "1 to destroy" in epairctl(lab, "reload")
    assert blue not in namespaces()
