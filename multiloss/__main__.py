"""`python -m multiloss`, the same as the command `multiloss`."""

import sys

from multiloss.check.cli import main

sys.exit(main())
