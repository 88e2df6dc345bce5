from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from epaird.config.reading import parse
from epaird.control.machine.descriptors import RESERVE, raise_limit, required

PROGRAM = """
import json, resource
from epaird.control.machine.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
problems = raise_limit({wanted})
print(json.dumps([problems, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def tried(wanted: int) -> tuple[list[str], list[int]]:
    """Return the problems and the limits afterwards, in a process that may have 300 descriptors."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(wanted=wanted)], check=True, capture_output=True, text=True
    )
    problems, limits = json.loads(run.stdout)
    return problems, limits


def test_a_descriptor_for_each_queue_of_each_half() -> None:
    configuration = parse({"epair": {"epair0": {}, "epair1": {"queues": 4}}})
    assert required(configuration) == 2 + 8 + len(configuration.loopbacks) + RESERVE


def test_the_limit_is_raised_as_far_as_possible() -> None:
    assert tried(300) == ([], [300, 300])


def test_too_few_descriptors_are_one_line() -> None:
    (line,), limits = tried(301)
    assert line.startswith("these interfaces need 301 open files and 300 are allowed: raise LimitNOFILE= ")
    assert limits == [300, 300]


def test_no_limit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (100, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _limits: None)
    assert raise_limit(1 << 40) == []
