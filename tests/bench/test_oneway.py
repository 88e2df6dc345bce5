"""Delays over the machine's loopback, without root."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.bench import oneway
from epaird.bench.oneway import DelayErrors, delay_errors, send
from epaird.bench.roundtrip import PERCENTILES
from tests.bench.loopback import own_address

ADDRESS = own_address()


@pytest.mark.parametrize("delay_ms", [0, 60_000])
def test_the_error_is_the_difference_to_the_delay(delay_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oneway, "_SILENCE_S", 0.2 - delay_ms / 1000)
    program = (
        "import sys; from epaird.bench import oneway;"
        f"oneway._SILENCE_S = {0.2 - delay_ms / 1000}; sys.exit(oneway.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "receive", ADDRESS, str(delay_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        assert send(ADDRESS, 1000, 0.1) == 100
        receiver.stdin.close()
        errors = DelayErrors(**json.loads(receiver.stdout.readline()))
    assert receiver.returncode == 0
    assert errors.datagrams == 100
    assert len(errors.microseconds) == len(PERCENTILES)
    # On the loopback a datagram is received within send(); how late depends on the scheduler.
    late = errors.mean_us + delay_ms * 1000
    assert 0 < late < 60_000_000
    assert min(errors.microseconds) == errors.microseconds[0]


def test_the_sender_prints_how_many_it_has_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((ADDRESS, oneway.PORT))
        assert oneway.main(["send", ADDRESS, "1000", "0.02"]) == 0
    assert capsys.readouterr().out == "20\n"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_percentiles_are_those_of_amounts(errors: list[float]) -> None:
    found = delay_errors(errors)
    amounts = {abs(error) for error in errors}
    assert found.datagrams == len(errors)
    assert set(found.microseconds) <= amounts
    assert list(found.microseconds) == sorted(found.microseconds)


def test_the_first_datagrams_are_not_counted() -> None:
    warm_up = [1e6] * oneway._WARM_UP
    assert delay_errors([*warm_up, -3.0, 1.0, 2.0]) == DelayErrors(
        len(warm_up) + 3, (2.0, 3.0, 3.0, 3.0), 0.0
    )


def test_nothing_received() -> None:
    assert delay_errors([]) == DelayErrors(0, (), 0.0)
