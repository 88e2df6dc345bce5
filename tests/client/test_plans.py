"""Plans, parsed from an answer."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from epaird.client.plans import PlanReport
from epaird.control.api import views
from epaird.plan.actions import Action, Detail

ACTIONS = (
    Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000", "why"),), "also why"),
    Action("adopt", "lo", "lo1"),
)


def test_an_answer_is_parsed_to_the_plans_own_actions() -> None:
    text = TypeAdapter(PlanReport).dump_json(views.plan(ACTIONS))
    report = PlanReport.parse(json.loads(text))
    assert report.changes
    assert tuple(each.action() for each in report.actions) == ACTIONS
    assert not views.plan(ACTIONS[1:]).changes
