from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT
from tests.mutation.accepted import FILE, accepted
from tests.mutation.mutations import mutations

MODULE = Path("epaird/x/y.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "accepted.toml"
    file.write_text(
        '["epaird/x/y.py"]\n"f: x < 1 -> x <= 1" = "equivalent"\n"module: LIMIT = 8 -> *" = "tuned"\n'
    )
    return file


def test_a_survivor_is_accepted_by_its_name_or_by_the_beginning_of_it(file: Path) -> None:
    known = accepted(MODULE, file)
    assert known.accepts("f: x < 1 -> x <= 1")
    assert known.accepts("module: LIMIT = 8 -> LIMIT = 9")
    assert known.accepts("module: LIMIT = 8 -> LIMIT = 7")
    assert not known.accepts("f: x < 1 -> x <= 1 (2)")
    assert not known.accepts("module: OTHER = 8 -> OTHER = 9")
    assert known.stale == ()


def test_entries_that_no_survivor_needs_are_stale(file: Path) -> None:
    known = accepted(MODULE, file)
    known.accepts("f: x < 1 -> x <= 1")
    assert known.stale == ("module: LIMIT = 8 -> *",)
    assert accepted(Path("epaird/x/z.py"), file).stale == ()


def test_an_entry_without_a_reason_is_refused(file: Path) -> None:
    file.write_text('["epaird/x/y.py"]\n"f: x < 1 -> x <= 1" = " "\n')
    with pytest.raises(ValueError, match="needs a reason"):
        accepted(MODULE, file)


@pytest.mark.parametrize("module", tomllib.loads(FILE.read_text()))
def test_each_entry_is_about_a_mutation_that_can_be_made(module: str) -> None:
    known = accepted(Path(module))
    for each in mutations(ast.parse((ROOT / module).read_text())):
        known.accepts(each.name)
    assert known.stale == ()
