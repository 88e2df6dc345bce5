"""The effect of scraping on the round trip: a thousand pairs, scraped five times a second.

python -m tests.figures.scrapes [--rounds N] [--pairs N] [--keep FILE]
python -m tests.figures.scrapes --scrape HOST PORT    scrapes until killed, a line of JSON each
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import statistics
import sys
import time
from typing import Final

from tests.figures.round_trips import echo_server, measure_round_trips
from tests.figures.tables import figure_parser, measure_in_turn, medians, merged, print_table
from tests.scenarios.lab import Lab, pair
from tests.scenarios.transfers import BLUE, RED, add_neighbour, ping

EVERY_S: Final = 0.2
RATE: Final = 1000
"""Requests a second."""
SECONDS: Final = 2.0
_CASES: Final = ("without", "scraped", "without again")
"""The same case twice shows the size of mere noise."""


def scrape(host: str, port: int) -> None:
    """Request the page as Prometheus does and print the milliseconds of each scrape."""
    lines = ("GET /metrics HTTP/1.1", f"Host: {host}", "Accept-Encoding: gzip", "Connection: close", "", "")
    request = "\r\n".join(lines).encode()
    due = time.monotonic()
    while True:
        start = time.monotonic()
        with socket.create_connection((host, port)) as connection:
            connection.sendall(request)
            while connection.recv(1 << 20):
                pass
        print(json.dumps(1000 * (time.monotonic() - start)), flush=True)  # noqa: T201
        due += EVERY_S
        time.sleep(max(0.0, due - time.monotonic()))


def measured(rounds: int, pairs: int) -> dict[str, list[tuple[float, ...]]]:
    """Return by case and round the round trip's median and p99 in microseconds and a scrape's
    milliseconds."""
    with Lab() as lab, contextlib.ExitStack() as stack:
        red, blue = (lab.namespace(name, ipv6=False) for name in ("red", "blue"))
        others = "".join(f"[epair.epair{unit}]\n" for unit in range(1, pairs))
        daemon = lab.daemon(pair(ipv6=False) + others)
        stack.callback(lab.finish)
        page = re.search(r"metrics: http://(\S+):(\d+)/", daemon.stderr)
        if page is None:
            raise RuntimeError(f"no page: {daemon!r}")
        ping(red, BLUE)
        add_neighbour(red, blue, BLUE)
        add_neighbour(blue, red, RED)
        stack.enter_context(echo_server(blue, BLUE))

        def measure(case: str) -> tuple[float, ...]:
            took = [0.0]
            if case == "scraped":
                command = (sys.executable, "-m", "tests.figures.scrapes", "--scrape", *page.groups())
                scraper = lab.home.start(*command)
                scraper.wait_for_output(".")
            answers = measure_round_trips(red, BLUE, RATE, SECONDS)
            if case == "scraped":
                took = [float(each) for each in scraper.stdout.split()]
                scraper.kill()
            return answers.median_us, answers.p99_us, statistics.median(took)

        for case in _CASES[:2]:  # a thousand devices that have just come up send frames of their own
            measure(case)
        return measure_in_turn(rounds, _CASES, measure)


def main() -> None:
    """Measure and print the table."""
    parser = figure_parser(__doc__, rounds=5)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--scrape", nargs=2, metavar=("HOST", "PORT"))
    chosen = parser.parse_args()
    if chosen.scrape:
        scrape(chosen.scrape[0], int(chosen.scrape[1]))
    found = merged(chosen.keep, measured(chosen.rounds, chosen.pairs))
    rows = []
    for case, figures in found.items():
        median, p99, scraping = medians(figures)
        ratio = statistics.median(
            each[1] / usual[1] for each, usual in zip(figures, found["without"], strict=True)
        )
        rows.append([case, f"{median:.0f} µs", f"{p99:.0f} µs", f"{ratio:.2f}", f"{scraping:.0f} ms"])
    print_table(["", "median", "p99", "p99, of that without", "a scrape"], rows)


if __name__ == "__main__":
    main()
