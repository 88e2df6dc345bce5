"""Compression of the metrics page, over real HTTP."""

from __future__ import annotations

import gzip

import pytest

from tests.control.metrics_server import Serving


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip;q=0, identity", None),
        ("gzip;q=0", None),
        ("identity;q=0.2, gzip;q=0.1", None),
        ("*;q=0, gzip;q=0.5", "gzip"),
        ("*", None),
        ("br", None),
    ],
)
def test_the_page_is_compressed_if_that_is_preferred(page: Serving, header: str, coding: str | None) -> None:
    response, body = page.get("/metrics", accept_encoding=header)
    assert (response.status, response.getheader("content-encoding")) == (200, coding)
    assert b"epaird_interface_opackets_total" in (gzip.decompress(body) if coding else body)


def test_a_short_answer_is_compressed_only_for_a_client_that_takes_nothing_else(page: Serving) -> None:
    assert page.get("/healthz", accept_encoding="gzip")[1] == b"ok\n"
    response, body = page.get("/healthz", accept_encoding="gzip, identity;q=0")
    assert response.getheader("content-encoding") == "gzip"
    assert gzip.decompress(body) == b"ok\n"


def test_a_client_that_accepts_no_coding_is_told(page: Serving) -> None:
    response, body = page.get("/metrics", accept_encoding="identity;q=0, gzip;q=0")
    assert response.status == 406
    assert body == b"an answer is sent as it is or compressed by gzip, and the request excludes both\n"
