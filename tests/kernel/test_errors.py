from __future__ import annotations

import errno

import pytest

from epaird.kernel.errors import KernelError


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EINVAL, "epair0a: mtu 7: Invalid argument"),
        (errno.EEXIST, "epair0a: mtu 7: exists already"),
        (errno.EBADFD, "epair0a: mtu 7: the device is gone"),
        (None, "epair0a: mtu 7: Input/output error"),
    ],
)
def test_one_line_names_the_subject_and_the_cause(number: int | None, message: str) -> None:
    error = KernelError.about("epair0a: mtu 7", number)
    assert str(error) == message
    assert error.errno == (number or errno.EIO)
