"""What backends computed of a loss, in a file, for a check on another machine, with other versions, or later."""

from pathlib import Path
from typing import Any, NamedTuple

from multiloss.check import recorded
from multiloss.check.checks.base import Run
from multiloss.check.inputs import Case
from multiloss.check.slopes import Slopes, Truth

KIND = "loss"


class Record(NamedTuple):
    """A record that was read.

    Attributes:
        path: of the file.
        target: the loss, as it was named.
        inputs: as they were named.
        seed: of the inputs.
        reduction: of the values, as in `tasks.run`.
        rounding: the relative rounding of the least precise products.
        cases: the batches, without those that are too large for numerical derivatives.
        truths: case -> its truth, by which it is known how far rounding changes values and gradients.
        versions: column, which names the file and the backend -> versions.
        replies: column -> case -> "value" and "gradient".
    """

    path: str
    target: str
    inputs: str
    seed: int
    reduction: str
    rounding: float
    cases: list[Case]
    truths: dict[str, Truth]
    versions: dict[str, str]
    replies: dict[str, dict[str, dict[str, Any]]]


def write(path: str | Path, run: Run, inputs: str) -> bool:
    """Write what a run computed, and return whether there was anything; the path is one that `recorded.check` saw."""
    cases = [case for case in run.cases if case.rows and not case.large]
    replies = {
        backend: {
            case.name: {"value": result["value"], "gradient": result["gradient"]}
            for case in cases
            if (result := run.value_of(backend, case)) is not None
        }
        for backend in run.described
    }
    replies = {backend: some for backend, some in replies.items() if some}
    content = {
        "target": run.target,
        "inputs": inputs,
        "seed": run.seed,
        "reduction": run.reduction,
        "rounding": run.rounding,
        "cases": [dict(case._asdict()) for case in cases],
        "truths": {case.name: _parts(run.truths[case.name]) for case in cases if case.name in run.truths},
        "versions": {backend: run.described[backend]["versions"] for backend in replies},
        "replies": replies,
    }
    if replies:
        recorded.write(path, KIND, content)
    return bool(replies)


def read(path: str | Path) -> Record:
    """Return a record.

    Raises:
        TargetError: as `recorded.read`.
    """
    content = recorded.read(path, KIND)
    try:
        columns = {backend: recorded.column(path, backend) for backend in content["replies"]}
        return Record(
            path=str(path),
            target=content["target"],
            inputs=content["inputs"],
            seed=content["seed"],
            reduction=content["reduction"],
            rounding=content["rounding"],
            cases=[Case(**case) for case in content["cases"]],
            truths={name: _truth(parts) for name, parts in content["truths"].items()},
            versions={columns[backend]: content["versions"][backend] for backend in columns},
            replies={columns[backend]: some for backend, some in content["replies"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise recorded.damaged(path, error) from None


def _parts(truth: Truth) -> dict[str, Any]:
    slopes = None if truth.slopes is None else dict(truth.slopes._asdict())
    return {**truth._asdict(), "slopes": slopes}


def _truth(parts: dict[str, Any]) -> Truth:
    slopes = parts["slopes"]
    return Truth(**{**parts, "slopes": None if slopes is None else Slopes(**slopes)})
