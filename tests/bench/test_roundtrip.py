"""Round trips over the machine's loopback, without root."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from epaird.bench import roundtrip
from epaird.bench.roundtrip import PERCENTILES, PORT, ask, main
from tests.bench.loopback import own_address

ADDRESS = own_address()


@pytest.fixture
def server() -> Iterator[None]:
    command = [sys.executable, "-m", "epaird.bench.roundtrip", "echo", ADDRESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


@pytest.mark.usefixtures("server")
def test_the_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roundtrip, "_EXCHANGES", roundtrip._WARM_UP + 100)
    times = ask(ADDRESS, 30)
    assert (times.exchanges, times.lost) == (100, 0)
    assert len(times.microseconds) == len(PERCENTILES)
    assert 0 < times.microseconds[0] <= times.microseconds[-1]
    assert list(times.microseconds) == sorted(times.microseconds)


@pytest.mark.usefixtures("server")
def test_the_result_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", ADDRESS, "0.02"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["exchanges"] > 0


def test_a_lost_datagram_is_counted_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roundtrip, "_ANSWER_TIMEOUT_S", 0.02)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((ADDRESS, PORT))
        times = ask(ADDRESS, 0.05)
    assert (times.exchanges, times.microseconds) == (0, ())
    assert times.lost >= 1
