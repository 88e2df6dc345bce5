"""``python -m epaird`` is ``epaird``."""

import sys

from epaird.cli import main

if __name__ == "__main__":
    sys.exit(main())
