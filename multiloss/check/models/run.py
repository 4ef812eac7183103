"""`compare_training`: the same model, weights and batches on every backend, and where the numbers part first."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multiloss.check import devices, pool, recorded
from multiloss.check.job import CheckError
from multiloss.check.models import known
from multiloss.check.models import record as records
from multiloss.check.models.job import Job
from multiloss.check.models.report import Comparison
from multiloss.check.pool import Workers
from multiloss.check.run import chosen, not_installed
from multiloss.check.targets import text_of

MEMORY = 8.0  # GiB that a step of training may take


def compare_training(
    build: Any,
    data: Any,
    *,
    steps: int = 20,
    batch_size: int = 32,
    backends: Sequence[str] | Mapping[str, str | None] | None = None,
    seed: int = 0,
    timeout: float = pool.TIMEOUT,
    memory: float = MEMORY,
    device: str | None = None,
    precision: str | None = None,
    record: str | Path | None = None,
    against: str | Path | None = None,
    workers: Workers | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Train the same model on every backend, and say where its numbers part first, and who is right.

    Weights and the state of the optimizer come from one backend, batches from NumPy: the same for all, in the same
    order. In the order of a training step, these are compared: the outputs of layers, in inference and in training,
    the loss and its parts, metrics, the gradient of each weight, weights after one step, and the loss of each step.
    Rounding is measured: each backend computes everything again from inputs and weights that are moved by a unit in the
    last place. Float64 says who is off. Layers that draw random numbers, as dropout, are called as in inference.

    Args:
        build: a function without arguments that returns a compiled `keras.Model`, or its name as in `multiloss check`:
            "my_project.py:build".
        data: a function of a seed, or its name, that returns (x, y) or (x, y, sample_weight), arrays or dicts of them,
            or a `keras.utils.PyDataset`; or the path of an `.npz` file with the arrays `x`, `y` and `sample_weight`
            (`x.name` for those of a dict).
        steps: steps of training. The batches repeat if there are fewer.
        batch_size: rows of a batch, if `data` gives all rows.
        backends: names, or a mapping of names to Python interpreters; None for all backends installed here.
        seed: passed to `data`.
        timeout: seconds until a request to a worker is given up.
        memory: GiB that one request may take beyond what its worker had before.
        device: "cpu", "gpu" or "tpu"; a backend that has none is told as one that did not run. None for what each
            framework takes by itself.
        precision: "float32" for products of float32 as such on accelerators, "tf32" for those in TF32, "mixed_bfloat16"
            or "mixed_float16" for a policy of Keras that is set before the model is built; None for what each
            framework does by itself. Rounding is measured from numbers that are moved by a unit of this precision.
        record: an `.npz` file to write: weights, batches, and what each backend computed, as numbers and text. With
            it, a single backend will do.
        against: a record, whose backends are compared with those here: of another machine, device or version. Weights,
            batches, `steps`, `batch_size` and `seed` are those of the record; `data` are only compared with it.
        workers: worker processes to use and leave running; None for new ones.
        progress: called with the backend, the number of completed requests, and their total.

    Returns:
        A `Comparison`.

    Raises:
        CheckError, TargetError: both are ValueErrors: if the model cannot be built or called anywhere, if data do not
            fit, or an argument is out of range.

    Examples:
        >>> from multiloss.check import compare_training
        >>> compare_training("my_project.py:build", "my_project.py:batches", steps=5).ok  # doctest: +SKIP
        True
    """
    began = time.perf_counter()
    for name, number in (("steps", steps), ("batch_size", batch_size)):
        if not (isinstance(number, int) and number > 0):
            raise CheckError(f"`{name}` must be an integer > 0. Received: {number!r}")
    for name, limit in (("timeout", timeout), ("memory", memory)):
        if not (limit > 0 and math.isfinite(limit)):
            raise CheckError(f"`{name}` must be a finite number > 0. Received: {limit}")
    build_text, data_text = text_of(build), text_of(data)
    settings = devices.settings(device, precision)
    if record is not None:
        recorded.check(record)
    old = None if against is None else records.read(against)
    if old is not None:
        steps, batch_size, seed = (old.numbers[name] for name in ("steps", "batch_size", "seed"))
    pythons, missing, unchecked = chosen(backends)
    if len(pythons) + len(missing) < 2 and record is None and old is None:
        raise CheckError(
            f"`backends` must be two or more, to be compared. Received: {', '.join(pythons) or missing[0]}"
        )
    with contextlib.ExitStack() as stack:
        kept = workers or stack.enter_context(Workers())
        mine = {backend: kept.get(backend, python, timeout, memory, settings) for backend, python in pythons.items()}
        job = Job(build_text, data_text, seed, batch_size, steps, mine, progress, old)
        job.run()
    if record is not None:
        if not job.replies:
            raise CheckError(f"`record` {record} was not written: no backend has run")
        numbers = {"steps": steps, "batch_size": batch_size, "seed": seed}
        versions = {backend: job.versions[backend] for backend in job.replies}
        records.write(record, build_text, data_text, numbers, job.source, versions, job.replies)
    return Comparison(
        build=build_text,
        data=data_text,
        seed=seed,
        steps=steps,
        versions=job.versions,
        cells=(*map(not_installed, missing), *known.recognised(job.cells.values(), job.facts)),
        curves=job.curves,
        rounding=job.unit,
        notes=tuple(job.notes),
        unchecked=unchecked,
        recorded="" if record is None else str(record),
        seconds=time.perf_counter() - began,
    )
