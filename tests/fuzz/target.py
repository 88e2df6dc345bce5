"""Fuzz targets: a strategy of inputs, and a property that holds for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.strategies import SearchStrategy

Scope = TypeVar("Scope")
Input = TypeVar("Input")

KEPT: Final = Path(__file__).parents[2] / ".hypothesis" / "fuzz"
"""Directory of the failing inputs that were found, one directory for each target."""


@dataclass(frozen=True, slots=True)
class Target(Generic[Scope, Input]):
    """A property of a part of the program, and the inputs to try it with."""

    name: str
    """Name, one word."""
    inputs: SearchStrategy[Input]
    """The inputs."""
    holds: Callable[[Scope, Input], None]
    """Tries one input; raises whatever is wrong."""
    opened: Callable[[], AbstractContextManager[Scope]]
    """Provides what all inputs of a run share, such as a running server."""
    examples: int
    """Inputs of a run by ``make test``, a few seconds of them."""
    subjects: tuple[str, ...]
    """Modules and packages whose lines are to be reached, with dots."""
    found: tuple[Input, ...] = ()
    """Inputs that have failed once; every run begins with them."""
    real: bool = False
    """True when it needs root and real devices."""

    def run(self, examples: int, seed: int | None = None, tried: Callable[[], object] = lambda: None) -> None:
        """Try a number of inputs, after those that have failed earlier; call ``tried`` before each.

        Raises the shrunk failures."""
        with self.opened() as scope:

            def holds(given: Input) -> None:
                tried()
                self.holds(scope, given)

            test: Callable[..., Any] = hypothesis.given(self.inputs)(holds)
            for each in reversed(self.found):
                test = hypothesis.example(each)(test)
            if seed is not None:
                test = hypothesis.seed(seed)(test)
            settings(
                max_examples=examples,
                database=DirectoryBasedExampleDatabase(KEPT / self.name),
                deadline=None,
                print_blob=True,
                phases=[phase for phase in Phase if phase is not Phase.explain],
                suppress_health_check=list(HealthCheck),
            )(test)()


@contextlib.contextmanager
def nothing() -> Any:  # noqa: ANN401
    """Provide nothing: the inputs share nothing."""
    yield None
