"""`python -m adcopilot.cli`, as `python -m adcopilot`."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
