"""The documents: links that lead somewhere, paths that exist, and every key of the configuration."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from epaird.config.impairtables import CarrierPhase, GivenKeys, ImpairSettings, LossSettings, PhaseSettings
from epaird.config.settings import Configuration
from epaird.config.table import Settings
from epaird.impairment.presets import SHIPPED
from epaird.impairment.words import translated
from epaird.ipc.counters import INTERFACE

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README_BYTES = 9000

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(((?:[^()\s]|\([^()\s]*\))+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
REPOSITORY_PATH = re.compile(r"(?:epaird|tests|deploy|docs|config)/[\w./-]*")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def prose(document: Path) -> str:
    """Return a document without its indented blocks of code, where brackets and backquotes mean nothing.

    A block follows an empty line; an indented line behind any other continues a list item."""
    kept: list[str] = []
    in_block = False
    for line in document.read_text().splitlines():
        indented = line.startswith("    ")
        in_block = indented and (in_block or not (kept and kept[-1]))
        if not in_block:
            kept.append(line)
    return "\n".join(kept)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    words = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).replace("`", "").lower())
    return words.strip().replace(" ", "-")


@cache
def anchors(document: Path) -> frozenset[str]:
    """Return the anchors of a document's headings."""
    return frozenset(map(anchor, HEADING.findall(prose(document))))


def links(document: Path) -> list[str]:
    """Return the targets of a document's links within the repository."""
    targets = LINK.findall(CODE.sub("", prose(document)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def test_a_heading_has_the_anchor_that_github_gives_it() -> None:
    assert anchor("Loopbacks: `[lo]` and `[lo.loN]`") == "loopbacks-lo-and-lolon"
    assert anchor("What is out of reach, and why") == "what-is-out-of-reach-and-why"
    assert anchor("`lo0`") == "lo0"


@every_document
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for target in links(document):
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        if fragment:
            assert fragment in anchors(file), target


@every_document
def test_paths_of_the_repository_exist(document: Path) -> None:
    for code in CODE.findall(prose(document)):
        if REPOSITORY_PATH.fullmatch(code) and "/x/" not in code:
            assert (ROOT / code).exists(), code


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert {*(ROOT / "docs").glob("*.md")} <= reached


def test_the_readme_is_a_front_page() -> None:
    assert (ROOT / "README.md").stat().st_size <= README_BYTES


def test_the_readme_shows_the_counters_of_the_catalogue() -> None:
    shown = re.findall(r"# HELP (\w+)_total (.+)", (ROOT / "README.md").read_text())
    assert shown
    assert set(shown) <= {(each.metric, each.help) for each in INTERFACE}


def documented(page: str) -> Counter[str]:
    """Return the keys that have a row in a page of docs, with the number of their rows."""
    cells = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return Counter(key for cell in cells for key in CODE.findall(cell))


def test_the_configuration_page_has_a_row_for_every_key_of_every_table() -> None:
    tables = [table for table in Settings.__subclasses__() if table not in (Configuration, GivenKeys)]
    assert documented("configuration.md") == Counter(key for table in tables for key in table.model_fields)
    page = (ROOT / "docs" / "configuration.md").read_text()
    for table in Configuration.model_fields:
        assert re.search(rf"^##.*`\[{table}[\].]", page, re.MULTILINE), table


def test_the_page_of_impairments_has_a_row_for_every_key_and_every_set() -> None:
    page = documented("impairment.md")
    for table in (ImpairSettings, LossSettings, PhaseSettings, CarrierPhase):
        assert {field.alias or key for key, field in table.model_fields.items()} <= page.keys()
    text = (ROOT / "docs" / "impairment.md").read_text()
    for name, preset in SHIPPED.items():
        publication, bracket, section = preset.source.rpartition(", [")
        place = bracket[2:] + section
        assert f"| `{name}` | {preset.keys['delay']} | {preset.keys.get('rate', '')} | {place} |" in text
        assert publication in " ".join(text.split())


IMPAIR = re.compile(
    r"^(?:    |\| `)(?:# )?epairctl impair epair[0-9]+[ab]? (?:for \w+ )?([^`|\n]+)", re.MULTILINE
)


def test_the_impairments_that_people_are_shown_are_understood() -> None:
    pages = [*DOCUMENTS, ROOT / "deploy" / "man" / "epairctl.8.rst", ROOT / "epaird" / "ctl" / "impairing.py"]
    found = [words for page in pages for words in IMPAIR.findall(page.read_text())]
    assert len(found) > 8
    for words in found:
        if words.split()[0] not in ("off", "log", "replay"):
            assert translated(words.split()).patch, words
