"""`assert_consistent` and `assert_agrees`, for test suites, and the backends that the pytest plugin selects."""

import atexit
from typing import Any

from multiloss.check import loss_record, recorded
from multiloss.check.checks.recorded import Recorded
from multiloss.check.job import CheckError
from multiloss.check.models import record as model_record
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


def assert_matches(record: str, target: Any = None, data: Any = None, **arguments: Any) -> Comparison | Report:
    """Fail unless a loss or model still computes what a record says, but for rounding: after an upgrade, or elsewhere.

        from multiloss.check import assert_matches

        def test_numbers_are_those_of_last_year():
            assert_matches("tests/reference.npz")

    Args:
        record: the path of a record, which `multiloss check --record` or `multiloss compare --record` writes.
        target: the loss, as in `check_loss`, or the model, as in `compare_training`; None for that of the record.
        data: of a model, as in `compare_training`; None for those that the record names.
        **arguments: as in `assert_consistent` or `assert_agrees`.

    Returns:
        The comparison; of a loss, the report of the check `recorded` alone, unless `checks` names more.

    Raises:
        AssertionError: if numbers part, with the comparison as its text.
        ValueError: as in `check_loss` and `compare_training`.
    """
    __tracebackhide__ = True
    if recorded.kind(record) == loss_record.KIND:
        if data is not None:
            raise CheckError(f"`data` must be None for the record of a loss. Received: {data!r}")
        target = loss_record.read(record).target if target is None else target
        return assert_consistent(target, against=record, **{"checks": (Recorded.name,), **arguments})
    kept = model_record.read(record)
    target, data = kept.build if target is None else target, kept.data if data is None else data
    return assert_agrees(target, data, against=record, **arguments)
