"""A whole bench: the rounds, their progress and their results, with everything removed afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from epaird.bench.children import BenchError
from epaird.bench.impairing import build_impaired
from epaird.bench.impairplan import ImpairmentPlan
from epaird.bench.impairplot import draw_impairment
from epaird.bench.impairresults import SUBJECT, ImpairmentResults
from epaird.bench.interruption import Interrupted, Interruption
from epaird.bench.machine import description
from epaird.bench.measure import MeasurementSetup
from epaird.bench.namespaces import BenchNamespaces
from epaird.bench.plan import SUBJECTS, BenchPlan
from epaird.bench.plot import draw
from epaird.bench.report import print_report
from epaird.bench.results import CableResults, Figures, Results, Round
from epaird.bench.subjects import build
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing

T = TypeVar("T")
Step = Callable[[str], None]
"""A callback that receives the description of each job before it runs."""


def run(plan: BenchPlan | ImpairmentPlan, *, plot: Path | None = None, figures: Path | None = None) -> int:
    """Measure, print the table, write the picture and the figures, and return the exit status.

    Errors are written to stderr, one line each.
    """
    if problems := (*missing(namespaces=True), *_unwritable(plot, figures)):
        for problem in problems:
            _write_error(problem)
        return 1
    try:
        with Interruption() as interruption, _progress(plan.steps) as step:
            results, picture = measured(plan, interruption, step)
    except Interrupted as interrupted:
        _write_error("interrupted: everything is taken down again")
        return 128 + interrupted.number
    except (BenchError, KernelError) as error:
        _write_error(str(error))
        return 1
    print_report(results, Console(highlight=False))
    if plot is not None:
        plot.write_text(picture())
    if figures is not None:
        figures.write_text(json.dumps(results.as_json(), indent=1, allow_nan=False) + "\n")
    return 0


def measured(
    plan: BenchPlan | ImpairmentPlan, interruption: Interruption, step: Step
) -> tuple[Results, Callable[[], str]]:
    """Run a plan; return the results, and a function that draws them.

    Raises BenchError, KernelError, Interrupted, after removing everything.
    """
    machine = description()
    senders = max(1, int(machine["cores"]) // 2)
    if isinstance(plan, ImpairmentPlan):
        impaired = ImpairmentResults(machine, plan, measure_impaired(plan, senders, interruption, step))
        return impaired, lambda: draw_impairment(impaired)
    compared = CableResults(machine, plan, measure(plan, senders, interruption, step))
    return compared, lambda: draw(compared)


def measure(plan: BenchPlan, senders: int, interruption: Interruption, step: Step) -> list[Round]:
    """Run every job of the comparison with veth. Raises BenchError, KernelError, Interrupted."""
    rounds: list[Round] = []
    for number in range(plan.rounds):
        found = {
            subject: _measure_subject(
                subject, plan, senders, interruption, _numbered(step, number, plan.rounds)
            )
            for subject in _alternating(SUBJECTS, number)
        }
        rounds.append({subject: found[subject] for subject in SUBJECTS})
    return rounds


def measure_impaired(
    plan: ImpairmentPlan, senders: int, interruption: Interruption, step: Step
) -> list[Round]:
    """Run every job over impaired cables. Raises BenchError, KernelError, Interrupted."""
    rounds: list[Round] = []
    for number in range(plan.rounds):
        tell = _numbered(step, number, plan.rounds)
        with (
            BenchNamespaces() as namespaces,
            build_impaired(namespaces, plan.most_pairs, interruption) as cables,
        ):
            setup = MeasurementSetup(namespaces, cables.daemon, interruption, senders)
            found: dict[str, Figures] = {}
            for job in _alternating(plan.jobs, number):
                tell(job.title)
                with cables.impaired(job):
                    found[job.key] = setup.measure(job.load)
        rounds.append({SUBJECT: {job.key: found[job.key] for job in plan.jobs}})
    return rounds


def _alternating(items: Sequence[T], number: int) -> Sequence[T]:
    """Return items in the order of a round: each second time backwards, since later ones meet a warmer
    machine."""
    return items if number % 2 == 0 else items[::-1]


def _measure_subject(
    subject: str, plan: BenchPlan, senders: int, interruption: Interruption, step: Step
) -> dict[str, Figures]:
    with (
        BenchNamespaces() as namespaces,
        build(subject, namespaces, plan.most_pairs, interruption) as forwarder,
    ):
        setup = MeasurementSetup(namespaces, forwarder, interruption, senders)
        found: dict[str, Figures] = {}
        for job in plan.jobs:
            step(f"{subject}: {job.title}")
            found[job.key] = setup.measure(job)
        return found


def _numbered(step: Step, number: int, rounds: int) -> Step:
    return lambda words: step(f"round {number + 1} of {rounds}, {words}")


@contextmanager
def _progress(steps: int) -> Iterator[Step]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description:<44}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("building", total=steps)
        done = -1

        def step(words: str) -> None:
            nonlocal done
            done += 1
            progress.update(task, completed=done, description=words)

        yield step


def _unwritable(*files: Path | None) -> Iterator[str]:
    """Yield an error for each file that could not be written after the measurement."""
    for file in files:
        if file is None:
            continue
        if file.is_dir():
            yield f"{file}: is a directory"
        elif not file.parent.is_dir():
            yield f"{file}: there is no directory {file.parent}"
        elif not os.access(file if file.exists() else file.parent, os.W_OK):
            yield f"{file}: may not be written"


def _write_error(line: str) -> None:
    sys.stderr.write(f"epaird: {line}\n")
