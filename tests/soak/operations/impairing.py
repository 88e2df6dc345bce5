"""Impairments: set, changed, removed, and expiring by themselves, while other things happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.soak.expected import Expected, Impairment, Pair, with_half
from tests.soak.operations.hostilities import BETWEEN
from tests.soak.operations.namespaces import WithSomethingBetween
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.waiting import until

VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "delay": ("1ms", "20ms", "100ms"),
    "jitter": ("500us", "5ms"),
    "loss": ("1%", "30%"),
    "duplicate": ("5%",),
    "corrupt": ("5%",),
    "reorder": ("5%",),
    "rate": ("1mbit", "100mbit"),
    "buffer": ("1mb", "2mb", "100mb"),
}
"""Keys and values that can be combined with each other."""
SECONDS: Final = 1
"""Duration of an impairment that expires."""


def random_impairment(choose: Random) -> Impairment:
    """Return some keys with values; a delay is always among them."""
    keys = ["delay", *choose.sample([each for each in VALUES if each != "delay"], choose.randint(0, 4))]
    return tuple((key, choose.choice(VALUES[key])) for key in sorted(keys))


@dataclass(frozen=True, slots=True)
class Impair(Operation):
    """Keys of the impairment of a half are set; the others stay."""

    name: str
    side: str
    keys: Impairment

    def __str__(self) -> str:
        return f"impair {self.name}{self.side} {' '.join(_words(self.keys))}"

    def act(self, site: Site) -> None:
        site.ctl("impair", self.name + self.side, *_words(self.keys))

    def expect(self, expected: Expected) -> None:
        before = dict(getattr(expected.interfaces[self.name], self.side).impair)
        _set(expected, self.name, self.side, tuple(sorted({**before, **dict(self.keys)}.items())))


@dataclass(frozen=True, slots=True)
class ImpairNoMore(Operation):
    """The impairment of a half is removed, whatever it holds."""

    name: str
    side: str

    def __str__(self) -> str:
        return f"impair {self.name}{self.side} off"

    def act(self, site: Site) -> None:
        site.ctl("impair", self.name + self.side, "off")

    def expect(self, expected: Expected) -> None:
        _set(expected, self.name, self.side, ())


@dataclass(frozen=True, slots=True)
class ImpairForAWhile(WithSomethingBetween):
    """A half is impaired until that expires by itself, and then as before."""

    half: str
    keys: Impairment

    def __str__(self) -> str:
        return self.described(f"impair {self.half} for {SECONDS}s {' '.join(_words(self.keys))}")

    def act(self, site: Site) -> None:
        site.ctl("impair", self.half, "for", f"{SECONDS}s", *_words(self.keys))
        self.do_between(site)
        until(lambda: "expires in" not in site.ctl("impair", self.half), site.recent)


def impair(choose: Random, expected: Expected) -> Operation | None:
    """Impair a half, change its impairment, or remove it."""
    pairs = [name for name, each in expected.mutable.items() if isinstance(each, Pair) and each.queues == 1]
    if not pairs:
        return None
    name, side = choose.choice(pairs), choose.choice("ab")
    keys = random_impairment(choose)
    match choose.choice(("set", "set", "removed", "for a while")):
        case "removed" if getattr(expected.interfaces[name], side).impair:
            return ImpairNoMore(name, side)
        case "for a while":
            return ImpairForAWhile(choose.choice((None, *BETWEEN)), name + side, keys)
    return Impair(name, side, keys)


def _set(expected: Expected, name: str, side: str, keys: Impairment) -> None:
    found = expected.interfaces[name]
    if not isinstance(found, Pair):
        raise TypeError(f"{name} is no pair")
    expected.change(name, with_half(found, side, impair=keys))


def _words(keys: Impairment) -> list[str]:
    return [word for pair in keys for word in pair]
