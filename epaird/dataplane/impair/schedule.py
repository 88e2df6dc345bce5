"""Which of a line's parameters apply when: the phases of its schedule."""

from __future__ import annotations

from epaird.dataplane.impair.streams import NEVER
from epaird.ipc.impairment import LineParameters, LineSpec, Phase


def applies(phase: Phase, passed_ns: int) -> bool:
    """Return whether a phase applies so long after the impairment was applied."""
    since = passed_ns - phase.at_ns
    if since < 0:
        return False
    if phase.every_ns:
        since %= phase.every_ns
    return not phase.for_ns or since < phase.for_ns


def _change(phase: Phase, passed_ns: int) -> int:
    """Return when a phase next begins or ends."""
    since = passed_ns - phase.at_ns
    if since < 0:
        return phase.at_ns
    if not phase.for_ns or (phase.every_ns and phase.for_ns >= phase.every_ns):
        return NEVER
    begun = phase.at_ns
    if phase.every_ns:
        begun += since - since % phase.every_ns
    if passed_ns < begun + phase.for_ns:
        return begun + phase.for_ns
    return begun + phase.every_ns if phase.every_ns else NEVER


def parameters_at(spec: LineSpec, now_ns: int) -> tuple[LineParameters, int]:
    """Return the parameters that apply now, and CLOCK_MONOTONIC in nanoseconds when to ask again."""
    passed = now_ns - spec.applied_ns
    change = min((_change(phase, passed) for phase in spec.phases), default=NEVER)
    for phase in reversed(spec.phases):
        if applies(phase, passed):
            return phase.parameters, spec.applied_ns + change
    return spec.parameters, spec.applied_ns + change
