"""The numeric limits of the configuration are those of the kernel."""

from __future__ import annotations

import json
import subprocess
from typing import Final

import pytest

from epaird.config import settings
from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.values import WholeNumber
from tests.scenarios.lab import Lab, pair

pytestmark = pytest.mark.real

TAP: Final = {"mtu": settings.TAP_MTU, "txqueuelen": settings.TXQUEUELEN}
TUN: Final = {"mtu": settings.TUN_MTU, "txqueuelen": settings.TXQUEUELEN}
SHOWN: Final = {"mtu": "mtu", "txqueuelen": "txqlen"}
"""Keys of ``ip -j link``."""


def link(lab: Lab, device: str) -> dict[str, int]:
    (found,) = json.loads(lab.home.ip(f"-j link show {device}"))
    return {key: found[shown] for key, shown in SHOWN.items()}


def kernel_refuses(lab: Lab, device: str, key: str, number: int) -> bool:
    """Return whether the kernel refuses a value that ``ip link set`` requests."""
    with lab.home.inside():
        command = ["ip", "link", "set", device, key, str(number)]
        done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode != 0


def test_a_device_can_have_each_limit_and_nothing_beyond(lab: Lab) -> None:
    def ends(limits: dict[str, WholeNumber], end: str) -> dict[str, int]:
        return {key: getattr(limit, end) for key, limit in limits.items()}

    halves = {side: {"netns": None, "name": None, "addresses": None} for side in "ab"}
    lab.daemon(
        pair(
            queues=2,
            a=halves["a"] | ends(TAP, "least") | {"sndbuf": settings.SNDBUF.least},
            b=halves["b"] | ends(TAP, "most") | {"sndbuf": settings.SNDBUF.most},
        )
        + "".join(
            f"[lo.lo{unit}]\n" + "".join(f"{key} = {number}\n" for key, number in ends(TUN, end).items())
            for unit, end in ((1, "least"), (2, "most"))
        )
    )
    for device, limits, end in (
        ("epair0a", TAP, "least"), ("epair0b", TAP, "most"), ("lo1", TUN, "least"), ("lo2", TUN, "most"),
    ):  # fmt: skip
        assert link(lab, device) == ends(limits, end)
        for key, limit in limits.items():
            # With txqueuelen = 0 the kernel accepts no frame at all.
            if (key, end) != ("txqueuelen", "least"):
                beyond = limit.least - 1 if end == "least" else limit.most + 1
                assert kernel_refuses(lab, device, key, beyond), (device, key, beyond)


def test_the_largest_number_of_queues_is_created(lab: Lab) -> None:
    halves = {side: {"netns": None, "name": None, "addresses": None} for side in "ab"}
    daemon = lab.daemon(pair(queues=settings.QUEUES.most, **halves))  # type: ignore[arg-type]
    assert {device.count("epair0") for device in daemon.metrics().devices()} == {1}


@pytest.mark.parametrize("table", ["epair.epair0.a", "lo.lo1"])
def test_a_longer_ring_is_refused_with_the_limit(table: str) -> None:
    kind, name, *side = table.split(".")
    settings_of = {"txqueuelen": settings.TXQUEUELEN.most + 1}
    with pytest.raises(InvalidConfiguration) as caught:
        parse({kind: {name: {side[0]: settings_of} if side else settings_of}})
    assert caught.value.problems == (
        f"{table}.txqueuelen: 524289 is more than the 524288 that the kernel's ring can hold",
    )
