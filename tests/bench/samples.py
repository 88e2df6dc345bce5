"""Sample results of a bench."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from epaird.bench.impairplan import WINDOW, ImpairedJob, ImpairmentPlan, rate_key, thorough_impairment
from epaird.bench.impairresults import PAYLOAD_SHARE, RATES_MBIT, SUBJECT, ImpairmentResults
from epaird.bench.plan import BenchPlan, Job, thorough
from epaird.bench.results import (
    CableResults,
    DatagramFigures,
    DelayFigures,
    Figures,
    Round,
    RoundTripFigures,
    StreamFigures,
)

MACHINE: Final[dict[str, str | int | float]] = {
    "cpu": "A <fast> & quiet CPU",
    "cores": 8,
    "virtual": False,
    "memory_gib": 16.0,
    "kernel": "6.18.0",
    "python": "3.13.1",
    "epaird": "1.0",
    "load": 0.1,
}


def figures(job: Job, speed: float, forwards: bool) -> Figures:
    """Return the figures of a job on a cable of a relative speed; 1 is normal."""
    match job.kind:
        case "stream":
            return StreamFigures("own", 1 << 30, 30 * speed, 20.0 if forwards else None)
        case "one way":
            return DelayFigures(1000, 1000, dict.fromkeys(("p50", "p90", "p99", "p99.9"), 50 / speed), 7.0)
        case "round trips":
            trip = {"p50": 20.0, "p90": 25.0, "p99": 60.0, "p99.9": 400.0}
            return RoundTripFigures(10_000, 0, {name: value / speed for name, value in trip.items()})
    return DatagramFigures(
        sent=200_000,
        delivered=190_000,
        reordered=0,
        per_second=300_000 * speed,
        gbit_per_second=300_000 * speed * job.size * 8 / 1e9,
        cpu_us=5 / speed,
        forwarder_cpu_us=2 / speed if forwards else None,
    )


def results(speeds: tuple[tuple[float, float], ...] = ((1, 1.5), (0.9, 1.4), (1, 1.6))) -> CableResults:
    """Return results with one round for each pair of speeds, of veth and epaird."""
    plan = thorough(rounds=len(speeds))
    return CableResults(MACHINE, plan, [_round(plan, *pair) for pair in speeds])


def _round(plan: BenchPlan, veth: float, epaird: float) -> Round:
    return {
        "veth": {job.key: figures(job, veth, False) for job in plan.jobs},
        "epaird": {job.key: figures(job, epaird, True) for job in plan.jobs},
    }


def impaired(speeds: tuple[float, ...] = (0.5, 0.4, 0.6), congestion: str = "bbr") -> ImpairmentResults:
    """Return results of the impairment part, with one round for each speed of impaired cables."""
    plan = thorough_impairment(rounds=len(speeds))
    return ImpairmentResults(MACHINE, plan, [_impaired_round(plan, speed, congestion) for speed in speeds])


def _impaired_round(plan: ImpairmentPlan, speed: float, congestion: str) -> Round:
    def found(job: ImpairedJob) -> Figures:
        made = figures(job.load, speed if job.impairment else 1, True)
        if not isinstance(made, StreamFigures):
            return made
        of_rate = {rate_key(rate): mbit / 1000 * PAYLOAD_SHARE for rate, mbit in RATES_MBIT.items()}
        gbit = of_rate.get(job.key, made.gbit_per_second)
        used = congestion if job.key == "tcp-loss" else made.congestion
        return replace(made, gbit_per_second=gbit, congestion=used, window=WINDOW)

    return {SUBJECT: {job.key: found(job) for job in plan.jobs}}
