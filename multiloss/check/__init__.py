"""Hold any Keras loss to its oracle, on every backend.

`check_loss` makes a `Report`; `assert_consistent` is the same for a test; `multiloss check` is the command. Importing
this imports neither Keras nor a backend: those run in processes of their own.
"""

from multiloss.check.asserting import assert_consistent
from multiloss.check.inputs import FAMILIES
from multiloss.check.pool import Workers
from multiloss.check.report import Cell, Report
from multiloss.check.run import CHECKS, CheckError, check_loss
from multiloss.check.targets import TargetError

__all__ = [
    "CHECKS",
    "FAMILIES",
    "Cell",
    "CheckError",
    "Report",
    "TargetError",
    "Workers",
    "assert_consistent",
    "check_loss",
]
