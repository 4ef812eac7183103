"""`check_loss`: sends requests to the workers and reports on their replies."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multiloss import _backends
from multiloss.check import devices, loss_record, pool, recorded
from multiloss.check.checks import CHECKS
from multiloss.check.checks.base import FORWARD_ONLY
from multiloss.check.checks.metrics import METRIC_CHECKS
from multiloss.check.checks.recorded import Recorded
from multiloss.check.job import CheckError, Job
from multiloss.check.metric_job import MetricJob
from multiloss.check.pool import Workers
from multiloss.check.report import KINDS, Cell, Report, read_known
from multiloss.check.targets import resolve, text_of


def check_loss(
    target: Any,
    oracle: Any = None,
    *,
    inputs: str | Callable[[int], Any] | None = None,
    backends: Sequence[str] | Mapping[str, str | None] | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    known: str | Path | None = None,
    fail_on: Sequence[str] = KINDS,
    timeout: float = pool.TIMEOUT,
    memory: float = pool.MEMORY,
    search: int = 0,
    metric: bool = False,
    device: str | None = None,
    precision: str | None = None,
    record: str | Path | None = None,
    against: str | Path | None = None,
    workers: Workers | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Check a Keras loss or metric against an oracle, and for consistency, on every backend.

    Each backend runs in its own process. With an oracle, values are compared with its values and gradients with its
    numerical derivatives, in float64. Without one, they are compared with the loss's own values in float64, and between
    backends.

    A plain function is called as `compile` calls it, with tensors cast to floatx, unless it has the attribute
    `exact_labels = True`. A loss whose gradient is not that of its values on purpose has the attribute
    `straight_through = True`: its gradient is finite and the same on all backends, or it fails.

    A `keras.metrics.Metric` has checks of its own, `METRIC_CHECKS`: among others, that one update with all rows gives
    what updates with any batches of them give. A metric that depends on the division into batches on purpose, as one
    of pairs within a batch, has the attribute `batch_dependent = True`.

    Args:
        target: the loss or metric: a string as in `multiloss check` (`module:attribute` or `path.py:attribute`, and a
            call if there are arguments), or a function, a class or an instance that another process can import.
        oracle: None, or a NumPy function of the same two arguments, given in the same way. It returns values of the
            same shape, or a scalar, which is compared with the reduced loss. That of a metric takes all rows and
            returns the numbers of its result, an array or a dict with sorted keys; it may take weights as a third.
        inputs: a family of `multiloss.check.FAMILIES`; shapes, as in "y: int[B] in 0..3, x: prob[B, 4]" (see
            `multiloss.check.spec`); the path of an `.npz` file; or a function of a seed (or its string) that returns
            `{name: (y_true, y_pred)}`, arrays or dicts, tuples and lists of them. None chooses by the target's name.
        backends: names, or a mapping of names to Python interpreters; None for all backends installed here.
        seed: seed of the random inputs.
        checks: the checks to run, from `CHECKS`, or `METRIC_CHECKS` for a metric; None for all.
        skip: checks not to run.
        known: a file of known failures, see `multiloss.check.report.read_known`.
        fail_on: the kinds of failures that make the report fail, from `multiloss.check.report.KINDS`.
        timeout: seconds until a request to a worker is given up.
        memory: GiB that one request may take beyond what its worker had before.
        search: how many more random cases to draw for values and gradients, from the family or from seeds of the
            function of inputs. The smallest failing case is shown. Needs hypothesis; not for metrics.
        metric: whether a plain function is one for `compile(metrics=...)`, which takes the mean of its values. What is
            a `keras.metrics.Metric` is recognised without.
        device: "cpu", "gpu" or "tpu"; a backend that has none is told as one that did not run. None for what each
            framework takes by itself.
        precision: "float32" for products of float32 as such on accelerators, "tf32" for those in TF32, with tolerances
            of 16 roundings of TF32; None for what each framework does by itself.
        record: an `.npz` file to write: batches, and the values and gradients of each backend, as numbers and text.
        against: a record, with which a row `recorded` compares on its own batches: of another machine, device or
            version. See `assert_matches`.
        workers: worker processes to use and leave running; None for new ones.
        progress: called with the backend, the number of completed requests, and their total.

    Returns:
        A `Report`.

    Raises:
        CheckError, TargetError: both are ValueErrors: if a target, oracle, input or backend is not available, takes
            other arguments, or if the oracle cannot be called with them.
        OSError: if the file of known failures cannot be read.

    Examples:
        >>> from multiloss.check import check_loss
        >>> report = check_loss("keras.losses:MeanSquaredError", backends=["jax"])  # doctest: +SKIP
        >>> report.ok  # doctest: +SKIP
        True
    """
    began = time.perf_counter()
    if search < 0:
        raise CheckError(f"`search` must be an integer >= 0. Received: {search}")
    if not (timeout > 0 and math.isfinite(timeout)):
        raise CheckError(f"`timeout` must be a finite number of seconds > 0. Received: {timeout}")
    if not memory > 0:
        raise CheckError(f"`memory` must be a number of GiB > 0. Received: {memory}")
    if unknown := [kind for kind in fail_on if kind not in KINDS]:
        raise CheckError(f"`fail_on` must be among {', '.join(KINDS)}. Received: {unknown[0]!r}")
    for argument, names in (("checks", checks or ()), ("skip", skip)):
        known_here = (*CHECKS, *METRIC_CHECKS, *(() if against is None else (Recorded.name,)))
        if unknown := [check for check in names if check not in known_here]:
            raise CheckError(f"`{argument}` must be among {', '.join(CHECKS)}. Received: {unknown[0]!r}")
    expected = read_known(known) if known is not None else None
    target_text, oracle_text = text_of(target), None if oracle is None else text_of(oracle)
    function = None if oracle is None else (resolve(oracle) if isinstance(oracle, str) else oracle)
    if function is not None and not callable(function):
        raise CheckError(f"`oracle` must be callable. Received: {oracle_text}")
    settings = devices.settings(device, precision, devices.PRODUCTS)
    if record is not None:
        recorded.check(record)
    old = None if against is None else loss_record.read(against)
    pythons, missing, unchecked = chosen(backends)
    if expected is not None:
        some = METRIC_CHECKS if metric else dict.fromkeys((*CHECKS, *METRIC_CHECKS))
        asked = [check for check in some if check not in skip and (checks is None or check in ("runs", *checks))]
        asked += ["search"] * bool(search) + [Recorded.name] * (against is not None)
        cells = [Cell(check, backend, "not checked") for check in asked for backend in (*pythons, *missing)]
        Report(target_text, oracle_text, "", seed, "", {}, tuple(cells), {}, 0.0).with_known(expected)  # raise early
    with contextlib.ExitStack() as stack:
        kept = workers or stack.enter_context(Workers())
        mine = {backend: kept.get(backend, python, timeout, memory, settings) for backend, python in pythons.items()}
        asked_for: Any = (target_text, oracle_text, function, inputs, seed, (checks, skip), mine, progress, search)
        job = (MetricJob if metric else Job)(*asked_for)
        described, cells = job.describe()
        if any(description["metric"] for description in described.values()) and not metric:
            job = MetricJob(*asked_for)
            described, cells = job.describe()
        if isinstance(job, MetricJob) and (record is not None or old is not None):
            raise CheckError(f"`{'record' if old is None else 'against'}` must be of a loss. Received: a metric")
        job.record, job.recording = old, record is not None
        cells = [
            *[not_installed(backend) for backend in missing],
            *cells,
            *(job.cells(described) if described else []),
        ]
    if record is not None and not (described and loss_record.write(record, job.run, job.inputs_text)):
        raise CheckError(f"`record` {record} was not written: the loss has no value on any backend")
    report = Report(
        target=f"{target_text} ({job.what})" if job.what else target_text,
        oracle=oracle_text,
        inputs=job.inputs_text,
        seed=seed,
        compared=job.compared + ("" if old is None else f"; in the row `recorded`, with {old.path}"),
        versions=job.versions,
        cells=tuple(cells),
        unchecked=unchecked,
        notes=tuple(job.notes),
        seconds=time.perf_counter() - began,
        fail_on=tuple(fail_on),
        recorded="" if record is None else str(record),
    )
    return report if expected is None else report.with_known(expected)


def chosen(
    given: Sequence[str] | Mapping[str, str | None] | None,
) -> tuple[dict[str, str | None], list[str], dict[str, str]]:
    """Return the backends to run with their interpreters, the missing ones, and the unchecked ones with the reason."""
    if given is None:
        there = [backend for backend in _backends.BACKENDS if _backends.installed(backend)]
        if not there:
            raise CheckError(f"`backends` must be installed. Received: none of {', '.join(_backends.BACKENDS)}")
        away = {b: f"not installed: {_backends.how_to_install(b)}" for b in _backends.BACKENDS if b not in there}
        return dict.fromkeys(there), [], away
    pythons = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    if not pythons:
        raise CheckError("`backends` must name at least one. Received: none")
    for backend, python in pythons.items():
        if backend not in (*_backends.BACKENDS, *FORWARD_ONLY):
            known = ", ".join((*_backends.BACKENDS, *FORWARD_ONLY))
            raise CheckError(f"`backends` must be among {known}. Received: {backend!r}")
        if python is not None and not Path(python).is_file():
            raise CheckError(f"`backends` must map {backend} to an interpreter. Received: {python!r}, not a file")
    missing = [backend for backend, python in pythons.items() if python is None and not _backends.installed(backend)]
    return {b: p for b, p in pythons.items() if b not in missing}, missing, {}


def not_installed(backend: str) -> Cell:
    """Return the cell of a backend that was asked for and is missing."""
    detail = f"{backend} is not installed: {_backends.how_to_install(backend)}"
    return Cell("runs", backend, "fail", detail, kind="crash")
