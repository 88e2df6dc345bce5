"""Checks of the Containerfile that need no container engine."""

from __future__ import annotations

import json
import os
import re

from tests.deploy.conftest import ROOT

FILE = ROOT / "deploy" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the name and the words of each instruction, without comments."""
    text = "".join(line for line in FILE.read_text().splitlines(keepends=True) if not line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines if line.strip())]


def test_every_copied_file_exists() -> None:
    copied = [source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source


def test_every_source_of_the_package_is_copied() -> None:
    copied = {source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]}
    needed = set(re.findall(r"\b(?:deploy|config|epaird(?=/__init__))\b", _build_script()))
    assert needed | {"pyproject.toml", "LICENSE", "CHANGELOG.md", "README.md"} <= copied


def test_its_commands_are_in_the_package() -> None:
    build = next(words for name, words in instructions() if name == "RUN" and "deploy/debian/build" in words)
    assert os.access(ROOT / "deploy" / "debian" / "build", os.X_OK), build
    commands = {name: json.loads(words) for name, words in instructions() if name in ("ENTRYPOINT", "CMD")}
    assert commands == {"ENTRYPOINT": ["/usr/bin/epaird"], "CMD": ["run"]}
    (health,) = [words for name, words in instructions() if name == "HEALTHCHECK"]
    assert json.loads(health.removeprefix("CMD "))[0] == "/usr/lib/epaird/bin/python3"


def _build_script() -> str:
    return (ROOT / "deploy" / "debian" / "build").read_text()
