"""A laboratory for each test; anything that a scenario leaves behind fails its test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.scenarios.faults import ROWS, table
from tests.scenarios.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The test's own laboratory. Daemons that still run at its end must exit cleanly and leave nothing."""
    with Lab() as lab:
        yield lab
        try:
            lab.finish()
        finally:
            sys.stderr.write(lab.logs())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the faults that were tried."""
    if ROWS:
        terminalreporter.section("faults")
        for line in table():
            terminalreporter.write_line(line)
