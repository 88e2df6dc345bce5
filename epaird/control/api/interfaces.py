"""The API's routes of interfaces: what there is, made, changed, plugged and destroyed."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

from fastapi import Body, Path, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from epaird.control.api import models, problems
from epaird.control.api.answers import OF_CHANGES, answer, refusals
from epaird.control.api.changes import listed, plain
from epaird.control.operations import Operations, Refused

if TYPE_CHECKING:
    from epaird.control.api.application import Api

Name = Annotated[
    str,
    Path(description="A half, a pair or a loopback by its own name.", examples=["epair0a", "epair0", "lo1"]),
]

_CREATED: Final = TypeAdapter(models.Created)
_INTERFACES: Final = TypeAdapter(list[models.Interface])
_DETAILS: Final = TypeAdapter(list[models.InterfaceDetails])


def add(api: Api) -> None:
    """Add them."""
    _add_all(api)
    _add_one(api)
    _add_plug(api)


def _add_all(api: Api) -> None:
    """All of them, and those to come."""
    operations = api.operations

    @api.get(
        "/v1/interfaces",
        response_model=list[models.Interface],
        responses=refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    async def list_interfaces(
        kind: Annotated[str | None, Query(description="Only those this cloner makes: epair, lo.")] = None,
    ) -> Response:
        """Every interface."""
        if kind is not None:
            _check_kind(kind, operations.cloners())
        found = map(models.interface, operations.reading().interfaces)
        return answer(_INTERFACES, [each for each in found if kind in (None, each.kind)])

    @api.post(
        "/v1/interfaces",
        status_code=HTTPStatus.CREATED,
        response_model=models.Created,
        responses={
            201: {
                "headers": {
                    "Location": {"description": "Where the interface is.", "schema": {"type": "string"}}
                }
            },
            **refusals(*OF_CHANGES),
        },
    )
    async def create_interface(request: Request, wanted: models.Create) -> Response:
        """Make an interface, by the name of a cloner or with a number."""
        create = operations.create(wanted.name, wanted.settings)
        made = await api.change(request, f"created{listed(wanted.settings)}", create, None)
        location = {"location": f"/v1/interfaces/{quote(made)}"}
        return answer(_CREATED, models.Created(name=made), HTTPStatus.CREATED, location)


def _add_one(api: Api) -> None:
    """One that there is."""
    operations = api.operations

    @api.get(
        "/v1/interfaces/{name}",
        response_model=list[models.InterfaceDetails],
        responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    async def show_interface(name: Name) -> Response:
        """One interface, or both halves of a pair, with their counters."""
        return _details(operations, name)

    @api.patch(
        "/v1/interfaces/{name}",
        response_model=list[models.InterfaceDetails],
        responses=refusals(*OF_CHANGES),
    )
    async def change_interface(
        request: Request, name: Name, settings: Annotated[models.Settings, Body()]
    ) -> Response:
        """Change an interface in place; what is not named stays."""
        await api.change(request, f"set{listed(settings)}", operations.change(name, settings), name)
        return _details(operations, name)

    @api.delete(
        "/v1/interfaces/{name}",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*OF_CHANGES),
    )
    async def destroy_interface(request: Request, name: Name) -> Response:
        """Destroy a loopback, or a pair by its name or either half's."""
        await api.change(request, "destroyed", operations.destroy(name), name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _add_plug(api: Api) -> None:
    """What a half is plugged into."""
    operations = api.operations

    @api.put(
        "/v1/interfaces/{name}/peer",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*OF_CHANGES),
    )
    async def patch_interface(request: Request, name: Name, into: models.Patch) -> Response:
        """Plug a half into another one; each leaves its old peer."""
        operations.interface(name)
        try:
            operations.interface(into.peer)
        except Refused as unknown:
            # Not 404: what the address names is there.
            return problems.of_body(unknown, "peer")
        patch = operations.patch(name, into.peer, force=into.force)
        await api.change(request, f"patched into {plain(into.peer)}", patch, name)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @api.delete(
        "/v1/interfaces/{name}/peer",
        status_code=HTTPStatus.NO_CONTENT,
        response_model=None,
        responses=refusals(*OF_CHANGES),
    )
    async def unpatch_interface(request: Request, name: Name) -> Response:
        """Unplug a half: neither it nor its peer has a carrier then."""
        await api.change(request, "unpatched", operations.unpatch(name), name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _details(operations: Operations, name: str) -> Response:
    return answer(_DETAILS, [models.details(each) for each in operations.interface(name)])


def _check_kind(kind: str, cloners: tuple[str, ...]) -> None:
    if kind not in cloners:
        raise Refused(errno.EINVAL, f"kind: {plain(kind)} is none of {', '.join(cloners)}")
