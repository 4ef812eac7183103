"""Whether a loss computes what a record of it says: of another machine, of other versions, or of another day."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, flat, has_gradient
from multiloss.check.checks.values import gradient_tolerance
from multiloss.check.inputs import Case
from multiloss.check.loss_record import Record


class Recorded(Check):
    """Values and gradients are those of a record, for the batches in it, but for rounding."""

    name = "recorded"

    def __init__(self, record: Record):
        self.record = record

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        options = {"reduction": self.record.reduction, "gradient": has_gradient(backend)}
        return {case.name: run.request(case, **options) for case in self.record.cases}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        record = self.record
        for column, results in record.replies.items():
            sizes = {what: self._typical(results, what) for what in ("value", "gradient")}
            by = f"that of {column} ({record.versions[column]})"
            for case in record.cases:
                if case.name not in results:  # it raised, too
                    continue
                name = case.name if len(record.replies) == 1 else f"{case.name}, {column}"
                with found.at(name, case):
                    got, wanted = replies[backend][case.name], results[case.name]
                    same = self._value(run, case, got["value"], wanted["value"], sizes["value"], name, by, found)
                    if same and got["gradient"] is not None and wanted["gradient"] is not None:
                        some = flat(got["gradient"]), flat(wanted["gradient"])
                        self._gradient(run, case, *some, sizes["gradient"], name, by, found)

    @staticmethod
    def _typical(results: Mapping[str, Any], what: str) -> float:
        arrays = [result[what] for result in results.values() if result[what] is not None]
        sizes = [compare.largest(flat(array) if what == "gradient" else array) for array in arrays]
        return float(np.median(sizes)) if sizes else 1.0

    def _value(
        self, run: Run, case: Case, got: Any, wanted: Any, typical: float, name: str, by: str, found: Findings
    ) -> bool:
        """Judge a value, and return whether it is the same."""
        if np.shape(got) != np.shape(wanted):
            shapes = f"value of shape {list(np.shape(got))}, expected {list(np.shape(wanted))}"
            found.fail(name, f"{shapes}: it differs from {by}", batch=case)
            return False
        tolerance = run.value_share * max(compare.largest(wanted), typical)
        if (truth := self.record.truths.get(case.name)) is not None and truth.value.shape == np.shape(wanted):
            tolerance = tolerance + np.nan_to_num(truth.moved)
        off = compare.difference(got, wanted, tolerance)
        found.add(name, off, f"value differs from {by}", batch=case)
        return off.ratio <= 1

    def _gradient(
        self, run: Run, case: Case, got: Any, wanted: Any, typical: float, name: str, by: str, found: Findings
    ) -> None:
        if got.size != wanted.size:
            found.fail(name, f"gradient of {got.size} numbers, expected {wanted.size}: it differs from {by}")
            return
        tolerance: Any = run.gradient_share * max(compare.largest(wanted), typical, 1e-30)
        truth = self.record.truths.get(case.name)
        if truth is not None and truth.slopes is not None:
            slopes = truth.slopes
            tolerance = np.maximum(tolerance, gradient_tolerance(case, truth, run.gradient_share, typical))
            # At a kink, or where slopes are not known, another gradient may be as right.
            kink = (slopes.upper - slopes.lower > tolerance) & (slopes.off(got) <= tolerance)
            free = kink | slopes.open | ~np.isfinite(slopes.error)
            wanted = np.where(free & np.isfinite(got) & np.isfinite(wanted), got, wanted)
        found.add(name, compare.difference(got, wanted, tolerance), f"gradient differs from {by}", batch=case)
