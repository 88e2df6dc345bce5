"""``epaird bench``: the cable measured beside the kernel's own, veth, on the machine it is to run on.

Both are built afresh each round and in turn, and the same jobs are run over each.  The absolute figures
drift with the machine and what else it does; the ratios, taken round by round, are what counts.
"""
