"""`check_loss`: sends requests to the workers and reports on their replies."""

import contextlib
import dataclasses
import inspect
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from multiloss import _backends
from multiloss.check import checks as rows
from multiloss.check import families, hints, judge, pool, slopes, tree
from multiloss.check import search as searching
from multiloss.check.checks import CHECKS, metrics
from multiloss.check.checks.base import FORWARD_ONLY, Check, Findings, Missing, Request, Run, flat, has_gradient
from multiloss.check.checks.metrics import METRIC_CHECKS, MetricRun, weights_of, with_mixed
from multiloss.check.checks.settings import KERAS_DTYPE
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply, Worker, Workers
from multiloss.check.report import KINDS, Cell, Report, read_known
from multiloss.check.report.contents import brief
from multiloss.check.slopes import Truth
from multiloss.check.targets import resolve, text_of

# The checks that look at every batch, and need its value in eager mode.
_OF_CASES = frozenset({"value", "finite", "gradient", "empty_batch"})
# The backend whose float64 values are the truth when there is no oracle: first the one that needs no compiler.
_REFERENCES = ("torch", "jax", "tensorflow")


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
    skip: Sequence[str] = (),
    known: str | Path | None = None,
    fail_on: Sequence[str] = KINDS,
    timeout: float = pool.TIMEOUT,
    memory: float = pool.MEMORY,
    search: int = 0,
    metric: bool = False,
    workers: Workers | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Check a Keras loss or metric against an oracle, and for consistency, on every backend.

    Each backend runs in its own process. With an oracle, values are compared with its values and gradients with its
    numerical derivatives, in float64. Without one, they are compared with the loss's own values in float64, and between
    backends.

    A plain function is called as `compile` calls it, with tensors cast to floatx, unless it has the attribute
    `exact_labels = True`. A loss whose gradient is not that of its values on purpose has the attribute
    straight_through = True`: its gradient is finite and the same on all backends, or it fails.

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
        workers: worker processes to use and leave running; None for new ones.
        progress: called with the backend, the number of completed requests, and their total.

    Returns:
        A `Report`.

    Raises:
        CheckError, TargetError: both are ValueErrors: if a target, oracle, input or backend is not available, takes
            other arguments, or if the oracle cannot be called with them.
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
    if not (timeout > 0 and math.isfinite(timeout)):
        raise CheckError(f"`timeout` must be a finite number of seconds > 0. Received: {timeout}")
    if not memory > 0:
        raise CheckError(f"`memory` must be a number of GiB > 0. Received: {memory}")
    if unknown := [kind for kind in fail_on if kind not in KINDS]:
        raise CheckError(f"`fail_on` must be among {', '.join(KINDS)}. Received: {unknown[0]!r}")
    for argument, names in (("checks", checks or ()), ("skip", skip)):
        if unknown := [check for check in names if check not in CHECKS and check not in METRIC_CHECKS]:
            raise CheckError(f"`{argument}` must be among {', '.join(CHECKS)}. Received: {unknown[0]!r}")
    expected = read_known(known) if known is not None else None
    target_text, oracle_text = text_of(target), None if oracle is None else text_of(oracle)
    function = None if oracle is None else (resolve(oracle) if isinstance(oracle, str) else oracle)
    if function is not None and not callable(function):
        raise CheckError(f"`oracle` must be callable. Received: {oracle_text}")
    pythons, missing, unchecked = _chosen(backends)
    if expected is not None:
        some = METRIC_CHECKS if metric else dict.fromkeys((*CHECKS, *METRIC_CHECKS))
        asked = [check for check in some if check not in skip and (checks is None or check in ("runs", *checks))]
        asked += ["search"] if search else []
        cells = [Cell(check, backend, "not checked") for check in asked for backend in (*pythons, *missing)]
        Report(target_text, oracle_text, "", seed, "", {}, tuple(cells), {}, 0.0).with_known(expected)  # raise early
    with contextlib.ExitStack() as stack:
        kept = workers or stack.enter_context(Workers())
        mine = {backend: kept.get(backend, python, timeout, memory) for backend, python in pythons.items()}
        asked_for: Any = (target_text, oracle_text, function, inputs, seed, (checks, skip), mine, progress, search)
        job = (_MetricJob if metric else _Job)(*asked_for)
        described, cells = job.describe()
        if any(description["metric"] for description in described.values()) and not metric:
            job = _MetricJob(*asked_for)
            described, cells = job.describe()
        cells = [
            *[_not_installed(backend) for backend in missing],
            *cells,
            *(job.cells(described) if described else []),
        ]
    report = Report(
        target=f"{target_text} ({job.what})" if job.what else target_text,
        oracle=oracle_text,
        inputs=job.inputs_text,
        seed=seed,
        compared=job.compared,
        versions=job.versions,
        cells=tuple(cells),
        unchecked=unchecked,
        notes=tuple(job.notes),
        seconds=time.perf_counter() - began,
        fail_on=tuple(fail_on),
    )
    return report if expected is None else report.with_known(expected)


def _choose(
    table: Mapping[str, Check], what: str, checks: Sequence[str] | None, skip: Sequence[str]
) -> tuple[str, ...]:
    for argument, names in (("checks", checks or ()), ("skip", skip)):
        if unknown := [check for check in names if check not in table]:
            of = f" of {what}" if what else ""
            raise CheckError(f"`{argument}`{of} must be among {', '.join(table)}. Received: {unknown[0]!r}")
    some = {*table} if checks is None else {"runs", *checks}
    if {"value", "gradient"} & (some - {*skip}):
        some.add("finite")  # to which both leave what is not finite on any backend
    return tuple(check for check in table if check in some and check not in skip)


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
        if backend not in (*_backends.BACKENDS, *FORWARD_ONLY):
            known = ", ".join((*_backends.BACKENDS, *FORWARD_ONLY))
            raise CheckError(f"`backends` must be among {known}. Received: {backend!r}")
        if python is not None and not Path(python).is_file():
            raise CheckError(f"`backends` must map {backend} to an interpreter. Received: {python!r}, not a file")
    missing = [backend for backend, python in pythons.items() if python is None and not _backends.installed(backend)]
    return {b: p for b, p in pythons.items() if b not in missing}, missing, {}


def _not_installed(backend: str) -> Cell:
    detail = f"{backend} is not installed: {_backends.how_to_install(backend)}"
    return Cell("runs", backend, "fail", detail, kind="crash")


class _Job:
    """One run of all checks. `cells` runs them; the other members are for the report."""

    table: Mapping[str, Check] = rows.ALL
    of_cases = _OF_CASES
    what = ""  # what the target is, where it is no loss
    flag = ""  # the option that says so

    def __init__(
        self,
        target: str,
        oracle: str | None,
        function: Any,
        given: Any,
        seed: int,
        checks: tuple[Sequence[str] | None, Sequence[str]],
        workers: Mapping[str, Worker],
        progress: Callable[[str, int, int], None] | None,
        draws: int,
    ):
        self.target, self.oracle, self.function, self.seed = target, oracle, function, seed
        self.asked, self.workers, self.draws = checks, workers, draws
        self.checks: tuple[str, ...] = ()
        self.progress = progress
        self.given, self.inputs_text = given, given if isinstance(given, str) else ""
        self.versions: dict[str, str] = {}
        self.compared = ""
        self.notes: list[str] = []
        self.kind, self.logits = "", False

    # --- the run, from start to end ----------------------------------------------------------------------------------

    def cells(self, described: dict[str, dict[str, Any]]) -> list[Cell]:
        """Send the requests, wait for the replies, and judge them."""
        self.checks = _choose(self.table, self.what, *self.asked)
        self.versions = {backend: description["versions"] for backend, description in described.items()}
        cases = self.cases(described)
        run = self.run_of(cases, described)
        self.ask_oracle_first(run)
        replies: dict[str, dict[str, Reply]] = {backend: {} for backend in described}
        if self.of_cases & set(self.checks):
            self.ask_eager(run, replies)
            self.refuse_bad_targets(run)
        run.scale = judge.scale_of(run)
        requests = {
            backend: {
                name: self.table[name].requests(run, backend)
                for name in self.checks
                if not self.table[name].why_not(run, backend)
            }
            for backend in described
        }
        self.ask_rest(run, requests, replies)
        found = judge.judged(run, self.checks, requests, replies, self.table)
        self.lost(found, requests, replies)
        cells = [judge.cell_of(*key, result, self.line(*key)) for key, result in found.items()]
        if any(isinstance(result, Findings) and result.note == KERAS_DTYPE for result in found.values()):
            self.notes.append(KERAS_DTYPE)
        cells = [dataclasses.replace(c, detail="") if c.detail == KERAS_DTYPE else c for c in cells]
        for backend, worker in self.workers.items():
            if worker.printed > _PRINTED:
                self.notes.append(f"On {backend}, the loss prints {worker.printed / 2**20:.0f} MiB.")
        return [*self.smaller(run, cells, found), *(self.search(run) if self.draws else [])]

    def describe(self) -> tuple[dict[str, dict[str, Any]], list[Cell]]:
        """Return the description of the target by each backend, and a cell for each that has none."""
        request = self.description()
        answers = self.gather({backend: [request] for backend in self.workers}, restarts=0)
        described = {backend: replies[request.key] for backend, replies in answers.items()}
        errors = [reply for reply in described.values() if reply.status == "error"]
        if errors and len(errors) == len(described):
            message = errors[0].message
            named = message.startswith("TargetError: ")
            cause = f"{self.target} could not be created: {message}"
            raise _error(message.removeprefix("TargetError: ") if named else cause, errors[0])
        cells = [
            Cell("runs", backend, "fail", reply.message, reproduce=self.line("runs", backend), kind="crash")
            for backend, reply in described.items()
            if reply.status != "done"
        ]
        return {backend: reply.result for backend, reply in described.items() if reply.status == "done"}, cells

    def description(self) -> Request:
        """Return the request for a description of the target."""
        return Request("describe", target=self.target)

    def run_of(self, cases: list[Case], described: dict[str, dict[str, Any]]) -> Run:
        """Return what is known at first."""
        return Run(self.target, cases, self.kind, self.seed, described, oracle=self.function is not None)

    def cases(self, described: Mapping[str, dict[str, Any]]) -> list[Case]:
        """Return the batches that are asked for."""
        given = self.given
        if callable(given):
            given, self.inputs_text = text_of(given), text_of(given)
        if given is None:
            given = families.guess(self.target, metric=bool(self.what))
            self.inputs_text = f"{given} (guessed from the name; --inputs selects others)"
        self.logits = any(description["from_logits"] for description in described.values())
        self.logits = self.logits or "from_logits=True" in self.target
        self.kind, cases = given, families.batches(given, self.seed, self.logits, integers=bool(self.what))
        return cases

    # --- requests ----------------------------------------------------------------------------------------------------

    def gather(self, asked: Mapping[str, list[Request]], restarts: int = 2) -> dict[str, dict[str, Reply]]:
        """Send requests, each of which is done once, and return the replies: backend -> key -> reply."""
        sent = {
            backend: [(one.key, one.task, one.arguments) for one in {one.key: one for one in some}.values()]
            for backend, some in asked.items()
        }
        return pool.gather(self.workers, sent, self.progress, restarts)

    def ask_eager(self, run: Run, replies: dict[str, dict[str, Reply]]) -> None:
        """Ask for the value and gradient of every case, and keep them in the run."""
        asked = {b: {case.name: run.value_request(b, case) for case in run.cases} for b in run.described}
        answers = self.gather({backend: list(some.values()) for backend, some in asked.items()})
        for backend, some in asked.items():
            replies[backend].update(answers[backend])
            run.eager[backend] = {
                name: reply for name, one in some.items() if (reply := answers[backend].get(one.key)) is not None
            }

    def ask_rest(
        self,
        run: Run,
        requests: Mapping[str, Mapping[str, Mapping[Any, Request]]],
        replies: dict[str, dict[str, Reply]],
    ) -> None:
        """Ask for what the checks request and is not there yet, and find the truth of each case meanwhile."""
        rest = {
            backend: [one for some in of.values() for one in some.values() if one.key not in replies[backend]]
            for backend, of in requests.items()
        }
        wanted = bool(self.of_cases & set(self.checks))
        able = self.references(run)
        if wanted and self.function is None and able:
            rest[able[0]] = [*(self.exact(run, case) for case in run.cases), *rest[able[0]]]
        with ThreadPoolExecutor(1) as aside:
            oracle = aside.submit(self.oracle_truths, run) if wanted and self.function is not None else None
            for backend, answers in self.gather(rest).items():
                replies[backend].update(answers)
            if oracle is not None:
                oracle.result()
        if wanted and self.function is None:
            self.own_truths(run, replies)

    # --- the truth ---------------------------------------------------------------------------------------------------

    def ask_oracle_first(self, run: Run) -> None:
        """Call the oracle once, to see whether it can be, and whether it returns the reduced loss."""
        if self.function is None:
            self.compared = "with its own values and numerical derivatives in float64, and between backends"
            return
        self.compared = f"with {self.oracle} and its numerical derivatives, in float64"
        value = np.asarray(self.of_oracle(run.plain))
        if value.dtype.kind not in "biuf":  # None would become nan
            received = type(self.of_oracle(run.plain)).__name__
            raise CheckError(f"`oracle` fails on {run.plain.name!r}: it must return numbers. Received: {received}")
        run.own = any(description["loss"] for description in run.described.values()) and value.ndim == 0

    def of_oracle(self, case: Case) -> Any:
        """Return the oracle's value of a batch."""
        try:
            with np.errstate(all="ignore"):
                return self.function(case.y, tree.map(lambda leaf: leaf.astype(np.float64), case.x))
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise CheckError(
                f"`oracle` fails on {case.name!r}: {type(error).__name__}: {error}. It takes (y_true, y_pred), "
                f"here {case.described}"
            ) from error

    def function_of_leaves(self, case: Case) -> Callable[[list[np.ndarray]], Any]:
        """Return the oracle as a function of the arrays of predictions."""
        return lambda x: self.function(case.y, tree.like(case.x, x))

    def oracle_truths(self, run: Run) -> None:
        """Evaluate and differentiate the oracle at every case."""
        for case in run.cases:
            try:
                self.of_oracle(case)
            except CheckError as error:
                if not case.optional:
                    raise
                run.untrue[case.name] = str(error)
                continue
            run.truths[case.name] = slopes.truth(
                self.function_of_leaves(case),
                tree.leaves(case.x),
                bounds=case.bounds,
                seed=self.seed,
                gradients=_gradients(run, case),
                differentiate=self.differentiated(run, case),
            )

    @staticmethod
    def references(run: Run) -> list[str]:
        """Return the backends that may have values in float64, the one to ask first."""
        return [backend for backend in _REFERENCES if backend in run.described]

    def own_truths(self, run: Run, there: Mapping[str, Mapping[str, Reply]]) -> None:
        """Evaluate and differentiate the loss in float64 on one backend, on others where that one is in doubt.

        The truth with which most backends agree counts. Where two truths have as many, neither does. `there` are
        replies to requests that were already sent.
        """
        left, claims = list(run.cases), {case.name: list[tuple[tuple[int, int], Truth]]() for case in run.cases}
        for backend in self.references(run):
            asked = {case.name: self.exact(run, case) for case in left}
            missing = [one for one in asked.values() if one.key not in there.get(backend, {})]
            answers = {**there.get(backend, {}), **self.gather({backend: missing})[backend]}
            for case in left:
                reply = answers.get(asked[case.name].key)
                if reply is None or reply.status != "done":
                    why = "the worker was lost" if reply is None else reply.message
                    run.untrue[case.name] = f"no value in float64: {why}"
                    continue
                truth = reply.result
                claims[case.name].append(((not truth.single, _support(run, case, truth)), truth))
            best = {case.name: max(claims[case.name], key=lambda claim: claim[0], default=None) for case in left}
            left = [case for case in left if not _settled(run, case, best[case.name])]
            if not left:
                break
        for name, of_case in claims.items():
            if not of_case:
                continue
            (_, truth), *others = sorted(of_case, key=lambda claim: claim[0], reverse=True)
            rank = max(of_case, key=lambda claim: claim[0])[0]
            if any(other[0] == rank and not run.agrees(truth, other[1].value) for other in others):
                run.untrue[name] = "the backends differ, and each agrees with itself in float64"
                continue
            run.truths[name] = truth

    def exact(self, run: Run, case: Case) -> Request:
        """Return the request for a case's value and derivatives in float64."""
        return Request(
            "exact",
            target=self.target,
            y=case.y,
            x=case.x,
            reduction="none",
            bounds=case.bounds,
            seed=self.seed,
            gradients=_gradients(run, case),
            differentiate=self.differentiated(run, case),
        )

    def differentiated(self, run: Run, case: Case) -> bool:
        """Whether the gradients of a case are compared with numerical derivatives."""
        return bool(case.size) and not case.large and not run.straight_through and "gradient" in self.checks

    def refuse_bad_targets(self, run: Run) -> None:
        """Raise if no backend could run the loss on the plain case."""
        plain = run.plain
        first = [reply for answers in run.eager.values() if (reply := answers.get(plain.name)) is not None]
        if first and all(reply.status == "error" for reply in first):
            if first[0].message.startswith("TargetError: returned a function"):
                raise _error(hints.uncalled(self.target), first[0])
            given = None if self.given is None else self.inputs_text
            message = hints.misfit(
                self.target, plain, first[0].message, given, first[0].traceback, brief(first[0].message)
            )
            raise _error(message, first[0])

    # --- more about failures -----------------------------------------------------------------------------------------

    def lost(self, found: Mapping[Any, Any], requests: Any, replies: Mapping[str, Mapping[str, Reply]]) -> None:
        """Make the row `runs` fail where a worker was lost."""
        for backend, answers in replies.items():
            runs = found.get(("runs", backend))
            if not isinstance(runs, Findings):
                continue
            names = {one.key: (check, name) for check, of in requests[backend].items() for name, one in of.items()}
            for key, reply in answers.items():
                if reply.status == "lost":
                    check, name = names.get(key, ("value", ""))
                    name = name if isinstance(name, str) else ", ".join(map(str, name)) if name else ""
                    runs.fail(str(name), f"{reply.message}, during {check} ({name})", "crash")

    def judge_cases(self, run: Run, cases: list[Case], names: Sequence[str]) -> list[Cell]:
        """Return the cells of checks of values and gradients on other cases."""
        part = dataclasses.replace(run, cases=cases, truths={}, untrue={}, eager={})
        replies: dict[str, dict[str, Reply]] = {backend: {} for backend in run.described}
        self.ask_eager(part, replies)
        if self.function is None:
            self.own_truths(part, {})
        else:
            self.oracle_truths(part)
        requests = {b: {name: rows.ALL[name].requests(part, b) for name in names} for b in run.described}
        found = judge.judged(part, names, requests, replies)
        return [judge.cell_of(*key, result, self.line(*key)) for key, result in found.items()]

    def smaller(self, run: Run, cells: list[Cell], found: Mapping[tuple[str, str], Any]) -> list[Cell]:
        """Return the cells, the batches of the worst failures of values and gradients with as few rows as show them."""
        done: dict[tuple[str, str], str] = {}
        made = []
        for cell in cells:
            case = run.case(cell.case or "") if cell.check in ("value", "finite", "gradient") else None
            if cell.status == "fail" and case is not None and case.rows > 1 and not case.large:
                key = (cell.check, case.name)
                if key not in done and len(done) < _SHRUNK:
                    done[key] = self.shrunk(run, cell, case)
                cell = dataclasses.replace(cell, batch=done.get(key) or cell.batch)
            made.append(cell)
        return made

    def shrunk(self, run: Run, cell: Cell, case: Case) -> str:
        """Return a batch of one or two of the rows that fails in the same way, as code, or "" if there is none."""
        alone = dataclasses.replace(run, described={cell.backend: run.described[cell.backend]}) if run.oracle else run
        for some in [[i] for i in range(case.rows)] + [[i, i + 1] for i in range(case.rows - 1)]:
            part = case.take(some)._replace(plain=True, optional=False)
            if any(
                other.status == "fail" and other.backend == cell.backend and other.kind == cell.kind
                for other in self.judge_cases(alone, [part], [cell.check])
            ):
                return part.code
        return ""

    def search(self, run: Run) -> list[Cell]:
        """Draw cases until one fails, then shrink it; return a cell for each backend."""
        drawn = searching.strategy(self.kind, self.logits)
        names = ("value", "finite", "gradient")

        def failing(case: Case) -> list[Cell]:
            cells = self.judge_cases(run, [case], names)
            lost = sum(worker.lost for worker in self.workers.values()) > before
            return [cell for cell in cells if cell.status == "fail" or (lost and cell.status == "not checked")]

        before = sum(worker.lost for worker in self.workers.values())
        found = searching.smallest(drawn, failing, self.draws, self.seed, self.progress)
        line = f"{self.line('runs', ','.join(run.described))} --only value,finite,gradient --search {self.draws}"
        made = []
        for backend in run.described:
            failed = next((cell for cell in found.cells if cell.backend == backend), None)
            if failed is None:
                made.append(Cell("search", backend, "pass", f"{found.tried} cases"))
                continue
            detail = f"{failed.check}: {failed.detail}"
            made.append(dataclasses.replace(failed, check="search", status="fail", detail=detail, reproduce=line))
        if found.case is not None:
            self.notes.append(searching.text_of_case(found))
        return made

    def line(self, check: str, backend: str) -> str:
        """Return a command that reproduces one cell."""
        words = ["multiloss check", shlex.quote(self.target), *([self.flag] if self.flag else [])]
        words += [] if self.oracle is None else ["--oracle", shlex.quote(self.oracle)]
        words += ["--inputs", shlex.quote(self.inputs_text.partition(" (")[0])] if self.inputs_text else []
        alone = self.oracle is not None or check not in ("value", "finite", "gradient", "fit", "empty_batch")
        backend = backend if alone else ",".join(self.workers)
        words += ["--backends", backend]
        pythons = {name: self.workers[name].python for name in backend.split(",")}
        words += [w for b, p in pythons.items() if p != sys.executable for w in ("--backend", shlex.quote(f"{b}={p}"))]
        words += ["--seed", str(self.seed)] if self.seed else []
        return " ".join([*words, *([] if check == "runs" else ["--only", check])])


class _MetricJob(_Job):
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


_PRINTED = 2**20  # bytes; frameworks print some, too
_SHRUNK = 3  # failures of which smaller batches are looked for


def _gradients(run: Run, case: Case) -> list[np.ndarray]:
    """Return the gradients of all backends that are to be judged."""
    found = [
        flat(result["gradient"]).astype(np.float64)
        for backend in run.described
        if has_gradient(backend) and (result := run.value_of(backend, case)) is not None and result["gradient"]
    ]
    return [gradient for gradient in found if gradient.size == case.size]


def _support(run: Run, case: Case, truth: Truth) -> int:
    """Return how many backends agree with a truth."""
    values = [run.value_of(backend, case) for backend in run.described]
    return sum(value is not None and run.agrees(truth, value["value"]) for value in values)


def _settled(run: Run, case: Case, claim: Any) -> bool:
    """Whether all backends agree with the best truth so far, and it is one of float64."""
    there = sum(run.value_of(backend, case) is not None for backend in run.described)
    return claim is not None and claim[0] == (True, there)


def _error(message: str, reply: Reply) -> CheckError:
    """Return a worker's error with its traceback, which `--debug` shows."""
    error = CheckError(message)
    error.add_note(reply.traceback.strip())
    return error
