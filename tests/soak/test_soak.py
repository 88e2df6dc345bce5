"""A short soak of a fixed number of operations; `make soak` runs a long one."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from tests.soak.report import Report
from tests.soak.soak import Soak

pytestmark = pytest.mark.real

OPERATIONS = 40
SEED = 7


def test_a_short_soak() -> None:
    report = Report(Console(file=sys.stdout, soft_wrap=True))
    soak = Soak(SEED, report.line)
    try:
        soak.run(lambda done: done < OPERATIONS)
    finally:
        report.table(soak)
    assert soak.sent > 10_000
