"""The invariants that hold whenever the daemon is at rest, after any operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from epaird.ipc.counters import STATISTICS
from tests.scenarios.addressing import addresses, routes
from tests.scenarios.namespaces import Link
from tests.soak.addressed import led_by_rules, ordered
from tests.soak.expected import Loopback, Pair, is_ipv6
from tests.soak.footprint import descriptors
from tests.soak.observers import Observers
from tests.soak.site import Site
from tests.soak.traffic import Traffic
from tests.waiting import until

_COUNTERS = tuple(each.name for each in STATISTICS if not each.by_reason)
_ERRORS = tuple(each.name for each in STATISTICS if each.by_reason)

Counters = dict[str, dict[str, Any]]


class Invariants:
    """The invariants; each check compares the daemon with the expected state and with the previous check."""

    def __init__(self, site: Site, traffic: Traffic, observers: Observers) -> None:
        self._site = site
        self._traffic = traffic
        self.empty_plans = 0
        """How often the plan of the file had nothing to do."""
        self._observers = observers
        self._counters: Counters = {}
        """The counters of each device at the previous check."""
        self._read: dict[str, int] = {}
        """Frames of each device that the kernel counts as read and no counter of the daemon has."""
        self._balances: dict[str, int] = {}
        """Frames each half has sent minus those that are accounted for at its peer."""
        self._found: Counters = {}
        self._previous: dict[str, tuple[int, int]] = {}
        """The two numbers of each device at the previous attempt."""
        self._kernel: dict[tuple[str, str], Link] = {}

    def check(self, *, may_lose_frames: bool, restarts_uncertain: bool) -> int:
        """Check all invariants; return how many frames of the steady traffic were lost, all of them counted.

        ``may_lose_frames``: the operation may lose frames. ``restarts_uncertain``: the number of workers that
        died is not known. Raises AssertionError.
        """
        traffic = self._traffic
        traffic.pause()
        for rule in (
            self._devices, self._addressing, self._plan, self._missing, self._workers, self._files,
        ):  # fmt: skip
            _wait_until_kept(rule)
        self.empty_plans += not self._site.expected.changed
        traffic.wait_for_bytes()
        until(
            lambda: self._look() and not self._ledger(may_lose_frames=may_lose_frames),
            lambda: "\n".join(self._ledger(may_lose_frames=may_lose_frames)),
        )
        wrong = [
            *self._went_back(),
            *self._traffic_continues(),
            *self._restarts(restarts_uncertain=restarts_uncertain),
        ]
        lost = traffic.lost(self._found)
        if lost and not may_lose_frames:
            wrong.append(f"{lost} frames of the steady traffic are lost")
        if (status := self._site.daemon.healthz()) != 200:
            wrong.append(f"/healthz: {status}")
        wrong += [*self._site.new_lines(), *self._observers.errors]
        if wrong:
            raise AssertionError("\n".join(wrong))
        self._remember()
        traffic.go()
        return lost

    def _look(self) -> bool:
        self._found = {each["device"]: each for each in self._site.interfaces()}
        self._kernel = {
            (netns, name): link
            for netns in self._site.namespaces()
            for name, link in self._site.lab.by_name(netns).links("tun").items()
        }
        return True

    # The rules; each returns what is wrong.

    def _devices(self) -> list[str]:
        """Every device is as expected, in the kernel and in the daemon."""
        self._look()
        expected, site = self._site.expected, self._site
        wrong = []
        wanted_links = set()
        for device, (owner, settings) in expected.devices.items():
            netns = site.expand(settings.netns)
            name = getattr(settings, "name", "") or device
            wanted_links.add((netns or site.lab.home.name, name))
            found = self._found.get(device)
            if found is None:
                wrong.append(f"{device} does not exist")
                continue
            wanted = {
                "netns": netns,
                "name": name,
                "mtu": settings.mtu,
                "up": settings.up,
                "carrier": expected.carrier(device),
                "peer": expected.peers.get(device, ""),
                "origin": "runtime" if owner in expected.runtime else "configuration",
            }
            wrong += [
                f"{device}: {key} is {found[key]!r}, not {value!r}"
                for key, value in wanted.items()
                if found[key] != value
            ]
        wrong += [f"{device} should not exist" for device in self._found.keys() - expected.devices.keys()]
        wrong += [
            f"the kernel has no {name} in {netns}" for netns, name in wanted_links - self._kernel.keys()
        ]
        wrong += [f"the kernel has {name} in {netns}" for netns, name in self._kernel.keys() - wanted_links]
        return wrong

    def _addressing(self) -> list[str]:
        """Every device has its addresses in order, its routes and rules, as far as its state allows."""
        site = self._site
        wrong = []
        for device, (_, settings) in site.expected.devices.items():
            place = site.lab.namespace_of(site.expand(settings.netns))
            name = getattr(settings, "name", "") or device
            found = [each for each in addresses(place, name) if each in settings.addresses]
            wanted = ordered(settings.addresses)
            if not settings.up:  # the kernel removes IPv6's with a device that is set down
                found, wanted = ([each for each in many if not is_ipv6(each)] for many in (found, wanted))
            if found != wanted:
                wrong.append(f"{device}: the addresses are {found}, not {wanted}")
            there = routes(place, name)
            wanted = sorted(getattr(settings, "routes", ())) if settings.up else []
            if there != wanted:
                wrong.append(f"{device}: the routes are {there}, not {wanted}")
        return [*wrong, *self._rules()]

    def _rules(self) -> Iterator[str]:
        """The rules of each namespace lead the addresses of its loopbacks to them."""
        for netns in self._site.namespaces():
            found, wanted = led_by_rules(self._site.lab.by_name(netns)), self._wanted_rules(netns)
            if found != wanted:
                yield f"{netns}: rules lead {found} to loopbacks, not {wanted}"

    def _wanted_rules(self, netns: str) -> list[str]:
        """Return the addresses that rules of a namespace are to lead to loopbacks."""
        loopbacks = [
            each for each in self._site.expected.interfaces.values()
            if isinstance(each, Loopback) and each.policy_routing
            and self._site.lab.namespace_of(self._site.expand(each.netns)).name == netns
        ]  # fmt: skip
        return sorted(address.partition("/")[0] for each in loopbacks for address in each.addresses)

    def _plan(self) -> list[str]:
        """The plan of the daemon's file has nothing to do, unless a request changed something."""
        report = self._site.planned()
        lines = [f"the plan would {each.verb} {each.name}: {each.details}" for each in report.actions]
        restored = [line for line in lines if " restore " in line]
        return restored if self._site.expected.changed else lines

    def _missing(self) -> list[str]:
        """What the file has and does not exist is counted as missing."""
        found = self._site.daemon.metrics().value("epaird_interfaces_missing")
        missing = self._site.expected.missing
        return [f"{found:.0f} interfaces are counted as missing, not {missing}"] * (found != len(missing))

    def _workers(self) -> list[str]:
        """The workers are as many as expected, there is a spare, and every queue belongs to one worker."""
        site, expected = self._site, self._site.expected
        workers = site.workers_by_number()
        wrong = []
        if set(workers) != set(range(expected.workers)) or any(len(pids) > 1 for pids in workers.values()):
            wrong.append(f"the workers are {workers}, not {expected.workers}")
        if len(spares := site.daemon.spares()) != 1:
            wrong.append(f"the spares are {spares}")
        in_control = descriptors([site.daemon.pid]).get("tun", 0)
        in_workers = descriptors([pid for pids in workers.values() for pid in pids]).get("tun", 0)
        if not in_control == in_workers == expected.queues:
            wrong.append(
                f"there are {expected.queues} queues; "
                f"the control plane has {in_control}, the workers {in_workers}"
            )
        return wrong

    def _files(self) -> list[str]:
        """The run directory has no leftovers."""
        found, wanted = self._site.files(), self._site.run_directory()
        return [f"the run directory has {sorted(found)}, not {sorted(wanted)}"] if found != wanted else []

    def _ledger(self, *, may_lose_frames: bool) -> list[str]:
        """Every frame is accounted for, and none is in flight."""
        if gone := [device for device in self._found if self._where(device) not in self._kernel]:
            return [f"the kernel has no {device}" for device in gone]
        wrong = [*self._traffic.unaccounted(self._found), *self._segments()]
        for device, each in self._found.items():
            read, drops = self._read_uncounted(device), each["stats"]["oqdrops"]
            balance, before = self._balance(device), self._before(self._balances, device)
            if may_lose_frames and self._queues(device) > 1:
                # The kernel counts all queues of a device together. With several queues the
                # frames that a worker held when it died are not known exactly; the check only waits for rest.
                if self._previous.get(device) != (read, balance):
                    wrong.append(f"{device}: not at rest")
            else:
                if read != self._before(self._read, device):
                    wrong.append(f"{device}: the kernel counts {read} more frames read than the daemon")
                if balance != before and device not in self._site.expected.repatched:
                    wrong.append(f"{device}: {balance - before} frames are not accounted for")
            self._previous[device] = read, balance
            if (dropped := self._link(device).tx_dropped) != drops:
                wrong.append(f"{device}: oqdrops is {drops}, tx_dropped {dropped}")
            if each["refs"] != 1:
                wrong.append(f"{device}: {each['refs']} references")
        if not may_lose_frames:
            wrong += self._totals()
        return wrong

    def _segments(self) -> Iterator[str]:
        """Every segment of a line has a fate."""
        for device, each in self._found.items():
            if (line := each["stats"]["line"]) and (wrong := _segments_wrong(line)):
                yield f"{device}: {wrong} segments have no fate"

    def _totals(self) -> Iterator[str]:
        """Every frame sent is accounted for somewhere, however the halves were patched in between."""
        if self._counters.keys() - self._found.keys() or self._site.expected.new_devices:
            return
        sent = sum(_became(each["stats"]) for each in self._found.values())
        accounted = sum(_accounted(each["stats"]) for each in self._found.values())
        before = sum(_became(each) - _accounted(each) for each in self._counters.values())
        if sent - accounted != before:
            yield f"{sent - accounted - before} frames sent are not accounted for anywhere"

    def _went_back(self) -> Iterator[str]:
        """No counter went back."""
        for device, earlier in self._counters.items():
            if device in self._site.expected.new_devices or device not in self._found:
                continue
            now = self._found[device]["stats"]
            lower = [key for key in _COUNTERS if now[key] < earlier[key]]
            lower += [
                f"{key} {reason}"
                for key in _ERRORS
                for reason in earlier[key]
                if now[key][reason] < earlier[key][reason]
            ]
            yield from (f"{device}: {key} went back" for key in lower)

    def _traffic_continues(self) -> Iterator[str]:
        """The steady traffic continues."""
        for route, outcome in self._traffic.outcomes().items():
            if outcome.received == 0:
                yield f"nothing arrives from {route.sender}"

    def _restarts(self, *, restarts_uncertain: bool) -> Iterator[str]:
        """As many workers were restarted as were killed."""
        page, expected = self._site.daemon.metrics(), self._site.expected
        for number, wanted in expected.restarts.items():
            found = page.worker(str(number)).restarts
            if found != wanted and not (restarts_uncertain and found == wanted - 1):
                yield f"worker {number} was restarted {found} times, not {wanted}"
            expected.restarts[number] = found

    # Parts of the rules.

    def _remember(self) -> None:
        self._counters = {device: each["stats"] for device, each in self._found.items()}
        self._read = {device: self._read_uncounted(device) for device in self._found}
        self._balances = {device: self._balance(device) for device in self._found}
        self._site.expected.mark_checked()

    def _before(self, known: dict[str, int], device: str) -> int:
        return 0 if device in self._site.expected.new_devices else known.get(device, 0)

    def _read_uncounted(self, device: str) -> int:
        stats = self._found[device]["stats"]
        counted: int = stats["opackets"] + sum(stats["oerrors"].values())
        return self._link(device).tx_packets - counted

    def _balance(self, device: str) -> int:
        peer = self._found[device]["peer"] or device
        sent = _became(self._found[device]["stats"])
        if peer == device and not isinstance(self._owner(device), Loopback):
            return 0
        return sent - _accounted(self._found[peer]["stats"]) if peer in self._found else 0

    def _link(self, device: str) -> Link:
        return self._kernel[self._where(device)]

    def _where(self, device: str) -> tuple[str, str]:
        each = self._found[device]
        return each["netns"] or self._site.lab.home.name, each["name"]

    def _queues(self, device: str) -> int:
        owner = self._owner(device)
        return owner.queues if isinstance(owner, Pair) else 1

    def _owner(self, device: str) -> object:
        expected = self._site.expected
        return expected.interfaces[expected.devices[device][0]]


def _wait_until_kept(rule: Callable[[], list[str]]) -> None:
    until(lambda: not rule(), lambda: "\n".join(rule()))


def _became(stats: dict[str, Any]) -> int:
    """Return the frames that were sent, and what impairment added to them, less what it dropped or holds."""
    became: int = stats["opackets"]
    if line := stats["line"]:
        became += line["cut"] + line["duplicated"] - sum(line["impaired"].values()) - line["held_frames"]
    return became


def _segments_wrong(line: dict[str, Any]) -> int:
    """Return how many segments of a line have no fate."""
    fates = line["isegments"] + line["esegments"] + line["held_segments"] + sum(line["impaired"].values())
    wrong: int = line["osegments"] + line["duplicated"] - fates
    return wrong


def _accounted(stats: dict[str, Any]) -> int:
    accounted: int = stats["ipackets"] + sum(stats["ierrors"].values()) - stats["added_segments"]
    return accounted
