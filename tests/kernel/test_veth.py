from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from epaird.kernel import veth
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import inside

pytestmark = pytest.mark.real


def test_each_end_is_in_its_namespace(new_namespace: Callable[[], str]) -> None:
    a, b = new_namespace(), new_namespace()
    index, peer_index = veth.create("left", a, "right", b)
    with inside(a):
        assert (socket.if_nametoindex("left"), len(socket.if_nameindex())) == (index, 2)
    with inside(b):
        assert (socket.if_nametoindex("right"), len(socket.if_nameindex())) == (peer_index, 2)


def test_a_name_that_is_taken(new_namespace: Callable[[], str]) -> None:
    a, b = new_namespace(), new_namespace()
    veth.create("left", a, "right", b)
    for name, peer in (("left", "other"), ("other", "right")):
        with pytest.raises(KernelError) as caught:
            veth.create(name, a, peer, b)
        assert caught.value.errno == errno.EEXIST
