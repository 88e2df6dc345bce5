from __future__ import annotations

from epaird.config.conflict import HOME, in_words


def test_a_namespace_in_words() -> None:
    assert in_words(HOME) == "the daemon's own namespace"
    assert in_words("red") == 'namespace "red"'
    assert in_words("/proc/7/ns/\n").isprintable()
