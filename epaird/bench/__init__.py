"""``epaird bench``: a comparison of epaird with veth, the kernel's own cable, on the machine where it runs.

Each round builds both in turn and runs the same jobs over each. The absolute figures drift with the machine
and its other load; the meaningful results are the ratios, which are computed round by round.
"""
