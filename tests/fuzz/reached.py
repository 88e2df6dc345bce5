"""Lines of the program that the inputs of a target have reached."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

_CACHED: Final = 4096
"""Most code objects whose files are remembered."""


class Reached:
    """Records lines of some modules while it is active.

    It costs little: a function whose lines were all reached is not traced any more, and one of another module
    never is."""

    def __init__(self, subjects: Iterable[str]) -> None:
        """``subjects`` are names of modules and packages, with dots."""
        self._files = {str(path) for subject in subjects for path in _files_of(subject)}
        self._missing: dict[CodeType, set[int]] = {}
        self._lines = sum(len(_lines_of(code)) for file in self._files for code in _codes_of(file))

    @property
    def lines(self) -> int:
        """Lines of the functions of the modules."""
        return self._lines

    @property
    def reached(self) -> int:
        """Lines that were reached."""
        return sum(len(_lines_of(code)) - len(missing) for code, missing in self._missing.items())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the lines that this context reaches, in this thread and in those that it starts."""
        before = sys.gettrace()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(None)

    def _called(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        code = frame.f_code
        missing = self._missing.get(code)
        if missing is None:
            if code.co_filename not in self._files or not code.co_flags & inspect.CO_OPTIMIZED:
                return None
            missing = self._missing[code] = _lines_of(code)
        return self._line if missing else None

    def _line(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        missing = self._missing[frame.f_code]
        missing.discard(frame.f_lineno)
        return self._line if missing else None


def _files_of(subject: str) -> Iterator[Path]:
    found = importlib.util.find_spec(subject)
    assert found is not None, f"no module {subject}"
    if found.submodule_search_locations:
        for place in found.submodule_search_locations:
            yield from Path(place).rglob("*.py")
    elif found.origin is not None:
        yield Path(found.origin)


def _codes_of(file: str) -> Iterator[CodeType]:
    """Yield the functions of a file, as code objects that are equal to those that run."""
    waiting = [compile(Path(file).read_text(), file, "exec")]
    while waiting:
        code = waiting.pop()
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
        if code.co_flags & inspect.CO_OPTIMIZED:
            yield code


def _lines_of(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
