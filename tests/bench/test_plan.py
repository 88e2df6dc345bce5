from __future__ import annotations

import pytest

from epaird.bench.plan import FULL_FRAME, SEGMENTS, BenchPlan, quick, thorough


@pytest.mark.parametrize("plan", [quick(), thorough()])
def test_keys_and_titles_are_unique(plan: BenchPlan) -> None:
    assert len({job.key for job in plan.jobs}) == len(plan.jobs)
    assert len({job.title for job in plan.jobs}) == len(plan.jobs)
    assert plan.steps == plan.rounds * 2 * len(plan.jobs)


def test_the_jobs() -> None:
    plan = thorough()
    assert plan.by_size[0].size == 64
    assert plan.by_size[-2].size == FULL_FRAME
    assert 60_000 < plan.by_size[-1].size * plan.by_size[-1].segments <= 65_507
    assert plan.by_size[-1].segments == SEGMENTS
    assert [job.pairs for job in plan.by_pairs] == [1, 2, 4, 8, 16]
    assert plan.most_pairs == 16
    assert {job.kind for job in plan.jobs} == {"datagrams", "stream", "round trips"}


def test_the_default_takes_less_than_two_minutes() -> None:
    plan = thorough()
    # A job also needs time to start its programs, and iperf3 runs for whole seconds.
    assert sum(job.seconds + (1 if job.key == "tcp" else 0.3) for job in plan.jobs) * plan.rounds * 2 < 100


def test_options() -> None:
    assert (thorough(3, 2.0).rounds, thorough(3, 2.0).seconds) == (3, 2.0)
    assert (quick(1, 0.1).rounds, quick(1, 0.1).seconds) == (1, 0.1)
    assert len(quick().jobs) < len(thorough().jobs)
