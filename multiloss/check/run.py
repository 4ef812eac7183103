"""`check_loss`: sends requests to the workers and reports on their replies."""

import contextlib
import copy
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multiloss import _backends
from multiloss.check import compare, inputs, judge, pool
from multiloss.check import search as searching
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply, Worker, Workers
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
_OFFSET = 2**24


class CheckError(ValueError):
    """A check could not run; the message names the argument, what was expected and what was received."""


def check_loss(
    target: Any,
    oracle: Any = None,
    *,
    inputs: str | Callable[[int], Any] | None = None,
    backends: Sequence[str] | Mapping[str, str | None] | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
    known: str | Path | None = None,
    timeout: float = pool.TIMEOUT,
    search: int = 0,
    workers: Workers | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Check a Keras loss against an oracle, and for consistency, on every backend.

    Each backend runs in its own process. With an oracle, values are compared with its values and gradients with its
    central differences, in float64. Without one, values are compared between backends, and gradients with finite
    differences of the loss's own values in float64.

    Args:
        target: the loss: a string as in `multiloss check` (`module:attribute` or `path.py:attribute`, followed by a
            call if there are arguments), or a function, a `Loss` class or instance that another process can import.
        oracle: None, or a NumPy function of the same two arguments, given in the same way. It returns values of the
            same shape, or a scalar, which is compared with the reduced loss.
        inputs: a family of `multiloss.check.inputs.FAMILIES`, the path of an `.npz` file, or a function of a seed (or
            its string) that returns `{name: (y_true, y_pred)}`. None chooses a family by the target's name.
        backends: names, or a mapping of names to Python interpreters; None for all backends installed here.
        seed: seed of the random inputs.
        checks: the checks to run, from `CHECKS`; None for all.
        known: a file of known failures, see `multiloss.check.report.read_known`.
        timeout: seconds until a request to a worker is given up.
        search: how many more random cases to draw for values and gradients, from the family or from seeds of the
            function of inputs. The smallest failing case is shown. Needs hypothesis.
        workers: worker processes to use and leave running; None for new ones.
        progress: called with the backend, the number of completed requests, and their total.

    Returns:
        A `Report`.

    Raises:
        CheckError, TargetError: both are ValueErrors: if a target, oracle, input or backend is not available, takes
            other arguments, or if the oracle returns another shape.
        OSError: if the file of known failures cannot be read.

    Example:
        >>> from multiloss.check import check_loss
        >>> report = check_loss("keras.losses:MeanSquaredError", backends=["jax"])  # doctest: +SKIP
        >>> report.ok  # doctest: +SKIP
        True
    """
    began = time.perf_counter()
    if search < 0:
        raise CheckError(f"`search` must be an integer >= 0. Received: {search}")
    chosen = _choose(checks)
    expected = read_known(known) if known is not None else None
    target_text, oracle_text = text_of(target), None if oracle is None else text_of(oracle)
    function = None if oracle is None else (resolve(oracle) if isinstance(oracle, str) else oracle)
    if function is not None and not callable(function):
        raise CheckError(f"`oracle` must be callable. Received: {oracle_text}")
    pythons, missing, unchecked = _chosen(backends)
    if expected is not None:
        asked = [*chosen, *(["search"] if search else [])]
        cells = [Cell(check, backend, "not checked") for check in asked for backend in (*pythons, *missing)]
        Report(target_text, oracle_text, "", seed, "", {}, tuple(cells), {}, 0.0).with_known(expected)  # raise early
    with contextlib.ExitStack() as stack:
        kept = workers or stack.enter_context(Workers())
        mine = {backend: kept.get(backend, python, timeout) for backend, python in pythons.items()}
        job = _Job(target_text, oracle_text, function, inputs, seed, chosen, mine, progress)
        job.draws = search
        cells = [*[_not_installed(backend) for backend in missing], *job.cells()]
    report = Report(
        target=target_text,
        oracle=oracle_text,
        inputs=job.inputs_text,
        seed=seed,
        compared=job.compared,
        versions=job.versions,
        cells=tuple(cells),
        unchecked=unchecked,
        notes=job.notes,
        seconds=time.perf_counter() - began,
    )
    return report if expected is None else report.with_known(expected)


def _choose(checks: Sequence[str] | None) -> tuple[str, ...]:
    if checks is None:
        return CHECKS
    if unknown := [check for check in checks if check not in CHECKS]:
        raise CheckError(f"`checks` must be among {', '.join(CHECKS)}. Received: {unknown[0]!r}")
    return ("runs", *[check for check in CHECKS if check in checks and check != "runs"])


def _chosen(
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
        if backend not in (*_backends.BACKENDS, *pool.FORWARD_ONLY):
            known = ", ".join((*_backends.BACKENDS, *pool.FORWARD_ONLY))
            raise CheckError(f"`backends` must be among {known}. Received: {backend!r}")
        if python is not None and not Path(python).is_file():
            raise CheckError(f"`backends` must map {backend} to an interpreter. Received: {python!r}, not a file")
    missing = [backend for backend, python in pythons.items() if python is None and not _backends.installed(backend)]
    return {b: p for b, p in pythons.items() if b not in missing}, missing, {}


def _not_installed(backend: str) -> Cell:
    return Cell("runs", backend, "fail", f"{backend} is not installed: {_backends.how_to_install(backend)}")


@dataclasses.dataclass
class _Request:
    """One request: its check, case, and name within the check."""

    check: str
    case: str
    name: str
    task: str
    arguments: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.check, self.case, self.name


class _Job:
    """One run of all checks. `cells` runs them; the other members are for the report."""

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
        self.draws, self.drawn = 0, None  # the number of cases to draw, and their strategy
        self.given, self.inputs_text = given, given if isinstance(given, str) else ""
        self.versions: dict[str, str] = {}
        self.compared = ""
        self.notes: tuple[str, ...] = ()
        self.described: dict[str, dict[str, Any]] = {}
        self.own = False  # whether the oracle returns the reduced loss
        self.kind, self.logits = "", False
        self.expected: dict[str, dict[str, Any]] = {}

    # --- requests ----------------------------------------------------------------------------------------------------

    def cells(self) -> list[Cell]:
        """Send the requests, wait for the replies, and judge them."""
        first = {backend: [("", "describe", {"target": self.target})] for backend in self.workers}
        answers = pool.gather(self.workers, first, restarts=0)
        described = {backend: replies[""] for backend, replies in answers.items()}
        errors = [reply for reply in described.values() if reply.status == "error"]
        if errors and len(errors) == len(described):
            message = errors[0].message
            named = message.startswith("TargetError: ")
            cause = f"{self.target} could not be created: {message}"
            message = message.removeprefix("TargetError: ") if named else cause
            raise _error(message, errors[0])
        cells = [
            Cell("runs", backend, "fail", reply.message, reproduce=self.line("runs", backend))
            for backend, reply in described.items()
            if reply.status != "done"
        ]
        self.described = {backend: reply.result for backend, reply in described.items() if reply.status == "done"}
        self.versions = {backend: description["versions"] for backend, description in self.described.items()}
        if not self.described:
            return cells

        cases = self.cases()
        if self.draws:
            self.drawn = searching.strategy(self.kind or self.inputs_text, self.logits)
        self.expected = self.ask_oracle(cases)
        replies = self.ask(cases, self.progress)
        self.refuse_bad_targets(replies, cases)
        cells += judge.verdicts(self, cases, replies)
        return [*cells, *self.search(cases, replies)] if self.draws else cells

    def ask(self, cases: list[Case], progress: Any) -> dict[str, dict[Any, Reply]]:
        """Return the workers' replies: backend -> (check, case, name) -> reply."""
        requests = {backend: self.requests(backend, cases) for backend in self.described}
        sent = {backend: [(one.key, one.task, one.arguments) for one in part] for backend, part in requests.items()}
        replies = pool.gather(self.workers, sent, progress)
        for backend, part in requests.items():
            for request in part:
                if request.task == "run_all" and (reply := replies[backend].get(request.key)):
                    for case in request.arguments["batches"]:
                        one = Reply.of(reply.result["replies"][case]) if reply.status == "done" else reply
                        replies[backend][request.check, case, request.name] = one
        return replies

    def search(self, cases: list[Case], replies: dict[str, dict[Any, Reply]]) -> list[Cell]:
        """Draw cases until one fails, then shrink it; return a cell for each backend."""
        job = copy.copy(self)
        job.checks = ("value", "gradient")
        scale = judge.scale_of(cases, replies)

        def failing(case: Case) -> list[Cell]:
            job.expected = job.ask_oracle([case])
            answers = job.ask([case], None)
            lost = any(reply.status == "lost" for replies in answers.values() for reply in replies.values())
            bad = ("fail", "not checked") if lost else ("fail",)
            return [cell for cell in judge.verdicts(job, [case], answers, scale) if cell.status in bad]

        found = searching.smallest(self.drawn, failing, self.draws, self.seed, self.progress)
        line = f"{self.line('runs', ','.join(self.described))} --only value --only gradient --search {self.draws}"
        made = []
        for backend in self.described:
            failed = next((cell for cell in found.cells if cell.backend == backend), None)
            if failed is None:
                made.append(Cell("search", backend, "pass", f"{found.tried} cases"))
                continue
            detail = f"{failed.check}: {failed.detail}"
            made.append(dataclasses.replace(failed, check="search", status="fail", detail=detail, reproduce=line))
        if found.case is not None:
            self.notes = (searching.text_of_case(found),)
        return made

    @property
    def is_loss(self) -> bool:
        return any(description["loss"] for description in self.described.values())

    def cases(self) -> list[Case]:
        given = self.given
        if callable(given):
            given, self.inputs_text = text_of(given), text_of(given)
        if given is None:
            given = inputs.guess(self.target)
            self.inputs_text = f"{given} (guessed from the name; --inputs selects others)"
        if given in inputs.FAMILIES:
            self.logits = any(description["from_logits"] for description in self.described.values())
            self.logits = self.logits or "from_logits=True" in self.target
            self.kind, cases = given, inputs.family(given, self.seed, self.logits)
        elif given.endswith(".npz") or ":" in given:
            self.kind, cases = "", inputs.load(given, self.seed)
        else:
            families = ", ".join(inputs.FAMILIES)
            raise CheckError(f"`inputs` must be one of {families}, an .npz file or a function. Received: {given!r}")
        return cases

    def ask_oracle(self, cases: list[Case]) -> dict[str, dict[str, Any]]:
        """Return the oracle's results: case -> value, slopes, and how much rounding changes them."""
        if self.function is None:
            self.compared = "values between backends, gradients with finite differences of the loss in float64"
            return {}
        self.compared = f"with {self.oracle} and its central differences, in float64"
        results = {}
        for case in cases:
            try:
                results[case.name] = compare.oracle_results(
                    self.function, case.y, case.x, _upstream, self.seed, not case.large
                )
            except (Exception, SystemExit) as error:  # user code may raise anything
                raise CheckError(
                    f"`oracle` fails on {case.name!r}: {type(error).__name__}: {error}. It takes (y_true, y_pred), "
                    f"here of shapes {case.y.shape} and {case.x.shape}"
                ) from error
        self.own = self.is_loss and next(iter(results.values()))["value"].ndim == 0
        return results

    def requests(self, backend: str, cases: list[Case]) -> list[_Request]:
        description, requests = self.described[backend], []
        plain = next(case for case in cases if case.plain)
        reduction = "own" if self.own else "none"
        forward_only = backend in pool.FORWARD_ONLY
        compiled = judge.compiled(description)

        def ask(check: str, case: Case, name: str, task: str = "run", **arguments: Any) -> None:
            if check in self.checks:
                arguments = {"y": case.y, "x": case.x, **arguments}
                requests.append(_Request(check, case.name, name, task, {"target": self.target, **arguments}))

        # Values and gradients come first, in one request per case: other checks compare with those of the plain case,
        # and only values and gradients are compared with values in float64.
        for case in cases if {"value", "gradient"} & set(self.checks) else []:
            arguments = {
                "target": self.target,
                "y": case.y,
                "x": case.x,
                "reduction": reduction,
                "gradient": not forward_only,
            }
            requests.append(_Request("value", case.name, "eager", "run", arguments))
            if self.function is None and backend == self.reference and case.x.size and not case.large:
                arguments = {
                    "target": self.target,
                    "y": case.y,
                    "xs": np.concatenate([points for points, _ in self.points(case)]),
                    "reduction": reduction,
                }
                requests.append(_Request("gradient", case.name, "exact", "exact", arguments))
        if forward_only:
            return requests

        def ask_modes(check: str, some: list[Case], modes: list[str], also: str = "") -> None:
            """Request cases in several modes, each compiled once, and in eager mode."""
            if {check, also} & set(self.checks) and modes:
                batches = {case.name: (case.y, case.x) for case in some}
                for mode in modes:
                    arguments = {"target": self.target, "batches": batches, "mode": mode}
                    requests.append(_Request(check, "", mode, "run_all", arguments))
                for case in some:
                    ask(check, case, "eager")

        small = [case for case in cases if not case.large and case.x.size]
        ask_modes("compiled", small[:3], compiled, also="retracing")
        sizes = [plain, *[case for case in cases if case.name in ("batch of 1", "batch of 0")]]
        ask_modes("unknown batch size", sizes, [mode for mode in description["modes"] if "unknown" in mode])

        for name, (y, x) in self.columns(plain).items():
            ask("[B] and [B, 1]", plain, name, y=y, x=x)
        for dtype in compare.HALF:
            for case in [plain, *[case for case in cases if case.large]]:
                rounded = compare.halved(case.x, dtype)
                ask(dtype, case, "float32", x=rounded)
                ask(dtype, case, "half", x=rounded, cast=dtype)
                if description["takes_dtype"]:
                    ask(dtype, case, "dtype", x=rounded, dtype=dtype)

        rows = len(plain.x)
        if description["loss"]:
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
            if plain.x.ndim > 1:
                ask(check, plain, check, check)
        if self.kind == "labels-embeddings":
            ask("labels above 2^24", plain, "small")
            ask("labels above 2^24", plain, "large", y=plain.y + np.int32(_OFFSET))
        other = {"other_y": plain.y[::-1].copy(), "other_x": plain.x[::-1].copy()}
        ask("determinism", plain, "repeat", "repeat", **other)
        if "determinism" not in self.checks:
            ask("retracing", plain, "repeat", "repeat", **other)
        return requests

    @property
    def reference(self) -> str:
        """The backend whose values give the finite differences: TensorFlow if present, where Keras has float64."""
        able = [backend for backend in self.described if backend not in pool.FORWARD_ONLY]
        return "tensorflow" if "tensorflow" in able else next(iter(able), "")

    def points(self, case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return points and steps: large steps at the case, its roundings, and small steps if there is float64.

        The small steps are at the case and at its roundings, with the smallest ones at the case last.
        """
        others = compare.rounded(case.x, self.seed)
        found = [compare.points(case.x, compare.COARSE_STEP), (np.stack(others), np.zeros(0))]
        exact = [compare.points(x) for x in (case.x, *others)] + [compare.points(case.x, compare.CLOSE_STEP)]
        return [*found, *exact] if self.reference == "tensorflow" else found

    def columns(self, case: Case) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return equivalent batches, with and without an axis of size 1."""
        y, x = case.y, case.x
        if self.kind in ("labels-embeddings", "integer-labels"):
            return {"y_true [B]": (y, x), "y_true [B, 1]": (y[:, None], x)}
        if self.kind == "regression":
            return {"y_true [B, 1]": (y[:, :1], x[:, :1]), "y_true [B]": (y[:, 0], x[:, :1])}
        return {}

    def refuse_bad_targets(self, replies: dict[str, dict[Any, Reply]], cases: list[Case]) -> None:
        """Raise if no backend could run the loss on the plain case, or if the oracle returns another shape."""
        plain = next(case for case in cases if case.plain)
        key = ("value", plain.name, "eager")
        first = [answers[key] for answers in replies.values() if key in answers]
        if first and all(reply.status == "error" for reply in first):
            raise _error(
                f"{self.target} fails on (y_true, y_pred) of shapes {plain.y.shape} and {plain.x.shape} "
                f"(--inputs selects others): {first[0].message}",
                first[0],
            )
        for reply in first:
            if reply.status == "done" and self.expected:
                got, wanted = reply.result["value"].shape, self.expected[plain.name]["value"].shape
                if got != wanted:
                    raise CheckError(f"`oracle` must return the shape of the loss, {got}. Received: {wanted}")

    def line(self, check: str, backend: str) -> str:
        """Return a command that reproduces one cell."""
        words = ["multiloss check", shlex.quote(self.target)]
        words += [] if self.oracle is None else ["--oracle", shlex.quote(self.oracle)]
        words += ["--inputs", shlex.quote(self.inputs_text.partition(" (")[0])] if self.inputs_text else []
        alone = self.oracle is not None or check not in ("value", "fit")
        backend = backend if alone else ",".join(self.workers)
        words += ["--backends", backend]
        pythons = {name: self.workers[name].python for name in backend.split(",")}
        words += [w for b, p in pythons.items() if p != sys.executable for w in ("--backend", shlex.quote(f"{b}={p}"))]
        words += ["--seed", str(self.seed)] if self.seed else []
        return " ".join([*words, *([] if check == "runs" else ["--only", shlex.quote(check)])])


def _error(message: str, reply: Reply) -> CheckError:
    """Return a worker's error with its traceback, which `--debug` shows."""
    error = CheckError(message)
    error.add_note(reply.traceback.strip())
    return error


def _upstream(shape: tuple[int, ...]) -> np.ndarray:
    # As `worker.upstream_of`, which cannot be imported here without Keras.
    factors = 1 + 0.5 * np.cos(np.arange(int(np.prod(shape))))
    return factors.reshape(shape).astype(np.float32).astype(np.float64)
