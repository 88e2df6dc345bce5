"""Plans as text."""

from __future__ import annotations

from epaird.control.api import views
from epaird.ctl import plans
from epaird.plan.actions import Action, Detail

REPORT = views.plan(
    (
        Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000"),)),
        Action("destroy", "lo", "lo1"),
    )
)


def test_a_plan_for_a_script_is_the_one_for_a_terminal_without_colours() -> None:
    coloured = list(plans.coloured(REPORT))
    assert plans.plain(REPORT) == "\n".join(line for line, _ in coloured)
    assert [(line.strip(), colour) for line, colour in coloured][:3] == [
        ("+ epair1", "green"), ("a.mtu = 9000", "green"), ("- lo1", "red"),
    ]  # fmt: skip
    assert coloured[-1] == ("Plan: 1 to create, 0 to change, 0 to recreate, 1 to destroy.", "bold")
