"""`python -m multiloss`, the same as the command `multiloss`."""

import sys

from multiloss.check.cli import main

if __name__ == "__main__":
    sys.exit(main())
