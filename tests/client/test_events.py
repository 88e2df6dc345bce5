"""Events, as the API serializes them."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from epaird.client.events import Event


def test_an_event_is_parsed_to_what_it_was_made_from() -> None:
    event = Event(1.5, "renamed", "epair0a", "eth0 -> eth1")
    text = TypeAdapter(Event).dump_json(event)
    assert text == b'{"time":1.5,"what":"renamed","interface":"epair0a","detail":"eth0 -> eth1"}'
    assert Event.parse(json.loads(text)) == event
