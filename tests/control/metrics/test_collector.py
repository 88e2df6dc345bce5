"""The metric families: the names that dashboards rely on, and the source of each value."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from epaird import __version__
from epaird.control.metrics.collector import Collector, metrics_registry
from epaird.control.readings import Reading
from epaird.ipc.counters import REASONS
from tests.control.samples import interface, pair, worker

DEVICE = ("device",)
REASON = ("device", "reason")
WORKER = ("worker",)
CONTRACT = {
    "epaird_build_info": ("gauge", ("version",)),
    "epaird_config_last_reload_successful": ("gauge", ()),
    "epaird_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "epaird_config_reloads_total": ("counter", ("result",)),
    "epaird_config_sha256_info": ("gauge", ("sha256",)),
    "epaird_interfaces_missing": ("gauge", ()),
    "epaird_interface_opackets_total": ("counter", DEVICE),
    "epaird_interface_obytes_total": ("counter", DEVICE),
    "epaird_interface_omcasts_total": ("counter", DEVICE),
    "epaird_interface_oqdrops_total": ("counter", DEVICE),
    "epaird_interface_ipackets_total": ("counter", DEVICE),
    "epaird_interface_ibytes_total": ("counter", DEVICE),
    "epaird_interface_too_big_total": ("counter", DEVICE),
    "epaird_added_segments_total": ("counter", DEVICE),
    "epaird_coalesced_datagrams_total": ("counter", DEVICE),
    "epaird_coalesced_superframes_total": ("counter", DEVICE),
    "epaird_interface_imcasts_total": ("counter", DEVICE),
    "epaird_interface_oerrors_total": ("counter", REASON),
    "epaird_interface_ierrors_total": ("counter", REASON),
    "epaird_interface_up": ("gauge", DEVICE),
    "epaird_interface_carrier": ("gauge", DEVICE),
    "epaird_interface_mtu_bytes": ("gauge", DEVICE),
    "epaird_interface_refs": ("gauge", DEVICE),
    "epaird_interface_held_bytes": ("gauge", DEVICE),
    "epaird_interface_oactive": ("gauge", DEVICE),
    "epaird_interface_info": ("gauge", ("device", "pair", "half", "peer", "name", "netns", "mac", "worker")),
    "epaird_impaired_total": ("counter", REASON),
    "epaird_cut_total": ("counter", DEVICE),
    "epaird_duplicated_total": ("counter", DEVICE),
    "epaird_corrupted_total": ("counter", DEVICE),
    "epaird_reordered_total": ("counter", DEVICE),
    "epaird_marked_total": ("counter", DEVICE),
    "epaird_impair_osegments_total": ("counter", DEVICE),
    "epaird_impair_isegments_total": ("counter", DEVICE),
    "epaird_impair_esegments_total": ("counter", DEVICE),
    "epaird_impair_held_frames": ("gauge", DEVICE),
    "epaird_impair_held_bytes": ("gauge", DEVICE),
    "epaird_impair_full": ("gauge", DEVICE),
    "epaird_impair_late_seconds": ("histogram", DEVICE),
    "epaird_impair_buffer_bytes": ("gauge", DEVICE),
    "epaird_impair_delay_seconds": ("gauge", DEVICE),
    "epaird_impair_jitter_seconds": ("gauge", DEVICE),
    "epaird_impair_loss_ratio": ("gauge", DEVICE),
    "epaird_impair_duplicate_ratio": ("gauge", DEVICE),
    "epaird_impair_corrupt_ratio": ("gauge", DEVICE),
    "epaird_impair_reorder_ratio": ("gauge", DEVICE),
    "epaird_impair_bit_error_ratio": ("gauge", DEVICE),
    "epaird_impair_rate_bytes_per_second": ("gauge", DEVICE),
    "epaird_impair_limit_bytes": ("gauge", DEVICE),
    "epaird_impair_limit_segments": ("gauge", DEVICE),
    "epaird_worker_queue_frames": ("gauge", WORKER),
    "epaird_worker_queue_limit_frames": ("gauge", WORKER),
    "epaird_worker_drain_list_interfaces": ("gauge", WORKER),
    "epaird_worker_oactive": ("gauge", WORKER),
    "epaird_worker_restarts_total": ("counter", WORKER),
    "epaird_worker_cpu_seconds_total": ("counter", WORKER),
    "epaird_control_tasks": ("gauge", ()),
    "epaird_log_lines_lost_total": ("counter", ()),
    "epaird_state_write_errors_total": ("counter", ()),
}
"""Type and labels of every sample on the text page, by its name."""


def value(reading: Reading, sample: str, /, **labels: str) -> float | None:
    """Return one sample of the reading's metrics."""
    return metrics_registry(lambda: reading).get_sample_value(sample, labels)


def test_the_page_has_the_names_types_and_labels_of_the_contract_and_no_others() -> None:
    page = generate_latest(metrics_registry(pair)).decode()
    seen = {}
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            seen[name] = kind
    own = {name: kind for name, kind in seen.items() if not name.startswith("process_")}
    assert own == {name: kind for name, (kind, _) in CONTRACT.items()}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if not sample.name.startswith("process_"):
                labels = CONTRACT.get(sample.name, CONTRACT.get(family.name, ("", ())))[1]
                assert set(sample.labels) - {"le"} == set(labels), sample.name


def test_every_counter_comes_from_its_own_field() -> None:
    names = ("opackets", "obytes", "omcasts", "oqdrops", "ipackets", "ibytes", "imcasts")
    reading = pair(**{name: 1000 + place for place, name in enumerate(names)})
    for place, name in enumerate(names):
        assert value(reading, f"epaird_interface_{name}_total", device="epair0a") == 1000 + place
        assert value(reading, f"epaird_interface_{name}_total", device="epair0b") == 0


def test_what_is_missing_is_counted() -> None:
    assert value(Reading((), ()), "epaird_interfaces_missing") == 0
    assert value(Reading((), (), missing=("epair0", "lo0")), "epaird_interfaces_missing") == 2


def test_errors_have_every_reason_from_the_start() -> None:
    count = len(REASONS)
    reading = pair(oerrors=tuple(range(1, 1 + count)), ierrors=tuple(range(101, 101 + count)))
    for place, reason in enumerate(REASONS):
        for name, first in (("oerrors", 1), ("ierrors", 101)):
            sample = f"epaird_interface_{name}_total"
            assert value(reading, sample, device="epair0a", reason=reason) == first + place
            assert value(reading, sample, device="epair0b", reason=reason) == 0


def test_coalesced_counters_follow_the_reading() -> None:
    reading = pair(coalesced_datagrams=640, coalesced_superframes=10)
    assert value(reading, "epaird_coalesced_datagrams_total", device="epair0a") == 640
    assert value(reading, "epaird_coalesced_superframes_total", device="epair0a") == 10
    assert value(reading, "epaird_coalesced_datagrams_total", device="epair0b") == 0


def test_gauges_follow_the_reading() -> None:
    reading = pair(up=False, carrier=True, mtu=9000, refs=7, held_bytes=4096)
    seen = {
        name: value(reading, f"epaird_interface_{name}", device="epair0a")
        for name in ("up", "carrier", "mtu_bytes", "refs", "held_bytes")
    }
    assert seen == {"up": 0, "carrier": 1, "mtu_bytes": 9000, "refs": 7, "held_bytes": 4096}


def test_oactive_is_1_however_many_queues_are_blocked() -> None:
    for flags, expected in ((0, 0), (1, 1), (2, 1)):
        assert value(pair(oactive=flags), "epaird_interface_oactive", device="epair0a") == expected


def test_info_has_the_place_of_an_interface() -> None:
    reading = Reading((interface("epair7b", name='e"th\\0', netns="", worker="0,1"),), ())
    where = {"pair": "epair7", "half": "b", "peer": "epair7a", "name": 'e"th\\0', "netns": ""}
    where["mac"] = "02:5d:11:22:33:0a"
    assert value(reading, "epaird_interface_info", device="epair7b", worker="0,1", **where) == 1
    assert value(reading, "epaird_build_info", version=__version__) == 1


def test_worker_metrics_follow_the_reading() -> None:
    busy = worker(3, queue_frames=5, queue_limit=42, drain_list=2, oactive=True, restarts=4, cpu_seconds=1.25)
    reading = Reading((), (worker(0), busy))
    expected = {
        "queue_frames": 5,
        "queue_limit_frames": 42,
        "drain_list_interfaces": 2,
        "oactive": 1,
        "restarts_total": 4,
        "cpu_seconds_total": 1.25,
    }
    assert {name: value(reading, f"epaird_worker_{name}", worker="3") for name in expected} == expected
    assert value(reading, "epaird_worker_queue_limit_frames", worker="0") == 2100


def test_the_control_planes_tasks_are_exported() -> None:
    assert value(Reading((), (), tasks=7), "epaird_control_tasks") == 7


def test_one_scrape_is_one_reading_and_registering_none() -> None:
    readings: list[Reading] = []

    def read() -> Reading:
        readings.append(pair())
        return readings[-1]

    registry = metrics_registry(read)
    assert readings == []
    list(registry.collect())
    assert len(readings) == 1


def test_families_are_the_same_without_interfaces() -> None:
    empty = Collector(lambda: Reading((), ()))
    full = Collector(pair)
    assert [family.name for family in empty.collect()] == [family.name for family in full.collect()]
    assert [family.name for family in full.describe()] == [family.name for family in full.collect()]


def test_help_names_the_owners_view() -> None:
    for family in Collector(pair).collect():
        counter = family.name.removeprefix("epaird_interface_")
        if family.type == "counter" and counter != family.name:
            assert "the interface's owner" in family.documentation, family.name
            # All but this one are BSD's.
            assert counter == "too_big" or f"if_{counter}" in family.documentation, family.name
