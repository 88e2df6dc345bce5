"""Measurements of the figures in docs/performance.md that ``make bench`` does not give.

Each module measures one table, as root on a machine that does nothing else, and prints it:

    python -m tests.figures.looking          what poll_spin_us buys, and what it costs
    python -m tests.figures.steps            what a frame costs, step by step
    python -m tests.figures.pythons PYTHON...    which Python forwards fastest
    python -m tests.figures.scrapes          what scraping does to the round trip
    python -m tests.figures.flows            what joining saves of several flows
    python -m tests.figures.queues           two flows over one queue, and over two

What is compared is measured in turn, in several rounds, and given as medians.  No test runs them."""
