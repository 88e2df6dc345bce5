"""The interface between the front ends and the rest: refusals, and the implementations."""

from __future__ import annotations

import errno
import inspect

import pytest

from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.operations import Operations, Refused, Reloading
from epaird.control.reloading.reload import Reloads


def test_a_refusal_names_its_error_and_every_problem() -> None:
    refusal = Refused(errno.EEXIST, "epair0 exists already", ["epair.epair0: taken"])
    assert str(refusal) == "epair0 exists already"
    assert (refusal.errno, refusal.name, refusal.problems) == (17, "EEXIST", ("epair.epair0: taken",))
    assert Refused(123456, "no errno of this system").name == "123456"


@pytest.mark.parametrize(("protocol", "implementation"), [(Operations, FrontEnd), (Reloading, Reloads)])
def test_each_operation_is_implemented_with_its_arguments(protocol: type, implementation: type) -> None:
    operations = {name: each for name, each in vars(protocol).items() if inspect.isfunction(each)}
    operations = {name: each for name, each in operations.items() if not name.startswith("_")}
    assert operations
    for name, each in operations.items():
        found = getattr(implementation, name)
        wanted = inspect.signature(each)
        assert inspect.signature(found).parameters.keys() == wanted.parameters.keys(), name
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(each), name
