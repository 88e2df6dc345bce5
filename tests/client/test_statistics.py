"""Statistics, parsed from an answer."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from epaird.client.statistics import Statistics
from epaird.control.api import views
from epaird.control.readings import Reading
from tests.control.samples import interface, worker


def test_an_answer_is_parsed_to_what_it_was_made_from() -> None:
    reading = Reading((interface("epair0a", ibytes=5), interface("epair0b")), (worker(3, queue_frames=2),))
    statistics = views.statistics(reading, 12.5)
    found = Statistics.parse(json.loads(TypeAdapter(Statistics).dump_json(statistics)))
    assert found == statistics
    assert (found.time, found.interfaces[0].stats.ibytes, found.workers[0].queue_frames) == (12.5, 5, 2)
    assert (found.lines[0].device, found.lines[0].peer) == ("epair0a", "epair0b")
    assert found.lines[0].expected.delay_seconds == 0.1


def test_statistics_of_a_daemon_without_impairments_are_parsed() -> None:
    assert Statistics.parse({"time": 1.0, "interfaces": [], "workers": []}).lines == []
