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


def in_a_thread(look: Callable[[], T], *, before: Callable[[], None] = use_long_slices) -> T:
    """Return the result of ``look`` in a new thread that has called ``before``."""
    with ThreadPoolExecutor(1, initializer=before) as thread:
        return thread.submit(look).result()


@pytest.fixture
def default_ns() -> int:
    return slice_ns()


def test_slices_are_long_and_niceness_stays(default_ns: int) -> None:
    def niceness() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        use_long_slices()
        return os.getpriority(os.PRIO_PROCESS, 0)

    assert in_a_thread(slice_ns) == LONG_NS > default_ns
    assert in_a_thread(niceness) == 5
    assert slice_ns() == default_ns


def test_threads_and_processes_inherit_slices_until_they_change_them(default_ns: int) -> None:
    def process_ns() -> int:
        command = [sys.executable, "-m", "tests.scheduling", "0"]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    def forward_ns() -> int:
        return in_a_thread(slice_ns, before=use_default_slices)

    assert in_a_thread(process_ns) == LONG_NS
    assert in_a_thread(lambda: in_a_thread(slice_ns, before=lambda: None)) == LONG_NS
    assert in_a_thread(forward_ns) == default_ns


def test_another_policy_is_left_alone(default_ns: int) -> None:
    def batch() -> tuple[int, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        use_long_slices()
        return os.sched_getscheduler(0), slice_ns()

    assert in_a_thread(batch, before=use_default_slices) == (os.SCHED_BATCH, default_ns)


def test_an_unknown_system_call_changes_nothing(default_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_SCHED_SETATTR", {})
    assert in_a_thread(slice_ns) == default_ns
