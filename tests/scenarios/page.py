"""The metrics page, parsed by Prometheus' own client library."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from epaird.client.counters import InterfaceCounters
from epaird.ipc.counters import STATISTICS

_INFO: Final = ("device", "pair", "half", "name", "netns", "mac", "worker")
_COUNTERS: Final = {f"{each.metric}_total": each.name for each in STATISTICS if not each.by_reason}
_ERRORS: Final = {f"{each.metric}_total": each.name for each in STATISTICS if each.by_reason}
_GAUGES: Final = {f"epaird_interface_{name}": name for name in ("up", "carrier", "mtu_bytes", "refs")}


@dataclass(frozen=True, kw_only=True)
class Interface(InterfaceCounters):
    """All metrics of one interface: its counters, which the catalogue names, and the fields below."""

    device: str
    pair: str
    half: str
    name: str
    netns: str
    mac: str
    worker: str
    up: int
    carrier: int
    mtu_bytes: int
    refs: int

    def goes_back(self, earlier: Interface) -> list[str]:
        """Return the counters that are lower than they were earlier."""
        lower = [name for name in _COUNTERS.values() if getattr(self, name) < getattr(earlier, name)]
        for name in _ERRORS.values():
            now, before = getattr(self, name), getattr(earlier, name)
            lower += [f"{name}{{{reason}}}" for reason in before if now[reason] < before[reason]]
        return lower


@dataclass(frozen=True, slots=True)
class Worker:
    """All metrics of one worker."""

    queue_frames: int
    queue_limit_frames: int
    drain_list_interfaces: int
    oactive: int
    restarts: int
    cpu_seconds: float


class Page:
    """One snapshot of the metrics page."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.samples = [
            sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples
        ]
        self._by_device: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            self._by_device[sample.labels.get("device", "")].append(sample)

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one sample."""
        (found,) = (each.value for each in self.samples if each.name == name and each.labels == labels)
        return float(found)

    def pairs(self) -> list[str]:
        """Return the names of the pairs on the page."""
        return sorted({self.interface(device).pair for device in self.devices()})

    def devices(self) -> list[str]:
        """Return the names of the interfaces on the page."""
        return sorted(filter(None, self._by_device))

    def interface(self, device: str) -> Interface:
        """Return the metrics of an interface."""
        fields: dict[str, Any] = {name: {} for name in _ERRORS.values()}
        numbers = _COUNTERS | _GAUGES
        for sample in self._by_device[device]:
            if sample.name == "epaird_interface_info":
                fields |= {label: sample.labels[label] for label in _INFO}
            elif sample.name in _ERRORS:
                fields[_ERRORS[sample.name]][sample.labels["reason"]] = int(sample.value)
            elif sample.name in numbers:
                fields[numbers[sample.name]] = int(sample.value)
        return Interface(**fields)

    def line_balance(self, device: str) -> int:
        """Return the frames that impairment has added to those of a sender, less those dropped or held."""
        signs = {
            "epaird_cut_total": 1,
            "epaird_duplicated_total": 1,
            "epaird_impaired_total": -1,
            "epaird_impair_held_frames": -1,
        }
        return sum(int(each.value) * signs.get(each.name, 0) for each in self._by_device[device])

    def segment_balance(self, device: str) -> int:
        """Return the segments that impairment has taken from a sender, less those that have a fate.

        Segments that are held have none yet; only their frames are on the page."""
        signs = {
            "epaird_impair_osegments_total": 1,
            "epaird_duplicated_total": 1,
            "epaird_impair_isegments_total": -1,
            "epaird_impair_esegments_total": -1,
            "epaird_impaired_total": -1,
        }
        return sum(int(each.value) * signs.get(each.name, 0) for each in self._by_device[device])

    def held(self, device: str) -> int:
        """Return the frames of a sender that impairment holds."""
        found = (each.value for each in self._by_device[device] if each.name == "epaird_impair_held_frames")
        return int(sum(found))

    def blocked(self, device: str) -> bool:
        """Return whether the output of an interface is blocked."""
        return self.value("epaird_interface_oactive", device=device) > 0

    def worker(self, number: str = "0") -> Worker:
        """Return the metrics of a worker."""
        values = {
            sample.name.removeprefix("epaird_worker_").removesuffix("_total"): sample.value
            for sample in self.samples
            if sample.name.startswith("epaird_worker_") and sample.labels["worker"] == number
        }
        return Worker(
            queue_frames=int(values["queue_frames"]),
            queue_limit_frames=int(values["queue_limit_frames"]),
            drain_list_interfaces=int(values["drain_list_interfaces"]),
            oactive=int(values["oactive"]),
            restarts=int(values["restarts"]),
            cpu_seconds=values["cpu_seconds"],
        )
