from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_python_m_epaird(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[daemon]\nqueue_limit = 0\n[epair.epair0.a]\nmtu = 70000\n")
    done = subprocess.run(
        [sys.executable, "-m", "epaird", "check", str(broken)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert done.stdout == ""
