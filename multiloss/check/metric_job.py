"""One run of the checks of a metric."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multiloss.check import slopes, tree
from multiloss.check.checks import metrics
from multiloss.check.checks.base import Missing, Request, Run
from multiloss.check.checks.metrics import METRIC_CHECKS, MetricRun, weights_of, with_mixed
from multiloss.check.inputs import Case
from multiloss.check.job import CheckError, Job
from multiloss.check.report import Cell


class MetricJob(Job):
    """One run of all checks of a metric."""

    table = metrics.ALL
    of_cases = frozenset(METRIC_CHECKS)
    what = "a metric"

    def description(self) -> Request:
        return Request("describe_metric", target=self.target)

    def run_of(self, cases: list[Case], described: dict[str, dict[str, Any]]) -> Run:
        if self.draws:
            raise CheckError(f"`search` must be 0 for a metric. Received: {self.draws}")
        self.flag = "" if all(description["own"] for description in described.values()) else "--metric"
        weights = self.function is not None and _takes(self.function, 3)
        cases = with_mixed(cases, self.seed)
        known = MetricRun(self.target, cases, self.kind, self.seed, described, oracle=self.function is not None)
        return dataclasses.replace(known, oracle_weights=weights)

    def ask_oracle_first(self, run: Run) -> None:
        self.compared = "with its own result in float64, and between backends"
        if self.function is not None:
            self.compared = f"with {self.oracle}, in float64"
            self.numbers(run.plain, tree.leaves(run.plain.x))

    def numbers(self, case: Case, x: Sequence[np.ndarray], weights: Any = None) -> Any:
        """Return all numbers of the oracle's result."""
        arguments = (np.ones(case.rows) if weights is None else weights,) if _takes(self.function, 3) else ()
        try:
            with np.errstate(all="ignore"):
                return metrics.flat(self.function(case.y, tree.like(case.x, x), *arguments))
        except (Missing, Exception, SystemExit) as error:  # user code may raise anything
            raised = "" if isinstance(error, Missing) else f"{type(error).__name__}: "
            takes = "(y_true, y_pred, sample_weight)" if arguments else "(y_true, y_pred)"
            raise CheckError(
                f"`oracle` fails on {case.name!r}: {raised}{error}. It takes {takes}, here {case.described}"
            ) from error

    def oracle_truths(self, run: Run) -> None:
        def truth(case: Case, weights: Any = None) -> Any:
            def value(x: list[np.ndarray]) -> Any:
                return self.numbers(case, x, weights)

            return slopes.plain(value, tree.leaves(case.x), case.bounds, self.seed)

        for case in run.cases:
            try:
                run.truths[case.name] = truth(case)
            except CheckError as error:
                if not case.optional and case.rows:
                    raise
                run.untrue[case.name] = str(error)
        if isinstance(run, MetricRun) and run.oracle_weights:
            run.weighted = truth(run.main, weights_of(run.main))

    def exact(self, run: Run, case: Case) -> Request:
        return Request("exact_metric", target=self.target, y=case.y, x=case.x, bounds=case.bounds, seed=self.seed)

    def refuse_bad_targets(self, run: Run) -> None:
        oracle, self.function = self.function, None
        super().refuse_bad_targets(run)
        self.function = oracle
        if oracle is None:
            return
        wanted = len(self.numbers(run.plain, tree.leaves(run.plain.x)))
        for backend in run.described:
            result = run.value_of(backend, run.plain)
            if result is not None and len(result["value"]) != wanted:
                count = len(result["value"])
                raise CheckError(f"`oracle` must return as many numbers as the metric, {count}. Received: {wanted}")

    def smaller(self, run: Run, cells: list[Cell], found: Mapping[tuple[str, str], Any]) -> list[Cell]:
        return cells


def _takes(function: Any, count: int) -> bool:
    """Whether a function takes so many arguments by position."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
