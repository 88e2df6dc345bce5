from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from epaird.bench.output import stdin_ended

PROGRAM = "from epaird.bench.output import write_line; write_line('ready'); input()"


def test_a_line_arrives_while_the_program_runs() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.poll() is None
        process.communicate("\n")
    assert process.returncode == 0


def test_the_end_of_stdin_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with io.FileIO(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not stdin_ended()
        os.close(write)
        assert stdin_ended()
