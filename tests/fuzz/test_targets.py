"""Every fuzz target with a number of inputs that takes seconds; ``make fuzz`` tries more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize(
    "target",
    [pytest.param(each, id=each.name, marks=[pytest.mark.real] if each.real else []) for each in TARGETS],
)
def test_target(target: Target[Any, Any]) -> None:
    target.run(target.examples)
