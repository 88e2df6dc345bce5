from __future__ import annotations

from pathlib import Path

import pytest

from epaird.config import syntax
from epaird.config.reading import InvalidConfiguration, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "epaird.toml"


def syntax_problem(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert problem.startswith(str(file))
    return problem.removeprefix(str(file))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"[daemon]\nworkers = auto\n",
            ', line 2, column 11: "auto" is not a value: text needs quotes, true and false are in lower case',
        ),
        (
            b"addresses = [10.0.0.1/24]",
            ', line 1, column 18: ".0.1/24]" cannot be in the list: '
            "its members are separated by commas, text needs quotes, ] ends it",
        ),
        (
            b"mac = 02:5d\r\n",
            ', line 1, column 8: "2:5d" cannot follow what precedes it: '
            "text needs quotes, each key needs a line of its own",
        ),
        (
            b'a = {to = "x" via = "y"}',
            ', line 1, column 15: "via = \\"y\\"}" cannot be in the table: '
            "its keys are separated by commas, text needs quotes, } ends it",
        ),
        (b"mtu =\n", ", line 1, column 6: a value is missing"),
        (b"a: 3\n", ', line 1, column 2: ": 3" is where the = after a key should be'),
        (b"!\n", ', line 1, column 1: "!" is not a key, a [table] or a # comment'),
        (b'a = "x\n', ", line 1, column 7: the text is not closed by a quote"),
        (b"a = 'x", ", line 1, column 7: the text is not closed by a quote"),
        (b"a = 1\nlonger = [\n1", ", line 3, column 2: the list is not closed by ]"),
        (b'a = "x', ", line 1, column 7: the text is not closed by a quote"),
        (b"[epair.epair0\n", ", line 1, column 14: the table's name is not closed by ]"),
        (b"[epair.epair0]\n[epair.epair0]\n", ", line 2, column 14: [epair.epair0] is defined twice"),
        (b"a = 1\na = 2\n", ", line 2, column 6: this key is set twice"),
        (b"a = 1\n\n\xff", ", line 3: not UTF-8 text"),
    ],
)
def test_broken_toml_is_one_line_with_its_place(file: Path, content: bytes, problem: str) -> None:
    assert syntax_problem(file, content) == problem


def test_a_message_that_is_not_known_is_repeated() -> None:
    assert syntax.syntax_problem("Out of luck", "a = 1") == ": out of luck"
    assert syntax.syntax_problem("Out of luck (at line 1, column 5)", "a = 1") == (
        ", line 1, column 5: out of luck"
    )
    assert syntax.syntax_problem("Out\nof luck", "a = 1") == ': "Out\\nof luck"'


@pytest.mark.parametrize(("sentence", "lower"), [("No Such File", "no Such File"), ("A", "a"), ("", "")])
def test_a_sentence_begins_in_lower_case(sentence: str, lower: str) -> None:
    assert syntax.lowered(sentence) == lower
