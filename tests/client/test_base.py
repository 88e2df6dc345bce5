"""Parsing of models: unknown keys are ignored, other documents are errors."""

from __future__ import annotations

import pytest

from epaird.client.counters import InterfaceCounters
from epaird.client.events import Event


def test_unknown_keys_are_ignored_and_missing_ones_have_their_default() -> None:
    document = {"time": 1.5, "what": "up", "interface": "epair0a", "severity": "info"}
    assert Event.parse(document) == Event(1.5, "up", "epair0a")
    assert InterfaceCounters.parse({"opackets": 7}) == InterfaceCounters(opackets=7)


@pytest.mark.parametrize("document", [{}, {"time": 1.5}, [], None, "up"])
def test_another_document_is_an_error(document: object) -> None:
    with pytest.raises(ValueError, match="not a Event"):
        Event.parse(document)  # type: ignore[arg-type]


def test_models_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Event(1.5, "up", "epair0a").what = "down"  # type: ignore[misc]
