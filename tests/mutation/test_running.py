"""A package of one module with its tests, mutated in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT
from tests.mutation.isolation import UNSHARE, private
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
PRINTING = """
import subprocess, sys
from pathlib import Path

subprocess.Popen(["sleep", "1000"], start_new_session=True)

def test_printing():
    command = [sys.executable, "-I", "-c", Path(__file__).with_name("program.txt").read_text()]
    assert subprocess.run(command, env={}, stdout=subprocess.PIPE).stdout == b"7\\n"
"""
RUN_PROGRAM = "import runpy; runpy.run_module('epaird.x.printing', run_name='__main__')"
SCRIPT = """
import sys
from pathlib import Path
from tests.mutation.running import TestsFail, outcomes

try:
    for each in outcomes(Path(sys.argv[1])):
        processes = [each.name for each in Path("/proc").iterdir() if each.name.isdigit()]
        assert processes == ["1"], processes
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
        write(tmp_path, name, text)
    (tmp_path / "tests" / "mutation").symlink_to(ROOT / "tests" / "mutation")
    return tmp_path


def write(project: Path, name: str, text: str) -> None:
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def run(project: Path, name: str = "capping") -> list[str]:
    """Mutate a module; return what the run prints."""
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", SCRIPT, f"epaird/x/{name}.py"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line.startswith(("killed", "survived", "fail"))]


@pytest.mark.real
def test_each_mutation_is_killed_by_the_modules_tests_or_survives(project: Path) -> None:
    ternary = "return limit if number > limit else number"
    assert run(project) == [
        f"killed 3 capped: {ternary} -> return None",
        f"survived 3 capped: {ternary} -> {ternary.replace('>', '>=')}",
        f"killed 3 capped: {ternary} -> {ternary.replace('>', '<=')}",
        "killed 6 wait: while not ready(): -> while ready():",
    ]


@pytest.mark.real
@pytest.mark.parametrize("use", ["import epaird.x.printing", RUN_PROGRAM])
def test_a_mutation_is_in_each_process_of_the_tests(project: Path, use: str) -> None:
    """Also in one that is started as a worker is, isolated and without an environment."""
    write(project, "epaird/x/printing.py", "print(7)\n")
    write(project, "tests/x/test_printing.py", PRINTING)
    write(project, "tests/x/program.txt", f"import sys; sys.path.insert(0, {str(project)!r}); {use}")
    assert run(project, "printing") == [
        f"killed 1 module: print(7) -> {after}" for after in ("pass", "print(8)", "print(6)")
    ]


@pytest.mark.real
def test_a_run_leaves_no_compiled_code_behind(project: Path) -> None:
    cached = project / "epaird/x/__pycache__/capping.pyc"
    cached.parent.mkdir()
    cached.touch()
    assert run(project)
    assert list(cached.parent.iterdir()) == [cached]


def test_nothing_is_mounted_where_other_programs_would_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 2)
    with pytest.raises(RuntimeError, match="of its own"), private(tmp_path):
        pass


@pytest.mark.real
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
