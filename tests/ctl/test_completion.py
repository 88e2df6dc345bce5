"""Completion in a shell, with the daemon's names, without delay or errors."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.ctl.epairctl import EPAIRCTL, Cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: Cli, shell: str) -> None:
    script = cli.output("completion", shell)
    assert "_EPAIRCTL_COMPLETE" in script


def _completed(cli: Cli, *words: str) -> list[str]:
    cli.environment |= {
        "_EPAIRCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("epairctl", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = cli.run()
    assert done.stderr == ""
    return [line.split(",", 1)[1] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sh"], ["show"]),
        (["show", "ep"], ["epair0", "epair0a", "epair0b"]),
        (["destroy", "epair0", "l"], ["lo1"]),
        (["patch", "epair0a", "epair0b"], ["epair0b"]),
        (["create", "e"], ["epair"]),
        (["list", "l"], ["lo"]),
        (["list", "-n", ""], ["-"]),
        (["stats", "--sort", "r"], ["rate"]),
        (["set", "epair0a", "m"], ["mtu="]),
        (["impair", "epair0a", "de"], ["delay"]),
        (["impair", "epair0a", "o"], ["off"]),
        (["impair", "epair0a", "delay", "1ms", "f"], ["for"]),
        (["impair", "epair0a", "distribution", "pareto"], ["pareto", "paretonormal"]),
        (["impair", "epair0a", "preset", "geo"], ["geo", "geo-edge"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_words_complete(pair: Cli, words: list[str], found: list[str]) -> None:
    assert _completed(pair, *words) == found


def test_without_a_daemon_nothing_completes_silently(cli: Cli) -> None:
    cli.environment["EPAIRD_SOCKET"] = "/nowhere"
    assert _completed(cli, "show", "ep") == []


def test_a_daemon_that_hangs_does_not_hang_the_shell(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        cli.environment["EPAIRD_SOCKET"] = str(path)
        assert _completed(cli, "show", "ep") == []


def test_bash_itself_completes(pair: Cli) -> None:
    program = (
        f'PATH={Path(EPAIRCTL).parent}:$PATH; eval "$(epairctl completion bash)"; '
        "COMP_WORDS=(epairctl show epair0); COMP_CWORD=2; _epairctl_completion epairctl; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", program], env=pair.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "epair0 epair0a epair0b\n"
