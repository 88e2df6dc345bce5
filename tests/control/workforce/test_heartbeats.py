"""When a heart has stopped, and when it only looks so."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from epaird.control.workforce.heartbeats import Heart, any_readable, is_stopped, waited_ns

MS: Final = 1_000_000
LOOK: Final = 50 * MS
HUNG_S: Final = 0.75


@dataclass
class Patient:
    """A process as its heart is looked at."""

    heart: Heart = field(default_factory=lambda: Heart(HUNG_S))
    now: int = 1000 * MS
    beat: int = 1000 * MS
    waited: int = 0
    frames: bool = False

    def look(self, after: int = LOOK) -> bool:
        self.now += after
        return self.heart.has_stopped(self.now, self.beat, lambda: self.waited, lambda: self.frames)

    def beats(self, times: int = 3) -> Patient:
        for _ in range(times):
            assert not self.look()
            self.beat = self.now
        assert not self.look()
        return self

    def silent_for(self) -> int:
        """Milliseconds until it is taken for dead."""
        while not self.look():
            assert self.now - self.beat < 100_000 * MS
        return (self.now - self.beat) // MS


def test_one_that_is_silent_is_noticed_within_a_second() -> None:
    assert 750 <= Patient().beats().silent_for() <= 850


def test_one_for_which_frames_wait_is_noticed_sooner() -> None:
    patient = Patient().beats()
    patient.frames = True
    assert 300 <= patient.silent_for() <= 400


def test_one_that_is_not_let_run_is_given_time() -> None:
    patient = Patient().beats()
    while patient.now - patient.beat < 5000 * MS:
        patient.waited += LOOK
        assert not patient.look()
    assert patient.silent_for() <= 8 * 750 + 50


def test_one_that_is_not_let_run_part_of_the_time_has_that_much_more() -> None:
    patient = Patient().beats()
    patient.waited += 400 * MS
    assert 1100 <= patient.silent_for() <= 1250


@given(st.integers(301, 50_000))
def test_nobody_is_blamed_for_what_passed_while_nobody_looked(ms: int) -> None:
    patient = Patient().beats()
    patient.frames = True
    assert not patient.look(ms * MS)
    late = patient.now
    assert not patient.look()
    patient.silent_for()
    assert patient.now - late >= 300 * MS


@given(st.lists(st.integers(1, 250), min_size=1, max_size=50), st.booleans())
def test_one_that_beats_is_never_dead(gaps: list[int], frames: bool) -> None:
    patient = Patient().beats()
    patient.frames = frames
    for gap in gaps:
        due = patient.now + gap * MS
        while patient.now < due:
            assert not patient.look()
        patient.beat = patient.now


def test_a_child_that_is_stopped_is_seen() -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        try:
            assert not is_stopped(child.pid)
            child.send_signal(signal.SIGSTOP)
            while not is_stopped(child.pid):
                pass
            child.send_signal(signal.SIGCONT)
            while is_stopped(child.pid):
                pass
            assert waited_ns(child.pid) >= 0
        finally:
            child.kill()
    assert not is_stopped(child.pid)
    assert waited_ns(child.pid) == 0


def test_what_can_be_read_is_seen() -> None:
    reading, writing = os.pipe()
    try:
        assert not any_readable([reading])
        os.write(writing, b"frame")
        assert any_readable([reading])
    finally:
        os.close(reading)
        os.close(writing)
