"""Check any Keras loss or metric against an oracle, on every backend.

`check_loss` returns a `Report`, `assert_consistent` is its form for tests, and `multiloss check` is the command. So are
`compare_training`, `assert_agrees` and `multiloss compare` for the training of whole models.
Importing this package imports neither Keras nor a backend: each backend runs in its own process.
"""

from multiloss.check.asserting import assert_agrees, assert_consistent, assert_matches
from multiloss.check.checks import CHECKS
from multiloss.check.checks.metrics import METRIC_CHECKS
from multiloss.check.families import FAMILIES
from multiloss.check.job import CheckError
from multiloss.check.models.report import Comparison
from multiloss.check.models.run import compare_training
from multiloss.check.pool import Workers
from multiloss.check.report import Cell, Report
from multiloss.check.run import check_loss
from multiloss.check.targets import TargetError

__all__ = [
    "CHECKS",
    "FAMILIES",
    "METRIC_CHECKS",
    "Cell",
    "CheckError",
    "Comparison",
    "Report",
    "TargetError",
    "Workers",
    "assert_agrees",
    "assert_consistent",
    "assert_matches",
    "check_loss",
    "compare_training",
]
