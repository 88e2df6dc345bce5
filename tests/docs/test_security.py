"""docs/security.md: every statement on a party names a test that shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "security.md"

TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
SHOWN = re.compile(r"^\| .* \| shown by \|$")


def statements() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the rows of the tables with a column of tests: the statement and its tests."""
    found = []
    inside = False
    for line in PAGE.read_text().splitlines():
        inside = bool(SHOWN.match(line)) or (inside and line.startswith("|"))
        if inside and not SHOWN.match(line) and not line.startswith("|-"):
            statement, tests = line.strip("| ").rsplit(" | ", 1)
            found.append((statement, TEST.findall(tests)))
    return found


def functions(file: Path) -> set[str]:
    """Return the names of a file's functions, also of those in classes."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


def test_the_page_has_statements_on_each_party() -> None:
    assert len(statements()) >= 30
    page = PAGE.read_text()
    for party in ("member of the group", "other local user", "tenant", "worker"):
        section = page.lower().split(f"\n## {party}")[1].split("\n## ")[0]
        assert " can | shown by |" in section, party
        assert " cannot | shown by |" in section, party


@pytest.mark.parametrize(("statement", "tests"), statements(), ids=lambda value: str(value)[:50])
def test_each_statement_has_a_test(statement: str, tests: list[tuple[str, str]]) -> None:
    assert tests, statement
    for file, name in tests:
        path = ROOT / "tests" / file
        assert path.is_file(), f"{statement}: there is no {file}"
        assert name in functions(path), f"{statement}: there is no {name} in {file}"


def test_nothing_is_stated_outside_the_tables() -> None:
    """A list is how statements without tests used to be written."""
    lists = [line for line in PAGE.read_text().splitlines() if re.match(r"\s*[-*] ", line)]
    assert not lists
