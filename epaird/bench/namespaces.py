"""The network namespaces of a bench, which have no names, so that none is left behind.

A namespace without a name lives as long as something holds it: here a file descriptor of the bench and the
processes in it. However the bench ends, the kernel then removes the namespaces and their devices.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from epaird.kernel import namespace
from epaird.kernel.namespace import Namespace


@dataclass(frozen=True, slots=True)
class BenchNamespace:
    """A namespace of a bench."""

    path: str
    """Its path, valid in every process while the bench holds the namespace."""
    handle: Namespace
    """Its handle, valid as long."""

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Enter the namespace for the block: processes and sockets created there stay. Raises KernelError."""
        return namespace.inside(self.handle)


class BenchNamespaces:
    """The three namespaces of a measurement: ``home`` for the daemon, ``a`` and ``b`` for the two halves."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Create the namespaces. Raises KernelError."""
        with contextlib.ExitStack() as held:
            self.home, self.a, self.b = (_new(held) for _ in range(3))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def _new(held: contextlib.ExitStack) -> BenchNamespace:
    # The kernel binds a new namespace to a name, which is removed as soon as the namespace is open.
    name = f"epaird-bench-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as named:
        namespace.create(name)
        named.callback(namespace.remove, name)
        with namespace.opened(name) as found:
            kept = os.dup(found.fd)
    held.callback(os.close, kept)
    return BenchNamespace(f"/proc/{os.getpid()}/fd/{kept}", namespace.of_descriptor(kept))
