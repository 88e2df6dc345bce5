"""The manual pages: they render without a warning and are complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from epaird import cli
from epaird.config.settings import Configuration
from epaird.config.table import Settings
from epaird.ctl import cli as ctl

PAGES = ("epaird.8", "epairctl.8", "epaird.toml.5")


def rendered(page: Path) -> str:
    """Return a page as ``man`` shows it, at a width at which no word is broken."""
    if shutil.which("man") is None:
        pytest.skip("needs man: apt-get install man-db")
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "200",
        "MANROFFSEQ": "",
        "MAN_KEEP_FORMATTING": "",
    }
    done = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--no-hyphenation", "--local-file", str(page)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_pages_render_without_a_warning(manual_pages: Path, name: str) -> None:
    text = rendered(manual_pages / name)
    title, section = name.rsplit(".", 1)
    assert text.startswith(f"{title}({section})")
    for heading in ("NAME", "DESCRIPTION", "FILES", "SEE ALSO"):
        assert re.search(rf"^{heading}$", text, re.MULTILINE), heading
    assert "@" not in text.replace("modprobe@", "")


def test_the_configurations_page_has_every_key(manual_pages: Path) -> None:
    text = rendered(manual_pages / "epaird.toml.5")
    for settings in Settings.__subclasses__():
        for key in settings.model_fields:
            if settings is Configuration:
                assert f"[{key}" in text, key
            else:
                assert re.search(rf"\b{key} = |\[[a-zN.]*\.{key}\]", text), f"{settings.__name__}: {key}"


@pytest.mark.parametrize("group", [cli.epaird, ctl.epairctl])
def test_the_programs_pages_have_every_command_and_option(manual_pages: Path, group: click.Group) -> None:
    script = str(group.name)
    text = rendered(manual_pages / f"{script}.8")
    for name, command in group.commands.items():
        assert command.hidden or f"{script} {name}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in text, f"{name} {parameter.opts[0]}"


def test_there_is_one_table_for_each_kind_of_interface(manual_pages: Path) -> None:
    text = rendered(manual_pages / "epaird.toml.5")
    assert "[epair.epairN.a]" in text
    assert "[epair.epair0" not in text.partition("EXAMPLE")[0].partition("TABLES")[2]
