"""Build the manual pages: ``build.py DIRECTORY``.

Each ``NAME.SECTION.rst`` in this directory becomes ``DIRECTORY/NAME.SECTION``. Two kinds of lines in them are
replaced by text from another place:

``@KEYS FILE@``        every key of a sample configuration, from its comments
``@COMMANDS SCRIPT@``  every command and option of a program of this project, from its help
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from docutils.core import publish_string
from docutils.writers import manpage

from epaird import __version__

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent

_MARKER: Final = re.compile(r"^@(KEYS|COMMANDS) (\S+)@$", re.MULTILINE)
_TABLE: Final = re.compile(r"#?(\[[^\]]+\])$")
_KEY: Final = re.compile(r"#?([a-z_]+) = (.*)$")
_LITERAL: Final = re.compile(r"(`[^`]*`)")
_MARKUP: Final = re.compile(r"([\\*|_])")


def build(directory: Path) -> list[Path]:
    """Build every page and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    pages = []
    for source in sorted(HERE.glob("*.rst")):
        page = directory / source.stem
        page.write_bytes(manual(source))
        pages.append(page)
    return pages


def manual(source: Path) -> bytes:
    """Return a page in man(7)'s macros. Raises SystemMessage for an error in its source."""
    settings = {"report_level": 2, "halt_level": 2, "input_encoding": "unicode", "output_encoding": "utf-8"}
    text = _MARKER.sub(_replacement, source.read_text()).replace("@VERSION@", __version__)
    page: bytes = publish_string(
        text, source_path=str(source), writer=manpage.Writer(), settings_overrides=settings
    )
    return page.replace(b"\n.SH Name\n", b"\n.SH NAME\n")


def _replacement(marker: re.Match[str]) -> str:
    """Return the text that a marker stands for."""
    if marker[1] == "KEYS":
        return "\n".join(_tables((ROOT / marker[2]).read_text()))
    return "\n".join(_commands(marker[2]))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A table or a key of the sample, with the comment that precedes it."""

    comment: str
    table: str = ""
    key: str = ""
    value: str = ""


def _tables(sample: str) -> Iterator[str]:
    """Yield the lines that describe every table of a sample configuration and its keys."""
    for entry in _entries(sample):
        if entry.table:
            title = re.sub(r"\b(epair|lo)[0-9]+", r"\1N", entry.table)
            yield from ("", title, "-" * len(title), "", _escaped(entry.comment), "")
        else:
            yield f"``{entry.key} = {entry.value}``"
            yield f"    {_escaped(entry.comment)}"
            yield ""


def _entries(sample: str) -> Iterator[_Entry]:
    """Yield the entries of the sample. A comment describes all keys up to the next empty line."""
    comment: list[str] = []
    for line in sample.partition("\n\n[")[2].join(("[", "")).splitlines():
        if table := _TABLE.match(line):
            yield _Entry(" ".join(comment), table=table[1])
            comment = []
        elif key := _KEY.match(line):
            if comment:  # an example repeats keys that were described before
                yield _Entry(" ".join(comment), key=key[1], value=key[2])
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        else:
            comment = []


def _escaped(text: str) -> str:
    """Return text with its markup escaped, except within back quotes."""
    parts = _LITERAL.split(text)
    return "".join(f"`{part}`" if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts)


def _commands(script: str) -> Iterator[str]:
    """Yield the lines that describe a program's commands, found by the module of its entry point."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if script not in project["scripts"]:
        return
    module = importlib.import_module(project["scripts"][script].partition(":")[0])
    group = next(value for value in vars(module).values() if isinstance(value, click.Group))
    context = click.Context(group, info_name=script, **group.context_settings)
    yield from _options(group, context, "")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(piece for piece in command.collect_usage_pieces(inner) if piece != "[OPTIONS]")
        yield f"``{script} {name} {usage}``".replace(" ``", "``")
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
            yield from (f"    {line}" for line in _paragraph(paragraph))
        yield from _options(command, inner, "    ")


def _paragraph(text: str) -> Iterator[str]:
    """Yield a paragraph of a command's help. One that begins with click's ``\\b`` keeps its lines."""
    if text.startswith("\b\n"):
        yield from (f"| {_escaped(' '.join(line.split()))}" for line in text.splitlines()[1:])
    else:
        yield _escaped(" ".join(text.split()))
    yield ""


def _options(command: click.Command, context: click.Context, indent: str) -> Iterator[str]:
    """Yield the lines that describe a command's options."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and not (context.parent and "--help" in parameter.opts):
            yield f"{indent}{record[0]}".replace("|", "\\|")
            yield f"{indent}    {_escaped(' '.join(record[1].split()))}"
            yield ""


if __name__ == "__main__":
    for built in build(Path(sys.argv[1])):
        print(built)  # noqa: T201
