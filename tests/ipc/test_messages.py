from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from typing import Any, get_args

import pytest

from epaird.ipc.encoding import decode, encode
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import Adopt, CableSpec, Detach, Done, End, Message, PortSpec, Start, Tune


def test_every_kind_of_message_has_its_own_name() -> None:
    kinds = get_args(Message)
    assert len({kind.__name__ for kind in kinds}) == len(kinds)


def test_requests_of_protocol_1_keep_exactly_its_fields() -> None:
    """A worker of epaird 0.1.0 dies of a field that it does not know, and of one that is missing."""
    assert json.loads(encode(Adopt(0))) == {"type": "Adopt", "id": 0}
    assert json.loads(encode(Detach(5, "epair0", 1.0))) == {
        "type": "Detach", "id": 5, "cable": "epair0", "patience": 1.0,
    }  # fmt: skip
    assert json.loads(encode(End())) == {"type": "End"}


EXCEPTIONS = {
    (PortSpec, "offload"): True,
    (PortSpec, "pmtu"): True,
    (Start, "queue_limit"): 4096,
    (Tune, "queue_limit"): 4096,
}
"""What fields of 0.3.0 mean where a process of another version leaves them out."""


@pytest.mark.parametrize("kind", [*get_args(Message), CableSpec, PortSpec])
def test_a_number_that_is_missing_is_zero_and_a_flag_is_false(kind: Any) -> None:  # noqa: ANN401
    """A new field has a default with which the message means what it meant before."""
    required = {each.name: "" for each in fields(kind) if each.default is MISSING}
    for name, value in asdict(kind(**required)).items():
        if isinstance(value, int | float):
            assert value == EXCEPTIONS.get((kind, name), 0), name


def test_an_answer_reports_success_by_default() -> None:
    assert decode(b'{"type": "Done", "id": 7}') == Done(7, "")


def test_the_files_of_lines_travel_behind_the_descriptors_of_ports() -> None:
    line = (LineSpec(7, trace=True, replay=True),)
    cable = CableSpec("epair0", (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 1500)))
    assert (cable.descriptors, cable.impaired(1, line).descriptors) == (2, 5)
    assert cable.impaired(1, line).impaired(0, (LineSpec(8),)).descriptors == 6
    assert cable.impaired(1, line).impaired(1, ()) == cable


def test_a_resized_cable_differs_in_its_mtus_only() -> None:
    cable = CableSpec("epair0", (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 1500, pmtu=False)))
    resized = cable.resized((9000, 1400))
    assert (resized.slots, resized.mtus) == ((2, 3), (9000, 1400))
    assert resized.resized(cable.mtus) == cable
    with pytest.raises(ValueError, match="zip"):
        cable.resized((9000,))
