"""``epaird bench``: measurements of cables on the machine where it runs.

The part ``cable`` compares epaird with veth, the kernel's own cable: each round builds both in turn and runs
the same jobs over each. The part ``impairment`` compares a cable with itself, with and without delay and
loss, and measures the errors of delays and rates. The absolute figures drift with the machine and its other
load; the meaningful results are the ratios, which are computed round by round.
"""
