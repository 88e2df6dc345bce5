"""The words of tc's netem, as keys of an impairment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from epaird.impairment.tables import is_off
from epaird.impairment.units import BitRate, Duration, Percentage, is_unit
from epaird.ipc.impairment import DISTRIBUTIONS
from epaird.names.grammar import quoted

PER_SEGMENT: Final = (
    "decisions are made for each segment on the wire, netem makes one for a super-frame of up to 64 KB"
)
IN_ORDER: Final = (
    "jitter never reorders and keeps the mean; netem's reorders, or with rate increases the mean"
)
KNOTS: Final = (
    "jitter_correlation is that of values 40 ms or four jitters apart, netem's that of successive packets"
)
SAME_SHARE: Final = (
    "loss_correlation leaves the share of losses as it is; netem's loss 10% 25% really loses 1.8%"
)
OVERHEAD: Final = "rate counts preamble, checksum and gap, 24 bytes for each segment, which netem's does not"
CORRUPTED: Final = (
    "corrupt flips a bit that a checksum covers; netem flips any bit, in the Ethernet header too"
)
SEGMENT_LIMIT: Final = "limit counts segments in the queue before rate; netem's counts all packets it holds"
NO_QUEUE: Final = (
    "limit is left out: without rate no queue forms, and delay never drops; netem drops what exceeds limit"
)
MICROSECONDS: Final = (
    "a time without a unit is in microseconds, as in tc up to 6.8; since 6.9 tc takes nanoseconds"
)
UNIFORM: Final = (
    "distribution is uniform, as netem's is where none is given, though its older manuals say normal"
)

_NUMBER: Final = re.compile(r"[0-9]*\.?[0-9]+")
_VALUE: Final = re.compile(r"-?\.?[0-9]")


class NotAnImpairment(ValueError):
    """Words that are no impairment. ``str()`` is one line."""


class Words:
    """Words that are read one after another, and what was found on the way."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = list(words)
        self.differences: list[str] = []
        """Sentences about what differs from netem."""
        self.netem_jitter = False
        """True after jitter in netem's notation, which has a default distribution of its own."""
        self.netem_limit = False
        """True after a limit without a unit."""

    def peek(self) -> str | None:
        """Return the next word, or None after the last one."""
        return self._words[0] if self._words else None

    def take(self) -> str:
        """Return the next word and go on to the one behind it."""
        return self._words.pop(0)

    def differs(self, value: object, difference: str) -> None:
        """Add a sentence about a value, unless the value switches its key off."""
        if not is_off(value):
            self.differences.append(difference)

    def values(self, key: str, most: int) -> list[str]:
        """Return the next words as far as they are values, at least one. Raises NotAnImpairment."""
        found: list[str] = []
        while len(found) < most and self._words and _VALUE.match(self._words[0]):
            found.append(self.take())
        if not found:
            after = f", not {quoted(self._words[0])}" if self._words else ""
            raise NotAnImpairment(f"{key} needs a value after it{after}")
        if (unit := self.peek()) is not None and is_unit(unit) and _NUMBER.fullmatch(found[-1]):
            raise NotAnImpairment(f"{key}: write a value and its unit without a space, {found[-1]}{unit}")
        return found


def _time(key: str, text: str) -> str:
    """Return a time; a bare number is microseconds."""
    return _read(key, Duration(), f"{text}us" if _NUMBER.fullmatch(text) else text)


def _percent(key: str, text: str) -> str:
    """Return a percentage; a bare number is one."""
    return _read(key, Percentage(), f"{text}%" if _NUMBER.fullmatch(text) else text)


def _read(key: str, reader: Callable[[object], str], text: str) -> str:
    try:
        return reader(text)
    except ValueError as error:
        raise NotAnImpairment(f"{key}: {error}") from None


def _delay(words: Words) -> Mapping[str, Any]:
    delay, *rest = words.values("delay", 3)
    if any(_NUMBER.fullmatch(text) and text.strip("0.") for text in (delay, *rest[:1])):
        words.differences.append(MICROSECONDS)
    found = {"delay": _time("delay", delay)}
    if rest:
        found["jitter"] = _time("jitter", rest[0])
        words.netem_jitter = not is_off(found["jitter"])
        words.differs(found["jitter"], IN_ORDER)
    if len(rest) > 1:
        found["jitter_correlation"] = _percent("jitter_correlation", rest[1])
        words.differs(found["jitter_correlation"], KNOTS)
    return found


def _distribution(words: Words) -> Mapping[str, Any]:
    name = words.take() if words.peek() is not None else ""
    if name not in DISTRIBUTIONS:
        allowed = f"{', '.join(DISTRIBUTIONS[:-1])} or {DISTRIBUTIONS[-1]}"
        raise NotAnImpairment(f"distribution: {quoted(name)} is not {allowed}")
    return {"distribution": name}


def _loss(words: Words) -> Mapping[str, Any]:
    model = words.take() if words.peek() in ("random", "gemodel", "state") else "random"
    if model != "random":
        words.differences.append(PER_SEGMENT)
    if model == "gemodel":
        names = ("p", "r", "bad", "good")  # netem's 1-h and 1-k are losses in the bad and in the good state
        values = words.values("loss gemodel", 4)
        return {"loss": {name: _percent(f"loss.{name}", text) for name, text in zip(names, values)}}  # noqa: B905
    if model == "state":
        return _loss_states(words)
    share, *correlation = words.values("loss", 2)
    found = {"loss": _percent("loss", share)}
    words.differs(found["loss"], PER_SEGMENT)
    if correlation:
        found["loss_correlation"] = _percent("loss_correlation", correlation[0])
        words.differs(found["loss_correlation"], SAME_SHARE)
    return found


def _loss_states(words: Words) -> Mapping[str, Any]:
    """Return the losses of the 4-state model where it has only the states 1 and 3."""
    names = ("p13", "p31", "p32", "p23", "p14")
    values = words.values("loss state", 5)
    found = {name: _percent(f"loss state {name}", text) for name, text in zip(names, values)}  # noqa: B905
    if found.get("p32", "0%") != "0%" or found.get("p14", "0%") != "0%":
        raise NotAnImpairment(
            "loss state: p32, p23 and p14 need four states, epaird has two: "
            "loss gemodel P R BAD GOOD is the nearest"
        )
    return {"loss": {"p": found["p13"]} | ({"r": found["p31"]} if "p31" in found else {})}


def _share(key: str, difference: str = "") -> Callable[[Words], Mapping[str, Any]]:
    def read(words: Words) -> Mapping[str, Any]:
        share, *correlation = words.values(key, 2)
        if correlation and _percent(key, correlation[0]) != "0%":
            raise NotAnImpairment(f"{key} has no correlation in epaird: leave {correlation[0]} out")
        found = _percent(key, share)
        words.differs(found, PER_SEGMENT)
        if difference:
            words.differs(found, difference)
        return {key: found}

    return read


def _reorder(words: Words) -> Mapping[str, Any]:
    found = _share("reorder")(words)
    if words.peek() == "gap":
        words.take()
        if (distance := words.values("gap", 1)[0]) not in ("0", "1"):
            raise NotAnImpairment(
                f"gap {distance}: epaird has no gap, reorder 25% chooses a quarter of all segments at random"
            )
    return found


def _rate(words: Words) -> Mapping[str, Any]:
    rate, *overheads = words.values("rate", 4)
    if any(each.strip("-0.") for each in overheads):
        raise NotAnImpairment(
            f"rate: epaird has no overheads or cells, leave {' '.join(overheads)} out: "
            "each segment counts with its Ethernet overhead"
        )
    found = _read("rate", BitRate(), f"{rate}bit" if _NUMBER.fullmatch(rate) else rate)
    words.differs(found, OVERHEAD)
    return {"rate": found}


def _limit(words: Words) -> Mapping[str, Any]:
    (limit,) = words.values("limit", 1)
    if limit.isascii() and limit.isdecimal():
        words.netem_limit = True
        words.differences.append(SEGMENT_LIMIT)
        limit = f"{limit}p"
    return {"limit": limit}


def _refused(message: str) -> Callable[[Words], Mapping[str, Any]]:
    def read(_words: Words) -> Mapping[str, Any]:
        raise NotAnImpairment(message)

    return read


FORMS: Final[Mapping[str, Callable[[Words], Mapping[str, Any]]]] = {
    "delay": _delay,
    "distribution": _distribution,
    "loss": _loss,
    "duplicate": _share("duplicate"),
    "corrupt": _share("corrupt", CORRUPTED),
    "reorder": _reorder,
    "rate": _rate,
    "limit": _limit,
    "gap": _refused("gap: epaird has no gap, reorder 25% chooses a quarter of all segments at random"),
    "slot": _refused("slot: epaird has no slots, a trace determines when a link delivers"),
    "ecn": _refused(
        "ecn: epaird marks for congestion, not for losses: write queue codel ecn true, with a rate"
    ),
}
"""netem's words that values follow, with the functions that read these."""
