"""Generated files are up to date, and the check notices when they are not."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from epaird.ipc.counters import INTERFACE, REASON_HELP, WORKER

ROOT = Path(__file__).parents[2]
GENERATE = ROOT / "deploy" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The generator as a module."""
    spec = importlib.util.spec_from_file_location("generate", GENERATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_argument_is_an_error() -> None:
    done = subprocess.run([sys.executable, GENERATE, "--chekc"], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_the_check_names_files_that_are_missing_or_out_of_date(generate: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / generate.MANUAL
    page.parent.mkdir(parents=True)
    shutil.copy(ROOT / generate.MANUAL, page)
    assert generate.out_of_date(tmp_path) == [generate.METRICS, generate.CLIENT]
    for path, text in generate.generated(tmp_path).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert generate.out_of_date(tmp_path) == []
    page.write_text(page.read_text().replace("``opackets``", "``packets``"))
    assert generate.out_of_date(tmp_path) == [generate.MANUAL]


def test_a_manual_page_without_the_section_is_an_error(generate: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / generate.MANUAL
    page.parent.mkdir(parents=True)
    page.write_text("")
    with pytest.raises(ValueError, match="no section of counters"):
        generate.generated(tmp_path)


def test_the_document_has_every_metric_and_every_reason(generate: ModuleType) -> None:
    text = (ROOT / generate.METRICS).read_text()
    for counter in (*INTERFACE, *WORKER):
        name = counter.metric + ("_total" if counter.type == "counter" else "")
        assert not counter.metric or f"| `{name}` | {counter.type} |" in text
    for reason, meaning in REASON_HELP.items():
        assert f"| `{reason}` | {meaning} |" in text
    assert "| `epaird_interface_mtu_bytes` | gauge | `device` | bytes |" in text
    assert "| `epaird_config_reloads_total` | counter | `result` |" in text
