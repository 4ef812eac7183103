"""`check_loss`: what is asked of the workers, and what their answers mean."""

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multiloss.check import compare, inputs, pool
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply, Worker
from multiloss.check.report import Cell, Report, read_known
from multiloss.check.targets import resolve, text_of

CHECKS = (
    "runs",
    "value",
    "gradient",
    "compiled",
    "unknown batch size",
    "[B] and [B, 1]",
    "float16",
    "bfloat16",
    "sample_weight",
    "mask",
    "reduction",
    "config",
    "save",
    "fit",
    "labels above 2^24",
    "retracing",
    "determinism",
)
_NO_LOSS = "a plain function: it is Keras that weights, masks and reduces its values"
_OFFSET = 2**24


class CheckError(ValueError):
    """A check that could not be made: which argument, what was expected, what came."""


def check_loss(
    target: Any,
    oracle: Any = None,
    *,
    inputs: str | Callable[[int], Any] | None = None,
    backends: Sequence[str] | Mapping[str, str | None] | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
    known: str | Path | None = None,
    timeout: float = 60.0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Hold a Keras loss to its oracle, and to itself, on every backend.

    Each backend runs in a process of its own. With an oracle, values are compared with its values and gradients with
    its central differences, in float64; without one, values of the backends are compared with each other, and gradients
    with differences of the loss's own values in float64.

    Args:
        target: the loss: a text as `multiloss check` takes it (`module:attribute`, `path.py:attribute`, with a call of
            it if there are arguments), or a function, a `Loss` class or instance that another process can import.
        oracle: None, or a NumPy function of the same two arguments, given likewise, that returns values of the same
            shape, or a scalar, which is compared with the reduced loss.
        inputs: a family of `multiloss.check.inputs.FAMILIES`, the path of an `.npz` file, or a function of a seed (or
            its text) that returns `{name: (y_true, y_pred)}`. None chooses a family by the name of the target.
        backends: names, or names with the Python interpreters that have them; None for those installed here.
        seed: of the random inputs.
        checks: the checks to make, of `CHECKS`; None for all.
        known: a file of known failures, see `multiloss.check.report.read_known`.
        timeout: seconds that a worker may take for one answer.
        progress: called with the backend, and how many of how many requests are done.

    Returns:
        A `Report`.

    Raises:
        CheckError, TargetError: both ValueErrors: a target, oracle, input or backend that cannot be had, one that
            takes other arguments, or an oracle of another shape.
        OSError: for a file of known failures that cannot be read.

    Example:
        >>> from multiloss.check import check_loss
        >>> report = check_loss("keras.losses:MeanSquaredError", backends=["jax"])  # doctest: +SKIP
        >>> report.ok  # doctest: +SKIP
        True
    """
    began = time.perf_counter()
    chosen = _choose(checks)
    expected = read_known(known) if known is not None else None
    target_text, oracle_text = text_of(target), None if oracle is None else text_of(oracle)
    function = None if oracle is None else (resolve(oracle) if isinstance(oracle, str) else oracle)
    if function is not None and not callable(function):
        raise CheckError(f"`oracle` must be callable. Received: {oracle_text}")
    pythons, missing, unchecked = _backends(backends)
    workers = {backend: Worker(backend, python, timeout) for backend, python in pythons.items()}
    try:
        job = _Job(target_text, oracle_text, function, inputs, seed, chosen, workers, progress)
        cells = [*[_not_installed(backend) for backend in missing], *job.cells()]
    finally:
        for worker in workers.values():
            worker.close()
    report = Report(
        target=target_text,
        oracle=oracle_text,
        inputs=job.inputs_text,
        seed=seed,
        compared=job.compared,
        versions=job.versions,
        cells=tuple(cells),
        unchecked=unchecked,
        seconds=time.perf_counter() - began,
    )
    return report if expected is None else report.with_known(expected)


def _choose(checks: Sequence[str] | None) -> tuple[str, ...]:
    if checks is None:
        return CHECKS
    if unknown := [check for check in checks if check not in CHECKS]:
        raise CheckError(f"`checks` must be of {', '.join(CHECKS)}. Received: {unknown[0]!r}")
    return ("runs", *[check for check in CHECKS if check in checks and check != "runs"])


def _backends(
    given: Sequence[str] | Mapping[str, str | None] | None,
) -> tuple[dict[str, str | None], list[str], dict[str, str]]:
    """Return those to run with their interpreters, those asked for but missing, and those not asked for, with why."""
    if given is None:
        there = [backend for backend in pool.BACKENDS if pool.installed(backend)]
        if not there:
            raise CheckError(f"`backends` are not installed: none of {', '.join(pool.BACKENDS)}")
        away = {b: f"not installed: {pool.how_to_install(b)}" for b in pool.BACKENDS if b not in there}
        return dict.fromkeys(there), [], away
    pythons = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    if not pythons:
        raise CheckError("`backends` must name one at least. Received: none")
    for backend, python in pythons.items():
        if backend not in (*pool.BACKENDS, *pool.FORWARD_ONLY):
            known = ", ".join((*pool.BACKENDS, *pool.FORWARD_ONLY))
            raise CheckError(f"`backends` must be of {known}. Received: {backend!r}")
        if python is not None and not Path(python).is_file():
            raise CheckError(f"`backends` must give {backend} an interpreter. Received: {python!r}, which is no file")
    missing = [backend for backend, python in pythons.items() if python is None and not pool.installed(backend)]
    return {b: p for b, p in pythons.items() if b not in missing}, missing, {}


def _not_installed(backend: str) -> Cell:
    return Cell("runs", backend, "fail", f"{backend} is not installed: {pool.how_to_install(backend)}")


@dataclasses.dataclass
class _Ask:
    """One request, and what it is for: which check, on which case, and under which name among those of the check."""

    check: str
    case: str
    name: str
    task: str
    arguments: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.check, self.case, self.name


class _Job:
    """One run of all checks. `cells` does it; the rest is there for the report."""

    def __init__(
        self,
        target: str,
        oracle: str | None,
        function: Any,
        given: Any,
        seed: int,
        checks: tuple[str, ...],
        workers: Mapping[str, Worker],
        progress: Callable[[str, int, int], None] | None,
    ):
        self.target, self.oracle, self.function, self.seed = target, oracle, function, seed
        self.checks, self.workers, self.progress = checks, workers, progress
        self.given, self.inputs_text = given, given if isinstance(given, str) else ""
        self.versions: dict[str, str] = {}
        self.compared = ""
        self.described: dict[str, dict[str, Any]] = {}
        self.own = False  # whether the oracle speaks of the reduced loss

    # --- what is asked -----------------------------------------------------------------------------------------------

    def cells(self) -> list[Cell]:
        """Ask, wait, and judge."""
        first = {backend: [("", "describe", {"target": self.target})] for backend in self.workers}
        answers = pool.gather(self.workers, first, restarts=0)
        described = {backend: replies[""] for backend, replies in answers.items()}
        errors = {backend: reply.message for backend, reply in described.items() if reply.status == "error"}
        if errors and len(errors) == len(described):
            raise CheckError(next(iter(errors.values())).removeprefix("TargetError: "))
        cells = [
            Cell("runs", backend, "fail", reply.message, reproduce=self.line("runs", backend))
            for backend, reply in described.items()
            if reply.status != "done"
        ]
        self.described = {backend: reply.result for backend, reply in described.items() if reply.status == "done"}
        self.versions = {backend: told["versions"] for backend, told in self.described.items()}
        if not self.described:
            return cells

        cases = self.cases()
        self.expected = self.ask_oracle(cases)
        asked = {backend: self.requests(backend, cases) for backend in self.described}
        replies = pool.gather(
            self.workers,
            {backend: [(ask.key, ask.task, ask.arguments) for ask in asks] for backend, asks in asked.items()},
            self.progress,
        )
        self.refuse_bad_targets(replies, cases)
        judge = _Judge(self, cases, replies)
        return [
            *cells,
            *[cell for check in self.checks for backend in self.described for cell in judge(check, backend)],
        ]

    @property
    def is_loss(self) -> bool:
        return any(told["loss"] for told in self.described.values())

    def cases(self) -> list[Case]:
        given = self.given
        if callable(given):
            given, self.inputs_text = text_of(given), text_of(given)
        if given is None:
            given = inputs.guess(self.target)
            self.inputs_text = f"{given} (by its name; others: --inputs)"
        if given in inputs.FAMILIES:
            logits = any(told["from_logits"] for told in self.described.values()) or "from_logits=True" in self.target
            self.kind, cases = given, inputs.family(given, self.seed, logits)
        elif given.endswith(".npz") or ":" in given:
            self.kind, cases = "", inputs.load(given, self.seed)
        else:
            families = ", ".join(inputs.FAMILIES)
            raise CheckError(f"`inputs` must be of {families}, an .npz file or a function. Received: {given!r}")
        return cases

    def ask_oracle(self, cases: list[Case]) -> dict[str, dict[str, Any]]:
        """Return what the oracle says of each case: case -> value, slopes, and what rounding changes in them."""
        if self.function is None:
            self.compared = "each other, and gradients with differences of the loss's own values in float64"
            return {}
        self.compared = f"{self.oracle} and its central differences, in float64"
        results = {}
        for case in cases:
            try:
                results[case.name] = compare.oracle_results(
                    self.function, case.y, case.x, _upstream, self.seed, not case.large
                )
            except Exception as error:
                raise CheckError(
                    f"`oracle` fails on {case.name!r}: {type(error).__name__}: {error}. It takes (y_true, y_pred), "
                    f"here of shapes {case.y.shape} and {case.x.shape}"
                ) from error
        self.own = self.is_loss and next(iter(results.values()))["value"].ndim == 0
        return results

    def requests(self, backend: str, cases: list[Case]) -> list[_Ask]:
        told, asks = self.described[backend], []
        plain = next(case for case in cases if case.plain)
        reduction = "own" if self.own else "none"
        forward_only = backend in pool.FORWARD_ONLY
        compiled = _compiled(told)

        def ask(check: str, case: Case, name: str, task: str = "run", **arguments: Any) -> None:
            if check in self.checks:
                arguments = {"y": case.y, "x": case.x, **arguments}
                asks.append(_Ask(check, case.name, name, task, {"target": self.target, **arguments}))

        # Each backend has its own way of being wrong on the plain case, which others are compared with: it is asked
        # first, and once for all checks.
        shared = "value" if {"value", "gradient"} & set(self.checks) else ""
        for case in cases:
            if shared and (shared in self.checks or "gradient" in self.checks):
                asks.append(
                    _Ask(
                        "value",
                        case.name,
                        "eager",
                        "run",
                        {
                            "target": self.target,
                            "y": case.y,
                            "x": case.x,
                            "reduction": reduction,
                            "gradient": not forward_only,
                        },
                    )
                )
            if self.function is None and backend == self.reference and case.x.size and not case.large:
                arguments = {
                    "target": self.target,
                    "y": case.y,
                    "xs": np.concatenate([points for points, _ in self.points(case)]),
                    "reduction": reduction,
                }
                asks.append(_Ask("gradient", case.name, "exact", "exact", arguments))
        if forward_only:
            return asks

        hard = [case for case in cases if not case.large and case.x.size][1:3]
        for mode in compiled:
            for case in [plain, *hard]:
                ask("compiled", case, mode, mode=mode)
        for case in [plain, *hard]:
            ask("compiled", case, "eager")
        for mode in [mode for mode in told["modes"] if "unknown" in mode]:
            for case in [plain, *[case for case in cases if case.name in ("batch of 1", "batch of 0")]]:
                ask("unknown batch size", case, mode, mode=mode)
                if mode.startswith("graph"):
                    ask("unknown batch size", case, "eager")

        for name, (y, x) in self.columns(plain).items():
            ask("[B] and [B, 1]", plain, name, y=y, x=x)
        for dtype in compare.HALF:
            for case in [plain, *[case for case in cases if case.large]]:
                rounded = compare.halved(case.x, dtype)
                ask(dtype, case, "float32", x=rounded)
                ask(dtype, case, "half", x=rounded, cast=dtype)
                if told["takes_dtype"]:
                    ask(dtype, case, "dtype", x=rounded, dtype=dtype)

        rows = len(plain.x)
        if told["loss"]:
            weights = np.linspace(0.5, 2.0, rows).astype(np.float32)
            mask = np.arange(rows) % 3 != 1
            firsts = np.eye(rows, dtype=np.float32)[:2]
            for check in ("sample_weight", "mask", "reduction"):
                ask(check, plain, "none")
                ask(check, plain, "sum", reduction="sum")
            for i, weight in enumerate(firsts):
                ask("sample_weight", plain, f"only row {i}", weight=weight, reduction="sum")
                ask(
                    "sample_weight",
                    plain,
                    f"row {i} alone",
                    y=plain.y[i : i + 1],
                    x=plain.x[i : i + 1],
                    reduction="sum",
                )
            ask("sample_weight", plain, "weights", weight=weights, reduction="sum")
            for mode in ["eager", *compiled[:1]]:
                ask("mask", plain, f"mask {mode}", mode=mode, mask=mask, reduction="sum")
            ask("mask", plain, "weights", weight=mask.astype(np.float32), reduction="sum")
            ask("reduction", plain, "sum_over_batch_size", reduction="sum_over_batch_size")
            ask("reduction", plain, "mean_with_sample_weight", reduction="mean_with_sample_weight")
            ask("config", plain, "config", "config")
        for check in ("save", "fit"):
            ask(check, plain, check, check)
        if self.kind == "labels-embeddings":
            ask("labels above 2^24", plain, "small")
            ask("labels above 2^24", plain, "large", y=plain.y + np.int32(_OFFSET))
        other = {"other_y": plain.y[::-1].copy(), "other_x": plain.x[::-1].copy()}
        ask("determinism", plain, "repeat", "repeat", **other)
        if "determinism" not in self.checks:
            ask("retracing", plain, "repeat", "repeat", **other)
        return asks

    @property
    def reference(self) -> str:
        """The backend whose values are differentiated: TensorFlow if it is there, since Keras has float64 on it."""
        able = [backend for backend in self.described if backend not in pool.FORWARD_ONLY]
        return "tensorflow" if "tensorflow" in able else next(iter(able), "")

    def points(self, case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return points and steps: at the case, where rounding might have left it (and whole), and in large steps."""
        others = compare.rounded(case.x, self.seed)
        found = [compare.points(case.x), compare.points(others[0]), (np.stack(others), np.zeros(0))]
        return found if self.reference == "tensorflow" else [*found, compare.points(case.x, compare.COARSE_STEP)]

    def columns(self, case: Case) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return batches that mean the same, with and without an axis of size 1."""
        y, x = case.y, case.x
        if self.kind in ("labels-embeddings", "integer-labels"):
            return {"y_true [B]": (y, x), "y_true [B, 1]": (y[:, None], x)}
        if self.kind == "regression":
            return {"y_true [B, 1]": (y[:, :1], x[:, :1]), "y_true [B]": (y[:, 0], x[:, :1])}
        return {}

    def refuse_bad_targets(self, replies: dict[str, dict[Any, Reply]], cases: list[Case]) -> None:
        """Raise if no backend could run the loss on plain data, or if the oracle is of another shape."""
        plain = next(case for case in cases if case.plain)
        key = ("value", plain.name, "eager")
        first = [answers[key] for answers in replies.values() if key in answers]
        if first and all(reply.status == "error" for reply in first):
            raise CheckError(
                f"{self.target} takes other arguments or inputs than (y_true, y_pred) of shapes {plain.y.shape} and "
                f"{plain.x.shape} (--inputs chooses others): {first[0].message}"
            )
        for reply in first:
            if reply.status == "done" and self.expected:
                got, wanted = reply.result["value"].shape, self.expected[plain.name]["value"].shape
                if got != wanted:
                    raise CheckError(f"`oracle` must return the shape of the loss, {got}. Received: {wanted}")

    def line(self, check: str, backend: str) -> str:
        """Return a command that shows one cell again."""
        words = ["multiloss check", shlex.quote(self.target)]
        words += [] if self.oracle is None else ["--oracle", shlex.quote(self.oracle)]
        words += ["--inputs", shlex.quote(self.inputs_text.partition(" (")[0])] if self.inputs_text else []
        alone = self.oracle is not None or check not in ("value", "fit")
        words += ["--backends", backend if alone else ",".join(self.workers)]
        words += ["--seed", str(self.seed)] if self.seed else []
        return " ".join([*words, *([] if check == "runs" else ["--only", shlex.quote(check)])])


def _compiled(told: dict[str, Any]) -> list[str]:
    # To generate code takes torch a minute for some losses; to trace and differentiate does not.
    return [mode for mode in told["modes"] if mode not in ("eager", "inductor") and "unknown" not in mode]


def _upstream(shape: tuple[int, ...]) -> np.ndarray:
    # As `worker.upstream_of`, which cannot be had here without Keras.
    factors = 1 + 0.5 * np.cos(np.arange(int(np.prod(shape))))
    return factors.reshape(shape).astype(np.float32).astype(np.float64)


class _Judge:
    """What the replies mean: cells of one check on one backend."""

    def __init__(self, job: _Job, cases: list[Case], replies: dict[str, dict[Any, Reply]]):
        self.job, self.cases, self.replies = job, cases, replies
        self.plain = next(case for case in cases if case.plain)

    def __call__(self, check: str, backend: str) -> list[Cell]:
        self.check, self.backend = check, backend
        name = {"[B] and [B, 1]": "columns", "labels above 2^24": "large_labels"}.get(check, check.replace(" ", "_"))
        name = "half" if check in compare.HALF else name
        if why := self.inapplicable():
            return [Cell(check, backend, "not applicable", why)]
        try:
            return [self.cell(*getattr(self, name)())]
        except _NoAnswerError as error:
            return [Cell(check, backend, "not checked", str(error))]
        except _FailError as error:
            return [self.failed(*error.args)]

    def inapplicable(self) -> str:
        job, told = self.job, self.job.described[self.backend]
        if self.backend in pool.FORWARD_ONLY and self.check not in ("runs", "value"):
            return f"{self.backend} computes no gradients: values only"
        if self.check in ("sample_weight", "mask", "reduction", "config") and not told["loss"]:
            return _NO_LOSS
        if self.check == "unknown batch size" and not any("unknown" in mode for mode in told["modes"]):
            return f"{self.backend} knows every size when it traces"
        if self.check == "compiled" and len(told["modes"]) == 1:
            return f"{self.backend} does not compile"
        if self.check == "[B] and [B, 1]" and not job.columns(self.plain):
            return "truth has a class or pixel axis" if job.kind else "only for inputs of a known family"
        if self.check == "labels above 2^24" and job.kind != "labels-embeddings":
            return "labels are not identities"
        return ""

    # --- answers -----------------------------------------------------------------------------------------------------

    def done(self, case: Case, name: str, check: str = "") -> Any:
        """Return what a worker found, or raise why it did not."""
        reply = self.replies[self.backend].get((check or self.check, case.name, name))
        if reply is None:
            raise _NoAnswerError("the worker was lost before")
        if reply.status == "lost":
            raise _NoAnswerError(reply.message)
        if reply.status == "error":
            raise _FailError(f"{name}: {reply.message}", case.name)
        return reply.result

    def cell(self, differences: dict[str, Difference], detail: str = "") -> Cell:
        """Make a cell of differences by case: what is worst counts."""
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

    def scale(self) -> float:
        """Return what values of this loss are like: half the cases have larger ones."""
        sizes = [compare.largest(self.done(case, "eager", "value")["value"]) for case in self.cases if case.x.size]
        return float(np.median(sizes)) if sizes else 1.0

    # --- checks ------------------------------------------------------------------------------------------------------

    def runs(self) -> Any:
        lost = [(key, r) for key, r in self.replies[self.backend].items() if r.status == "lost"]
        if lost:
            (check, case, name), reply = lost[0]
            raise _FailError(f"{reply.message}, at {check} ({name})", case)
        return ({},)

    def value(self) -> Any:
        differences, details = {}, []
        for case in self.cases:
            got = self.done(case, "eager")["value"]
            if self.job.expected:
                known = self.job.expected[case.name]
                wanted, noise = known["value"], known["sensitivity"]
            else:
                wanted, noise = self.median(case), self.noise(case)
            size = max(compare.largest(wanted), self.scale())
            differences[case.name] = found = compare.difference(
                got, wanted, compare.VALUE * size + compare.ROUNDINGS * noise
            )
            if not found.ratio <= 1 and np.shape(got) != np.shape(wanted):
                details.append(f"shape {np.shape(got)} instead of {np.shape(wanted)}")
        return differences, (
            details or ["another value than " + ("the oracle" if self.job.expected else "others have")]
        )[0]

    def median(self, case: Case) -> Any:
        """Return what most backends say: of two, the first."""
        values = []
        for answers in self.replies.values():
            reply = answers.get(("value", case.name, "eager"))
            if reply is not None and reply.status == "done":
                values.append(reply.result["value"])
        same = [value for value in values if value.shape == values[0].shape]
        return np.sort(np.stack(same), axis=0)[(len(same) - 1) // 2] if len(same) > 2 else values[0]

    def noise(self, case: Case) -> float:
        """Return what rounding the inputs changes in the values, by those in float64."""
        reply = self.replies.get(self.job.reference, {}).get(("gradient", case.name, "exact"))
        if reply is None or reply.status != "done":
            return 0.0
        first, _, others, *_ = self.parts(case, reply.result["sums"])
        return compare.largest(others - first[0])

    def parts(self, case: Case, sums: np.ndarray) -> list[np.ndarray]:
        """Cut the values of a case as its points are."""
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
                slopes, noise = (self.job.expected[case.name][name] for name in ("slopes", "slope sensitivity"))
                smallest = compare.GRADIENT
            else:
                slopes, noise, smallest = self.own_slopes(case)
            size = max(compare.largest(slopes.lower), compare.largest(slopes.upper), 1e-30)
            tolerance = smallest * size + compare.ROUNDINGS * noise
            differences[case.name] = compare.gradient_difference(got, slopes, tolerance)
        bad = [case for case, found in differences.items() if not found.ratio <= 1]
        nan = any(np.isnan(differences[case].error) for case in bad)
        return differences, "the gradient is not finite" if nan else "another gradient than the values have"

    def own_slopes(self, case: Case) -> Any:
        reply = self.replies[self.job.reference].get(("gradient", case.name, "exact"))
        if reply is None or reply.status != "done":
            why = "no answer" if reply is None else reply.message
            raise _NoAnswerError(f"{self.job.reference} has no values in float64: {why}")
        points, sums = self.job.points(case), self.parts(case, reply.result["sums"])
        slopes, other, *coarse = (
            compare.slopes(part, steps, case.x.shape)
            for part, (_, steps) in zip(sums, points, strict=True)
            if len(steps)
        )
        if coarse and compare.noisy(slopes):
            return coarse[0], np.zeros(case.x.shape), compare.COARSE_GRADIENT
        return slopes, compare.moved(slopes, other), compare.GRADIENT

    def same_as(self, case: Case, name: str, other: str, tolerance: float = compare.VALUE) -> Difference:
        """Compare value and gradient of two runs."""
        got, wanted = self.done(case, name), self.done(case, other)
        value = compare.difference(
            got["value"], wanted["value"], tolerance * max(compare.largest(wanted["value"]), self.size_of(wanted))
        )
        slope = wanted["gradient"]
        if slope is None or got["gradient"] is None:
            missing = (slope is None) != (got["gradient"] is None)
            return Difference(float("inf"), 1.0) if missing else value
        gradient = compare.difference(got["gradient"], slope, 10 * tolerance * max(compare.largest(slope), 1e-30))
        return max(value, gradient, key=lambda found: found.ratio)

    def size_of(self, wanted: Any) -> float:
        plain = self.replies[self.backend].get(("value", self.plain.name, "eager"))
        done = plain is not None and plain.status == "done"
        return compare.largest(plain.result["value"] if done else wanted["value"])  # type: ignore[union-attr]

    def compiled(self) -> Any:
        return self.modes(_compiled(self.job.described[self.backend]))

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
            raise _NoAnswerError("the worker was lost before")
        return differences, "eager gives something else"

    def columns(self) -> Any:
        names = list(self.job.columns(self.plain))
        wanted = self.done(self.plain, names[0] if "[B, 1]" in names[0] or self.job.kind != "regression" else names[1])
        other = names[1]
        reply = self.replies[self.backend].get((self.check, self.plain.name, other))
        if reply is not None and reply.status == "error" and reply.message.startswith(("ValueError", "TypeError")):
            return ({self.plain.name: Difference(0.0, 1.0)},)  # refused, and not merged or broadcast
        got = self.done(self.plain, other)
        if got["value"].shape != wanted["value"].shape:
            raise _FailError(f"{other}: shape {got['value'].shape} instead of {wanted['value'].shape}", self.plain.name)
        return {self.plain.name: self.same_as(self.plain, other, names[0])}, f"{other} gives something else"

    def half(self) -> Any:
        differences, detail = {}, ""
        for case in self.cases:
            for name in ("half", "dtype"):
                if (self.check, case.name, name) not in self.replies[self.backend]:
                    continue
                got, wanted = self.done(case, name), self.done(case, "float32")
                most = 65504.0 if got["dtype"] == "float16" else 3e38
                if compare.largest(wanted["value"]) > most or not np.isfinite(wanted["value"]).all():
                    continue  # what the result's dtype cannot hold is no fault
                size = max(compare.largest(wanted["value"]), self.size_of(wanted))
                found = compare.difference(got["value"], wanted["value"], compare.HALF[self.check] * size)
                gradient = got["gradient"]
                if gradient is not None and np.isfinite(wanted["gradient"]).all() and not np.isfinite(gradient).all():
                    found, detail = Difference(float("nan"), compare.HALF[self.check]), "the gradient is not finite"
                label = case.name if name == "half" else f"{case.name}, dtype={self.check!r}"
                differences[label] = found
        return differences, detail or f"{self.check} gives something else than float32 does on the same inputs"

    def close(self, got: Any, wanted: Any) -> Difference:
        """Compare reduced values, sums of those of rows."""
        size = max(compare.largest(wanted), self.size_of({"value": wanted}))
        return compare.difference(got, wanted, compare.VALUE * size)

    def sample_weight(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        differences = {}
        for i in range(2):
            got = self.done(self.plain, f"only row {i}")["value"]
            # One value a row, or one for all: then a weight of 0 must leave a row out.
            wanted = rows[i].sum() if rows.ndim else self.done(self.plain, f"row {i} alone")["value"]
            differences[f"only row {i}"] = self.close(got, wanted)
        if rows.ndim:
            weights = np.linspace(0.5, 2.0, len(rows)).astype(np.float32).astype(np.float64)
            each = rows.reshape(len(rows), -1).sum(axis=1)
            differences["weights"] = self.close(self.done(self.plain, "weights")["value"], (weights * each).sum())
        return differences, "weights do not weight samples"

    def mask(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        mask = np.arange(len(self.plain.x)) % 3 != 1
        wanted = rows[mask].sum() if rows.ndim else self.done(self.plain, "weights")["value"]
        names = [key[2] for key in self.replies[self.backend] if key[0] == "mask" and key[2].startswith("mask ")]
        found = {
            name.replace("mask ", "mask, "): self.close(self.done(self.plain, name)["value"], wanted) for name in names
        }
        return found, "a Keras mask does not count as weights of 0 and 1 do"

    def reduction(self) -> Any:
        rows = self.done(self.plain, "none")["value"].astype(np.float64)
        names = ("sum", "sum_over_batch_size", "mean_with_sample_weight")
        got = {name: self.done(self.plain, name)["value"] for name in names}
        shaped = [name for name, value in got.items() if np.ndim(value)]
        if shaped:
            raise _FailError(f"reduction {shaped[0]!r} leaves the shape {np.shape(got[shaped[0]])}", self.plain.name)
        if not rows.ndim:  # a statistic of the whole batch: there is nothing to reduce
            return {name: self.close(got[name], rows) for name in names[:2]}, "a scalar is changed by its reduction"
        wanted = (rows.sum(), rows.mean(), rows.mean())
        differences = {name: self.close(got[name], value) for name, value in zip(names, wanted, strict=True)}
        return differences, "another number than the reduction makes of the rows"

    def config(self) -> Any:
        found = self.done(self.plain, "config")
        if found["lost"]:
            raise _FailError(f"`get_config` leaves out {', '.join(found['lost'])}", self.plain.name)
        if found["dtypes"][0] != found["dtypes"][1]:
            raise _FailError(f"dtype {found['dtypes'][0]} becomes {found['dtypes'][1]}", self.plain.name)
        return {self.plain.name: self.close(found["after"], found["before"])}, "another value after the round trip"

    def save(self) -> Any:
        found = self.done(self.plain, "save")
        return {self.plain.name: self.close(found["after"], found["before"])}, "another value after loading"

    def fit(self) -> Any:
        found = self.done(self.plain, "fit")
        first = next(
            reply.result
            for answers in self.replies.values()
            if (reply := answers.get(("fit", self.plain.name, "fit"))) is not None and reply.status == "done"
        )
        moved, wanted = ([np.ravel(part) for part in result["moved"]] for result in (found, first))
        together, target = np.concatenate(moved), np.concatenate(wanted)
        # Weights near 1 hide what moves them by less than 6e-8.
        tolerance = 10 * compare.GRADIENT * compare.largest(target) + 1.2e-7
        weights = compare.difference(together, target, tolerance)
        loss = self.close(found["loss"], first["loss"])
        finite = Difference(0.0 if np.isfinite(together).all() else float("nan"), 1.0)
        return {"loss": loss, "weights": weights, "finite": finite}, "one step moves the weights elsewhere"

    def large_labels(self) -> Any:
        return {self.plain.name: self.same_as(self.plain, "large", "small")}, "labels that differ by 1 are merged"

    def retracing(self) -> Any:
        check = "determinism" if "determinism" in self.job.checks else "retracing"
        traces = self.done(self.plain, "repeat", check)["traces"]
        return {self.plain.name: Difference(float(traces or 0), 0.0)}, "traced or compiled again for the same shape"

    def determinism(self) -> Any:
        found = self.done(self.plain, "repeat")
        off = compare.difference(found["again"], found["first"], 0.0)
        return {self.plain.name: off}, "the same batch gives another value the second time"


class _FailError(Exception):
    """A check that fails, and why."""


class _NoAnswerError(Exception):
    """A check that could not be made, and why."""
