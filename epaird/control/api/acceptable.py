"""Refuses requests that exclude every form in which a route can answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute

from epaird.control.http.negotiation import codings, media_types

JSON: Final = "application/json"


class NotAcceptable(Exception):
    """No form of the answer is acceptable. One line."""


async def check_acceptable(request: Request) -> None:
    """Raise NotAcceptable if the request's Accept headers exclude what its route answers with.

    It is called before the route, so that a request that is refused changes nothing."""
    route = request.scope["route"]
    if not isinstance(route, APIRoute) or route.status_code == HTTPStatus.NO_CONTENT:
        return
    offers = tuple(route.responses.get(HTTPStatus.OK, {}).get("content", {JSON: None}))
    if not media_types(",".join(request.headers.getlist("accept")), offers):
        raise NotAcceptable(f"the answer is {' or '.join(offers)}, which the Accept header excludes")
    encodings = request.headers.getlist("accept-encoding")
    if encodings and "identity" not in codings(",".join(encodings)):
        raise NotAcceptable("the answer is not encoded, and the Accept-Encoding header excludes identity")
