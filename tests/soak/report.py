"""The output of a soak: a line for each operation and a table at the end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.soak.footprint import CONTROL_MEMORY, Row
from tests.soak.soak import Soak, Step


class Report:
    """Prints to a terminal, with a progress bar below the lines, or to a file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def progressing(self, seconds: float | None, operations: int | None) -> Iterator[None]:
        """Show the progress during the block, on a terminal."""
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            self._began = time.monotonic()
            self._bar = progress.add_task("soaking", total=operations or seconds)
            self._by_number = operations is not None
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    def line(self, done: Step) -> None:
        """Print an operation that was done."""
        found = done.footprint
        descriptors = sum(each for what, each in found.items() if what.startswith("control plane, desc"))
        text = (
            f"{time.strftime('%H:%M:%S')} {done.number:4} {done.seconds:5.1f} s"
            f"  {found[CONTROL_MEMORY] / 1024:5.1f} MB"
            f" {descriptors:3} fds {found['control plane, tasks']:2} tasks  {done.what}"
            + (f"  (lost {done.lost}, all counted)" if done.lost else "")
        )
        self._console.print(escape(text), highlight=False, soft_wrap=True)
        if self._progress is not None:
            at = done.number if self._by_number else time.monotonic() - self._began
            self._progress.update(self._bar, completed=at)

    def table(self, soak: Soak) -> None:
        """Print the footprint at the beginning and at the end, if the soak reached its end."""
        if not soak.after:
            return
        table = Table(box=None, pad_edge=False, header_style="")
        table.add_column("")
        for head in ("begin", "end", "may grow by", ""):
            table.add_column(head, justify="right")
        for row in soak.rows:
            kb = "memory" in row.what
            values = (row.before, row.after, row.tolerance)
            table.add_row(row.what, *(_formatted(value, kb) for value in values), _verdict(row))
        self._console.print(table)
        lost = sum(each.lost for each in soak.done)
        counts = Counter(kind for each in soak.done for kind in each.kinds)
        self._console.print(
            ", ".join(f"{count} {kind}" for kind, count in counts.most_common()),
            highlight=False,
            soft_wrap=True,
        )
        self._console.print(
            f"{len(soak.done)} operations; {soak.empty_plans} plans with nothing to do; "
            f"{soak.scrapes} scrapes of the metrics page; {soak.sent} datagrams over pairs that no operation "
            f"touched, {lost} of them lost with workers that died, all counted",
            highlight=False,
            soft_wrap=True,
        )


def _formatted(value: int, kb: bool) -> str:
    return f"{value / 1024:.1f} MB" if kb else str(value)


def _verdict(row: Row) -> str:
    return "" if row.flat else "GROWS"
