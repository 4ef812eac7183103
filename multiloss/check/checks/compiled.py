"""Whether compiled modes give what eager mode gives, and whether they compile once."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import tree
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, has_gradient, result_of
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply


def compiled_modes(run: Run, backend: str) -> list[str]:
    """Return the compiled modes that are checked."""
    # Code generation takes torch a minute for some losses; tracing and differentiation do not.
    modes = run.described[backend]["modes"]
    return [mode for mode in modes if mode not in ("eager", "inductor") and "unknown" not in mode]


def _unknown_modes(run: Run, backend: str) -> list[str]:
    return [mode for mode in run.described[backend]["modes"] if "unknown" in mode]


def of_one_form(cases: list[Case]) -> list[Case]:
    """Return the cases that have the axes of the first one, but for the number of rows."""

    def form(case: Case) -> Any:
        return [(leaf.shape[1:], str(leaf.dtype)) for part in (case.y, case.x) for leaf in tree.leaves(part)]

    return [case for case in cases if form(case) == form(cases[0])]


def _first_cases(run: Run) -> list[Case]:
    """Return batches of one shape, of which the later ones show what was captured when the first was traced."""
    some = [run.plain, *[case for case in run.cases if not case.large and case.size and not case.plain]]
    return [case for case in of_one_form(some) if case.rows == run.plain.rows][:3]


class _Modes(Check):
    """Compares several batches through one compiled function with eager mode."""

    def modes(self, run: Run, backend: str) -> list[str]:
        """Return the modes to compare with eager mode."""
        raise NotImplementedError

    def some(self, run: Run) -> list[Case]:
        """Return the batches that one compiled function gets."""
        raise NotImplementedError

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        some = self.some(run)
        batches = {case.name: (case.y, case.x) for case in some}
        asked: dict[Any, Request] = {
            mode: Request("run_all", target=run.target, batches=batches, mode=mode) for mode in self.modes(run, backend)
        }
        return asked | {("eager", case.name): run.request(case) for case in some}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        for case in self.some(run):
            eager = mine.reply(("eager", case.name))
            if eager is not None and eager.status == "error":
                continue  # other checks say so
            for mode in self.modes(run, backend):
                label = f"{case.name}, {mode}"
                with found.at(label, case, mode):
                    wanted = mine[("eager", case.name)]
                    got = result_of(Reply.of(mine[mode]["replies"][case.name]))
                    found.add(label, run.same(got, wanted, backend), "result differs from eager mode", batch=case)


class Compiled(_Modes):
    """Compiled modes of known shapes."""

    name = "compiled"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) and self.modes(run, backend) else f"{backend} does not compile"

    def modes(self, run: Run, backend: str) -> list[str]:
        return compiled_modes(run, backend)

    def some(self, run: Run) -> list[Case]:
        return _first_cases(run)


class UnknownBatch(_Modes):
    """TensorFlow with a batch size that is not known when it traces."""

    name = "unknown_batch"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if self.modes(run, backend) else f"{backend} traces with known sizes only"

    def modes(self, run: Run, backend: str) -> list[str]:
        return _unknown_modes(run, backend)

    def some(self, run: Run) -> list[Case]:
        small = [case for case in run.cases if case.rows in (0, 1) and not case.optional]
        return of_one_form([run.plain, *small])


class Retracing(Check):
    """A compiled function and the operations outside of one are not compiled again for the same shapes."""

    name = "retracing"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) else f"{backend} does not compile"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        modes = Compiled().requests(run, backend)
        asked = {mode: request for mode, request in modes.items() if request.task == "run_all"}
        return asked | {"repeat": repeat(run)}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        results = {name: mine.get(name) for name in mine.requests}
        if any(result is None for result in results.values()):
            failed = next(reply for name in results if (reply := mine.reply(name)) is None or reply.status != "done")
            why = "the worker was lost earlier" if failed is None else failed.message
            found.undecided(run.plain.name, f"the loss could not be run: {why}")
            return
        for mode, result in results.items():
            if mode != "repeat" and all(status != "done" for status, *_ in result["replies"].values()):
                found.undecided(run.plain.name, f"nothing could be computed in mode {mode}")
                return
        eager = results["repeat"]["traces"]
        traces = sum(result["traces"] for mode, result in results.items() if mode != "repeat")
        detail = "retraced or recompiled for the same shapes" + ("" if traces else ", outside of any compiled function")
        found.add(run.plain.name, Difference(float(traces + eager), 0.0), detail, "setting", run.plain)


def repeat(run: Run) -> Request:
    """Return the request that alternates between two batches."""
    plain = run.plain
    same = [case for case in _first_cases(run) if not case.plain]
    other = same[0] if same else plain.take(slice(None, None, -1))
    return Request("repeat", target=run.target, y=plain.y, x=plain.x, other_y=other.y, other_x=other.x)


class Determinism(Check):
    """One loss gives the same for the same batch, whatever it was given in between."""

    name = "determinism"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) else f"{backend} computes no gradients: values only"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {"repeat": repeat(run)}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        reply = replies[backend].reply("repeat")
        if reply is not None and reply.status == "error":
            found.undecided(run.plain.name, f"the loss could not be run: {reply.message}")
            return
        with found.at(run.plain.name, run.plain):
            result = replies[backend]["repeat"]
            for wanted, again, detail in (
                ("first", "again", "value differs when the same batch is repeated"),
                ("fresh", "other", "value depends on the batches that the loss was given before"),
            ):
                found.add(run.plain.name, _spread(result[again], result[wanted]), detail, batch=run.plain)


def _spread(again: Any, first: Any) -> Difference:
    """Return how far results are from the first; equal NaNs are equal."""
    off = [
        np.where((one == first) | (np.isnan(one) & np.isnan(first)), 0.0, np.abs(one - first).astype(np.float64))
        for one in again
        if np.shape(one) == np.shape(first)
    ]
    if len(off) < len(again):
        return Difference(float("inf"), 0.0)
    return Difference(float(np.max(off, initial=0.0)), 0.0)
