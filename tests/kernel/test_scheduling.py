from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from epaird.kernel import scheduling
from epaird.kernel.scheduling import LONG_NS, use_default_slices, use_long_slices
from tests.scheduling import needs_slices, slice_ns

T = TypeVar("T")

pytestmark = needs_slices


def aside(look: Callable[[], T], *, before: Callable[[], None] = use_long_slices) -> T:
    """What is found by a thread of its own after it has done something."""
    with ThreadPoolExecutor(1, initializer=before) as thread:
        return thread.submit(look).result()


@pytest.fixture
def usual_ns() -> int:
    return slice_ns()


def test_its_slices_are_long_and_its_niceness_stays(usual_ns: int) -> None:
    def niceness() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        use_long_slices()
        return os.getpriority(os.PRIO_PROCESS, 0)

    assert aside(slice_ns) == LONG_NS > usual_ns
    assert aside(niceness) == 5
    assert slice_ns() == usual_ns


def test_threads_and_processes_do_as_who_started_them_until_they_do_otherwise(usual_ns: int) -> None:
    def process_ns() -> int:
        command = [sys.executable, "-m", "tests.scheduling", "0"]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    def forward_ns() -> int:
        return aside(slice_ns, before=use_default_slices)

    assert aside(process_ns) == LONG_NS
    assert aside(lambda: aside(slice_ns, before=lambda: None)) == LONG_NS
    assert aside(forward_ns) == usual_ns


def test_another_policy_is_somebodys_decision(usual_ns: int) -> None:
    def batch() -> tuple[int, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        use_long_slices()
        return os.sched_getscheduler(0), slice_ns()

    assert aside(batch, before=use_default_slices) == (os.SCHED_BATCH, usual_ns)


def test_where_the_system_call_is_unknown_nothing_is_changed(
    usual_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "_SCHED_SETATTR", {})
    assert aside(slice_ns) == usual_ns
