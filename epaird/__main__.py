"""Entry point of ``python -m epaird``, which is the command ``epaird``."""

import sys

from epaird.cli import main

if __name__ == "__main__":
    sys.exit(main())
