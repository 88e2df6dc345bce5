"""The command that impairs what an interface transmits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from epaird.client.client import DaemonError
from epaird.ctl import completion, show
from epaird.ctl.context import JSON, Context, form_options
from epaird.names.grammar import quoted

if TYPE_CHECKING:
    from epaird.client.impairment import PairImpairment

_LOG_MOST: Final = 65536
"""Decisions that are printed at most."""
_FILE_MAX: Final = 16 << 20
"""Characters of the largest file of decisions."""
_OTHER_WORDS: Final = ("del", "delete", "remove", "clear", "reset", "stop", "none")
"""Words that people type for ``off``."""
_HITS: Final = ("loss", "duplicate", "corrupt", "reorder")
"""Keys that hit segments."""
_TABLE: Final = re.compile(r"\bepair\.epair[0-9]+\.(?:[ab]\.)?impair\.")
"""Table of the configuration before a key in an error of the daemon."""
_DECISION: Final = re.compile(r"([0-9]{1,20})[ \t]+([a-z_]+)")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", shell_complete=completion.names)
@click.argument(
    "words", nargs=-1, metavar="[[for TIME] KEY VALUE... | off | log [COUNT] | replay FILE]",
    shell_complete=completion.impairments,
)  # fmt: skip
@form_options(*JSON)
@click.pass_obj
def impair(context: Context, name: str, words: tuple[str, ...]) -> None:
    """Make a link as bad as needed: delay, loss, rate and more.

    NAME is a half, for what it transmits, or a pair, for both directions. NAME alone shows what was asked
    for and what was delivered.

    \b
    epairctl impair epair0 delay 100ms loss 1%
    epairctl impair epair0a rate=10mbit limit=64kb
    epairctl impair epair0 for 30s loss 100%
    epairctl impair epair0 off

    Keys and values are those of the table impair of the configuration, and the words that tc netem has:
    delay 100ms 10ms 25% distribution normal. Keys that are not named stay, and none removes one: jitter
    none. After the TIME of for, the former impairment applies again, even if this command
    has ended.

    log prints the last decisions about what a half transmits, all that are kept or COUNT: the number of the
    segment and what happened to it. replay repeats those in FILE (- is standard input) in place of random
    ones, from the next segment on, which has the number 0, until the impairment is changed."""
    rest, duration = _without_for(words)
    if not rest and duration is None:
        _show(context, name)
    elif rest[:1] == ["log"] and duration is None:
        _log(context, name, rest[1:])
    elif rest[:1] == ["replay"] and duration is None:
        _replay(context, name, rest[1:])
    else:
        _change(context, name, rest, duration)


def _without_for(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the words without ``for`` and its time, and this time."""
    rest, duration = [*words], None
    for index, word in enumerate(words):
        if word == "for" or word.startswith("for="):
            if duration is not None:
                raise click.UsageError("for is given twice")
            following = words[index + 1 : index + 2] if word == "for" else (word.removeprefix("for="),)
            if not following or not following[0][:1].isdigit():
                raise click.UsageError("for needs a time after it, as in: for 30s")
            duration = following[0]
            del rest[index : index + (2 if word == "for" else 1)]
    if duration is not None and not rest:
        raise click.UsageError(f"for {duration} needs keys, or off: for {duration} loss 100%")
    return rest, duration


def _show(context: Context, name: str) -> None:
    if context.form.json:
        context.write_json(context.daemon.ask("GET", "interfaces", name, "impairment"))
        return
    from epaird.ctl import lines

    show.write(lines.shown(context.daemon.impairment(name)))


def _change(context: Context, name: str, words: Sequence[str], duration: str | None) -> None:
    remarks: list[str] = []
    if words[0] == "off":
        if len(words) > 1:
            raise click.UsageError(f"off removes all keys, nothing may follow it: {quoted(words[1])}")
        found = context.daemon.stop_impairing(name, duration=duration)
    else:
        before = context.daemon.impairment(name)
        patch, differences = _patch(words, before)
        try:
            found = context.daemon.impair(name, patch, duration=duration)
        except DaemonError as error:
            raise DaemonError(_TABLE.sub("", str(error))) from None
        removed = [key for key, value in patch.items() if value is None]
        remarks = [*differences, *_kept(found, removed), *_surprises(before, found)]
    if context.form.json:
        context.write_json(asdict(found))
        return
    from epaird.ctl import lines

    show.write("\n".join([lines.answer(found), *(f"note: {each}" for each in remarks)]))


def _patch(words: Sequence[str], present: PairImpairment) -> tuple[dict[str, Any], list[str]]:
    """Return the keys that words set, and remarks: what differs from netem, unless it applied before."""
    from epaird.impairment.netem import MICROSECONDS, NO_QUEUE, PER_SEGMENT, NotAnImpairment
    from epaird.impairment.words import translated

    if words[0] in _OTHER_WORDS:
        raise click.UsageError(f"{quoted(words[0])} is not a key, did you mean off?")
    if re.match(r"[ab]\.", words[0]):
        device = next((each.device for each in present.directions if each.device[-1] == words[0][0]), "")
        if device:
            raise click.UsageError(
                f"{quoted(words[0])} is not a key: name the half, epairctl impair {device} ..."
            )
    keys = {key: value for each in reversed(present.directions) for key, value in each.impairment.items()}
    try:
        found = translated(words, keys)
    except NotAnImpairment as error:
        raise click.UsageError(str(error)) from None
    fresh = any(value is not None and key not in keys for key, value in found.patch.items())
    always = (MICROSECONDS, NO_QUEUE)  # about what was typed, not about what a key means
    remarks = [each for each in found.differences if fresh or each in always]
    if PER_SEGMENT in remarks and not keys.keys().isdisjoint(_HITS):
        remarks.remove(PER_SEGMENT)
    if found.patch.get("preset") and keys and not any(each.preset for each in present.directions):
        remarks.append("keys that were set before take precedence over those of the set; off removes them")
    return found.patch, remarks


def _kept(found: PairImpairment, removed: Sequence[str]) -> list[str]:
    """Return remarks about keys that were removed and still apply."""
    return [
        f"{each.device}: {key} {each.impairment[key]} is that of the set {each.preset}: give a value of 0, "
        "or remove the set: preset none"
        for each in found.directions
        for key in removed
        if key in each.impairment and each.preset
    ]


def _surprises(before: PairImpairment, after: PairImpairment) -> list[str]:
    """Return remarks about combinations of keys that may surprise, unless they applied before."""
    from epaird.impairment.rules import notes

    known = {note for each in before.directions for note in notes(each.impairment)}
    found = dict.fromkeys(note for each in after.directions for note in notes(each.impairment))
    return [f"{key}: {message}" for key, message in found if (key, message) not in known]


def _log(context: Context, name: str, words: Sequence[str]) -> None:
    count = _LOG_MOST
    if words:
        if len(words) > 1 or not re.fullmatch(r"[1-9][0-9]{0,8}", words[0]):
            raise click.UsageError("log takes a number of decisions, or nothing: log 20")
        count = min(count, int(words[0]))
    found = context.daemon.decisions(name, count)
    if context.form.json:
        context.write_json(found)
    elif found:
        show.write("\n".join(f"{each['segment']} {each['decision']}" for each in found))


def _replay(context: Context, name: str, words: Sequence[str]) -> None:
    if len(words) != 1:
        raise click.UsageError("replay takes a file of decisions, or - for standard input")
    path = words[0]
    try:
        with click.open_file(path) as file:
            text = file.read(_FILE_MAX + 1)
    except (OSError, ValueError) as error:
        from epaird.config.syntax import lowered

        reason = lowered(error.strerror or str(error)) if isinstance(error, OSError) else "is not text"
        raise click.UsageError(f"{path}: {reason}") from None
    if len(text) > _FILE_MAX:
        raise click.UsageError(f"{path}: has more than {_FILE_MAX} characters")
    decisions = _decisions(path, text)
    context.daemon.replay(name, decisions)
    if not context.form.json:
        show.write(f"{name}: {len(decisions)} decisions are repeated, from the next segment on")


def _decisions(path: str, text: str) -> list[dict[str, Any]]:
    """Return the decisions of a file: those that ``log`` prints, also as JSON."""
    from epaird.ipc.impairment import FATES

    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise click.UsageError(f"{path}: is not JSON as log -j prints it") from None
        return list(found)
    result: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        match = _DECISION.fullmatch(words)
        if match is not None:
            if match[2] not in FATES:
                known = ", ".join(FATES)
                raise click.UsageError(
                    f"{path}: line {number}: {quoted(match[2])} is not a decision: they are {known}"
                )
            result.append({"segment": int(match[1]), "decision": match[2]})
        elif words:
            raise click.UsageError(f"{path}: line {number} is not a decision, as in: 17 loss")
    return result
