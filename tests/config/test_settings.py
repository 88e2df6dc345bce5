from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from epaird.config import settings
from epaird.config.settings import (
    Configuration,
    ConfiguredHalf,
    ConfiguredLoopback,
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    PairSettings,
)


def test_the_defaults() -> None:
    configuration = Configuration.model_validate({"epair": {"epair0": {}}})
    assert configuration.model_dump() == {
        "daemon": {
            "workers": "auto",
            "control_socket": Path("/run/epaird/control.sock"),
            "queue_limit": 2100,
            "poll_spin_us": 50,
            "worker_timeout": 0.75,
            "orphan_timeout": 30.0,
            "drain_timeout": 1.0,
            "keep_devices": False,
            "watch": False,
            "log_level": "info",
            "log_format": "text",
        },
        "metrics": {"listen": "127.0.0.1:9862"},
        "namespaces": {"create": ()},
        "epair": {
            "epair0": {
                "queues": 1,
                "offload": True,
                "coalesce": True,
                "pmtu": True,
                "carrier": "peer",
                "schedule": (),
                "impair": {},
                "a": HALF,
                "b": HALF,
            }
        },
        "lo": None,
        "impairment": {},
    }


HALF: Final[dict[str, Any]] = {
    "netns": None,
    "name": None,
    "mac": None,
    "mtu": 1500,
    "up": True,
    "txqueuelen": 10_000,
    "sndbuf": None,
    "addresses": (),
    "routes": (),
    "peer": None,
    "impair": {},
}


def test_the_defaults_of_a_loopback() -> None:
    assert LoopbackSettings().model_dump() == {
        "netns": None,
        "name": None,
        "mode": "reflect",
        "policy_routing": False,
        "mtu": 33_624,
        "up": True,
        "txqueuelen": 10_000,
        "addresses": (),
    }
    assert LoopbackSettings().routes == ()


@pytest.mark.parametrize(
    ("reader", "least", "most", "step"),
    [
        (settings.TAP_MTU, 68, 65_521, 1),
        (settings.TUN_MTU, 68, 65_535, 1),
        (settings.QUEUES, 1, 256, 1),
        (settings.TXQUEUELEN, 1, 524_288, 1),
        (settings.SNDBUF, 4096, 2_147_483_647, 1),
        (settings.QUEUE_LIMIT, 1, 1_000_000, 1),
        (settings.POLL_SPIN, 0, 1000, 1),
        (settings.WORKERS, 1, 1024, 1),
        (settings.WORKER_TIMEOUT, 0.5, 60, 0.01),
        (settings.ORPHAN_TIMEOUT, 0.1, 86_400, 0.01),
        (settings.DRAIN_TIMEOUT, 0.1, 60, 0.01),
    ],
)
def test_the_documented_limits(
    reader: Callable[[object], float], least: float, most: float, step: float
) -> None:
    assert (reader(least), reader(most)) == (least, most)
    for refused in (least - step, most + step):
        with pytest.raises(ValueError, match=r"is (less|more) than|is not a number of seconds"):
            reader(refused)


@pytest.fixture
def _one_core() -> Iterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("_one_core")
def test_there_are_as_many_workers_as_cores_for_this_process_or_as_configured() -> None:
    assert DaemonSettings().worker_count == 1
    assert DaemonSettings(workers=3).worker_count == 3


def test_settings_are_values() -> None:
    half = HalfSettings.model_validate({"addresses": ["10.0.0.1/24", PEER], "routes": [DEFAULT_ROUTE]})
    same = HalfSettings.model_validate(half.model_dump())
    assert half == same
    assert hash(half) == hash(same)
    assert HalfSettings.model_validate_json(half.model_dump_json()) == half
    with pytest.raises(ValidationError):
        half.mtu = 9000  # type: ignore[misc]


DEFAULT_ROUTE = {"to": "default", "via": "10.0.0.2"}
PEER = {"address": "10.0.0.1/32", "peer": "10.9.0.2"}


def test_values_are_checked_when_a_model_is_built() -> None:
    with pytest.raises(ValidationError, match="more than a TAP's 65521"):
        HalfSettings(mtu=65522)
    assert HalfSettings(mtu=65521).mtu == 65521


def test_halves_in_the_order_of_the_file() -> None:
    configuration = Configuration.model_validate({"epair": {"epair7": {"b": {"name": "eth0"}}, "epair0": {}}})
    assert [half.device for half in configuration.halves] == ["epair7a", "epair7b", "epair0a", "epair0b"]
    assert [half.name for half in configuration.halves] == ["epair7a", "eth0", "epair0a", "epair0b"]
    assert configuration.halves[1].location == ("epair", "epair7", "b")
    assert configuration.halves[1].settings is configuration.epair["epair7"].half("b")


@pytest.mark.parametrize(
    ("netns", "namespace"),
    [
        (None, ""),
        ("red", "red"),
        ("/run/netns/red", "red"),
        ("/var/run/netns/red", "red"),
        ("/proc/1/ns/net", "/proc/1/ns/net"),
    ],
)
def test_a_namespace_has_one_canonical_spelling(netns: str | None, namespace: str) -> None:
    assert ConfiguredHalf("epair0", "a", HalfSettings(netns=netns)).namespace == namespace


def test_the_address_of_the_metrics_page() -> None:
    assert (MetricsSettings().host, MetricsSettings().port) == ("127.0.0.1", 9862)
    ipv6 = MetricsSettings(listen="[::1]:0")
    assert (ipv6.host, ipv6.port) == ("::1", 0)
    off = MetricsSettings(listen="")
    assert (off.host, off.port) == (None, None)


def test_an_interface_has_its_devices() -> None:
    pair, loopback = PairSettings(), LoopbackSettings()
    assert pair.devices("epair7") == tuple(
        ConfiguredHalf("epair7", side, HalfSettings()) for side in ("a", "b")
    )
    assert [half.interface for half in pair.devices("epair7")] == ["epair7", "epair7"]
    assert loopback.devices("lo1") == (ConfiguredLoopback("lo1", loopback),)
    assert loopback.devices("lo1")[0].interface == "lo1"
    assert loopback.devices("lo1")[0].location == ("lo", "lo1")


def test_the_interfaces_are_the_halves_and_the_loopbacks() -> None:
    configuration = Configuration.model_validate({"epair": {"epair7": {}}, "lo": {"lo1": {}}})
    assert [each.device for each in configuration.interfaces] == ["epair7a", "epair7b", "lo0", "lo1"]


def test_settings_by_name_include_lo0_where_there_are_loopbacks() -> None:
    document = {"epair": {"epair7": {}}, "lo": {"lo1": {"mtu": 1500}}}
    assert list(Configuration.model_validate(document).settings_by_name()) == ["lo0", "lo1", "epair7"]
    assert list(Configuration.model_validate({"epair": {"epair7": {}}}).settings_by_name()) == ["epair7"]


def test_claims_that_only_one_device_can_have() -> None:
    half = HalfSettings.model_validate(
        {"netns": "red", "name": "eth0", "mac": "02:00:00:00:00:0a", "addresses": ["10.0.0.1/24", PEER]}
    )
    assert set(ConfiguredHalf("epair0", "a", half).claims()) == {
        ("device", "", "epair0a"),
        ("device", "red", "eth0"),
        ("mac", "02:00:00:00:00:0a"),
        ("address", "red", "10.0.0.1"),
        ("address", "red", "10.0.0.1 peer 10.9.0.2"),
    }
    stable = ConfiguredHalf("epair0", "a", HalfSettings(mac="stable"))
    assert ("mac", "epair0a") in set(stable.claims())
    assert set(ConfiguredLoopback("lo1", LoopbackSettings()).claims()) == {("device", "", "lo1")}
