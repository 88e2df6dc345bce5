"""The network namespaces of a bench: its own, and without names, so that nothing can leave them behind.

A namespace without a name lives as long as something holds it: here our file descriptor and the
processes in it.  However the bench ends, the kernel takes namespaces and devices down with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from epaird.kernel import namespace


@dataclass(frozen=True, slots=True)
class BenchNamespace:
    """A namespace."""

    path: str
    """What leads to it, in every process, while the bench holds it."""

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Be in it for the block: what is started and opened there stays there.  Raises KernelError."""
        return namespace.inside(self.path)


class BenchNamespaces:
    """The three namespaces a cable is measured in."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Raises KernelError."""
        with contextlib.ExitStack() as held:
            self.home, self.a, self.b = (_new(held) for _ in range(3))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def _new(held: contextlib.ExitStack) -> BenchNamespace:
    # A name is how one is made; it is ours for as long as opening it takes.
    name = f"epaird-bench-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as named:
        namespace.create(name)
        named.callback(namespace.remove, name)
        with namespace.opened(name) as fd:
            kept = os.dup(fd)
    held.callback(os.close, kept)
    return BenchNamespace(f"/proc/{os.getpid()}/fd/{kept}")
