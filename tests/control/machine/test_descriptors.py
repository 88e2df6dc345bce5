"""What descriptors are kept for, and what is refused when there are too few."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.reading import parse
from epaird.control.machine.descriptors import (
    BASE,
    WORKER,
    Descriptors,
    Purpose,
    growth,
    hard_limit,
    kept,
    open_fds,
    raise_limit,
    required,
    shortage,
)
from epaird.kernel.errors import KernelError
from epaird.plan.diff import plan

PROGRAM = """
import json, resource
from epaird.control.machine.descriptors import hard_limit, raise_limit, shortage
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
problems = shortage({wanted}, hard_limit())
raise_limit()
print(json.dumps([problems, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def tried(wanted: int) -> tuple[list[str], list[int]]:
    """Return the problems and the limits afterwards, in a process that may have 300 descriptors."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(wanted=wanted)], check=True, capture_output=True, text=True
    )
    problems, limits = json.loads(run.stdout)
    return problems, limits


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit of this process: a list whose first item is how many descriptors are free."""
    free = [0]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (open_fds() + free[0],) * 2)
    return free


def test_a_descriptor_for_each_queue_of_each_half() -> None:
    configuration = parse(
        {"daemon": {"workers": 3}, "epair": {"epair0": {}, "epair1": {"queues": 4}}, "lo": {"lo1": {}}}
    )
    devices = 2 + 8 + len(configuration.loopbacks)
    assert required(configuration) == devices + BASE + 3 * WORKER + kept(Purpose.DEVICE, 3)


@given(st.integers(1, 1024))
def test_each_purpose_leaves_more_than_those_before_it(workers: int) -> None:
    floors = [kept(purpose, workers) for purpose in Purpose]
    assert floors == sorted(set(floors))
    assert floors[0] > workers


def test_a_device_is_refused_while_what_is_kept_stands(limit: list[int]) -> None:
    descriptors = Descriptors(lambda: 2)
    reserve = kept(Purpose.DEVICE, 2)
    limit[0] = reserve + 3
    descriptors.check("epair7a", 3)
    limit[0] = reserve + 2
    with pytest.raises(KernelError) as caught:
        descriptors.check("epair7a", 3)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert caught.value.errno == errno.EMFILE
    assert str(caught.value) == (
        f"epair7a: too many open files ({most - reserve - 2} of {most} are in use, {reserve} are kept for "
        "workers and clients, 3 are needed): raise LimitNOFILE= of the service, or ulimit -Hn before the "
        "daemon starts"
    )


@pytest.mark.parametrize("purpose", Purpose)
def test_a_client_is_admitted_while_what_is_kept_stands(limit: list[int], purpose: Purpose) -> None:
    descriptors = Descriptors()
    limit[0] = kept(purpose, 1)
    assert not descriptors.have_room(purpose)
    limit[0] += 1
    assert descriptors.have_room(purpose)


def test_a_limit_below_what_is_open_leaves_nothing(limit: list[int]) -> None:
    limit[0] = -10
    assert not Descriptors().have_room(Purpose.ROOT)
    assert Descriptors().shortage(1)
    assert not Descriptors().shortage(0)


def test_the_devices_of_a_predecessor_may_use_what_is_kept(limit: list[int]) -> None:
    descriptors = Descriptors()
    most = open_fds() + 1000
    limit[0] = 1000
    assert not descriptors.adoption_shortage(most - BASE - kept(Purpose.DEVICE, 1))
    assert descriptors.adoption_shortage(most - BASE).startswith("to take over these interfaces ")


def test_no_limit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _limits: None)
    raise_limit()
    assert shortage(1 << 40, hard_limit()) == []
    assert not Descriptors().shortage(1 << 40)
    assert not Descriptors().adoption_shortage(1 << 40)


def test_only_what_a_plan_adds_counts() -> None:
    now = parse({"epair": {"epair0": {}, "epair1": {"queues": 2}}, "lo": {}})
    existing = {"epair0": 2, "epair1": 4, "lo0": 1}

    def grown(**pairs: dict[str, object]) -> int:
        return growth(plan(now, parse({"epair": pairs, "lo": {}}), peers={}), existing)

    assert grown(epair0={}, epair1={"queues": 2}) == 0
    assert grown(epair0={}, epair1={"queues": 2}, epair2={"queues": 3}) == 6
    assert grown(epair0={}, epair1={"queues": 5}) == 10 - 4
    assert grown(epair0={}) <= 0
    impaired: dict[str, object] = {"impair": {"delay": "1ms"}}
    assert grown(epair0=impaired, epair1={"queues": 2}) == 2, "their rings"
    traced: dict[str, object] = {"impair": {"delay": "1ms"}, "a": {"impair": {"trace": "lte.up"}}}
    assert grown(epair0=traced, epair1={"queues": 2}) == 3
    existing["epair0"] = 4
    assert grown(epair0=impaired, epair1={"queues": 2}) == 0, "it had them already"


def test_the_limit_is_raised_as_far_as_possible() -> None:
    assert tried(300) == ([], [300, 300])


def test_too_few_descriptors_are_one_line() -> None:
    (line,), limits = tried(301)
    assert line.startswith("these interfaces need 301 open files and 300 are allowed: raise LimitNOFILE= ")
    assert limits == [300, 300]
    assert shortage(300, 300) == []


def test_descriptors_are_counted(tmp_path: Path) -> None:
    before = open_fds()
    fd = os.open(tmp_path, os.O_RDONLY)
    assert open_fds() == before + 1
    os.close(fd)
