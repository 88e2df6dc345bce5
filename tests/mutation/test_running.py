"""A package of one module with its tests, mutated in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT
from tests.mutation.running import own_tests

MODULE = """
def capped(number, limit):
    return limit if number > limit else number

def wait(ready):
    while not ready():
        pass
"""
TESTS = """
from epaird.x.capping import capped, wait

def test_a_cap():
    assert capped(9, 5) == 5
    assert capped(3, 5) == 3

def test_waiting():
    wait(lambda: True)
"""
SCRIPT = """
from pathlib import Path
from tests.mutation.running import TestsFail, outcomes

try:
    for each in outcomes(Path("epaird/x/capping.py")):
        print("killed" if each.killed else "survived", each.mutation.line, each.mutation.name)
except TestsFail:
    print("fail")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (
        ("epaird/__init__.py", ""),
        ("epaird/x/__init__.py", ""),
        ("epaird/x/capping.py", MODULE),
        ("tests/x/test_capping.py", TESTS),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "tests" / "mutation").symlink_to(ROOT / "tests" / "mutation")
    return tmp_path


def run(project: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line.startswith(("killed", "survived", "fail"))]


def test_each_mutation_is_killed_by_the_modules_tests_or_survives(project: Path) -> None:
    ternary = "return limit if number > limit else number"
    assert run(project) == [
        f"killed 3 capped: {ternary} -> return None",
        f"survived 3 capped: {ternary} -> {ternary.replace('>', '>=')}",
        f"killed 3 capped: {ternary} -> {ternary.replace('>', '<=')}",
        "killed 6 wait: while not ready(): -> while ready():",
    ]


def test_tests_that_fail_without_a_mutation_are_reported(project: Path) -> None:
    (project / "tests/x/test_capping.py").write_text("def test_nothing():\n    assert False\n")
    assert run(project) == ["fail"]


def test_a_modules_tests_are_in_files_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("epaird/x/y.py", "epaird/x/y_other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("tests/x/test_y.py", "tests/x/test_y_more.py", "tests/x/test_y_other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert own_tests(Path("epaird/x/y.py")) == ["tests/x/test_y.py", "tests/x/test_y_more.py"]
