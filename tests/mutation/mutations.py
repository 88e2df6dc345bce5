"""The small changes that are made to a module, as changes of its syntax tree.

Some code is not changed: annotations, docstrings and type variables, which have no effect when the program
runs; ``__repr__``, which is for debugging; the parameters of ``@dataclass``; and the texts of messages.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Place = tuple[Any, str, int | None]
Path = tuple[Any, ...]

SHOWN: Final = 100
"""Characters of the longest expression that is shown around a change."""

ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.MatMult: ast.Mult,
}
COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
FUNCTIONS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
SCOPES: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
STATEMENTS: Final = (ast.stmt, ast.match_case, ast.Module)
UNMUTATED_FIELDS: Final = frozenset({"annotation", "returns", "format_spec", "type_params"})
UNMUTATED_CALLS: Final = frozenset({"TypeVar", "NewType", "NamedTuple", "dataclass", "cast"})
TYPE: Final = re.compile(r"[A-Z]\w*[a-z]\w*|int|str|bytes|bool|float|list|dict|tuple|set|memoryview")


@dataclass(frozen=True)
class Mutation:
    """One change of a module."""

    line: int
    """The line that is changed."""
    name: str
    """What identifies the change in this version of the module and the next: function, code before, after."""
    place: Place
    """The node of the tree, its field, and the index where the field is a list."""
    replacement: ast.AST
    """The node that takes the place of the one there."""

    def apply(self) -> None:
        """Change the tree."""
        _put(self.place, self.replacement)


def mutations(tree: ast.Module) -> list[Mutation]:
    """Return every change of a module, in the order of its lines."""
    found: list[Mutation] = []
    seen: Counter[str] = Counter()
    for path, place, replacement in _changes(tree, ()):
        name = _described(path, place, replacement)
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        line = next(node.lineno for node in reversed(path) if hasattr(node, "lineno"))
        found.append(Mutation(line, name, place, replacement))
    return sorted(found, key=lambda each: each.line)


def _changes(node: ast.AST, above: Path) -> Iterator[tuple[Path, Place, ast.AST]]:
    """Yield the nodes around each change below a node, its place, and what is put there."""
    path = (*above, node)
    for field, value in ast.iter_fields(node):
        if field in UNMUTATED_FIELDS:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, ast.AST) or _is_unmutated(child):
                continue
            place = (node, field, index)
            inner = (*path, child) if hasattr(child, "lineno") else path
            for replacement in _replacements(child, node, field):
                yield inner, place, replacement
            yield from _changes(child, path)


def _is_unmutated(node: ast.AST) -> bool:
    match node:
        case ast.Expr(ast.Constant()) | ast.FunctionDef(name="__repr__"):
            return True
        case ast.Call(ast.Name(name)):
            return name in UNMUTATED_CALLS
        case ast.If(ast.Name("TYPE_CHECKING")):
            return True
        case ast.BinOp(left, ast.BitOr(), right):
            return _is_type(left) or _is_type(right)
    return False


def _is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and TYPE.fullmatch(node.id) is not None


def _replacements(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """Yield what takes the place of a node."""
    match node:
        case ast.operator():
            yield ARITHMETIC[type(node)]()
        case ast.boolop():
            yield ast.Or() if isinstance(node, ast.And) else ast.And()
        case ast.cmpop():
            yield from (each() for each in COMPARISONS[type(node)])
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.Constant(value):
            yield from (ast.copy_location(ast.Constant(each), node) for each in _constants(value))
        case ast.Name(name, ast.Load()) if name in FUNCTIONS and isinstance(parent, ast.Call):
            yield ast.copy_location(ast.Name(FUNCTIONS[name], ast.Load()), node)
        case ast.stmt():
            yield from (ast.copy_location(each, node) for each in _statements(node))
    if isinstance(node, ast.expr) and _is_condition(node, parent, field):
        yield ast.copy_location(ast.UnaryOp(ast.Not(), node), node)


def _constants(value: object) -> tuple[float, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return value + 1, value - 1
    return (value + 1,) if isinstance(value, float) else ()


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete() | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets) if all(isinstance(each, ast.Attribute | ast.Subscript) for each in targets):
            yield ast.Pass()
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.copy_location(ast.Constant(None), node))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _is_condition(node: ast.expr, parent: ast.AST, field: str) -> bool:
    """Return whether a node is a condition that no other change negates."""
    if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
        return False
    if isinstance(parent, ast.BoolOp):
        return True
    return field in ("test", "ifs") and not isinstance(parent, ast.Assert)


def _described(path: Path, place: Place, replacement: ast.AST) -> str:
    """Return the function or class, and the code around a change before and after it."""
    where = ".".join(node.name for node in path if isinstance(node, SCOPES)) or "module"
    statement = max(index for index, node in enumerate(path) if isinstance(node, STATEMENTS))
    candidates = [node for node in path[statement:] if _can_be_shown(node)]
    shown = next((node for node in candidates if len(_text(node)) <= SHOWN), candidates[-1])
    before = _text(shown)
    if shown is _get(place):
        after = _text(replacement)
    else:
        original = _put(place, replacement)
        after = _text(shown)
        _put(place, original)
    return f"{where}: {before} -> {after}"


def _can_be_shown(node: object) -> bool:
    return isinstance(node, ast.stmt | ast.match_case | ast.expr | ast.comprehension | ast.keyword)


def _text(node: ast.AST) -> str:
    """Return the code of an expression or a statement, of a compound one the first line."""
    return ast.unparse(ast.fix_missing_locations(node)).strip().partition("\n")[0]


def _get(place: Place) -> object:
    node, field, index = place
    value = getattr(node, field)
    return value if index is None else value[index]


def _put(place: Place, value: object) -> object:
    """Replace what is in a place of the tree, and return it."""
    node, field, index = place
    before = _get(place)
    if index is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[index] = value
    return before
