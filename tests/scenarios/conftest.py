"""A laboratory for each test; what a scenario leaves behind is a failure of its test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.scenarios.faults import ROWS, table
from tests.scenarios.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The test's own laboratory.  Daemons that still run at its end must end well and leave nothing."""
    with Lab() as lab:
        yield lab
        try:
            lab.finish()
        finally:
            sys.stderr.write(lab.story())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults, of those that were tried."""
    if ROWS:
        terminalreporter.section("faults")
        for line in table():
            terminalreporter.write_line(line)
