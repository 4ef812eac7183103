"""Whether a loss computes what a record of it says: of another machine, of other versions, or of another day."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, flat, has_gradient
from multiloss.check.checks.values import gradient_tolerance
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.loss_record import Record


class Recorded(Check):
    """Values and gradients are those of a record, for the batches in it, but for rounding."""

    name = "recorded"

    def __init__(self, record: Record):
        self.record = record

    def _share(self, run: Run, of: float) -> float:
        """Return a tolerance relative to the size, for the less precise of then and now."""
        return compare.relative(max(run.rounding, self.record.rounding), of)

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        options = {"reduction": self.record.reduction, "gradient": has_gradient(backend)}
        return {case.name: run.request(case, **options) for case in self.record.cases}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        record = self.record
        for column, results in record.replies.items():
            values = [result["value"] for result in results.values()]
            gradients = [flat(result["gradient"]) for result in results.values() if result["gradient"] is not None]
            for case in record.cases:
                if case.name not in results:  # it raised then
                    continue
                name = case.name if len(record.replies) == 1 else f"{case.name}, {column}"
                with found.at(name, case):
                    got, wanted = replies[backend][case.name], results[case.name]
                    what, off = "value", self._of_values(run, case, got["value"], wanted["value"], _typical(values))
                    both = got["gradient"] is not None and wanted["gradient"] is not None
                    if off.ratio <= 1 and both:
                        some = flat(got["gradient"]), flat(wanted["gradient"])
                        other = self._of_gradients(run, case, *some, _typical(gradients))
                        what, off = max((what, off), ("gradient", other), key=lambda one: one[1].ratio)
                    shapes = "" if what == "gradient" else _shapes(got["value"], wanted["value"])
                    by = f"that of {column} ({record.versions[column]})"
                    found.add(name, off, f"{what}{shapes} differs from {by}", batch=case)

    def _of_values(self, run: Run, case: Case, got: Any, wanted: Any, typical: float) -> Difference:
        tolerance = self._share(run, compare.VALUE) * max(compare.largest(wanted), typical)
        truth = self.record.truths.get(case.name)
        if truth is not None and truth.value.shape == np.shape(wanted):
            tolerance = tolerance + np.nan_to_num(truth.moved)
        return compare.difference(got, wanted, tolerance)

    def _of_gradients(self, run: Run, case: Case, got: Any, wanted: Any, typical: float) -> Difference:
        share = self._share(run, compare.GRADIENT)
        tolerance: Any = share * max(compare.largest(wanted), typical, 1e-30)
        truth = self.record.truths.get(case.name)
        if truth is not None and truth.slopes is not None and got.size == wanted.size:
            slopes = truth.slopes
            tolerance = np.maximum(tolerance, gradient_tolerance(case, truth, share, typical))
            # At a kink, or where slopes are not known, another gradient may be as right.
            kink = (slopes.upper - slopes.lower > tolerance) & (slopes.off(got) <= tolerance)
            free = kink | slopes.open | ~np.isfinite(slopes.error)
            wanted = np.where(free & np.isfinite(got) & np.isfinite(wanted), got, wanted)
        return compare.difference(got, wanted, tolerance)


def _typical(arrays: list[Any]) -> float:
    """Return the median of the largest numbers."""
    return float(np.median([compare.largest(array) for array in arrays])) if arrays else 1.0


def _shapes(got: Any, wanted: Any) -> str:
    if np.shape(got) == np.shape(wanted):
        return ""
    return f" of shape {list(np.shape(got))}, where {list(np.shape(wanted))} is expected,"
