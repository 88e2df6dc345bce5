"""Worker processes, parsed from an answer."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from epaird.client.workers import WorkerInfo
from epaird.control.api import views
from tests.control.samples import process


def test_an_answer_is_parsed_to_what_it_was_made_from() -> None:
    info = views.process(process("1", missing=("Landlock: Function not implemented",), landlock=0))
    found = WorkerInfo.parse(json.loads(TypeAdapter(WorkerInfo).dump_json(info)))
    assert found == info
    assert (found.worker, found.landlock, found.missing) == ("1", 0, ["Landlock: Function not implemented"])
    assert WorkerInfo.parse({"worker": "0", "state": "dead", "later": 1}) == WorkerInfo("0", "dead")
