"""Run a module's own tests against each of its mutations, in forks of one process that has imported the rest.

Starting Python and importing pytest, hypothesis and the program takes many times as long as the tests of a
module, so this happens once. A fork then imports the mutated module and whatever imports it.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.util
import os
import pickle
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from tests.mutation.mutations import Mutation, mutations

MEMORY = 4 << 30
"""Bytes of address space of a run: a mutation can make a loop that never ends."""
PROFILE = "mutation"

hypothesis.settings.register_profile(
    PROFILE,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)


class TestsFail(Exception):
    """The tests of a module fail without any mutation."""


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutation."""

    mutation: Mutation
    """The change."""
    killed: bool
    """True when a test failed, or the tests did not end."""


def own_tests(module: Path) -> list[str]:
    """Return the files of the tests of ``epaird/x/y.py``: ``tests/x/test_y.py`` and ``test_y_*.py``, except
    those of another module by that name."""
    place = Path("tests", *module.parts[1:-1])
    others = [place / f"test_{each.stem}.py" for each in module.parent.glob(f"{module.stem}_*.py")]
    found = [place / f"test_{module.stem}.py", *sorted(place.glob(f"test_{module.stem}_*.py"))]
    return [str(each) for each in found if each not in others]


def outcomes(module: Path) -> Iterator[Outcome]:
    """Yield what a module's tests make of each of its mutations. Raises TestsFail."""
    name = ".".join(module.with_suffix("").parts)
    tests = own_tests(module)
    tree = ast.parse(module.read_text())
    begin = time.monotonic()
    imported = _imported_by(tests)
    limit_s = 2 + 4 * (time.monotonic() - begin)
    with _missing(name):
        for each in imported:
            _import(each)
    gc.freeze()
    for mutation in mutations(tree):

        def run(mutation: Mutation = mutation) -> int:
            mutation.apply()
            code = compile(ast.fix_missing_locations(tree), str(module), "exec", dont_inherit=True)
            sys.meta_path.insert(0, _Replacing(name, str(module.resolve()), code))
            return _tested(tests)

        yield Outcome(mutation, _in_fork(run, limit_s) != pytest.ExitCode.OK)


def _tested(tests: Sequence[str]) -> int:
    options = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", f"--hypothesis-profile={PROFILE}")
    return pytest.main([*options, "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests])


def _imported_by(tests: Sequence[str]) -> list[str]:
    """Return the modules that the tests import, without those of the tests; TestsFail when they fail."""
    reading, writing = os.pipe()

    def run() -> int:
        code = _tested(tests)
        names = [name for name in sys.modules if name.partition(".")[0] not in ("tests", "__main__")]
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(names, pipe)
        return code

    code = _in_fork(run, None)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if code != pytest.ExitCode.OK:
            _in_fork(lambda: _tested(tests), None, quiet=False)  # once more, to be read
            raise TestsFail
        return list(pickle.load(pipe))  # noqa: S301 (our own fork has written it)


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """While in this context, a module cannot be imported, nor can any that imports it."""
    for each in [each for each in sys.modules if each.partition(".")[0] == "epaird"]:
        del sys.modules[each]
    sys.modules[name] = None  # type: ignore[assignment]
    yield
    del sys.modules[name]


def _import(name: str) -> None:
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        importlib.import_module(name)


class _Loader(SourceFileLoader):
    """Loads a module from code that is there."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self._code


class _Replacing(MetaPathFinder):
    """Finds the mutated module in place of the one on disk."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self._name = name
        self._loader = _Loader(name, path, code)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self._loader)


def _in_fork(run: Callable[[], int], limit_s: float | None, *, quiet: bool = True) -> int | None:
    """Return the exit code of a function that runs in a fork, in a session of its own that ends with it; None
    when it did not end in time."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2) if quiet else (0,):
                os.dup2(null, stream)
            code = run()
        finally:
            os._exit(code)
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    in_time = bool(poll.poll(None if limit_s is None else 1000 * limit_s))
    os.close(process)
    os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None
