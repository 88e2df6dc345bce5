from __future__ import annotations

import ast

import pytest

from tests.mutation.mutations import mutations


def changes(source: str) -> list[str]:
    """Return what the first line of a module becomes by each of its mutations."""
    found = []
    for number in range(len(mutations(ast.parse(source)))):
        tree = ast.parse(source)
        mutations(tree)[number].apply()
        found.append(ast.unparse(ast.fix_missing_locations(tree)))
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x + y", ["x - y"]),
        ("x = y << z", ["x = y >> z"]),
        ("x < y", ["x <= y", "x >= y"]),
        ("x == y", ["x != y"]),
        ("x is not y", ["x is y"]),
        ("x and y == z", ["x or y == z", "not x and y == z", "x and y != z"]),
        ("x = not y", ["x = y"]),
        ("x = -y", ["x = y"]),
        ("x = 7", ["x = 8", "x = 6"]),
        ("x = True", ["x = False"]),
        ("x = min(y)", ["x = max(y)"]),
        ("x -= y", ["pass", "x += y"]),
        ("x[y] = z", ["pass"]),
        ("x.y = z", ["pass"]),
        ("x(y)", ["pass"]),
        ("del x[y]", ["pass"]),
        ("raise x", ["pass"]),
        ("if x:\n    y", ["if not x:\n    y"]),
        ("[x for x in y if z]", ["[x for x in y if not z]"]),
        ("while x(y):\n    break", ["while not x(y):\n    break", "while x(y):\n    continue"]),
        ("def f():\n    return x", ["def f():\n    return None"]),
        ("x = 'text'", []),
        ("def f(x: int=y) -> 7:\n    'Do it.'", []),
        ("def __repr__(self):\n    return 7", []),
        ("@dataclass(frozen=True)\nclass C:\n    pass", []),
        ("T = TypeVar('T', contravariant=True)", []),
        ("Number = int | None", []),
    ],
)
def test_code_is_changed_in_one_place(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


def test_a_name_gives_the_function_and_both_forms_and_no_line() -> None:
    source = (
        "class C:\n    def f(self):\n        if x < 1:\n            y()\n        if x < 1:\n            y()\n"
    )
    found = mutations(ast.parse(source))
    assert [(each.line, each.name) for each in found if "<=" in each.name] == [
        (3, "C.f: if x < 1: -> if x <= 1:"),
        (5, "C.f: if x < 1: -> if x <= 1: (2)"),
    ]
    moved = mutations(ast.parse("import z\n\n" + source))
    assert [each.name for each in moved] == [each.name for each in found]


def test_the_name_of_a_change_of_a_guard_gives_its_case() -> None:
    (found,) = mutations(ast.parse("match x:\n    case C() if y == z:\n        pass"))
    assert found.name == "module: case C() if y == z: -> case C() if y != z:"


def test_names_are_unique() -> None:
    names = [each.name for each in mutations(ast.parse("f(1, 1, 1)\n" * 3))]
    assert len(set(names)) == len(names) == 3 * 7
