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
    IDLE_LOOK_S,
    LOOK_S,
    SUSPECT_LOOK_S,
    Heart,
    Sight,
    Verdict,
    any_readable,
    sight_of,
)
from epaird.dataplane.worker import HEARTBEAT_S

MS: Final = 1_000_000
BEAT: Final = int(HEARTBEAT_S * 1e9)


@dataclass
class Patient:
    """A process as its heart is looked at, when it says so."""

    heart: Heart = field(default_factory=Heart)
    now: int = 1000 * MS
    beat: int = 1000 * MS
    queued: int = 0
    state: str = "S"
    ran: int = 0
    frames: bool = False
    asked: int = 0

    def look(self, late_ms: float = 0, *, beats: int = 0) -> Verdict:
        """A look, by which time it has beaten as often as every so many nanoseconds; or not, since it has
        not for longer."""
        self.now += int(self.heart.look_s * 1e9 + late_ms * MS)
        if beats:
            self.beat = max(self.beat, self.now - self.now % beats)
        verdict = self.heart.look(
            self.now, (self.beat, self.queued), lambda: self.frames, lambda: Sight(self.state, self.ran)
        )
        self.asked += verdict is Verdict.SUSPECT
        return verdict

    def idles(self, looks: int = 30) -> Patient:
        """Its loop turns and nothing comes."""
        for _ in range(looks):
            assert self.look(beats=BEAT) is Verdict.WELL
        return self

    def forwards(self, looks: int = 30) -> Patient:
        """It forwards."""
        for _ in range(looks):
            assert self.look(beats=MS) is Verdict.WELL
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
            verdict = self.look()
            self.ran += int((self.now - began) * share)
            if verdict in (Verdict.HUNG, Verdict.STOPPED):
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
    assert 250 <= Patient(Heart(7.5)).forwards().hangs() <= 300
    assert 7500 <= Patient(Heart(7.5)).idles().hangs() <= 7600


def test_one_that_waits_for_a_processor_is_given_time() -> None:
    patient = Patient().forwards()
    patient.state = "R"
    while patient.silent() < 5900:
        assert patient.look() in (Verdict.WELL, Verdict.SUSPECT)
    assert patient.hangs(state="R") <= 6010
    assert patient.asked == 1


def test_one_that_is_let_run_little_is_given_as_much() -> None:
    assert Patient().forwards().hangs(state="R", share=0.1) >= 250


def test_one_that_the_kernel_keeps_waiting_is_given_time() -> None:
    assert 750 <= Patient().forwards().hangs(state="D") <= 800
    assert 750 <= Patient().idles().hangs(state="D") <= 1000


@given(st.lists(st.floats(0, 280), min_size=4, max_size=4), st.sampled_from("SR"))
def test_a_few_late_looks_are_little_evidence(late: list[float], state: str) -> None:
    patient = Patient().forwards()
    while not patient.asked:
        patient.look()
    patient.state = state
    for ms in late[:2]:
        patient.ran += int((patient.heart.look_s * 1e3 + ms) * MS)
        assert patient.look(ms) is Verdict.WELL
    patient.beat = patient.now
    for ms in late[2:]:
        assert patient.look(ms) is not Verdict.HUNG


@given(st.floats(301, 1_000_000), st.booleans(), st.booleans())
def test_nobody_is_blamed_for_what_passed_while_nobody_looked(
    ms: float, forwarding: bool, suspect: bool
) -> None:
    """The machine was suspended, or the control plane was stopped."""
    patient = Patient().forwards() if forwarding else Patient().idles()
    patient.ran += int(ms * MS)
    while suspect and not patient.asked:
        patient.look()
    assert patient.look(ms) is Verdict.WELL
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
            assert patient.look() in (Verdict.WELL, Verdict.SUSPECT)
        patient.beat = patient.now


def test_one_that_delivers_what_has_waited_is_not_dead() -> None:
    """A queue full of large frames takes longer than hung ones are given."""
    patient = Patient().forwards()
    patient.state = "R"
    for _ in range(100):
        patient.queued -= 1
        patient.ran += 6 * MS
        assert patient.look() in (Verdict.WELL, Verdict.SUSPECT)


def test_one_whose_receiver_takes_nothing_is_asked_once_and_let_be() -> None:
    patient = Patient().forwards()
    for _ in range(100):
        if patient.look(beats=BEAT) is Verdict.SUSPECT:
            patient.beat = patient.now  # it answers
    assert patient.asked == 1
    assert patient.heart.look_s == IDLE_LOOK_S


def test_it_is_looked_at_often_only_while_it_forwards() -> None:
    patient = Patient().idles()
    assert patient.heart.look_s == IDLE_LOOK_S
    patient.forwards(2)
    assert patient.heart.look_s == LOOK_S
    patient.frames = False
    while patient.heart.look_s == LOOK_S:
        assert patient.look() is Verdict.WELL
    assert patient.silent() <= 120
    assert patient.asked == 0
    assert patient.heart.look_s == IDLE_LOOK_S


def test_a_suspect_is_looked_at_very_often() -> None:
    patient = Patient().forwards()
    while not patient.asked:
        patient.look()
    assert patient.heart.look_s == SUSPECT_LOOK_S
    patient.beat = patient.now
    assert patient.look() is Verdict.WELL
    assert patient.heart.look_s == LOOK_S


def test_idle_it_is_looked_at_out_of_step_with_its_beats() -> None:
    """Or every look would find a fresh beat, and another be made to see whether it forwards."""
    patient, looks = Patient().idles(), 0
    began = patient.now
    while patient.now - began < 60_000 * MS:
        patient.idles(1)
        looks += 1
    assert looks <= 60 / IDLE_LOOK_S * 1.1


def test_a_process_is_seen_asleep_stopped_computing_and_gone() -> None:
    command = [sys.executable, "-c", "input()\nwhile True: pass"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        try:
            while sight_of(child.pid).state != "S":
                pass
            child.send_signal(signal.SIGSTOP)
            while sight_of(child.pid).state != "T":
                pass
            child.send_signal(signal.SIGCONT)
            child.stdin.write(b"\n")
            child.stdin.flush()
            before = sight_of(child.pid).ran_ns
            while sight_of(child.pid).ran_ns - before < 30 * MS:
                pass
            assert sight_of(child.pid).state == "R"
        finally:
            child.kill()
    assert sight_of(child.pid) == Sight("", 0)


def test_what_can_be_read_is_seen() -> None:
    reading, writing = os.pipe()
    try:
        assert not any_readable([reading])
        os.write(writing, b"frame")
        assert any_readable([reading])
    finally:
        os.close(reading)
        os.close(writing)
