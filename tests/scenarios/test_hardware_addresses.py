"""Hardware addresses: no two interfaces of one machine have the same, whichever daemon made them."""

from __future__ import annotations

import signal

import pytest

from epaird.kernel import tun
from epaird.kernel.nscookie import cookie
from epaird.names import mac
from epaird.names.cloners import SIDES
from tests.scenarios.ctl import epairctl, reload
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import ping

pytestmark = pytest.mark.real


def macs(daemon: Daemon) -> list[str]:
    """Return the hardware addresses of a daemon's halves."""
    page = daemon.metrics()
    return [page.interface(device).mac for device in page.devices() if device.startswith("epair")]


def half(netns: Namespace, switch: Namespace, host: int) -> str:
    """Return the configuration of a pair between two namespaces."""
    return (
        f"[epair.epair{host}]\n"
        f'a = {{ netns = "{netns}", name = "eth0", addresses = ["10.8.0.{host}/24"] }}\n'
        f'b = {{ netns = "{switch}", name = "port{host}" }}\n'
    )


def make_switch(switch: Namespace) -> None:
    """Make a bridge of the two halves in a namespace."""
    switch.ip("link add br0 type bridge")
    switch.ip("link set br0 up")
    for host in (1, 2):
        switch.ip(f"link set port{host} master br0")


def test_two_daemons_whose_pairs_meet_in_one_bridge(lab: Lab) -> None:
    red, blue, switch = lab.namespace("red"), lab.namespace("blue"), lab.namespace("switch")
    with Lab() as other_lab:
        one = lab.daemon(half(red, switch, 1))
        other = other_lab.daemon(half(blue, switch, 2))
        make_switch(switch)
        assert len({*macs(one), *macs(other)}) == 4
        ping(red, "10.8.0.2")
        ping(blue, "10.8.0.1")
        other_lab.finish()


@pytest.mark.parametrize("in_place", [False, True])
def test_two_daemons_in_one_namespace(lab: Lab, in_place: bool) -> None:
    pairs = [f"[epair.epair{unit}]\n" for unit in range(4)]
    if in_place:
        pairs = [
            f'[namespaces]\ncreate = ["${name}1", "${name}2"]\n'
            + f'[epair.epair0]\na = {{ netns = "${name}1" }}\nb = {{ netns = "${name}2" }}\n'
            for name in ("red", "blue")
        ]
    half_of_them = len(pairs) // 2
    one = lab.daemon("".join(pairs[:half_of_them]))
    socket = str(lab.directory / "other" / "control.sock")
    rest = "".join(pairs[half_of_them:])
    other = lab.launch(rest, listen="127.0.0.1:9863", control_socket=socket).wait_ready()
    seen = [*macs(one), *macs(other)]
    assert len(set(seen)) == len(seen) >= 4
    other.signal(signal.SIGTERM)
    assert other.wait_exit() == 0


@pytest.mark.parametrize("text", ["[epair.epair0]\n", NAMESPACES + pair()])
def test_a_daemon_that_is_started_again_gives_others(lab: Lab, text: str) -> None:
    seen: list[str] = []
    daemon = lab.daemon(text)
    for _ in range(3):
        seen += macs(daemon)
        daemon.stop()
        daemon = lab.restart(daemon).wait_ready()
    assert len(set(seen)) == len(seen) == 6


def test_a_takeover_keeps_the_addresses(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair() + "[epair.epair1]\n")
    before = macs(daemon)
    epairctl(lab, "upgrade")
    daemon.wait_for_log("upgraded to epaird")
    assert macs(daemon) == before
    daemon.crash()
    again = lab.restart(daemon).wait_ready()
    assert macs(again) == before
    epairctl(lab, "create", "epair2")
    assert set(before) < set(macs(again))
    assert len(set(macs(again))) == 6


def test_an_address_that_another_device_has_there_is_not_given(lab: Lab) -> None:
    daemon = lab.daemon("[epair.epair0]\n")
    red = lab.namespace("red")
    with lab.home.inside():
        host_id = mac.mixed(mac.host_id(), cookie())
        probe = tun.open_tap("probe")
        probe.close()
    foreign = {mac.derive(probe.index + further, host_id, side) for further in range(1, 5) for side in SIDES}
    for number, address in enumerate(sorted(foreign)):
        red.ip(f"link add d{number} address {address} type bridge")
    epairctl(lab, "create", "epair1", "a.netns=$red")
    epairctl(lab, "create", "epair2")
    given = macs(daemon)
    assert len(set(given)) == 6
    there = [link.mac for link in red.links().values() if link.mac]
    assert len(set(there)) == len(there)
    page = daemon.metrics()
    assert foreign & set(given) == {page.interface("epair2a").mac, page.interface("epair2b").mac}


def test_an_address_that_is_derived_again_is_another_ones(lab: Lab) -> None:
    own = {"mac": "02:00:00:00:00:42"}
    daemon = lab.daemon(NAMESPACES + pair(a=own))
    red = lab["red"]
    assert red.links("tun")["eth0"].mac == "02:00:00:00:00:42"
    reload(daemon, NAMESPACES + pair())
    given = macs(daemon)
    assert "02:00:00:00:00:42" not in given
    assert len(set(given)) == 2
    assert (
        epairctl(lab, "plan", str(daemon.file)) == "Nothing to do: everything is as the configuration says.\n"
    )
    ping(red, "10.0.0.2")
