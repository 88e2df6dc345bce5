from __future__ import annotations

from dataclasses import replace

import pytest

from epaird.bench.impairplan import (
    RATES,
    ImpairmentPlan,
    quick_impairment,
    thorough_impairment,
)
from epaird.config.impairtables import ImpairSettings
from epaird.config.settings import DaemonSettings

every_plan = pytest.mark.parametrize("plan", [quick_impairment(), thorough_impairment()])


@every_plan
def test_keys_and_titles_are_unique(plan: ImpairmentPlan) -> None:
    assert len({job.key for job in plan.jobs}) == len(plan.jobs)
    assert len({job.title for job in plan.jobs}) == len(plan.jobs)
    assert plan.steps == plan.rounds * len(plan.jobs)
    assert plan.most_pairs == plan.pairs


@every_plan
def test_every_impairment_and_setting_is_valid(plan: ImpairmentPlan) -> None:
    for job in plan.jobs:
        assert ImpairSettings.model_validate(job.impairment).given() == job.impairment
        assert DaemonSettings(poll_spin_us=job.poll_spin_us).poll_spin_us == job.poll_spin_us


def test_each_impaired_job_has_one_that_differs_only_in_its_impairment() -> None:
    jobs = {job.key: job for job in thorough_impairment().jobs}
    assert jobs["udp"].load == jobs["udp-delay"].load == jobs["udp-loss"].load
    assert replace(jobs["tcp-delay"].load, warm_up=jobs["tcp"].load.warm_up) == jobs["tcp"].load
    assert jobs["tcp"].impairment == jobs["udp"].impairment == {}
    assert jobs["tcp-loss"].load.congestion == "bbr"
    for delay_ms in (1, 10, 100):
        off, on = (jobs[f"delay-{delay_ms}-polling-{words}"] for words in ("off", "on"))
        assert (off.load, off.impairment) == (on.load, on.impairment)
        assert (off.poll_spin_us, on.poll_spin_us) == (0, DaemonSettings().poll_spin_us)
        assert off.impairment == {"delay": f"{off.load.delay_ms:g}ms"}
    assert [job.impairment["rate"] for key, job in jobs.items() if key.startswith("rate-")] == list(RATES)


def test_the_default_takes_about_three_minutes() -> None:
    plan = thorough_impairment()
    # A job also needs time to start its programs and for what is held, and a round to start the daemon.
    jobs = sum(job.load.warm_up + job.load.seconds + 0.5 for job in plan.jobs)
    assert (jobs + 4) * plan.rounds < 190


def test_options() -> None:
    plan = thorough_impairment(3, 2.0)
    assert (plan.rounds, plan.seconds, plan.most_pairs) == (3, 2.0, 50)
    assert (quick_impairment(1, 0.1).rounds, quick_impairment(1, 0.1).seconds) == (1, 0.1)
    assert len(quick_impairment().jobs) < len(plan.jobs)
