"""Run a module's own tests against each of its mutations, in forks of one process that has imported the rest.

Starting Python and importing pytest, hypothesis and the program takes many times as long as the tests of a
module, so this happens once. A fork then imports the mutated module and whatever imports it, and so does each
process that the tests start: the mutated code is where Python caches the compiled module.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.util
import marshal
import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Final

import hypothesis
import pytest

from tests.mutation.isolation import end_children, private
from tests.mutation.mutations import Mutation, mutations

MEMORY = 4 << 30
"""Bytes of address space of a run: a mutation can make a loop that never ends."""
PROFILE = "mutation"

_UNCHECKED: Final = struct.pack("=Iq", 1, 0)
"""The flags of compiled code that has a hash of the source but is not compared with it, and a hash."""

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
    """Yield what a module's tests make of each of its mutations. Raises TestsFail, and RuntimeError outside
    namespaces of its own."""
    cache = Path(importlib.util.cache_from_source(str(module)))
    with private(cache.parent):
        yield from _outcomes(module, cache)


def _outcomes(module: Path, cache: Path) -> Iterator[Outcome]:
    tests = own_tests(module)
    tree = ast.parse(module.read_text())
    begin = time.monotonic()
    imported = _imported_by(tests)
    limit_s = 2 + 4 * (time.monotonic() - begin)
    with _missing(".".join(module.with_suffix("").parts)):
        for each in imported:
            _import(each)
    gc.freeze()
    for mutation in mutations(tree):

        def run(mutation: Mutation = mutation) -> int:
            mutation.apply()
            code = compile(ast.fix_missing_locations(tree), str(module), "exec", dont_inherit=True)
            cache.write_bytes(_compiled(code))
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


def _compiled(code: CodeType) -> bytes:
    """Return a file of compiled code that Python uses whatever the source is (PEP 552)."""
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + marshal.dumps(code)


def _in_fork(run: Callable[[], int], limit_s: float | None, *, quiet: bool = True) -> int | None:
    """Return the exit code of a function that runs in a fork, with which all processes that it has started
    end; None when it did not end in time."""
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
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    end_children()
    return os.waitstatus_to_exitcode(status) if in_time else None
