"""Options that commands share."""

from __future__ import annotations

import click
import pytest

from epaird.ctl.context import JSON, LINES, Context, complain, form_options


def test_form_options_set_the_form_before_the_command_and_after_it() -> None:
    seen: list[Context] = []

    @click.group()
    @form_options(*JSON, *LINES)
    def group() -> None:
        """Do nothing."""

    @group.command()
    @form_options(*JSON)
    @click.pass_obj
    def command(context: Context) -> None:
        seen.append(context)

    group(["-o", "command", "-jp"], standalone_mode=False)
    (form,) = (each.form for each in seen)
    assert (form.json, form.pretty, form.oneline, form.brief) == (True, True, True, False)


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("no such thing")
    assert capsys.readouterr() == ("", "epairctl: no such thing\n")
    complain("no \x1b[31m\nthing")
    assert capsys.readouterr() == ("", "epairctl: no \\x1b[31m\\x0athing\n")
