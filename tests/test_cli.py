from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird import __version__, cli
from epaird.config.settings import Configuration
from epaird.control.reloading.inforce import Source

SAMPLE = Path(__file__).parent.parent / "config" / "epaird.toml"


@pytest.fixture(autouse=True)
def signal_mask() -> Iterator[None]:
    """Restore the signal mask that ``run`` changes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.toml"
    file.write_text("[daemon]\nqueue_limit = 0\n[epair.epair0.a]\nmtu = 70000\n")
    return file


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """The configurations that a fake daemon was started with, which ends at once with status 7."""
    configurations: list[Configuration] = []

    def run(configuration: Configuration, source: Source) -> int:
        assert len(source.sha256) == 64
        assert source.path.is_absolute()
        configurations.append(configuration)
        return 7

    daemon = types.ModuleType("epaird.control.running")
    monkeypatch.setattr(daemon, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "epaird.control.running", daemon)
    return configurations


def test_check_of_a_good_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(SAMPLE)]) == 0
    assert capfd.readouterr() == (f"{SAMPLE}: ok, 1 pair\n", "")


def test_check_counts_pairs_and_adds_remarks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "down.toml"
    file.write_text(
        '[epair.epair1]\n[epair.epair0.a]\nup = false\naddresses = ["10.0.0.1/24"]\n'
        'routes = [{ to = "default", via = "10.0.0.2" }]\n'
    )
    assert cli.main(["check", str(file)]) == 0
    ok, remark = capfd.readouterr().out.splitlines()
    assert ok == f"{file}: ok, 2 pairs"
    assert remark.startswith("note: epair.epair0.a.routes: not installed while up = false")


def test_check_finds_a_namespace_of_any_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / os.fsdecode(b"r\xff\x1b")).touch()
    file = tmp_path / "epaird.toml"
    file.write_text(f"[epair.epair0.a]\nnetns = '{tmp_path}/r\\xff\\x1b'\n")
    assert cli.main(["check", str(file)]) == 1
    out, err = capfd.readouterr()
    assert (out, err) == (
        "", f"epair.epair0.a.netns: {tmp_path}/r\\xff\\x1b: is not a network namespace\n",
    )  # fmt: skip


@pytest.mark.parametrize("command", [["check"], ["run", "--config"]])
def test_every_problem_is_a_line_on_stderr(
    command: list[str], broken: Path, started: list[Configuration], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, str(broken)]) == 1
    assert capfd.readouterr() == (
        "",
        "daemon.queue_limit: 0 is less than 1, the least allowed\n"
        "epair.epair0.a.mtu: 70000 is more than a TAP's 65521\n",
    )
    assert not started


def test_run_starts_the_daemon_and_returns_its_status(started: list[Configuration]) -> None:
    assert cli.main(["run", "--config", str(SAMPLE)]) == 7
    (configuration,) = started
    assert list(configuration.epair) == ["epair0"]


def test_run_without_config_reads_the_system_wide_file(
    monkeypatch: pytest.MonkeyPatch, started: list[Configuration], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--help"]) == 0
    assert "[default: /etc/epaird/epaird.toml]" in " ".join(capfd.readouterr().out.split())


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capfd.readouterr().out == f"epaird {__version__}\n"


def test_without_a_command_it_prints_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("Usage: epaird ")
    assert "check" in out
    assert "run" in out
    assert not err


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["check"], 2, "epaird: Missing argument 'FILE'."),
        (["check", "a", "b"], 2, "epaird: Got unexpected extra argument (b)"),
        (["chekc"], 2, "epaird: No such command 'chekc'."),
        (["run", "--confg", "x"], 2, "epaird: No such option"),
        (["run", "--config"], 2, "epaird: Option '--config' requires an argument."),
        (["check", "/nowhere/epaird.toml"], 1, "/nowhere/epaird.toml: no such file or directory"),
        (["check", "/"], 1, "/: is a directory"),
        (["check", "a\nb"], 1, '"a\\nb": no such file or directory'),
        (["check", "\udcff"], 1, '"\\udcff": no such file or directory'),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], status: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == status
    out, err = capfd.readouterr()
    assert not out
    assert err.startswith(line)
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1


def test_an_interrupt_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, started: list[Configuration], capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(configuration: Configuration, source: Source) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["epaird.control.running"], "run", interrupted)
    assert cli.main(["run", "--config", str(SAMPLE)]) == 130
    assert capfd.readouterr().err.strip() == ""


def test_check_imports_nothing_of_the_daemon() -> None:
    program = (
        "import sys; from epaird import cli; cli.main(['check', sys.argv[1]]);"
        "print(*{'uvloop', 'asyncio', 'pyroute2', 'pytun', 'starlette', 'uvicorn', 'prometheus_client',"
        " 'rich', 'epaird.bench'}"
        " & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SAMPLE)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{SAMPLE}: ok, 1 pair\n\n"


def test_check_reads_traces_from_the_directory_of_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('[epair.epair0.a.impair]\ntrace = "lte.up"\nlimit = "64kb"\n')
    assert cli.main(["check", str(file)]) == 1
    line = f"epair.epair0.a.impair.trace: {tmp_path}/lte.up: no such file or directory"
    assert line in capfd.readouterr().err
    (tmp_path / "lte.up").write_text("1\nsecret\n")
    assert cli.main(["check", str(file)]) == 1
    line = f"epair.epair0.a.impair.trace: {tmp_path}/lte.up: line 2: not a whole number of milliseconds\n"
    assert capfd.readouterr().err.endswith(line)
    (tmp_path / "lte.up").write_text("1\n2\n")
    assert cli.main(["check", str(file)]) == 0
