"""Whether a loss runs, and whether its values and gradients are right and finite."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare, tree
from multiloss.check.checks.base import Check, Findings, Raised, Replies, Request, Run, flat, has_gradient, result_of
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.slopes import ROUNDING, Truth, spread_of


class Runs(Check):
    """No request ended the worker's process; judged by the run, which sees all replies."""

    name = "runs"

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        """Nothing: `run` adds a failure if a worker was lost."""


class _OfCases(Check):
    """A check of every batch, whose requests `Run.value_request` makes for all such checks."""

    tells_errors = True  # whether a batch that raises fails here, too

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {case.name: run.value_request(backend, case) for case in run.cases if case.rows}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        for case in run.cases:
            if not case.rows:
                continue
            with found.at(case.name, case):
                try:
                    result = result_of(run.eager[backend].get(case.name))
                except Raised:
                    if case.optional or not self.tells_errors:
                        continue
                    raise
                self.judge(run, backend, case, result, found)

    def judge(self, run: Run, backend: str, case: Case, result: Any, found: Findings) -> None:
        """Judge the result of one case."""
        raise NotImplementedError


def _finite(wanted: Any) -> bool:
    return bool(np.isfinite(wanted).all())


class Value(_OfCases):
    """Values agree with the oracle or, without one, with the loss in float64 and with the other backends."""

    name = "value"

    def judge(self, run: Run, backend: str, case: Case, result: Any, found: Findings) -> None:
        got = result["value"]
        if (shape := self.shape(run, backend, case)) is not None and np.shape(got) != shape:
            found.fail(case.name, f"value of shape {list(np.shape(got))}, expected {list(shape)}", batch=case)
            return
        truth, by = self.truth(run, backend, case)
        if truth is None:
            found.undecided(case.name, run.untrue.get(case.name, "nothing to compare with"))
            return
        wanted, moved = truth
        if np.shape(got) != np.shape(wanted):
            shapes = f"value of shape {list(np.shape(got))}, expected {list(np.shape(wanted))}"
            found.fail(case.name, f"{shapes}: it differs from {by}", batch=case)
            return
        off = compare.difference(got, wanted, run.value_tolerance(wanted, moved))
        if nowhere_finite(run, case, "value") and not off.ratio <= 1:
            found.undecided(case.name, f"value is {_first(got)}: see `finite`")
            return
        what = "value" if _finite(got) or not _finite(wanted) else f"value is {_first(got)}: it"
        found.add(case.name, off, f"{what} differs from {by}", "wrong" if what == "value" else "nan", case)

    @staticmethod
    def shape(run: Run, backend: str, case: Case) -> tuple[int, ...] | None:
        """Return the shape that the value of the plain case promises, if that one has axes of the predictions."""
        plain = run.value_of(backend, run.plain)
        x, first = tree.leaves(case.x)[0], tree.leaves(run.plain.x)[0]
        if plain is None or x.ndim != first.ndim or plain["value"].shape != first.shape[: plain["value"].ndim]:
            return None
        others = [run.value_of(backend, other) for other in run.cases if other.rows not in (0, run.plain.rows)]
        shapes = {other["value"].shape for other in others if other is not None}
        if shapes == {plain["value"].shape}:  # of the whole batch, one a class, of which there are as many as rows
            return None
        return tuple(x.shape[: plain["value"].ndim])

    def truth(self, run: Run, backend: str, case: Case) -> tuple[tuple[Any, Any] | None, str]:
        """Return the right value and how much rounding changes it, and what gives it."""
        truth = run.truths.get(case.name)
        if truth is None:
            values = {b: result["value"] for b in run.described if (result := run.value_of(b, case)) is not None}
            return self._of_others(values, backend), f"that of {run.others(backend)}"
        if run.oracle:
            return (truth.value, truth.moved), "the oracle"
        agreeing = any(run.agrees(truth, result["value"]) for b in run.described if (result := run.value_of(b, case)))
        by = f"that of {run.others(backend)}" if agreeing else "its own value in float64, on every backend"
        if len(run.described) == 1:
            by = "its own value in float64"
        return (truth.value, truth.moved), by

    @staticmethod
    def _of_others(values: dict[str, Any], backend: str) -> tuple[Any, Any] | None:
        """Return the median of three values, or the other one of two."""
        if len(values) == 2:
            return next(value for b, value in values.items() if b != backend), 0.0
        if len(values) < 3 or len({value.shape for value in values.values()}) > 1:
            return None if len(values) < 2 else (next(iter(values.values())), 0.0)
        return np.sort(np.stack(list(values.values())), axis=0)[(len(values) - 1) // 2], 0.0


def _first(array: Any) -> str:
    """Return the first number that is not finite, as text."""
    array = np.ravel(np.asarray(array))
    return str(array[~np.isfinite(array)][0])


def _bad(result: Any, what: str) -> bool:
    """Whether values or gradients are not finite."""
    if result is None or result[what] is None:
        return False
    return not _finite(flat(result[what]) if what == "gradient" else result[what])


def nowhere_finite(run: Run, case: Case, what: str) -> bool:
    """Whether values or gradients are not finite on any backend."""
    results = [result for b in run.described if (result := run.value_of(b, case)) is not None]
    return all(_bad(result, what) for result in results if result[what] is not None)


class Finite(_OfCases):
    """Values, unless the oracle says so, and gradients are not NaN or infinite on every backend.

    What one backend alone has is found by the comparison with the others.
    """

    name = "finite"
    tells_errors = False

    def judge(self, run: Run, backend: str, case: Case, result: Any, found: Findings) -> None:
        truth = run.truths.get(case.name)
        if run.oracle and truth is not None and not _finite(truth.value):
            return
        everywhere = ", on every backend" if len(run.described) > 1 else ""
        for what in ("value", "gradient"):
            bad = _bad(result, what) and nowhere_finite(run, case, what)
            array = flat(result[what]) if what == "gradient" and bad else result[what]
            found.require(case.name, not bad, f"{what} is {_first(array)}{everywhere}" if bad else "", "nan", case)
            if bad:
                return


class Gradient(_OfCases):
    """Gradients agree with numerical derivatives, of the oracle or of the loss in float64."""

    name = "gradient"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) else f"{backend} computes no gradients: values only"

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        if run.straight_through:
            found.note = "straight-through, by intent: finite and the same on all backends"
        super().verdict(run, backend, replies, found)
        some = [case for case in run.cases if case.size]
        if not run.straight_through and all(case.large for case in some):
            found.note = "finite; all batches are too large for numerical derivatives"
        elif found.missing and all(not one.failed and (run.case(one.case) or run.plain).large for one in found.all):
            found.all.clear()  # that it is finite for a large batch says nothing of the others
        mine = [result["gradient"] for case in some if (result := run.value_of(backend, case))]
        # For a single batch, which may be a minimum, it may be right.
        if len(mine) > 1 and all(gradient is None or not np.any(flat(gradient)) for gradient in mine):
            found.fail(
                run.plain.name, "the gradient is 0 for every batch: the loss cannot train a model", batch=run.plain
            )

    def judge(self, run: Run, backend: str, case: Case, result: Any, found: Findings) -> None:
        if not case.size:
            return
        given = result["gradient"]
        got = np.zeros(case.size) if given is None else flat(given).astype(np.float64)
        if got.size != case.size:
            found.fail(case.name, f"gradient of {got.size} numbers, expected {case.size}", batch=case)
            return
        finite = bool(np.isfinite(got).all())
        if not finite and nowhere_finite(run, case, "gradient"):
            found.undecided(case.name, f"gradient is {_first(got)}: see `finite`")
            return
        if case.large or run.straight_through:
            other = self._other(run, backend, case) if run.straight_through else None
            if other is not None and finite:
                size = max(compare.largest(other), run.scale.gradient, 1e-30)
                off = compare.difference(got, other, run.gradient_share * size)
                found.add(case.name, off, f"gradient differs from that of {run.others(backend)}", batch=case)
            else:
                found.add(case.name, Difference(0.0 if finite else float("nan"), 1.0), *_NOT_FINITE, case)
            return
        truth = run.truths.get(case.name)
        if truth is None or truth.slopes is None:
            found.undecided(case.name, run.untrue.get(case.name, "no derivatives to compare with"))
            return
        slopes = truth.slopes
        known = np.isfinite(slopes.error)
        if not finite:
            found.add(case.name, Difference(float("nan"), 1.0), *_NOT_FINITE, case)
            return
        tolerance = gradient_tolerance(case, truth, run.gradient_share, run.scale.gradient)
        outside = slopes.off(got)
        allowed = tolerance + compare.ERRORS * np.where(known, slopes.error, 0.0)
        unknown = ~known | slopes.open | (compare.ERRORS * slopes.error > np.maximum(0.1 * outside, tolerance))
        outside = np.where(np.isnan(outside), np.inf, outside)
        undecided = unknown & (outside > tolerance)
        if undecided.any():
            why = "numerical derivatives do not converge, or numbers are tied"
            found.undecided(case.name, f"{why}, for {int(undecided.sum())} of {got.size} numbers")
        found.add(
            case.name,
            compare.worst(np.where(undecided, 0.0, outside), allowed),
            "gradient differs from numerical derivatives" + (" of the oracle" if run.oracle else " of its values"),
            batch=case,
        )

    @staticmethod
    def _other(run: Run, backend: str, case: Case) -> Any:
        """Return the gradient of the other backends."""
        found = {b: flat(r["gradient"]) for b in run.described if (r := run.value_of(b, case)) and r["gradient"]}
        if len(found) < 2 or backend not in found:
            return None
        if len(found) == 2:
            return next(gradient for b, gradient in found.items() if b != backend)
        return np.nanmedian(np.stack(list(found.values())), axis=0)


def gradient_tolerance(case: Case, truth: Truth, share: float, scale: float) -> Any:
    """Return how far a gradient may be from numerical derivatives; `scale` is the typical size of gradients."""
    assert truth.slopes is not None
    tolerance = share * max(truth.slopes.size, 1e-30) + truth.slopes.moved + compare.CANCELLED * scale
    # A slope that changes the value by less than it is rounded by, over the spread of x, is as good as 0.
    return tolerance + ROUNDING * compare.largest(truth.value) / spread_of(flat(tree.leaves(case.x)))


_NOT_FINITE = ("gradient is not finite", "nan")


class EmptyBatch(Check):
    """A batch of 0 rows gives the same on all backends, as a replica of TensorFlow may get one."""

    name = "empty_batch"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if self._case(run) else "no batch of 0 rows among the inputs"

    @staticmethod
    def _case(run: Run) -> Case | None:
        return next((case for case in run.cases if not case.rows), None)

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        case = self._case(run)
        return {"value": run.value_request(backend, case)} if case else {}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        case = self._case(run)
        assert case is not None
        reply = replies[backend].reply("value")
        ran = {b: result for b, answers in replies.items() if (result := answers.get("value")) is not None}
        if reply is not None and reply.status == "error" and not ran:
            found.undecided(case.name, f"raises for a batch of 0 rows: {reply.message}")
            return
        with found.at(case.name, case):
            got = replies[backend]["value"]["value"]
            wanted = run.truths[case.name].value if run.oracle and case.name in run.truths else None
            other = next((r["value"] for b, r in ran.items() if b != backend), got) if wanted is None else wanted
            if np.shape(got) != np.shape(other):
                found.fail(case.name, f"shape {list(np.shape(got))}, expected {list(np.shape(other))}", batch=case)
            else:
                by = "the oracle" if wanted is not None else run.others(backend)
                found.add(case.name, run.close(got, other, backend), f"value differs from {by}", batch=case)
