"""Commands as people type them: names after create, errors, lists and saved files, on real devices."""

from __future__ import annotations

import json
import sys
import tomllib

import pytest

from tests.scenarios.ctl import epairctl, refused
from tests.scenarios.lab import NAMESPACES, Lab, pair
from tests.scenarios.transfers import ping
from tests.waiting import until

pytestmark = pytest.mark.real

NOTHING = "Nothing to do: everything is as the configuration says.\n"


def first_words(text: str) -> list[str]:
    """Return the first word of each line below the headings."""
    return [line.split()[0] for line in text.splitlines()[1:]]


def test_create_prints_the_device_that_can_be_used_at_once(lab: Lab) -> None:
    lab.daemon("[epair.epair10]\n[lo]\n")
    assert epairctl(lab, "create", "epair") == "epair0a\n"
    assert epairctl(lab, "create", "lo") == "lo1\n"
    made = epairctl(lab, "create", "epair7", "a.name=net7").strip()
    assert made == "epair7a"
    epairctl(lab, "set", made, "mtu=9000")
    assert lab.home.links("tun")["net7"].mtu == 9000
    assert json.loads(epairctl(lab, "-j", "create", "epair")) == {
        "name": "epair1", "devices": ["epair1a", "epair1b"],
    }  # fmt: skip
    epairctl(lab, "destroy", made)
    assert "net7" not in lab.home.links("tun")


def test_a_device_of_others_is_not_destroyed(lab: Lab) -> None:
    lab.daemon("[epair.epair0]\n")
    lab.home.ip("link add veth0 type veth peer name veth1")
    for name in ("veth0", "lo"):
        assert refused(lab, "destroy", name) == (
            f'"{name}" was not created by epaird, which destroys only what it created (EINVAL)'
        )
    assert refused(lab, "destroy", "eth9") == 'there is no interface "eth9" (ENXIO)'
    assert refused(lab, "create", "epair32768") == (
        '"epair32768" has a number above 32767, the highest that is allowed (EINVAL)'
    )
    assert refused(lab, "create", "epair1234567890").endswith("at most 14 characters (ENOSPC)")
    assert {"veth0", "veth1", "epair0a"} <= lab.home.links().keys()


def test_lists_by_namespace_by_lost_frames_and_by_rate(lab: Lab) -> None:
    units = (12, 2, 1)
    # With carrier = "always" the kernel's own IPv6 frames are lost until the other half is up.
    lab.home.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    text = NAMESPACES + "".join(pair(unit, ipv6=False) for unit in units)
    daemon = lab.daemon(text + pair(3, a={"netns": None}, ipv6=False, carrier="always"))
    ordered = [f"epair{unit}{side}" for unit in (1, 2, 3, 12) for side in "ab"]
    assert first_words(epairctl(lab, "list")) == first_words(epairctl(lab, "stats")) == ordered
    assert first_words(epairctl(lab, "list", "-n", "$red")) == ["epair1a", "epair2a", "epair12a"]
    assert first_words(epairctl(lab, "stats", "-n", "-")) == ["epair3a"]
    assert first_words(epairctl(lab, "stats", "--drops")) == []
    epairctl(lab, "set", "epair3b", "up=false")
    lab.home.run(sys.executable, "-c", _SEND.format(device="eth3"))
    until(lambda: first_words(epairctl(lab, "list", "--drops")) == ["epair3a"], daemon.__repr__)
    lab["red"].start("ping", "-n", "-q", "-i", "0.01", "-s", "1400", "10.0.12.2")
    ping(lab["red"], "10.0.12.2")
    busiest = epairctl(lab, "stats", "--sort", "rate", "-i", "0.5")
    assert set(first_words(busiest)[:2]) == {"epair12a", "epair12b"}
    assert set(first_words(busiest)) == set(ordered)


_SEND = (
    "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('{device}', 0x88b5)); "
    "s.send(bytes(6) + b'\\2' + bytes(5) + b'\\x88\\xb5' + bytes(46))"
)


def test_what_is_saved_is_what_runs(lab: Lab) -> None:
    daemon = lab.daemon(
        NAMESPACES + "".join(pair(unit, ipv6=False) for unit in (11, 2, 0)) + "[lo.lo1]\nmtu = 1400\n"
    )
    epairctl(lab, "create", "epair5")
    saved = epairctl(lab, "save")
    lines = [line.partition(" = ")[0] for line in saved.splitlines() if line.startswith(("epair", "lo1"))]
    assert lines == [
        "epair0.a",
        "epair0.b",
        "epair2.a",
        "epair2.b",
        "epair5",
        "epair11.a",
        "epair11.b",
        "lo1",
    ]
    assert "lo1 = { mtu = 1400 }" in saved
    assert set(tomllib.loads(saved)["epair"]["epair5"]["a"]) == {"mac"}
    daemon.file.write_text(saved)
    before = json.loads(epairctl(lab, "-j", "list"))
    epairctl(lab, "reload")
    assert epairctl(lab, "plan", str(daemon.file)) == NOTHING
    assert epairctl(lab, "save") == saved
    after = json.loads(epairctl(lab, "-j", "list"))
    assert [each | {"origin": ""} for each in after] == [each | {"origin": ""} for each in before]
