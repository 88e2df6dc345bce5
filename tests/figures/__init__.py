"""Measurements behind the performance figures that ``make bench`` does not give.

Each module measures one table, as root on an otherwise idle machine, and prints it:

    python -m tests.figures.poll_spin            benefit and cost of poll_spin_us
    python -m tests.figures.steps                cost of a frame, step by step
    python -m tests.figures.pythons PYTHON...    forwarding speed of several Pythons
    python -m tests.figures.scrapes              effect of scraping on the round trip
    python -m tests.figures.flows                benefit of coalescing with several flows
    python -m tests.figures.queues               two flows over one queue and over two

The cases are measured in turn over several rounds and given as medians. No test runs them.
"""
