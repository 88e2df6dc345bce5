"""Routes of impairments: show, set, change and remove them; their decisions."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, Query, Request
from pydantic import BeforeValidator, TypeAdapter
from starlette.responses import Response

from epaird.client.impairment import PairImpairment
from epaird.control.api.changes import Changes, logged
from epaird.control.api.interfaces import Name
from epaird.control.api.responses import CHANGE_REFUSALS, json_response, refusals
from epaird.control.operations import Operations, Refused
from epaird.impairment.units import PERIOD, nanoseconds
from epaird.ipc.impairment import FATES

DECISIONS_MAX: Final = 65536
"""Decisions in one answer."""
REPLAY_MAX: Final = 100_000
"""Decisions in one request."""

_IMPAIRMENT: Final = TypeAdapter(PairImpairment)
_DECISIONS: Final = TypeAdapter(list[dict[str, Any]])

Keys = Annotated[
    dict[str, Any],
    Body(
        description="Keys and values as in the configuration's table `impair`; null removes a key.",
        examples=[{"delay": "100ms", "loss": "1%"}],
    ),
]
ForQuery = Annotated[
    str | None,
    Query(alias="for", description="Time after which the former impairment applies again: 30s."),
]
MostQuery = Annotated[int, Query(ge=1, le=DECISIONS_MAX, description="Decisions at most, the last ones.")]
Decisions = Annotated[
    list[Annotated[tuple[int, int], BeforeValidator(lambda value: _decision(value))]],
    Body(
        max_length=REPLAY_MAX,
        description="Decisions as the log has them.",
        examples=[[{"segment": 17, "decision": "loss"}]],
    ),
]
_PATH: Final = "/v1/interfaces/{name}/impairment"


def add_routes(app: FastAPI, operations: Operations, changes: Changes) -> None:
    """Add the routes of impairments."""
    _add_impairment(app, operations, changes)
    _add_decisions(app, operations, changes)


def _add_impairment(app: FastAPI, operations: Operations, changes: Changes) -> None:
    def answer(name: str) -> Response:
        return json_response(_IMPAIRMENT, operations.impairment(name))

    @app.get(
        _PATH, response_model=PairImpairment,
        responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )  # fmt: skip
    async def show_impairment(name: Name) -> Response:
        """Show the impairment of what a half transmits, or of both directions of a pair."""
        return answer(name)

    @app.put(_PATH, response_model=PairImpairment, responses=refusals(*CHANGE_REFUSALS))
    async def set_impairment(request: Request, name: Name, keys: Keys, for_: ForQuery = None) -> Response:
        """Impair a half or a pair with these keys only. No frame is lost or reordered by the change."""
        change = operations.impair(name, keys, whole=True, seconds=_seconds(for_))
        await changes.run(request, f"impaired{logged(keys)}", change, name)
        return answer(name)

    @app.patch(_PATH, response_model=PairImpairment, responses=refusals(*CHANGE_REFUSALS))
    async def change_impairment(request: Request, name: Name, keys: Keys, for_: ForQuery = None) -> Response:
        """Change keys of an impairment. Those that are not in the body stay, where they fit."""
        change = operations.impair(name, keys, whole=False, seconds=_seconds(for_))
        await changes.run(request, f"impaired{logged(keys)}", change, name)
        return answer(name)

    @app.delete(_PATH, response_model=PairImpairment, responses=refusals(*CHANGE_REFUSALS))
    async def remove_impairment(request: Request, name: Name, for_: ForQuery = None) -> Response:
        """Remove the impairment of a half or a pair. Held frames are delivered in order when they are due."""
        change = operations.impair(name, {}, whole=True, seconds=_seconds(for_))
        await changes.run(request, "impairment removed", change, name)
        return answer(name)


def _add_decisions(app: FastAPI, operations: Operations, changes: Changes) -> None:
    @app.get(
        _PATH + "/log", response_model=list[dict[str, Any]],
        responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )  # fmt: skip
    async def show_decisions(name: Name, most: MostQuery = 1000) -> Response:
        """Show the last decisions about what a half transmits: the number of a segment and its fate."""
        return json_response(_DECISIONS, operations.decisions(name, most))

    @app.put(
        _PATH + "/replay", status_code=HTTPStatus.NO_CONTENT, response_model=None,
        responses=refusals(*CHANGE_REFUSALS),
    )  # fmt: skip
    async def replay_decisions(request: Request, name: Name, decisions: Decisions) -> Response:
        """Repeat decisions about what a half transmits, from its next segment on, in place of its own."""
        ascending = sorted(decisions)
        await changes.run(request, "replays decisions", operations.replay(name, ascending), name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return nanoseconds(PERIOD(text)) / 1e9
    except ValueError as error:
        raise Refused(errno.EINVAL, f"for: {error}") from None


def _decision(value: object) -> tuple[int, int]:
    """Return one decision of a request; raises ValueError."""
    found = [value.get("segment"), value.get("decision")] if isinstance(value, dict) else value
    match found:
        case [int() as segment, (int() | str()) as fate] if 0 <= segment < 1 << 64:
            number = FATES.index(fate) + 1 if isinstance(fate, str) and fate in FATES else fate
            if isinstance(number, int) and 1 <= number <= len(FATES):
                return segment, number
    raise ValueError(f'not a decision, as in {{"segment": 17, "decision": "{FATES[0]}"}}')
