"""The tables of impairments: ``[epair.epair0.impair]``, ``[epair.epair0.a.impair]`` and ``[impairment.lte]``.

The values are kept as canonical text, so that equal ones are equal. A table is written with the keys that it
was given, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    WithJsonSchema,
    model_serializer,
)

from epaird.config import values
from epaird.config.table import Settings
from epaird.config.values import WholeNumber
from epaird.impairment.seeds import SEED_MAX
from epaird.impairment.units import PERIOD, BitRate, Duration, Percentage, Size
from epaird.ipc.impairment import DISTRIBUTIONS, LONGEST_NS, PHASES_MAX
from epaird.names.grammar import quoted, shown

LOSS_TABLE: Final = "[table]"
LOSS_SHARE: Final = "[percentage]"
"""Tags of the two forms of ``loss``, which pydantic adds to the location of an error."""

_SET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?")
_TIME: Final = Duration(0, LONGEST_NS)
_SCHEDULE: Final = values.list_of('[{ at = "10s", for = "2s", loss = "100%" }]')


NUMBER_SCHEMA: Final = WithJsonSchema({"type": ["number", "string"]})
"""A number, which a command line sends as text."""


def number(least: float, most: float, example: str) -> object:
    """Return a reader of numbers from ``least`` to ``most``; one may be written as text, as in ``"1e-9"``."""

    def read(value: object) -> float:
        found = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            raise ValueError(f"{shown(value)} is not a number from {least} to {most}, as in {example}")
        return int(found) if found == int(found) else float(found)

    return BeforeValidator(read)


def set_name(name: str) -> str:
    """Return the name of a set of impairments; raises ValueError."""
    if _SET_NAME.fullmatch(name) is None:
        raise ValueError(f"{quoted(name)} is not a set's name: letters, digits, - and _, at most 60")
    return name


def _preset(value: object) -> str:
    """Read the name of a set, or an empty text for none."""
    name = values.text_of(value, 'the name of a set, as in "lte", or "" for none')
    return set_name(name) if name else name


def _trace(value: object) -> str:
    """Read the path of a trace, relative to the directory of the configuration, or an empty text for none."""
    path = values.text_of(value, 'the path of a file, as in "lte.up", or "" for none')
    if not path.isprintable() or path.endswith("/"):
        raise ValueError(f"{quoted(path)} is not the path of a file")
    return path


def _loss_share(value: object) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(
            f'{shown(value)} is not a percentage, as in "1%", or a table, as in {{ p = "1%", r = "30%" }}'
        )
    return Percentage()(value)


def _off(value: object) -> str:
    if value != "off":
        raise ValueError(f'{shown(value)} is not "off", the only value here')
    return "off"


def _schedule(value: object) -> object:
    if isinstance(value, (list, tuple)) and len(value) > PHASES_MAX:
        raise ValueError(f"has {len(value)} entries, at most {PHASES_MAX} are allowed")
    return _SCHEDULE(value)


Share = Annotated[str, BeforeValidator(Percentage())]
Time = Annotated[str, BeforeValidator(_TIME)]


class GivenKeys(Settings):
    """A table that consists of the keys that it was given: every other one is None."""

    model_config = ConfigDict(serialize_by_alias=True, use_attribute_docstrings=True)

    def given(self) -> dict[str, Any]:
        """Return the keys that were given and their canonical values."""
        return self.model_dump(mode="json")

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


class LossSettings(GivenKeys):
    """Losses of the Gilbert-Elliott chain, which has a good and a bad state and takes a step for each
    segment."""

    p: Share
    """Probability that the bad state follows the good one."""
    r: Share | None = None
    """Probability that the good state follows the bad one; None is 100 % less p."""
    bad: Share | None = None
    """Probability of a loss in the bad state; None is 100 %."""
    good: Share | None = None
    """Probability of a loss in the good state; None is 0 %."""


def _form_of_loss(value: object) -> str:
    return LOSS_TABLE if isinstance(value, (Mapping, LossSettings)) else LOSS_SHARE


Loss = Annotated[
    Annotated[LossSettings, Tag(LOSS_TABLE)] | Annotated[str, BeforeValidator(_loss_share), Tag(LOSS_SHARE)],
    Discriminator(_form_of_loss),
]


class LineSettings(GivenKeys):
    """The keys that an impairment and a phase of its schedule share."""

    delay: Annotated[str, BeforeValidator(Duration())] | None = None
    """One-way delay."""
    jitter: Annotated[str, BeforeValidator(Duration())] | None = None
    """Standard deviation of the delay; half of its width for the uniform distribution."""
    jitter_correlation: Annotated[str, BeforeValidator(Percentage(below=True))] | None = None
    """Correlation of successive values of the delay."""
    distribution: (
        Annotated[
            Literal["uniform", "normal", "pareto", "paretonormal"],
            BeforeValidator(values.one_of(*DISTRIBUTIONS)),
        ]
        | None
    ) = None
    """Distribution of the delay; None is normal."""
    loss: Loss | None = None
    """Share of segments that are lost, or the chain that loses them."""
    loss_correlation: Annotated[str, BeforeValidator(Percentage(below=True))] | None = None
    """Correlation of the fates of neighbours."""
    loss_burst: Annotated[int | float, number(1, 1_000_000, "3"), NUMBER_SCHEMA] | None = None
    """Mean length of a run of losses, in segments."""
    duplicate: Share | None = None
    """Share of segments that are delivered twice."""
    corrupt: Share | None = None
    """Share of segments that are delivered with a flipped bit that no checksum repairs."""
    ber: Annotated[int | float, number(0, 0.5, "1e-9"), NUMBER_SCHEMA] | None = None
    """Probability that a bit on the wire is wrong; its segment is dropped."""
    reorder: Share | None = None
    """Share of segments that overtake those that are delayed."""
    rate: Annotated[str, BeforeValidator(BitRate())] | None = None
    """Bits per second on the wire, Ethernet overhead included."""
    limit: Annotated[str, BeforeValidator(Size(0, 1 << 36, packets=10_000_000))] | None = None
    """Size of the queue before the rate."""
    queue: (
        Annotated[Literal["droptail", "codel"], BeforeValidator(values.one_of("droptail", "codel"))] | None
    ) = None
    """Management of that queue; None is droptail."""
    ecn: Annotated[bool, BeforeValidator(values.boolean)] | None = None
    """True where CoDel marks segments that can be marked instead of dropping them."""


class PhaseSettings(LineSettings):
    """A part of the time in which other keys hold."""

    at: Time | None = None
    """Beginning, from the moment when the impairment was applied; None is that moment."""
    for_: Annotated[Annotated[str, BeforeValidator(PERIOD)] | None, Field(alias="for")] = None
    """Duration; None is for ever."""
    every: Annotated[str, BeforeValidator(PERIOD)] | None = None
    """Interval at which it begins again; None is once."""


class ImpairmentSettings(LineSettings):
    """A named set, ``[impairment.NAME]``."""

    trace: Annotated[str, BeforeValidator(_trace)] | None = None
    """Path of a file of delivery opportunities, in place of a rate."""
    buffer: Annotated[str, BeforeValidator(Size(1 << 20, 1 << 36))] | None = None
    """Memory for frames that are held, for each direction; None is 64 MB."""
    seed: Annotated[int, BeforeValidator(WholeNumber(0, SEED_MAX))] | None = None
    """Equal seeds make equal decisions; None is a random one."""
    schedule: Annotated[tuple[PhaseSettings, ...], BeforeValidator(_schedule)] | None = None
    """Phases in which other keys hold; of several at one time the last one does."""


class ImpairSettings(ImpairmentSettings):
    """The impairment of a pair's directions or of what a half transmits."""

    preset: Annotated[str, BeforeValidator(_preset)] | None = None
    """Name of a set that fills in what neither the half nor the pair has."""


class CarrierPhase(GivenKeys):
    """A part of the time in which the halves of a pair have no carrier."""

    carrier: Annotated[Literal["off"], BeforeValidator(_off)]
    """Always ``off``: the pair's ``carrier`` applies at other times."""
    at: Time | None = None
    """Beginning, from the moment when the schedule was applied; None is that moment."""
    for_: Annotated[Annotated[str, BeforeValidator(PERIOD)] | None, Field(alias="for")] = None
    """Duration; None is for ever."""
    every: Annotated[str, BeforeValidator(PERIOD)] | None = None
    """Interval at which it begins again; None is once."""


SetName = Annotated[str, AfterValidator(set_name)]
CarrierSchedule = Annotated[tuple[CarrierPhase, ...], BeforeValidator(_schedule)]
