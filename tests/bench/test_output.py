from __future__ import annotations

import subprocess
import sys

PROGRAM = "from epaird.bench.output import write_line; write_line('ready'); input()"


def test_a_line_arrives_while_the_program_runs() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.poll() is None
        process.communicate("\n")
    assert process.returncode == 0
