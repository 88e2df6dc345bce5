from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from epaird.kernel import namespace, veth
from epaird.kernel.errors import KernelError
from tests.kernel.named import within

pytestmark = pytest.mark.real


def create(name: str, a: str, peer: str, b: str) -> tuple[int, int]:
    with namespace.opened(a) as first, namespace.opened(b) as second:
        return veth.create(name, first, peer, second)


def test_each_end_is_in_its_namespace(new_namespace: Callable[[], str]) -> None:
    a, b = new_namespace(), new_namespace()
    index, peer_index = create("left", a, "right", b)
    with within(a):
        assert (socket.if_nametoindex("left"), len(socket.if_nameindex())) == (index, 2)
    with within(b):
        assert (socket.if_nametoindex("right"), len(socket.if_nameindex())) == (peer_index, 2)


def test_a_name_that_is_taken(new_namespace: Callable[[], str]) -> None:
    a, b = new_namespace(), new_namespace()
    create("left", a, "right", b)
    for name, peer in (("left", "other"), ("other", "right")):
        with pytest.raises(KernelError) as caught:
            create(name, a, peer, b)
        assert caught.value.errno == errno.EEXIST
