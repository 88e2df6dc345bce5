"""Addresses, routes and rules equal the configuration after any change of ours, and after flaps by others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.scenarios.addressing import addresses, assert_nothing_to_do, missing, routes, rules
from tests.scenarios.ctl import epairctl, refused, reload, rewrite, run_epairctl
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import ping
from tests.waiting import until

pytestmark = pytest.mark.real

V4, V6 = {"to": "10.9.0.0/16", "via": "10.0.0.2"}, {"to": "fd09::/64", "via": "fd00::2"}
BOTH = ["10.9.0.0/16 via 10.0.0.2", "fd09::/64 via fd00::2"]
DEFAULT = {"to": "default", "via": "10.0.0.2"}
LOOPBACK = """[lo.lo1]
netns = "$red"
mode = "verbatim"
policy_routing = true
addresses = ["10.88.7.1/24", "fd88:7::1/64"]
"""


def of_a(*wanted: str, routes: object = (DEFAULT,), unit: int = 0, **settings: object) -> str:
    """Return the table of a pair whose half in red has these addresses and routes."""
    a = {"addresses": list(wanted), "routes": list(routes), **settings}  # type: ignore[call-overload]
    return pair(unit, a=a)


def test_setting_a_half_down_and_up_keeps_addresses_and_routes(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}))
    red = lab["red"]
    before = addresses(red, "eth0")
    for half in ("epair0a", "epair0"):
        epairctl(lab, "set", half, "up=false")
        assert addresses(red, "eth0") == before
        epairctl(lab, "set", half, "up=true")
        assert (addresses(red, "eth0"), routes(red, "eth0")) == (before, BOTH)
        assert_nothing_to_do(daemon)
    red.wait_for_dad("eth0")
    ping(red, "fd00::2")


def test_a_small_mtu_and_back_keeps_ipv6(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}))
    red = lab["red"]
    before = addresses(red, "eth0")
    assert "fd00::1/64" in refused(lab, "set", "epair0a", "mtu=1000")
    assert (addresses(red, "eth0"), routes(red, "eth0"), red.links()["eth0"].mtu) == (before, BOTH, 1500)
    assert_nothing_to_do(daemon)
    red.ip("link set eth0 mtu 1000")
    red.ip("link set eth0 mtu 1500")
    until(lambda: (addresses(red, "eth0"), routes(red, "eth0")) == (before, BOTH))


@pytest.mark.parametrize(
    "after",
    [
        ["10.0.0.11/24"],
        ["10.0.0.12/24"],
        ["10.0.0.11/24", "10.0.0.1/24"],
        ["10.0.0.1/16", "10.0.0.11/24"],
        ["10.0.0.13/24", "10.0.0.1/24", "10.0.0.11/24"],
        ["10.0.0.1/24", "fd00::1/64", "fd00::7/64"],
    ],
)
def test_a_reload_changes_addresses_and_nothing_else(lab: Lab, after: list[str]) -> None:
    daemon = lab.daemon(NAMESPACES + of_a("10.0.0.1/24", "10.0.0.11/24"))
    red = lab["red"]
    red.ip("address add 10.0.0.77/24 dev eth0")  # a secondary, which the kernel removes with the primary
    red.ip("address add 10.66.0.1/24 dev eth0")
    red.ip("route add 10.77.0.0/16 via 10.66.0.9")
    for wanted in (after, ["10.0.0.1/24", "10.0.0.11/24"]):
        reload(daemon, NAMESPACES + of_a(*wanted))
        found = addresses(red, "eth0")
        assert [each for each in found if each in wanted] == wanted
        assert set(found) - set(wanted) == {"10.0.0.77/24", "10.66.0.1/24"}
        assert routes(red, "eth0") == ["10.77.0.0/16 via 10.66.0.9", "default via 10.0.0.2"]
        assert_nothing_to_do(daemon)
    assert "src 10.0.0.1 " in red.ip("route get 10.0.0.99")


def test_a_default_route_moves_to_another_interface_and_back(lab: Lab) -> None:
    first = {"routes": [DEFAULT, {"to": "default", "via": "fd00::2"}]}
    second = {"routes": [{"to": "default", "via": "10.0.1.2"}, {"to": "default", "via": "fd01::2"}]}
    one, other = (NAMESPACES + pair(a=a) + pair(1, a=b) for a, b in ((first, {}), ({}, second)))
    daemon = lab.daemon(one)
    red = lab["red"]
    for text, device, via in ((other, "eth1", "1"), (one, "eth0", "0")) * 2:
        reload(daemon, text)
        assert routes(red, device) == [f"default via 10.0.{via}.2", f"default via fd0{via}::2"]
        assert routes(red, "eth0" if device == "eth1" else "eth1") == []
        assert_nothing_to_do(daemon)
    reload(daemon, NAMESPACES + pair(1, a=second))  # from an interface that is destroyed
    assert routes(red, "eth1") == ["default via 10.0.1.2", "default via fd01::2"]
    reload(daemon, one)  # to an interface that is created
    reload(daemon, NAMESPACES + pair(queues=2) + pair(1, a=second))  # from one that is recreated
    assert routes(red, "eth1") == ["default via 10.0.1.2", "default via fd01::2"]
    assert_nothing_to_do(daemon)


def test_a_route_of_others_is_not_taken_for_ours(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair() + pair(1))
    red = lab["red"]
    red.ip("route add default via 10.0.1.2")
    rewrite(daemon, NAMESPACES + pair(a={"routes": [DEFAULT], "mtu": 1400}) + pair(1))
    error = refused(lab, "reload")
    assert "default via 10.0.0.2" in error
    assert "everything is as it was before" in error
    assert (routes(red, "eth0"), routes(red, "eth1")) == ([], ["default via 10.0.1.2"])
    assert red.links()["eth0"].mtu == 1500
    red.ip("route del default")
    epairctl(lab, "reload")
    assert routes(red, "eth0") == ["default via 10.0.0.2"]


@pytest.mark.parametrize(
    "changed",
    [
        {"up": False},
        {"addresses": ["10.0.0.11/24"], "routes": []},
        {"addresses": ["10.0.0.11/24", "10.0.0.1/24", "fd00::1/64"]},
        {"addresses": [], "routes": [], "mtu": 1400, "mac": "02:00:00:00:00:07", "name": "wan0"},
    ],
)
def test_a_reload_that_fails_leaves_addresses_and_routes(lab: Lab, changed: dict[str, object]) -> None:
    text = NAMESPACES + of_a("10.0.0.1/24", "10.0.0.11/24", "fd00::1/64", routes=[DEFAULT, V6])
    daemon = lab.daemon(text)
    red = lab["red"]
    found = addresses(red, "eth0"), routes(red, "eth0"), red.links()["eth0"].mac
    lab.home.ip("link add epair7a type veth peer name x7")
    settings = {"addresses": ["10.0.0.1/24", "10.0.0.11/24", "fd00::1/64"], "routes": [DEFAULT, V6]}
    rewrite(daemon, NAMESPACES + pair(a=settings | changed) + "[epair.epair7]\n")
    error = refused(lab, "reload")
    assert "everything is as it was before" in error
    assert (addresses(red, "eth0"), routes(red, "eth0"), red.links()["eth0"].mac) == found
    rewrite(daemon, text)
    assert_nothing_to_do(daemon)
    lab.home.ip("link del epair7a")


def test_a_set_that_fails_leaves_addresses_and_routes(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}) + pair(1))
    red = lab["red"]
    found = addresses(red, "eth0"), routes(red, "eth0"), red.links()["eth0"].mac
    error = refused(lab, "set", "epair0a", "up=false", "mac=02:00:00:00:00:07", "name=eth1")
    assert "eth1" in error
    assert (addresses(red, "eth0"), routes(red, "eth0"), red.links()["eth0"].mac) == found
    assert_nothing_to_do(daemon)


def test_setting_what_others_changed_sets_it_again(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}))
    red = lab["red"]
    before = addresses(red, "eth0")
    red.ip("link set eth0 down")
    red.ip("link set eth0 mtu 1400")
    until(lambda: daemon.metrics().interface("epair0a").up == 0)
    epairctl(lab, "set", "epair0a", "up=true")
    assert (addresses(red, "eth0"), routes(red, "eth0")) == (before, BOTH)
    assert (red.links()["eth0"].up, red.links()["eth0"].mtu) == (True, 1400)
    epairctl(lab, "set", "epair0a", "mtu=1500")
    assert red.links()["eth0"].mtu == 1500


def within_a_second(condition: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    """Wait for a condition that must hold a second after the device is up, with time for a busy machine."""
    began = time.monotonic()
    until(condition, otherwise)
    assert time.monotonic() - began < 5


def test_a_flap_by_others_is_repaired(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}))
    red = lab["red"]
    before = addresses(red, "eth0")

    def whole() -> bool:
        return (addresses(red, "eth0"), routes(red, "eth0")) == (before, BOTH)

    red.ip("link set eth0 down")
    until(lambda: daemon.metrics().interface("epair0a").up == 0)
    assert_nothing_to_do(daemon)  # what the kernel took comes back with the device
    red.ip("link set eth0 up")
    within_a_second(whole, lambda: red.ip("address"))
    for _ in range(20):
        red.run("sh", "-c", "ip link set eth0 down; ip link set eth0 up")
    within_a_second(whole, lambda: red.ip("address"))
    red.ip("link set eth0 down")
    red.ip("link set eth0 name wan0")
    red.ip("link set wan0 up")
    until(lambda: (addresses(red, "wan0"), routes(red, "wan0")) == (before, BOTH))
    assert not daemon.log_lines_with("Traceback")


def test_a_deliberate_removal_is_drift_until_a_reload(lab: Lab) -> None:
    text = of_a("10.0.0.1/24", "10.0.0.11/24", "10.5.0.1/24", "fd00::1/64", routes=[DEFAULT, V6])
    daemon = lab.daemon(NAMESPACES + text)
    red = lab["red"]
    wanted = addresses(red, "eth0")
    for removed, shown in (
        ("address del 10.5.0.1/24 dev eth0", ["addresses: (missing) -> 10.5.0.1/24"]),
        ("address del fd00::1/64 dev eth0", ["addresses: (missing) -> fd00::1/64"]),
        ("route del default", ["routes: (missing) -> default via 10.0.0.2"]),
    ):
        red.ip(removed)
        lines = missing(daemon)
        assert all(any(each in line for line in lines) for each in shown), lines
        epairctl(lab, "reload")
        assert addresses(red, "eth0") == wanted
        assert routes(red, "eth0") == ["default via 10.0.0.2", "fd09::/64 via fd00::2"]
        assert_nothing_to_do(daemon)
    red.ip("address del 10.0.0.1/24 dev eth0")
    red.ip("address add 10.0.0.11/24 dev eth0")  # the kernel has taken it along
    red.ip("address add 10.0.0.1/24 dev eth0")  # a secondary now
    assert any("10.0.0.1/24" in line for line in missing(daemon))
    epairctl(lab, "reload")
    assert (addresses(red, "eth0"), missing(daemon)) == (wanted, [])


def test_a_flap_does_not_restore_what_others_removed(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + of_a("10.0.0.1/24", "10.5.0.1/24", "fd00::1/64"))
    red = lab["red"]
    red.ip("address del 10.5.0.1/24 dev eth0")
    red.ip("link set eth0 down")
    red.ip("link set eth0 up")
    until(lambda: addresses(red, "eth0") == ["10.0.0.1/24", "fd00::1/64"])
    until(lambda: routes(red, "eth0") == ["default via 10.0.0.2"])
    assert "addresses: (missing) -> 10.5.0.1/24" in "\n".join(missing(daemon))


def test_a_half_that_others_moved_is_left_to_its_owner_without_a_queueing_discipline(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}))
    red, green = lab["red"], lab.namespace("green", ipv6=False)
    red.ip(f"link set eth0 netns {green}")
    until(lambda: daemon.metrics().interface("epair0a").netns == green.name)
    green.ip("address add 10.0.0.9/24 dev eth0")
    green.ip("link set eth0 up")
    until(lambda: "noqueue" in green.ip("link show dev eth0"), lambda: green.ip("link show dev eth0"))
    assert (addresses(green, "eth0"), routes(green, "eth0")) == (["10.0.0.9/24"], [])
    assert not red.links("tun")


def carries(daemon: Daemon, red: Namespace, address: str, limit: int = 10) -> None:
    """Check that a ping of the own address passes the loopback, and does not circle in it."""
    before = daemon.metrics().interface("lo1").ipackets
    red.run("ping", "-c1", "-W5", address)
    until(lambda: daemon.metrics().interface("lo1").ipackets >= before + 2)
    assert daemon.metrics().interface("lo1").ipackets <= before + limit


def test_rules_of_a_loopback_survive_a_flap_and_follow_a_rename(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + LOOPBACK)
    red = lab["red"]
    red.wait_for_dad("lo1")
    before, wanted = rules(red), addresses(red, "lo1")
    assert before
    red.ip("link set lo1 down")
    red.ip("link set lo1 up")
    until(lambda: (rules(red), addresses(red, "lo1")) == (before, wanted), lambda: rules(red))
    red.wait_for_dad("lo1")
    for address in ("10.88.7.1", "fd88:7::1"):
        carries(daemon, red, address)
    epairctl(lab, "set", "lo1", "up=false")
    epairctl(lab, "set", "lo1", "up=true")
    assert (rules(red), addresses(red, "lo1")) == (before, wanted)
    assert_nothing_to_do(daemon)
    red.ip("link set lo1 down")
    red.ip("link set lo1 name dummy7")
    red.ip("link set dummy7 up")
    until(lambda: rules(red) == [each.replace("lo1", "dummy7") for each in before], lambda: rules(red))
    red.wait_for_dad("dummy7")
    for address in ("10.88.7.1", "fd88:7::1"):
        carries(daemon, red, address)
    epairctl(lab, "set", "lo1", "name=lan7")
    assert rules(red) == [each.replace("lo1", "lan7") for each in before]


def test_a_rename_of_a_loopback_that_is_up_restores_its_rules(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + LOOPBACK)
    red = lab["red"]
    before = rules(red)
    red.ip("link set lo1 name dummy7")
    until(lambda: rules(red) == [each.replace("lo1", "dummy7") for each in before], lambda: rules(red))
    carries(daemon, red, "10.88.7.1")


def test_a_removed_rule_is_drift(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + LOOPBACK)
    red = lab["red"]
    before = rules(red)
    red.ip("rule del preference 30")
    red.ip("-6 rule del preference 100")
    lines = "\n".join(missing(daemon))
    assert "rules: (missing) -> 30: from all to 10.88.7.1/32 iif lo lookup" in lines
    assert "rules: (missing) -> 100: from all lookup local" in lines
    epairctl(lab, "reload")
    assert (rules(red), missing(daemon)) == (before, [])


def test_a_loopback_that_others_moved_leaves_no_rules_behind(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + LOOPBACK)
    red, green = lab["red"], lab.namespace("green")
    red.ip(f"link set lo1 netns {green}")
    until(lambda: daemon.metrics().interface("lo1").netns == green.name)
    until(lambda: rules(red) == [], lambda: rules(red))
    assert rules(green) == []
    ping(red, "127.0.0.1")


def test_a_successor_repairs_what_happened_while_no_daemon_ran(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"routes": [V4, V6]}) + LOOPBACK)
    settings = {"netns": lab["red"].name, "name": "wan0", "addresses": ["10.7.0.1/24", "fd07::1/64"]}
    created = [f"a.{key}={json.dumps(value)}" for key, value in settings.items()]
    epairctl(lab, "create", "epair9", *created)
    red = lab["red"]

    def found() -> object:
        each = {device: (addresses(red, device), routes(red, device)) for device in ("eth0", "lo1", "wan0")}
        return each, rules(red)

    before = found()
    daemon.crash()
    for device in ("eth0", "lo1", "wan0"):
        red.ip(f"link set {device} down")
        red.ip(f"link set {device} up")
    successor = lab.restart(daemon).wait_ready()
    until(lambda: found() == before, lambda: f"{found()}, not {before}")
    assert run_epairctl(lab, "plan", str(successor.file)).returncode == 0
