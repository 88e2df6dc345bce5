"""The daemon's first lines."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from epaird import __version__
from epaird.config.settings import LoopbackSettings, PairSettings
from epaird.control.greeting import greeting
from epaird.control.interfaces.registry import Registry
from epaird.names.macpool import MacPool
from tests.control.stage import idle_stage
from tests.loop import on_loop

RED = {"netns": "red", "name": "eth0", "addresses": ["10.0.0.1/24", "fd00::1/64"]}
BLUE = {"netns": "blue", "addresses": ["10.0.0.2/24"]}


@pytest.fixture(autouse=True)
def every_program_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")


@asynccontextmanager
async def made(**pairs: dict[str, object]) -> AsyncIterator[Registry]:
    """A daemon's registry, on a machine with two namespaces."""
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        stage.host.add_namespace("blue")
        registry = Registry(stage.host, stage.table, stage.slots, stage.workers, MacPool(1), loopbacks=True)
        for name, settings in pairs.items():
            await registry.create(name, PairSettings.model_validate(settings))
        yield registry
        await registry.destroy_all()


@on_loop
async def test_the_interfaces_a_command_and_the_address_of_the_metrics() -> None:
    async with made(epair0={"a": RED, "b": BLUE}) as registry:
        assert list(greeting(registry, 2, "http://127.0.0.1:9862/metrics")) == [
            f"epaird {__version__}: 1 pair, 2 workers",
            "  epair0: epair0a as eth0 in red (10.0.0.1/24 fd00::1/64) <-> epair0b in blue (10.0.0.2/24)",
            "try:     ip netns exec red ping 10.0.0.2",
            "metrics: http://127.0.0.1:9862/metrics",
        ]


@pytest.mark.parametrize(
    ("installed", "remark"),
    [
        (("ip",), " (not installed here: ping; on Debian: apt-get install iputils-ping)"),
        ((), " (not installed here: ip, ping; on Debian: apt-get install iproute2 iputils-ping)"),
    ],
)
@on_loop
async def test_missing_programs_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], remark: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: program if program in installed else None)
    async with made(epair0={"a": RED, "b": BLUE}) as interfaces:
        lines = list(greeting(interfaces, 1, None))
        assert lines[-1] == f"try:     ip netns exec red ping 10.0.0.2{remark}"


@on_loop
async def test_no_interfaces() -> None:
    async with made() as registry:
        assert list(greeting(registry, 1, None)) == [f"epaird {__version__}: 0 pairs, 1 worker"]


@on_loop
async def test_no_command_is_suggested_that_would_get_no_answer() -> None:
    other = {"netns": "blue", "addresses": ["10.9.0.2/24", "fd01::2/64"]}
    async with made(epair0={"a": RED, "b": other}) as registry:
        assert len(list(greeting(registry, 1, None))) == 2


@on_loop
async def test_the_first_pair_that_answers_is_suggested_from_the_half_that_can_reach_the_other() -> None:
    pairs: dict[str, dict[str, object]] = {
        "epair0": {},
        "epair1": {"a": {"addresses": ["10.0.0.1/32"]}, "b": {"addresses": ["10.0.0.2/24"]}},
    }
    async with made(**pairs) as registry:
        assert list(greeting(registry, 1, None))[-1] == "try:     ping 10.0.0.1"


@on_loop
async def test_a_namespace_given_by_path_is_entered_by_path() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("/proc/1/ns/net")
        registry = Registry(stage.host, stage.table, stage.slots, stage.workers, MacPool(1), loopbacks=False)
        settings = {"a": RED | {"netns": "/proc/1/ns/net"}, "b": {"addresses": ["10.0.0.2/24"]}}
        await registry.create("epair0", PairSettings.model_validate(settings))
        assert list(greeting(registry, 1, None))[-1] == (
            "try:     nsenter --net=/proc/1/ns/net ping 10.0.0.2"
        )
        await registry.destroy_all()


@on_loop
async def test_of_many_pairs_the_first_are_listed_in_the_order_of_their_numbers() -> None:
    async with made(**{f"epair{number}": {} for number in (10, *range(10))}) as registry:
        lines = list(greeting(registry, 1, None))
        assert lines[0] == f"epaird {__version__}: 11 pairs, 1 worker"
        assert lines[1:-1] == [f"  epair{n}: epair{n}a <-> epair{n}b" for n in range(8)]
        assert lines[-1] == "  and 3 more"


@on_loop
async def test_loopbacks_are_listed_too() -> None:
    async with made() as registry:
        settings = LoopbackSettings.model_validate({"addresses": ["10.1.0.1/24"]})
        await registry.create("lo1", settings)
        lines = list(greeting(registry, 1, None))
        assert lines == [
            f"epaird {__version__}: 0 pairs, 1 loopback, 1 worker",
            f"  lo1 (10.1.0.1/24): {settings.mode}",
        ]
