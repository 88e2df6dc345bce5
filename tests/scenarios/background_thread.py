"""A thread that repeats an action while a test does something else."""

from __future__ import annotations

import threading
from typing import Self


class BackgroundThread:
    """Calls :meth:`step` again and again, from ``with`` to :meth:`stop` or the end of the block."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def step(self) -> None:
        """Do the action once."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop after the present step."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()
