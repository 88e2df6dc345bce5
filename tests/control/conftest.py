"""Fixtures of the control plane's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control import metrics_server
from tests.control.control_server import Control, serving
from tests.control.samples import pair


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """The API on a control socket of the test's own."""
    with serving(tmp_path / "run" / "control.sock") as running:
        yield running


@pytest.fixture
def page() -> Iterator[metrics_server.Serving]:
    """A running metrics server over an idle pair."""
    with metrics_server.serving(pair) as running:
        yield running
