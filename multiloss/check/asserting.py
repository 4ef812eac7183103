"""`assert_consistent`, for use in test suites, and the backends that the pytest plugin selects."""

import atexit
from typing import Any

from multiloss.check.pool import Workers
from multiloss.check.report import Report
from multiloss.check.run import check_loss

# Set by the pytest plugin; None means all installed backends.
backends: list[str] | None = None
# Shared by all assertions in this process.
_workers = Workers()
atexit.register(_workers.close)


def assert_consistent(loss: Any, oracle: Any = None, **arguments: Any) -> Report:
    """Fail unless a loss passes its checks on every backend.

        from multiloss.check import assert_consistent

        def test_my_loss():
            assert_consistent("my_losses.py:MyLoss", my_oracle, inputs="one-hot")

    Args:
        loss: the target, as in `check_loss`.
        oracle: as in `check_loss`.
        **arguments: as in `check_loss`. The default of `backends` is pytest's option `--multiloss-backends`, or
            `multiloss_backends` in its configuration. Workers are kept for the next assertion.

    Returns:
        The report.

    Raises:
        AssertionError: if a check fails, with the report as its text.
        ValueError, OSError: as in `check_loss`.
    """
    __tracebackhide__ = True
    arguments = {"backends": backends, "workers": _workers, **arguments}
    report = check_loss(loss, oracle, **arguments)
    if not report.ok:
        raise AssertionError(report.text(failures=None))  # pytest's summary shows the first line: the verdict
    return report
