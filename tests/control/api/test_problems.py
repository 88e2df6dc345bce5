"""Problem documents: the status, the errno and every error of a request."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from epaird.control.operations import Refused
from epaird.control.readings import Reading
from epaird.kernel.errors import KernelError
from tests.control.control_server import Control


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (errno.EEXIST, 409, "EEXIST"),
        (errno.EBUSY, 409, "EBUSY"),
        (errno.ENXIO, 404, "ENXIO"),
        (errno.EINVAL, 422, "EINVAL"),
        (errno.ENOSPC, 422, "ENOSPC"),
        (errno.ENODEV, 422, "ENODEV"),
        (errno.EPERM, 403, "EPERM"),
        (errno.ENOMEM, 503, "ENOMEM"),
        (errno.EMFILE, 503, "EMFILE"),
        (errno.EADDRINUSE, 409, "EADDRINUSE"),
    ],
)
def test_a_refusal_is_a_problem_document_with_the_errno(
    control: Control, code: int, status: int, name: str
) -> None:
    control.operations.fails = Refused(code, "epair7: no, \u201cnever\u201d")
    answer = control.curl("/v1/interfaces", data={"name": "epair7"})
    assert (answer.status, answer.problem["errno"]) == (status, name)
    assert answer.problem["detail"] == "epair7: no, \u201cnever\u201d"
    assert answer.problem["type"] == "about:blank"


def test_every_key_that_is_wrong_is_named(control: Control) -> None:
    answer = control.curl("/v1/interfaces", data={"nam": "epair", "settings": 3})
    assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
    assert answer.problem["errors"] == [
        {"key": "name", "detail": "is missing"},
        {"key": "settings", "detail": "3 is not an object"},
        {"key": "nam", "detail": "unknown key"},
    ]
    assert answer.problem["detail"] == "name: is missing; settings: 3 is not an object; nam: unknown key"


def test_every_setting_that_is_wrong_is_named(control: Control) -> None:
    settings = {"a": {"mtu": 1}, "queue": 3}
    answer = control.curl("/v1/interfaces", data={"name": "epair", "settings": settings})
    assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
    assert [each["key"] for each in answer.problem["errors"]] == ["a.mtu", "queue"]


def test_an_error_of_the_kernel_is_a_problem_too(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Reading:
        raise KernelError(errno.ENOBUFS, "the kernel has no room for the answer")

    monkeypatch.setattr(control.operations, "reading", read)
    answer = control.curl("/v1/stats")
    assert (answer.status, answer.problem["errno"]) == (503, "ENOBUFS")


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        ("", 422, "body: is missing"),
        ("[]", 422, "body: a list is not an object"),
        ("null", 422, "body: null is not an object"),
        ('{"name": 5}', 422, "name: 5 is not text"),
        ('{"name": "\\ud800"}', 422, '"\\ud800" is not a name, as in "epair0"'),
        ('{"name": ', 400, "the body is not JSON: Expecting value at character 9"),
        (
            "[" * 100_000,
            400,
            "the body, line 1: objects or lists are nested deeper than 16 levels, the most allowed",
        ),
        (
            '{"name":\n' + "9" * 5000 + "}",
            400,
            "the body, line 2: a number or a key is longer than 500 characters, the most allowed",
        ),
        (
            "[" + "1," * 20_000 + "1]",
            400,
            "the body, line 1: there are more than 20000 keys and members of lists, the most allowed",
        ),
        ('{"name": "' + "[" * 20 + '"}', 422, f'"{"[" * 20}" is not a name, as in "epair0"'),
        (b'{"name": "\xff"}'.decode("latin-1"), 422, '"\u00ff" is not a name, as in "epair0"'),
    ],
)
def test_an_invalid_body_is_answered_with_its_error(
    control: Control, tmp_path: Path, data: str, status: int, detail: str
) -> None:
    file = tmp_path / "body"
    file.write_text(data)
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{file}")
    assert (answer.status, answer.problem["errno"]) == (status, "EINVAL")
    assert answer.problem["detail"].replace("the body is missing", "body: is missing") == detail


def test_bytes_that_are_not_utf8_are_not_json(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b'{"name": "\xff"}')
    answer = control.curl("/v1/interfaces", "--data-binary", f"@{file}")
    assert (answer.status, answer.problem["detail"]) == (400, "the body cannot be read as JSON")
