"""A short soak of a fixed number of operations; `make soak` runs a long one."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from tests.soak.report import Report
from tests.soak.soak import Soak

pytestmark = pytest.mark.real

OPERATIONS = 50
SEED = 7
ADVERSARIES = {
    "hostile name",
    "killed during adoption",
    "log unread",
    "run directory full",
    "run directory emptied",
    "descriptors exhausted",
}


def test_a_short_soak() -> None:
    report = Report(Console(file=sys.stdout, soft_wrap=True))
    soak = Soak(SEED, report.line)
    try:
        soak.run(lambda done: done < OPERATIONS)
    finally:
        report.table(soak)
    assert soak.sent > 10_000
    assert {kind for each in soak.done for kind in each.kinds} >= ADVERSARIES
