from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from epaird.bench.interruption import Interrupted, Interruption

pytestmark = pytest.mark.usefixtures("restored_handlers")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def soon() -> float:
    return time.monotonic() + 30


def test_a_readable_descriptor(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    with Interruption() as interruption:
        assert interruption.readable(pipe[0], soon())


def test_the_deadline(pipe: tuple[int, int]) -> None:
    with Interruption() as interruption:
        assert not interruption.readable(pipe[0], time.monotonic())


def test_a_signal_does_nothing_until_something_waits(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.number == signal.SIGINT
        for wait in (
            lambda: interruption.readable(pipe[0], soon()),
            lambda: interruption.pause(30),
            interruption.check,
        ):
            with pytest.raises(Interrupted) as caught:
                wait()
            assert caught.value.number == signal.SIGINT


def test_a_signal_while_waiting(pipe: tuple[int, int]) -> None:
    with Interruption() as interruption:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted) as caught:
            interruption.readable(pipe[0], soon())
        assert caught.value.number == signal.SIGTERM
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_another_signal_does_not_end_a_wait(pipe: tuple[int, int]) -> None:
    with Interruption() as interruption:
        signal.signal(signal.SIGALRM, lambda *_: os.write(pipe[1], b"x") and None)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert interruption.readable(pipe[0], soon())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_the_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_after_an_interruption_further_signals_are_ignored() -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
        interruption.check()
