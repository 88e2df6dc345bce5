"""When a heart has stopped, and when it only looks so."""

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
class Patient:
    """A process as its heart is looked at, when it says so."""

    liveness: Liveness = field(default_factory=Liveness)
    now: int = 1000 * MS
    beat: int = 1000 * MS
    queued: int = 0
    state: str = "S"
    ran: int = 0
    frames: bool = False
    pings: int = 0

    def check(self, late_ms: float = 0, *, beats: int = 0) -> Diagnosis:
        """A look, by which time it has beaten as often as every so many nanoseconds; or not, since it has
        not for longer."""
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

    def idles(self, looks: int = 30) -> Patient:
        """Its loop turns and nothing comes."""
        for _ in range(looks):
            assert self.check(beats=BEAT) is Diagnosis.ALIVE
        return self

    def forwards(self, looks: int = 30) -> Patient:
        """It forwards."""
        for _ in range(looks):
            assert self.check(beats=MS) is Diagnosis.ALIVE
        self.frames = True
        return self

    def silent(self) -> int:
        """Milliseconds since its last beat."""
        return (self.now - self.beat) // MS

    def hangs(self, *, state: str = "S", share: float = 0) -> int:
        """Milliseconds until it is taken for dead; ``share`` is how much of the time it computes."""
        self.state = state
        first = self.now
        while True:
            began = self.now
            diagnosis = self.check()
            self.ran += int((self.now - began) * share)
            if diagnosis in (Diagnosis.HUNG, Diagnosis.STOPPED):
                return self.silent()
            assert self.now - first < 100_000 * MS


def test_one_that_hangs_while_frames_wait_is_noticed_at_once() -> None:
    for state in "St":
        assert Patient().forwards().hangs(state=state) <= 60


def test_one_that_computes_and_does_nothing_else_is_noticed_at_once() -> None:
    assert Patient().forwards().hangs(state="R", share=1) <= 65
    assert Patient().forwards().hangs(state="R", share=0.5) <= 110


def test_one_that_hangs_while_nothing_comes_is_noticed_within_a_second() -> None:
    for looks in range(20, 60):
        for state in "St":
            assert 750 <= Patient().idles(looks).hangs(state=state) <= 1000
        assert 750 <= Patient().idles(looks).hangs(state="R", share=1) <= 1000


def test_one_that_is_stopped_needs_no_evidence() -> None:
    assert Patient().forwards().hangs(state="T") <= 30
    assert Patient().idles().hangs(state="T") <= 900


def test_a_longer_patience_is_longer_throughout() -> None:
    assert 250 <= Patient(Liveness(7.5)).forwards().hangs() <= 300
    assert 7500 <= Patient(Liveness(7.5)).idles().hangs() <= 7600


def test_one_that_waits_for_a_processor_is_given_time() -> None:
    patient = Patient().forwards()
    patient.state = "R"
    while patient.silent() < 5900:
        assert patient.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)
    assert patient.hangs(state="R") <= 6010
    assert patient.pings == 1


def test_one_that_is_let_run_little_is_given_as_much() -> None:
    assert Patient().forwards().hangs(state="R", share=0.1) >= 250


def test_one_that_the_kernel_keeps_waiting_is_given_time() -> None:
    assert 750 <= Patient().forwards().hangs(state="D") <= 800
    assert 750 <= Patient().idles().hangs(state="D") <= 1000


@given(st.lists(st.floats(0, 280), min_size=4, max_size=4), st.sampled_from("SR"))
def test_a_few_late_looks_are_little_evidence(late: list[float], state: str) -> None:
    patient = Patient().forwards()
    while not patient.pings:
        patient.check()
    patient.state = state
    for ms in late[:2]:
        patient.ran += int((patient.liveness.interval_s * 1e3 + ms) * MS)
        assert patient.check(ms) is Diagnosis.ALIVE
    patient.beat = patient.now
    for ms in late[2:]:
        assert patient.check(ms) is not Diagnosis.HUNG


@given(st.floats(301, 1_000_000), st.booleans(), st.booleans())
def test_nobody_is_blamed_for_what_passed_while_nobody_looked(
    ms: float, forwarding: bool, suspect: bool
) -> None:
    """The machine was suspended, or the control plane was stopped."""
    patient = Patient().forwards() if forwarding else Patient().idles()
    patient.ran += int(ms * MS)
    while suspect and not patient.pings:
        patient.check()
    assert patient.check(ms) is Diagnosis.ALIVE
    late = patient.now
    patient.hangs()
    assert patient.now - late >= 450 * MS


@given(
    st.lists(st.integers(1, 440), min_size=1, max_size=50),
    st.sampled_from("RD"),
    st.booleans(),
    st.integers(0, 2),
)
def test_one_that_beats_is_never_dead(gaps: list[int], state: str, frames: bool, ran: int) -> None:
    """Waiting for a processor or the kernel, or computing a little of the time, it beats now and then."""
    patient = Patient().forwards()
    patient.frames, patient.state = frames, state
    for gap in gaps:
        due, budget = patient.now + gap * MS, 20 * MS
        while patient.now < due:
            step = min(budget, ran * MS)
            budget -= step
            patient.ran += step
            assert patient.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)
        patient.beat = patient.now


def test_one_that_delivers_what_has_waited_is_not_dead() -> None:
    """A queue full of large frames takes longer than hung ones are given."""
    patient = Patient().forwards()
    patient.state = "R"
    for _ in range(100):
        patient.queued -= 1
        patient.ran += 6 * MS
        assert patient.check() in (Diagnosis.ALIVE, Diagnosis.SUSPECT)


def test_one_whose_receiver_takes_nothing_is_asked_once_and_let_be() -> None:
    patient = Patient().forwards()
    for _ in range(100):
        if patient.check(beats=BEAT) is Diagnosis.SUSPECT:
            patient.beat = patient.now  # it answers
    assert patient.pings == 1
    assert patient.liveness.interval_s == IDLE_CHECK_S


def test_it_is_looked_at_often_only_while_it_forwards() -> None:
    patient = Patient().idles()
    assert patient.liveness.interval_s == IDLE_CHECK_S
    patient.forwards(2)
    assert patient.liveness.interval_s == CHECK_S
    patient.frames = False
    while patient.liveness.interval_s == CHECK_S:
        assert patient.check() is Diagnosis.ALIVE
    assert patient.silent() <= 120
    assert patient.pings == 0
    assert patient.liveness.interval_s == IDLE_CHECK_S


def test_a_suspect_is_looked_at_very_often() -> None:
    patient = Patient().forwards()
    while not patient.pings:
        patient.check()
    assert patient.liveness.interval_s == SUSPECT_CHECK_S
    patient.beat = patient.now
    assert patient.check() is Diagnosis.ALIVE
    assert patient.liveness.interval_s == CHECK_S


def test_idle_it_is_looked_at_out_of_step_with_its_beats() -> None:
    """Or every look would find a fresh beat, and another be made to see whether it forwards."""
    patient, looks = Patient().idles(), 0
    began = patient.now
    while patient.now - began < 60_000 * MS:
        patient.idles(1)
        looks += 1
    assert looks <= 60 / IDLE_CHECK_S * 1.1


def test_a_process_is_seen_asleep_stopped_computing_and_gone() -> None:
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


def test_what_can_be_read_is_seen() -> None:
    reading, writing = os.pipe()
    try:
        assert not any_readable([reading])
        os.write(writing, b"frame")
        assert any_readable([reading])
    finally:
        os.close(reading)
        os.close(writing)
