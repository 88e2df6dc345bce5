from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from epaird.kernel import namespace
from epaird.kernel.nscookie import cookie
from tests.kernel.named import within


def test_it_is_the_same_at_every_call() -> None:
    assert cookie() == cookie()
    assert 0 < cookie() < 2**64


@pytest.mark.real
def test_a_namespace_made_again_under_a_name_has_another_one(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    seen = {cookie()}
    for _ in range(3):
        with within(name):
            seen.add(cookie())
        namespace.remove(name)
        namespace.create(name)
    assert len(seen) == 4


def test_without_cookies_it_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> bytes:
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr(socket.socket, "getsockopt", refuse)
    seen = {cookie() for _ in range(8)}
    assert len(seen) == 8
    assert all(0 <= each < 2**64 for each in seen)
