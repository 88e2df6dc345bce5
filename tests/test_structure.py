"""The shape of the program: small modules, unique names, no cycles, a test for each module by its name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "epaird"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))
MODULE_LINES: Final = 400
TEST_LINES: Final = 500
FUNCTION_LINES: Final = 60
TOP_MODULES: Final = 4


def dotted(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES + TESTS, ids=shown)
def test_modules_and_functions_fit(path: Path) -> None:
    limit = MODULE_LINES if path in MODULES else TEST_LINES
    assert path.read_text().count("\n") <= limit
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES, node.name


def test_public_classes_have_unique_names() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(dotted(path))
    assert not {name: modules for name, modules in found.items() if len(modules) > 1}


def test_few_modules_are_outside_of_a_room() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= TOP_MODULES


@pytest.mark.parametrize("path", [path for path in MODULES if not path.stem.startswith("__")], ids=shown)
def test_each_module_has_a_test_by_its_name(path: Path) -> None:
    place = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
    assert place.exists()


def imports(path: Path) -> Iterator[str]:
    """The modules of the program that a module imports, for the type checker included."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for each in node.names:
                inner = PACKAGE.parent / Path(*node.module.split("."), each.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield f"{node.module}.{each.name}" if is_module else node.module


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {dotted(path): {name for name in imports(path) if name.startswith("epaird")} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for each in sorted(graph.get(name, ())):
                visit(each, (*path, name))
            done.add(name)

    for module in graph:
        visit(module, ())


WORKERS_OWN: Final = ("dataplane", "ipc")
ALLOWED: Final = ("epaird.dataplane", "epaird.ipc", "epaird.kernel")


@pytest.mark.parametrize("room", WORKERS_OWN)
def test_worker_processes_import_nothing_from_above(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("epaird.") or name.startswith(ALLOWED), (shown(path), name)


FLOOR: Final = re.compile(r"^\| (\d+) \| `epaird/(\w+)[/.]", re.MULTILINE)


def room(name: str) -> str:
    """The room of a module: ``config``; within the control plane ``control.workers``."""
    parts = name.split(".")[1:]
    return ".".join(parts[: 2 if parts[0] == "control" else 1])


@cache
def rooms() -> dict[str, set[str]]:
    """The other rooms that each room imports from."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        if dotted(path) != PACKAGE.name:
            own = room(dotted(path))
            found[own] |= {room(name) for name in imports(path) if name.startswith("epaird.")} - {own}
    return found


def test_a_room_imports_only_from_lower_floors() -> None:
    floors = {
        name: int(floor) for floor, name in FLOOR.findall((ROOT / "docs" / "architecture.md").read_text())
    }
    for name, others in rooms().items():
        top = name.partition(".")[0]
        for other in {each.partition(".")[0] for each in others} - {top}:
            assert top == "__main__" or floors[other] < floors[top], f"{name} imports {other}"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert tuple(TopologicalSorter(rooms()).static_order())
