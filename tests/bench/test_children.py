from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from epaird.bench import children
from epaird.bench.children import BenchError, Child, cpu_seconds, process_tree
from epaird.bench.interruption import Interrupted, Interruption
from epaird.bench.namespaces import BenchNamespace
from epaird.kernel.namespace import Namespace, identity
from tests.waiting import until

pytestmark = pytest.mark.real

OWN_NAMESPACE = BenchNamespace("/proc/self/ns/net", Namespace(-1, identity(None), ""))
IGNORE_SIGTERM = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"])
print("ready", flush=True)
sys.stdin.read()
signal.pause()
"""


def python(program: str, interruption: Interruption, end: int = signal.SIGKILL) -> Child:
    return Child((sys.executable, "-c", program), OWN_NAMESPACE, interruption, end=end)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lines_in_both_directions(interruption: Interruption) -> None:
    program = "import sys; print('a\\nready'); print(len(input())); print(sys.stdin.read() == '', end='!')"
    with python(program, interruption) as child:
        child.until("ready")
        child.begin()
        assert child.line() == "0"
        child.finish()
        assert child.rest() == "True!"


def test_a_child_that_ends_early_is_reported_with_its_stderr(interruption: Interruption) -> None:
    with python("import sys; sys.exit('no such cable')", interruption) as child:
        with pytest.raises(BenchError, match=r"^.*: ended; its stderr:\nno such cable$"):
            child.line()
        until(lambda: not child.running)


def test_a_silent_child_is_reported(interruption: Interruption, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_ANSWER_MARGIN_S", 0.05)
    with python("import signal; signal.pause()", interruption) as child:
        with pytest.raises(BenchError, match=r"does not answer$"):
            child.line()
        assert child.running


def test_an_interruption_ends_the_wait(interruption: Interruption) -> None:
    with python("import signal; signal.pause()", interruption) as child:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            child.line()


def test_a_child_that_ignores_its_signal_is_killed_with_its_descendants(
    interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_EXIT_TIMEOUT_S", 0.1)
    with python(IGNORE_SIGTERM, interruption, end=signal.SIGTERM) as child:
        child.until("ready")
        family = until(lambda: tree if len(tree := process_tree(child.pid)) == 2 else None)
        assert family[0] == child.pid
    until(lambda: not any(map(alive, family)))


def test_the_cpu_time_of_descendants_is_included(interruption: Interruption) -> None:
    spin = "import time\nwhile time.process_time() < 0.2: pass\nprint('spun', flush=True); input()"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    with python(program, interruption) as child:
        child.until("spun")
        assert 0.2 <= cpu_seconds(child.pid) < 5


def test_a_process_that_is_gone_uses_no_cpu(interruption: Interruption) -> None:
    with python("", interruption) as child:
        pid = child.pid
    assert cpu_seconds(pid) == 0
