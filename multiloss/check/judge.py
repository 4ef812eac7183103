"""Turns the workers' replies into the cells of the report, one for each check and backend."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from multiloss.check import compare, pool
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply
from multiloss.check.report import Cell

_NO_LOSS = "a plain function: Keras applies weights, masks and the reduction"


class Scale(NamedTuple):
    """The typical size of a loss's values and gradients: the median over the cases."""

    value: float
    gradient: float


class Job(Protocol):
    """The parts of a run that are needed to judge its replies."""

    checks: tuple[str, ...]
    seed: int
    kind: str  # the family of the inputs, "" for a user's own
    described: dict[str, dict[str, Any]]  # backend -> the result of `worker.describe`
    expected: dict[str, dict[str, Any]]  # case -> the oracle's results; empty without an oracle

    @property
    def reference(self) -> str:
        """The backend whose values give the finite differences."""

    def points(self, case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the points at which the reference was evaluated, and the steps between them."""

    def columns(self, case: Case) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return equivalent batches, with and without an axis of size 1."""

    def line(self, check: str, backend: str) -> str:
        """Return a command that reproduces one cell."""


def compiled(description: dict[str, Any]) -> list[str]:
    """Return the compiled modes that are checked, given the result of `worker.describe`."""
    # Code generation takes torch a minute for some losses; tracing and differentiation do not.
    return [mode for mode in description["modes"] if mode not in ("eager", "inductor") and "unknown" not in mode]


def verdicts(
    job: Job, cases: list[Case], replies: dict[str, dict[Any, Reply]], scale: Scale | None = None
) -> list[Cell]:
    """Return a cell for each check and backend.

    Args:
        job: the run.
        cases: the cases of the inputs.
        replies: backend -> (check, case, name) -> the worker's reply.
        scale: the typical size of values and gradients, if there are too few cases to estimate it.
    """
    judge = _Judge(job, cases, replies, scale)
    return [judge(check, backend) for check in job.checks for backend in job.described]


def scale_of(cases: list[Case], replies: dict[str, dict[Any, Reply]]) -> Scale:
    """Return the typical size of a loss's values and gradients."""
    results = [
        reply.result
        for case in cases
        for answers in replies.values()
        if case.x.size and (reply := answers.get(("value", case.name, "eager"))) and reply.status == "done"
    ]

    def median(name: str) -> float:
        sizes = [compare.largest(result[name]) for result in results if result[name] is not None]
        return float(np.median(sizes)) if sizes else 1.0

    return Scale(median("value"), median("gradient"))


class _Judge:
    """Makes the cell of one check on one backend from the replies."""

    def __init__(self, job: Job, cases: list[Case], replies: dict[str, dict[Any, Reply]], scale: Scale | None = None):
        self.job, self.cases, self.replies = job, cases, replies
        self.scale = scale_of(cases, replies) if scale is None else scale
        self.plain = next(case for case in cases if case.plain)

    def __call__(self, check: str, backend: str) -> Cell:
        self.check, self.backend = check, backend
        name = {"[B] and [B, 1]": "columns", "labels above 2^24": "large_labels"}.get(check, check.replace(" ", "_"))
        name = "half" if check in compare.HALF else name
        if why := self.inapplicable():
            return Cell(check, backend, "not applicable", why)
        try:
            return self.cell(*getattr(self, name)())
        except _NoReplyError as error:
            return Cell(check, backend, "not checked", str(error))
        except _FailError as error:
            return self.failed(*error.args)

    def inapplicable(self) -> str:
        job, description = self.job, self.job.described[self.backend]
        if self.backend in pool.FORWARD_ONLY and self.check not in ("runs", "value"):
            return f"{self.backend} computes no gradients: values only"
        if self.check in ("sample_weight", "mask", "reduction", "config") and not description["loss"]:
            return _NO_LOSS
        if self.check == "unknown batch size" and not any("unknown" in mode for mode in description["modes"]):
            return f"{self.backend} traces with known sizes only"
        if self.check == "compiled" and len(description["modes"]) == 1:
            return f"{self.backend} does not compile"
        if self.check == "sample_weight" and len(self.plain.x) < 2:
            return f"the first case, {self.plain.name!r}, has fewer than two rows"
        if self.check in ("save", "fit") and self.plain.x.ndim < 2:
            return "`y_pred` [B] has no feature axis for a layer to produce"
        if self.check == "[B] and [B, 1]" and not job.columns(self.plain):
            return "`y_true` has a class or pixel axis" if job.kind else "only for inputs of a built-in family"
        if self.check == "labels above 2^24" and job.kind != "labels-embeddings":
            return "labels are not ids"
        return ""

    # --- replies -----------------------------------------------------------------------------------------------------

    def done(self, case: Case, name: str, check: str = "") -> Any:
        """Return a worker's result, or raise the reason why there is none."""
        reply = self.replies[self.backend].get((check or self.check, case.name, name))
        if reply is None:
            raise _NoReplyError("the worker was lost earlier")
        if reply.status == "lost":
            raise _NoReplyError(reply.message)
        if reply.status == "error":
            raise _FailError(f"{name}: {reply.message}", case.name)
        return reply.result

    def cell(self, differences: dict[str, Difference], detail: str = "") -> Cell:
        """Return a cell for the differences by case, with the worst of them."""
        ratios = {case: found.ratio for case, found in differences.items()}
        worst = max(ratios, key=lambda case: ratios[case], default=None)
        bad = worst is not None and not ratios[worst] <= 1
        return Cell(
            self.check,
            self.backend,
            "fail" if bad else "pass",
            detail if bad else "",
            None if worst is None else differences[worst].error,
            None if worst is None else differences[worst].tolerance,
            worst,
            self.job.line(self.check, self.backend) if bad else None,
            ratios,
        )

    def failed(self, detail: str, case: str | None = None) -> Cell:
        line = self.job.line(self.check, self.backend)
        return Cell(self.check, self.backend, "fail", detail, case=case, reproduce=line)

    # --- checks ------------------------------------------------------------------------------------------------------

    def runs(self) -> Any:
        lost = [(key, r) for key, r in self.replies[self.backend].items() if r.status == "lost"]
        if lost:
            (check, case, name), reply = lost[0]
            raise _FailError(f"{reply.message}, during {check} ({name})", case)
        return ({},)

    def value(self) -> Any:
        differences, details = {}, []
        for case in self.cases:
            got = self.done(case, "eager")["value"]
            if self.job.expected:
                known = self.job.expected[case.name]
                wanted, noise = known["value"], known["sensitivity"]
            else:
                found = self.results("value", case, "eager")
                wanted, noise = self.median({b: result["value"] for b, result in found.items()}), self.noise(case)
            size = max(compare.largest(wanted), self.scale.value)
            differences[case.name] = off = compare.difference(
                got, wanted, compare.VALUE * size + compare.ROUNDINGS * noise
            )
            if not off.ratio <= 1 and np.shape(got) != np.shape(wanted):
                details.append(f"shape {np.shape(got)}, expected {np.shape(wanted)}")
        others = "the oracle" if self.job.expected else self.others(self.results("value", self.cases[0], "eager"))
        return differences, (details or [f"value differs from {others}"])[0]

    def results(self, check: str, case: Case, name: str) -> dict[str, Any]:
        """Return the results of the backends that have one."""
        replies = {backend: answers.get((check, case.name, name)) for backend, answers in self.replies.items()}
        return {backend: reply.result for backend, reply in replies.items() if reply and reply.status == "done"}

    def others(self, found: dict[str, Any]) -> str:
        if len(found) != 2:
            return "the other backends"
        return f"{next(b for b in found if b != self.backend)}: without an oracle, either may be wrong"

    def median(self, values: dict[str, np.ndarray]) -> Any:
        """Return the median over the backends; with two backends, the value of the other one."""
        first = values.get(self.backend, next(iter(values.values())))
        if len(values) == 2:
            return next(value for backend, value in values.items() if backend != self.backend)
        same = [value for value in values.values() if value.shape == first.shape]
        return np.sort(np.stack(same), axis=0)[(len(same) - 1) // 2] if len(same) > 2 else next(iter(values.values()))

    def noise(self, case: Case) -> float:
        """Return how much rounding the inputs changes the values, computed in float64."""
        reply = self.replies.get(self.job.reference, {}).get(("gradient", case.name, "exact"))
        if reply is None or reply.status != "done":
            return 0.0
        first, others, *_ = self.parts(case, reply.result["sums"])
        return compare.largest(others - first[0])

    def parts(self, case: Case, sums: np.ndarray) -> list[np.ndarray]:
        """Split the values of a case in the way its points are split."""
        return np.split(sums, np.cumsum([len(points) for points, _ in self.job.points(case)])[:-1])

    def gradient(self) -> Any:
        differences = {}
        for case in self.cases:
            got = self.done(case, "eager", "value")["gradient"]
            if case.large or not case.x.size:
                finite = got is not None and np.isfinite(got).all()
                differences[case.name] = Difference(0.0 if finite else float("nan"), 1.0)
                continue
            if self.job.expected:
                said = self.job.expected[case.name]
                slopes, noise, close = said["slopes"], said["slope sensitivity"], said["close"]
                smallest = compare.GRADIENT
            else:
                slopes, noise, smallest, close = self.own_slopes(case)
            size = max(compare.largest(slopes.lower), compare.largest(slopes.upper), 1e-30)
            # Where terms of the typical size cancel, their rounding error remains.
            tolerance = smallest * size + compare.ROUNDINGS * (noise + compare.ROUNDING * self.scale.gradient)
            found = compare.gradient_difference(got, [slopes], tolerance)
            if not found.ratio <= 1 and (closer := close()).rounding <= 0.1 * smallest * size:
                found = compare.gradient_difference(got, [slopes, closer], tolerance)
            differences[case.name] = found
        bad = [case for case, found in differences.items() if not found.ratio <= 1]
        nan = any(np.isnan(differences[case].error) for case in bad)
        return differences, "gradient is not finite" if nan else "gradient differs from finite differences"

    def own_slopes(self, case: Case) -> Any:
        reply = self.replies[self.job.reference].get(("gradient", case.name, "exact"))
        if reply is None or reply.status != "done":
            why = "no reply" if reply is None else reply.message
            raise _NoReplyError(f"{self.job.reference} has no values in float64: {why}")
        points, sums = self.job.points(case), self.parts(case, reply.result["sums"])
        coarse, *fine = (
            compare.slopes(part, steps, case.x.shape)
            for part, (_, steps) in zip(sums, points, strict=True)
            if len(steps)
        )
        if not fine or reply.result["single"]:  # TensorFlow's own CTC computes in float32 for any input dtype
            return coarse, coarse.rounding, compare.COARSE_GRADIENT, lambda: coarse
        return fine[0], compare.moved(*fine[:3]), compare.GRADIENT, lambda: fine[3]

    def same_as(self, case: Case, name: str, other: str, tolerance: float = compare.VALUE) -> Difference:
        """Compare the value and gradient of two runs."""
        got, wanted = self.done(case, name), self.done(case, other)
        value = compare.difference(
            got["value"], wanted["value"], tolerance * max(compare.largest(wanted["value"]), self.size_of(wanted))
        )
        slope = wanted["gradient"]
        if slope is None or got["gradient"] is None:
            missing = (slope is None) != (got["gradient"] is None)
            return Difference(float("inf"), 1.0) if missing else value
        # A gradient that should be 0 is a difference of rounded numbers of the typical size of a gradient.
        size = max(compare.largest(slope), self.size_of(wanted, "gradient"), 1e-30)
        gradient = compare.difference(got["gradient"], slope, 10 * tolerance * size)
        return max(value, gradient, key=lambda found: found.ratio)

    def size_of(self, wanted: Any, what: str = "value") -> float:
        plain = self.replies[self.backend].get(("value", self.plain.name, "eager"))
        found = plain.result[what] if plain is not None and plain.status == "done" else wanted[what]
        return 0.0 if found is None else compare.largest(found)

    def compiled(self) -> Any:
        return self.modes(compiled(self.job.described[self.backend]))

    def unknown_batch_size(self) -> Any:
        return self.modes([mode for mode in self.job.described[self.backend]["modes"] if "unknown" in mode])

    def modes(self, modes: list[str]) -> Any:
        differences, worst = {}, {}
        for case in self.cases:
            for mode in modes:
                if (self.check, case.name, mode) in self.replies[self.backend]:
                    label = f"{case.name}, {mode}"
                    differences[label] = self.same_as(case, mode, "eager")
                    worst[label] = mode
        if not differences:
            raise _NoReplyError("the worker was lost earlier")
        return differences, "result differs from eager mode"

    def columns(self) -> Any:
        names = list(self.job.columns(self.plain))
        wanted = self.done(self.plain, names[0] if "[B, 1]" in names[0] or self.job.kind != "regression" else names[1])
        other = names[1]
        reply = self.replies[self.backend].get((self.check, self.plain.name, other))
        if reply is not None and reply.status == "error" and reply.message.startswith(("ValueError", "TypeError")):
            return ({self.plain.name: Difference(0.0, 1.0)},)  # refused, so neither merged nor broadcast
        got = self.done(self.plain, other)
        if got["value"].shape != wanted["value"].shape:
            shapes = f"shape {got['value'].shape}, expected {wanted['value'].shape}"
            raise _FailError(f"{other}: {shapes}", self.plain.name)
        return {self.plain.name: self.same_as(self.plain, other, names[0])}, f"{other} gives another result"

    def half(self) -> Any:
        differences, detail = {}, ""
        for case in self.cases:
            for name in ("half", "dtype"):
                if (self.check, case.name, name) not in self.replies[self.backend]:
                    continue
                got, wanted = self.done(case, name), self.done(case, "float32")
                most = 65504.0 if got["dtype"] == "float16" else 3e38
                if compare.largest(wanted["value"]) > most or not np.isfinite(wanted["value"]).all():
                    continue  # overflow of the result's dtype is not a fault
                size = max(compare.largest(wanted["value"]), self.size_of(wanted))
                found = compare.difference(got["value"], wanted["value"], compare.HALF[self.check] * size)
                gradient = got["gradient"]
                if gradient is not None and np.isfinite(wanted["gradient"]).all() and not np.isfinite(gradient).all():
                    found, detail = Difference(float("nan"), compare.HALF[self.check]), "gradient is not finite"
                label = case.name if name == "half" else f"{case.name}, dtype={self.check!r}"
                differences[label] = found
        return differences, detail or f"{self.check} result differs from float32 on the same inputs"

    def close(self, got: Any, wanted: Any) -> Difference:
        """Compare reduced values."""
        size = max(compare.largest(wanted), self.size_of({"value": wanted}))
        return compare.difference(got, wanted, compare.VALUE * size)

    def sample_weight(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        differences = {}
        for i in range(2):
            got = self.done(self.plain, f"only row {i}")["value"]
            # With one value for the whole batch, a weight of 0 must have the effect of removing the row.
            wanted = rows[i].sum() if rows.ndim else self.done(self.plain, f"row {i} alone")["value"]
            differences[f"only row {i}"] = self.close(got, wanted)
        if rows.ndim:
            weights = np.linspace(0.5, 2.0, len(rows)).astype(np.float32).astype(np.float64)
            each = rows.reshape(len(rows), -1).sum(axis=1)
            differences["weights"] = self.close(self.done(self.plain, "weights")["value"], (weights * each).sum())
        return differences, "`sample_weight` does not weight samples"

    def mask(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        mask = np.arange(len(self.plain.x)) % 3 != 1
        wanted = rows[mask].sum() if rows.ndim else self.done(self.plain, "weights")["value"]
        names = [key[2] for key in self.replies[self.backend] if key[0] == "mask" and key[2].startswith("mask ")]
        found = {
            name.replace("mask ", "mask, "): self.close(self.done(self.plain, name)["value"], wanted) for name in names
        }
        return found, "a Keras mask differs from weights of 0 and 1"

    def reduction(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        names = ("sum", "sum_over_batch_size", "mean_with_sample_weight")
        got = {name: self.done(self.plain, name)["value"] for name in names}
        shaped = [name for name, value in got.items() if np.ndim(value)]
        if shaped:
            shape = np.shape(got[shaped[0]])
            raise _FailError(f"reduction {shaped[0]!r} returns shape {shape}, expected a scalar", self.plain.name)
        if not rows.ndim:  # a statistic of the whole batch has no rows to reduce
            return {name: self.close(got[name], rows) for name in names[:2]}, "the reduction changes a scalar loss"
        # A loss may exclude rows of 0 from the mean, as Keras's `Circle` does for rows without a positive.
        mean = float(got["sum_over_batch_size"])
        count = round(rows.sum() / mean) if mean and np.isfinite(mean) else rows.size
        mean = rows.sum() / min(max(count, np.count_nonzero(rows), 1), rows.size)
        wanted = (rows.sum(), mean, mean)
        differences = {name: self.close(got[name], value) for name, value in zip(names, wanted, strict=True)}
        return differences, "result differs from the reduction of the rows"

    def config(self) -> Any:
        found = self.done(self.plain, "config")
        if found["lost"]:
            raise _FailError(f"`get_config` leaves out {', '.join(found['lost'])}", self.plain.name)
        self.same_dtype(found)
        return {self.plain.name: self.close(found["after"], found["before"])}, "value differs after the round trip"

    def same_dtype(self, found: Any) -> None:
        before, after = found["dtypes"] or ("", "")
        if before != after:
            raise _FailError(f"dtype {before} becomes {after}", self.plain.name)

    def save(self) -> Any:
        found = self.done(self.plain, "save")
        self.same_dtype(found)
        return {self.plain.name: self.close(found["after"], found["before"])}, "value differs after loading"

    def fit(self) -> Any:
        found = self.done(self.plain, "fit")
        results = self.results("fit", self.plain, "fit")
        moved = {b: np.concatenate([np.ravel(part) for part in result["moved"]]) for b, result in results.items()}
        together, target = moved[self.backend], self.median(moved)
        # Updates below 6e-8 are lost in weights near 1.
        tolerance = 10 * compare.GRADIENT * compare.largest(target) + 1.2e-7
        weights = compare.difference(together, target, tolerance)
        loss = self.close(found["loss"], self.median({b: np.array(result["loss"]) for b, result in results.items()}))
        finite = Difference(0.0 if np.isfinite(together).all() else float("nan"), 1.0)
        return {
            "loss": loss,
            "weights": weights,
            "finite": finite,
        }, f"weights after one step differ from {self.others(results)}"

    def large_labels(self) -> Any:
        return {self.plain.name: self.same_as(self.plain, "large", "small")}, "labels that differ by 1 count as equal"

    def retracing(self) -> Any:
        answers = self.replies[self.backend]
        modes = [answers.get(("compiled", "", mode)) for mode in compiled(self.job.described[self.backend])]
        traces = sum(reply.result["traces"] for reply in modes if reply is not None and reply.status == "done")
        check = "determinism" if "determinism" in self.job.checks else "retracing"
        eager = self.done(self.plain, "repeat", check)["traces"]
        detail = "retraced or recompiled for the same shape" + ("" if traces else ", outside of any compiled function")
        return {self.plain.name: Difference(float(traces + eager), 0.0)}, detail

    def determinism(self) -> Any:
        found = self.done(self.plain, "repeat")
        off = compare.difference(found["again"], np.stack([found["first"]] * 2), 0.0)
        return {self.plain.name: off}, "value differs when the same batch is repeated"


class _FailError(Exception):
    """A check fails; the message is the reason."""


class _NoReplyError(Exception):
    """A check could not run; the message is the reason."""
