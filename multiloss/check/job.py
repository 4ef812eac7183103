"""One run of the checks of a loss: what is asked of the workers, and when."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from multiloss.check import checks as rows
from multiloss.check import compare, families, hints, judge, pool, slopes, tree
from multiloss.check import search as searching
from multiloss.check.checks.base import Check, Findings, Request, Run, flat, has_gradient
from multiloss.check.checks.recorded import Recorded
from multiloss.check.checks.settings import KERAS_DTYPE
from multiloss.check.inputs import Case
from multiloss.check.loss_record import Record
from multiloss.check.pool import Reply, Worker
from multiloss.check.report import Cell
from multiloss.check.report.contents import brief
from multiloss.check.slopes import Truth
from multiloss.check.targets import text_of

# The checks that look at every batch, and need its value in eager mode.
_OF_CASES = frozenset({"value", "finite", "gradient", "empty_batch"})
# The backend whose float64 values are the truth when there is no oracle: first the one that needs no compiler.
_REFERENCES = ("torch", "jax", "tensorflow")


class CheckError(ValueError):
    """A check could not run; the message names the argument, what was expected and what was received."""


def _choose(
    table: Mapping[str, Check], what: str, checks: Sequence[str] | None, skip: Sequence[str], needed: Sequence[str]
) -> tuple[str, ...]:
    for argument, names in (("checks", checks or ()), ("skip", skip)):
        if unknown := [check for check in names if check not in table]:
            of = f" of {what}" if what else ""
            raise CheckError(f"`{argument}`{of} must be among {', '.join(table)}. Received: {unknown[0]!r}")
    some = {*table} if checks is None else {*needed, *checks}
    if {"value", "gradient"} & (some - {*skip}):
        some.add("finite")  # to which both leave what is not finite on any backend
    return tuple(check for check in table if check in some and check not in skip)


class Job:
    """One run of all checks. `cells` runs them; the other members are for the report."""

    table: Mapping[str, Check] = rows.ALL
    record: Record | None = None  # what to compare with
    recording = False  # whether one will be written
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
        if self.record is not None:
            self.table = {**self.table, Recorded.name: Recorded(self.record)}
        self.checks = _choose(self.table, self.what, *self.asked, self.needed)
        self.versions = {backend: description["versions"] for backend, description in described.items()}
        cases = self.cases(described)
        run = self.run = self.run_of(cases, described)
        self.ask_oracle_first(run)
        replies: dict[str, dict[str, Reply]] = {backend: {} for backend in described}
        if self.of_cases & set(self.checks) or self.checks == ("runs",):  # alone, it has no requests to look at
            self.ask_eager(run, replies)
            self.refuse_bad_targets(run)
        run.scale = judge.scale_of(run)
        if run.rounding > slopes.ROUNDING:
            self.notes.append(
                f"Products are in TF32: tolerances are {compare.relative(run.rounding):.1g} of each size."
            )
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
            cause = f"{self.target} could not be created: {' '.join(message.split())}"
            raise error_of(message.removeprefix("TargetError: ") if named else cause, errors[0])
        cells = [
            Cell("runs", backend, "fail", reply.message, reproduce=self.line("runs", backend), kind="crash")
            for backend, reply in described.items()
            if reply.status != "done"
        ]
        return {backend: reply.result for backend, reply in described.items() if reply.status == "done"}, cells

    def description(self) -> Request:
        """Return the request for a description of the target."""
        return Request("describe", target=self.target)

    @property
    def needed(self) -> tuple[str, ...]:
        """The checks that run whatever is asked for."""
        recorded = (Recorded.name,) if self.record is not None else ()
        return ("runs", *recorded, *(("value", "gradient") if self.recording else ()))

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
            raise self.oracle_error(case, error) from error

    @staticmethod
    def oracle_error(case: Case, error: BaseException) -> CheckError:
        """Return what to raise where the oracle raises."""
        return CheckError(
            f"`oracle` fails on {case.name!r}: {type(error).__name__}: {error}. It takes (y_true, y_pred), "
            f"here {case.described}"
        )

    def function_of_leaves(self, case: Case) -> Callable[[list[np.ndarray]], Any]:
        """Return the oracle as a function of the arrays of predictions."""
        return lambda x: self.function(case.y, tree.like(case.x, x))

    def oracle_truths(self, run: Run) -> None:
        """Evaluate and differentiate the oracle at every case."""
        for case in run.cases:
            try:
                run.truths[case.name] = slopes.truth(
                    self.function_of_leaves(case),
                    tree.leaves(case.x),
                    bounds=case.bounds,
                    seed=self.seed,
                    gradients=_gradients(run, case),
                    differentiate=self.differentiated(run, case),
                )
            except (Exception, SystemExit) as error:  # user code may raise anything
                if not case.optional:
                    raise self.oracle_error(case, error) from error
                run.untrue[case.name] = str(self.oracle_error(case, error))

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
                raise error_of(hints.uncalled(self.target), first[0])
            given = None if self.given is None else self.inputs_text
            message = hints.misfit(
                self.target, plain, first[0].message, given, first[0].traceback, brief(first[0].message)
            )
            raise error_of(message, first[0])

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
        words += ["--against", shlex.quote(self.record.path)] if self.record and check == Recorded.name else []
        words += self.workers[backend.partition(",")[0]].settings.words
        return " ".join([*words, *([] if check == "runs" else ["--only", check])])


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


def error_of(message: str, reply: Reply) -> CheckError:
    """Return a worker's error with its traceback, which `--debug` shows."""
    error = CheckError(message)
    error.add_note(reply.traceback.strip())
    return error
