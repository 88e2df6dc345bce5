from __future__ import annotations

import io

from rich.console import Console

from epaird.bench.report import notes, print_report
from epaird.bench.results import CableResults, Results
from tests.bench.samples import MACHINE, impaired, results


def printed(measured: Results) -> list[str]:
    text = io.StringIO()
    print_report(measured, Console(file=text, width=80, highlight=False))
    return text.getvalue().splitlines()


def test_every_figure_is_shown_and_nothing_is_truncated() -> None:
    measured = results()
    lines = printed(measured)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for row in measured.rows():
        assert any(line.strip().startswith(row.label) for line in lines), row
    (line,) = (line for line in lines if line.strip().startswith("256 bytes") and "k/s" in line)
    assert line.split() == [
        "256",
        "bytes",
        "300",
        "k/s",
        "450",
        "k/s",
        "1.56",
        "(1.50–1.60)",
        "5.0",
        "%,",
        "5.0",
        "%",
    ]


def test_each_kind_of_comparison_has_its_own_columns() -> None:
    measured = impaired()
    lines = printed(measured)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert sum(line.startswith("median") for line in lines) == 4
    for columns in ("with / without", "delivered / theory", "polling / no polling", "delivered / sent"):
        assert any(columns in line for line in lines)
    assert any(line.split() == ["10mbit", "9.41", "Mbit/s", "9.41", "Mbit/s", "1.000"] for line in lines)
    assert sum(line.startswith("median") and "lost" in line for line in lines) == 2


def test_a_wild_ratio_fits_too() -> None:
    lines = printed(results(((1, 0.001), (1, 1), (1, 1000))))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_the_machine_is_described() -> None:
    assert "A <fast> & quiet CPU, 8 cores, 16.0 GiB" in printed(results())[0]


def test_noise_is_noted() -> None:
    assert not any("noisy" in line for line in notes(results()))
    (line,) = (line for line in notes(results(((1, 1), (1, 2), (1, 4)))) if "noisy" in line)
    assert "64 bytes" in line
    assert "1.00 to 4.00" in line


def test_a_busy_machine_is_noted() -> None:
    measured = results()
    busy = CableResults({**MACHINE, "load": 7.5}, measured.plan, measured.rounds)
    assert any("load 7.5 on 8 cores" in line for line in notes(busy))
    assert not any("load" in line for line in notes(measured))


def test_one_round() -> None:
    assert any(line.startswith("1 round,") for line in notes(results(((1, 1.5),))))
