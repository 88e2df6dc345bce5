"""The command that shows worker processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from epaird.ctl import show
from epaird.ctl.context import JSON, LINES, Context, form_options

if TYPE_CHECKING:
    from epaird.client.workers import WorkerInfo

HEADINGS: Final = (
    "WORKER", "STATE", "PID", "USER", "CAPABILITIES", "SECCOMP", "LANDLOCK", "NAMESPACES", "CABLES", "QUEUE",
    "CPU%", "CPU", "AGE", "VERSION",
)  # fmt: skip
BRIEF: Final = ("WORKER", "STATE", "PID", "CABLES", "QUEUE", "CPU%")
"""Columns of the brief form."""
CAPABILITIES_SHOWN: Final = 4
"""Capabilities that are shown by name; more, as root has them, are counted."""
UNKNOWN: Final = "?"


@click.command()
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=0.5,
    show_default=True,
    help="Seconds between two samples of the processor time.",
)
@form_options(*JSON, *LINES)
@click.pass_obj
def workers(context: Context, interval: float) -> None:
    """Show the worker processes and their sandbox.

    USER to NAMESPACES are as the kernel reports them, except LANDLOCK, the version of its ABI, which the
    process itself reports. CPU% is the share of one processor in the interval, CPU the processor time in
    seconds of all processes that the worker has had. A layer of the sandbox that a process lacks is printed
    below the table."""
    before = {each.pid: each for each in context.daemon.workers()}
    time.sleep(interval)
    found = context.daemon.workers()
    shares = {each.pid: share(before.get(each.pid), each) for each in found}
    form = context.form
    if form.json:
        context.write_json([{**asdict(each), "cpu_percent": shares[each.pid]} for each in found])
        return
    rows = [row(each, shares[each.pid]) for each in found]
    if form.oneline:
        lines = [" ".join(f"{name.lower()}={text}" for name, text in each.items()) for each in rows]
        show.write("\n".join(lines))
        return
    names = BRIEF if form.brief else HEADINGS
    table = [names, *([each[name] for name in names] for each in rows)]
    show.write(show.columns(table))
    if not form.brief:
        for line in lacking(found):
            show.write(line)


def share(before: WorkerInfo | None, after: WorkerInfo) -> float | None:
    """Return the percentage of one processor that a process used between two samples, or else in its life.

    None when there is no process."""
    if after.pid is None or not after.age_seconds:
        return None
    used, passed = after.cpu_seconds, after.age_seconds
    if before is not None and before.age_seconds < passed:
        used -= before.cpu_seconds
        passed -= before.age_seconds
    return round(max(0.0, 100 * used / passed), 1)


def row(process: WorkerInfo, percent: float | None) -> Mapping[str, str]:
    """Return the columns of a process by their headings."""
    if process.pid is None:
        return {**dict.fromkeys(HEADINGS, "-"), "WORKER": process.worker, "STATE": process.state}
    forwards = bool(process.worker)
    return {
        "WORKER": process.worker or "-",
        "STATE": process.state,
        "PID": str(process.pid),
        "USER": _user(process.uid),
        "CAPABILITIES": _capabilities(process.capabilities),
        "SECCOMP": process.seccomp or UNKNOWN,
        "LANDLOCK": UNKNOWN if process.landlock is None else str(process.landlock or "none"),
        "NAMESPACES": ",".join(process.namespaces) or "none",
        "CABLES": str(process.cables) if forwards else "-",
        "QUEUE": f"{process.queue_frames}/{process.queue_limit}" if forwards else "-",
        "CPU%": UNKNOWN if percent is None else f"{percent:.1f}",
        "CPU": f"{process.total_cpu_seconds if forwards else process.cpu_seconds:.1f}",
        "AGE": age(process.age_seconds),
        "VERSION": process.version or UNKNOWN,
    }


def age(seconds: float) -> str:
    """Return a time in its two largest units: ``59s``, ``3m12s``, ``2d04h``."""
    whole = int(seconds)
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02d}{part}"
    return f"{whole}s"


def lacking(processes: Sequence[WorkerInfo]) -> list[str]:
    """Return one line for each layer of the sandbox that processes lack, with the processes."""
    found: dict[str, list[str]] = {}
    for each in processes:
        for layer in each.missing:
            found.setdefault(layer, []).append(str(each.pid))
    return [f"missing: {layer} (pid {', '.join(pids)})" for layer, pids in found.items()]


def _capabilities(names: Sequence[str]) -> str:
    return str(len(names)) if len(names) > CAPABILITIES_SHOWN else ",".join(names) or "none"


def _user(uid: int | None) -> str:
    if uid is None:
        return UNKNOWN
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
