"""Interfaces as the API answers with them, parsed from an answer of this version and of others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from epaird.client.models import CreatedInterface, Interface, InterfaceDetails
from epaird.control.api import views
from tests.control.samples import interface


def document(**counts: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an interface with its counters, as the API serializes it."""
    details = views.details(interface("epair0a", **counts))
    found: dict[str, Any] = json.loads(TypeAdapter(InterfaceDetails).dump_json(details))
    return found


def test_an_answer_is_parsed_to_what_it_was_made_from() -> None:
    expected = views.details(interface("epair0a", opackets=5, oerrors=(1, 2, 3, 4, 5, 6), refs=7))
    found = InterfaceDetails.parse(document(opackets=5, oerrors=(1, 2, 3, 4, 5, 6), refs=7))
    assert found == expected
    assert (found.refs, found.stats.opackets, found.stats.oerrors["runt"]) == (7, 5, 3)
    assert CreatedInterface.parse({"name": "epair7"}).name == "epair7"


def test_an_interface_of_another_version_is_parsed() -> None:
    """An older daemon does not count everything, and a newer one may answer with more."""
    older = document()
    for name in ("too_big", "coalesced_datagrams", "coalesced_superframes"):
        del older["stats"][name]
    assert InterfaceDetails.parse(older) == InterfaceDetails.parse(document())
    newer = document() | {"speed": 10, "stats": {**document()["stats"], "osegments": 3}}
    assert InterfaceDetails.parse(newer) == InterfaceDetails.parse(document())
    assert Interface.parse(newer) == views.interface(interface("epair0a"))


def test_an_interface_without_a_name_is_an_error() -> None:
    nameless = document()
    del nameless["device"]
    with pytest.raises(ValueError, match=r"not a InterfaceDetails: .*device"):
        InterfaceDetails.parse(nameless)
    with pytest.raises(ValueError, match="not a InterfaceCounters"):
        InterfaceDetails.parse(document() | {"stats": None})
