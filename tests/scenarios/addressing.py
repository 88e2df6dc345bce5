"""Addresses, routes and rules of a device as ``ip`` shows them, and the plan of the daemon's own file."""

from __future__ import annotations

import json

from tests.scenarios.ctl import run_epairctl
from tests.scenarios.lab import Daemon
from tests.scenarios.namespaces import Namespace


def addresses(place: Namespace, device: str) -> list[str]:
    """Return the addresses that are not link-local, ``10.0.0.1/32 peer 10.0.0.2``: IPv4's in the kernel's
    order, then IPv6's, sorted."""
    found = json.loads(place.ip(f"-j address show dev {device}"))
    of_device = [each for device in found if device for each in device["addr_info"]]
    by_family = {
        family: [
            f"{each['local']}/{each['prefixlen']}" + (f" peer {each['address']}" if "address" in each else "")
            for each in of_device
            if each["family"] == family and each["scope"] != "link"
        ]
        for family in ("inet", "inet6")
    }
    return by_family["inet"] + sorted(by_family["inet6"])


def routes(place: Namespace, device: str) -> list[str]:
    """Return the routes of the main table that the kernel has not made itself, sorted, each with its metric
    unless it is the default."""
    found = []
    for family, default in (("-4", 0), ("-6", 1024)):
        found += [
            each["dst"]
            + (f" via {each['gateway']}" if "gateway" in each else "")
            + (f" metric {each['metric']}" if each.get("metric", default) != default else "")
            for each in json.loads(place.ip(f"{family} -j route show dev {device}") or "[]")
            if each.get("protocol") not in ("kernel", "ra")
        ]
    return sorted(found)


def rules(place: Namespace) -> list[str]:
    """Return the rules of both families but those of every namespace, in their order."""
    usual = {"0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default"}
    lines = [
        f"{family} {' '.join(line.split())}"
        for family in ("-4", "-6")
        for line in place.ip(f"{family} rule show").splitlines()
    ]
    return [line for line in lines if line[3:] not in usual]


def missing(daemon: Daemon) -> list[str]:
    """Return the lines of the plan of the daemon's own file; none if there is nothing to do."""
    done = run_epairctl(daemon.lab, "plan", str(daemon.file))
    assert done.returncode in (0, 2), done
    assert not done.stderr, done
    return done.stdout.splitlines() if done.returncode == 2 else []


def assert_nothing_to_do(daemon: Daemon) -> None:
    """Check that the plan of the daemon's own file is empty."""
    assert missing(daemon) == []
