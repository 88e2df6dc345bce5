"""Processes that have hung, and processes that only seem to have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from epaird.control.workers.liveness import (
    CHECK_S,
    IDLE_CHECK_S,
    SUSPECT_CHECK_S,
    Diagnosis,
    Liveness,
    ProcessState,
    any_readable,
    process_state,
)
from epaird.dataplane.worker import HEARTBEAT_S

MS: Final = 1_000_000
BEAT: Final = int(HEARTBEAT_S * 1e9)


@dataclass
class Simulated:
    """A simulated process, checked whenever its Liveness requests it."""

    liveness: Liveness = field(default_factory=Liveness)
    now: int = 1000 * MS
    beat: int = 1000 * MS
    queued: int = 0
    state: str = "S"
    ran: int = 0
    frames: bool = False
    pings: int = 0

    def check(self, late_ms: float = 0, *, beats: int = 0) -> Diagnosis:
        """Check it once. ``beats`` is the interval of its heartbeats in nanoseconds; 0 means none since."""
        self.now += int(self.liveness.interval_s * 1e9 + late_ms * MS)
        if beats:
            self.beat = max(self.beat, self.now - self.now % beats)
        diagnosis = self.liveness.check(
            self.now,
            (self.beat, self.queued),
            lambda: self.frames,
            lambda: ProcessState(self.state, self.ran),
        )  # fmt: skip
        self.pings += diagnosis is Diagnosis.SUSPECT
        return diagnosis

    def idles(self, checks: int = 30) -> Simulated:
        """Run its loop without frames."""
        for _ in range(checks):
            assert self.check(beats=BEAT) is Diagnosis.ALIVE
        return self

    def forwards(self, checks: int = 30) -> Simulated:
        """Forward frames."""
        for _ in range(checks):
            assert self.check(beats=MS) is Diagnosis.ALIVE
        self.frames = True
        return self

    def silent(self) -> int:
        """Return the milliseconds since its last heartbeat."""
        return (self.now - self.beat) // MS

    def hangs(self, *, state: str = "S", share: float = 0) -> int:
        """Return the milliseconds until it counts as hung; ``share`` of the time it computes."""
        self.state = state
        first = self.now
        while True:
            began = self.now
            diagnosis = self.check()
            self.ran += int((self.now - began) * share)
            if diagnosis in (Diagnosis.HUNG, Diagnosis.STOPPED):
                return self.silent()
            assert self.now - first < 100_000 * MS


def test_a_process_that_hangs_while_frames_wait_is_found_at_once() -> None:
    for state in "St":
        assert Simulated().forwards().hangs(state=state) <= 60


def test_a_process_that_only_computes_is_found_at_once() -> None:
    assert Simulated().forwards().hangs(state="R", share=1) <= 65
    assert Simulated().forwards().hangs(state="R", share=0.5) <= 110


def test_an_idle_process_that_hangs_is_found_within_a_second() -> None:
    for checks in range(20, 60):
        for state in "St":
            assert 750 <= Simulated().idles(checks).hangs(state=state) <= 1000
        assert 750 <= Simulated().idles(checks).hangs(state="R", share=1) <= 1000


def test_a_stopped_process_needs_no_evidence() -> None:
    assert Simulated().forwards().hangs(state="T") <= 30
    assert Simulated().idles().hangs(state="T") <= 900


def test_a_longer_timeout_applies_throughout() -> None:
    assert 250 <= Simulated(Liveness(7.5)).forwards().hangs() <= 300
    assert 7500 <= Simulated(Liveness(7.5)).idles().hangs() <= 7600


def test_a_process_that_waits_for_a_processor_is_given_time() -> None:
    process = Simulated().forwards()
    process.state = "R"
    while process.silent() < 5900:
        assert process.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)
    assert process.hangs(state="R") <= 6010
    assert process.pings == 1


def test_a_process_that_runs_little_is_given_time() -> None:
    assert Simulated().forwards().hangs(state="R", share=0.1) >= 250


def test_a_process_that_waits_in_the_kernel_is_given_time() -> None:
    assert 750 <= Simulated().forwards().hangs(state="D") <= 800
    assert 750 <= Simulated().idles().hangs(state="D") <= 1000


@given(st.lists(st.floats(0, 280), min_size=4, max_size=4), st.sampled_from("SR"))
def test_a_few_late_checks_are_little_evidence(late: list[float], state: str) -> None:
    process = Simulated().forwards()
    while not process.pings:
        process.check()
    process.state = state
    for ms in late[:2]:
        process.ran += int((process.liveness.interval_s * 1e3 + ms) * MS)
        assert process.check(ms) is Diagnosis.ALIVE
    process.beat = process.now
    for ms in late[2:]:
        assert process.check(ms) is not Diagnosis.HUNG


@given(st.floats(301, 1_000_000), st.booleans(), st.booleans())
def test_time_without_checks_is_no_evidence(ms: float, forwarding: bool, suspect: bool) -> None:
    """The machine was suspended, or the control plane was stopped."""
    process = Simulated().forwards() if forwarding else Simulated().idles()
    process.ran += int(ms * MS)
    while suspect and not process.pings:
        process.check()
    assert process.check(ms) is Diagnosis.ALIVE
    late = process.now
    process.hangs()
    assert process.now - late >= 450 * MS


@given(
    st.lists(st.integers(1, 440), min_size=1, max_size=50),
    st.sampled_from("RD"),
    st.booleans(),
    st.integers(0, 2),
)
def test_a_process_with_heartbeats_is_never_hung(gaps: list[int], state: str, frames: bool, ran: int) -> None:
    """It waits for a processor or the kernel, or computes for a part of the time, between heartbeats."""
    process = Simulated().forwards()
    process.frames, process.state = frames, state
    for gap in gaps:
        due, budget = process.now + gap * MS, 20 * MS
        while process.now < due:
            step = min(budget, ran * MS)
            budget -= step
            process.ran += step
            assert process.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)
        process.beat = process.now


def test_a_process_that_delivers_its_queue_is_not_hung() -> None:
    """A queue full of large frames takes longer than a hung process is given."""
    process = Simulated().forwards()
    process.state = "R"
    for _ in range(100):
        process.queued -= 1
        process.ran += 6 * MS
        assert process.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)


def test_a_process_whose_receiver_takes_nothing_is_pinged_once() -> None:
    process = Simulated().forwards()
    for _ in range(100):
        if process.check(beats=BEAT) is Diagnosis.SUSPECT:
            process.beat = process.now  # it answers
    assert process.pings == 1
    assert process.liveness.interval_s == IDLE_CHECK_S


def test_checks_are_frequent_only_while_it_forwards() -> None:
    process = Simulated().idles()
    assert process.liveness.interval_s == IDLE_CHECK_S
    process.forwards(2)
    assert process.liveness.interval_s == CHECK_S
    process.frames = False
    while process.liveness.interval_s == CHECK_S:
        assert process.check() is Diagnosis.ALIVE
    assert process.silent() <= 120
    assert process.pings == 0
    assert process.liveness.interval_s == IDLE_CHECK_S


def test_a_suspect_is_checked_very_often() -> None:
    process = Simulated().forwards()
    while not process.pings:
        process.check()
    assert process.liveness.interval_s == SUSPECT_CHECK_S
    process.beat = process.now
    assert process.check() is Diagnosis.ALIVE
    assert process.liveness.interval_s == CHECK_S


def test_an_idle_process_is_checked_out_of_step_with_its_heartbeats() -> None:
    """Otherwise every check would find a fresh heartbeat and cause another one."""
    process, checks = Simulated().idles(), 0
    began = process.now
    while process.now - began < 60_000 * MS:
        process.idles(1)
        checks += 1
    assert checks <= 60 / IDLE_CHECK_S * 1.1


def test_the_state_of_a_process_asleep_stopped_computing_and_gone() -> None:
    command = [sys.executable, "-c", "input()\nwhile True: pass"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        try:
            while process_state(child.pid).state != "S":
                pass
            child.send_signal(signal.SIGSTOP)
            while process_state(child.pid).state != "T":
                pass
            child.send_signal(signal.SIGCONT)
            child.stdin.write(b"\n")
            child.stdin.flush()
            before = process_state(child.pid).ran_ns
            while process_state(child.pid).ran_ns - before < 30 * MS:
                pass
            assert process_state(child.pid).state == "R"
        finally:
            child.kill()
    assert process_state(child.pid) == ProcessState("", 0)


def test_a_readable_descriptor_is_found() -> None:
    reading, writing = os.pipe()
    try:
        assert not any_readable([reading])
        os.write(writing, b"frame")
        assert any_readable([reading])
    finally:
        os.close(reading)
        os.close(writing)
