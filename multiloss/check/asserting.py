"""`assert_consistent` and `assert_agrees`, for test suites, and the backends that the pytest plugin selects."""

import atexit
from typing import Any

from multiloss.check.models.record import read
from multiloss.check.models.report import Comparison
from multiloss.check.models.run import compare_training
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


def assert_agrees(build: Any, data: Any, **arguments: Any) -> Comparison:
    """Fail unless a model trains alike on every backend, but for rounding.

        from multiloss.check import assert_agrees

        def test_backends_agree():
            assert_agrees("my_project.py:build", "my_project.py:batches", steps=5)

    Args:
        build: the model, as in `compare_training`.
        data: as in `compare_training`.
        **arguments: as in `compare_training`; the defaults of `backends` and `workers` are those of
            `assert_consistent`.

    Returns:
        The comparison.

    Raises:
        AssertionError: if numbers part, with the comparison as its text.
        ValueError: as in `compare_training`.
    """
    __tracebackhide__ = True
    comparison = compare_training(build, data, **{"backends": backends, "workers": _workers, **arguments})
    if not comparison.ok:
        raise AssertionError(comparison.text(failures=None))
    return comparison


def assert_matches(record: str, build: Any = None, data: Any = None, **arguments: Any) -> Comparison:
    """Fail unless a model still computes what a record says, but for rounding: after an upgrade, or elsewhere.

        from multiloss.check import assert_matches

        def test_numbers_are_those_of_last_year():
            assert_matches("tests/reference.npz")

    Args:
        record: the path of a record, which `multiloss compare --record` writes.
        build: the model, as in `compare_training`; None for the one that the record names.
        data: as in `compare_training`; None for those that the record names.
        **arguments: as in `assert_agrees`.

    Returns:
        The comparison.

    Raises:
        AssertionError: if numbers part, with the comparison as its text.
        ValueError: as in `compare_training`.
    """
    __tracebackhide__ = True
    kept = read(record)
    build, data = build or kept.build, data or kept.data
    return assert_agrees(build, data, against=record, **arguments)
