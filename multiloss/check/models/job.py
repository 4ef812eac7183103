"""One comparison: what is asked of the workers when, and what is made of the replies."""

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from multiloss.check import pool, tree
from multiloss.check.job import CheckError, error_of
from multiloss.check.models import batches as batches_of
from multiloss.check.models import known, stages
from multiloss.check.models.record import RECORDED, Record
from multiloss.check.models.report import STAGES
from multiloss.check.models.stages import Found
from multiloss.check.pool import Reply, Worker
from multiloss.check.report import Cell
from multiloss.check.report.contents import brief

_SHOWN = 64  # numbers that are shown as arrays


class Job:
    """One comparison."""

    def __init__(
        self,
        build: str,
        data: str,
        seed: int,
        size: int,
        steps: int,
        workers: Mapping[str, Worker],
        progress: Callable[[str, int, int], None] | None,
        against: Record | None = None,
    ):
        self.build, self.data, self.seed, self.size, self.steps = build, data, seed, size, steps
        self.workers, self.progress = dict(workers), progress
        self.cells: dict[tuple[str, str], Cell] = {}
        self.versions: dict[str, str] = {}
        self.curves: dict[str, list[float]] = {}
        self.notes: list[str] = []
        self.facts: set[str] = set()  # what `known` asks for
        self.nothing: set[str] = set()  # weights whose gradient is 0
        self.compared: set[str] = set()  # weights whose gradients were compared
        self.given: dict[str, Any] = {}  # the model, its weights and state, for requests
        self.batch: Any = None  # the first
        self.unit = stages.ROUNDING  # of the precision that the model computes in
        self.source: dict[str, Any] = {}  # the description of the model whose weights all have
        self.against = against
        self.replies: dict[str, dict[str, Any]] = {}  # backend -> what it computed, for a record

    # --- requests ----------------------------------------------------------------------------------------------------

    def ask(
        self, backends: Sequence[str], asked: Sequence[tuple[str, str, dict[str, Any]]]
    ) -> dict[str, dict[str, Reply]]:
        """Send the same requests to some backends, but for recorded ones: backend -> key -> reply."""
        workers = {backend: self.workers[backend] for backend in backends if backend in self.workers}
        return pool.gather(workers, {backend: list(asked) for backend in workers}, self.progress, restarts=1)

    def run(self) -> None:
        """Compare stage by stage."""
        described = self.describe()
        if not described:
            return
        if self.against is not None:
            described = {**dict.fromkeys(self.against.replies, self.against.described), **described}
            self.versions = {**self.against.versions, **self.versions}
            for row in ("runs", "deterministic"):
                self.cells |= {(row, b): Cell(row, b, "not applicable", "of a record") for b in self.against.replies}
        batches = self.compare_data(described)
        there = self.compare_weights(described)
        source = self.source = described[there[0]]
        if any(not np.array_equal(described[b]["weights"][p], a) for b in there for p, a in source["weights"].items()):
            self.notes.append(f"Weights are those of {there[0]}: with one seed, each backend draws others.")
        if any(leaf.dtype.kind in "iu" and stages.largest(leaf) >= 2**31 for leaf in batches_of.labels(batches)):
            self.facts.add(known.WIDE_INTEGERS)
        if any("#" in name for name in source["weights"]):
            self.facts.add(known.SAME_PATHS)
        for name, kind in source["random"].items():
            self.notes.append(
                f"`{name}` ({kind}) draws random numbers, which no two backends share: called as in inference."
            )
        self.batch, self.unit = batches[0], max(described[b]["unit"] for b in there)
        self.given = {"build": self.build, "weights": source["weights"], "state": source["state"], "unit": self.unit}
        training = {"given": self.given, "batches": batches[: self.steps], "steps": self.steps}
        forward = {"given": self.given, "batch": batches[0]}
        replies = self.ask(
            there,
            [
                ("forward", "forward_model", {**forward, "wide": False}),
                ("train", "train_model", {**training, "wide": False}),
                ("forward, wide", "forward_model", {**forward, "wide": True}),
                ("train, wide", "train_model", {**training, "wide": True}),
            ],
        )
        failed = {b: some["train"] for b, some in replies.items() if "train" in some and some["train"].status != "done"}
        if len(failed) == len(self.workers) and all(reply.status == "error" for reply in failed.values()):
            raise self.nowhere(next(iter(failed.values())))
        for backend in replies:
            self.ran(backend, replies[backend])
        recorded = {} if self.against is None else self.against.replies
        done = {
            key: {b: some[key] for b, some in recorded.items() if key in some} | _done(replies, key) for key in RECORDED
        }
        self.replies = {b: {key: done[key][b] for key in RECORDED if b in done[key]} for b in replies}
        self.compare_runs(done)

    def ran(self, backend: str, replies: Mapping[str, Reply]) -> None:
        """Say what a backend could not do."""
        failed = {key: reply for key, reply in replies.items() if reply.status != "done"}
        needed = {key: reply for key, reply in failed.items() if "wide" not in key}
        for key, reply in failed.items():
            if "wide" in key and key.partition(",")[0] not in needed:
                self.notes.append(
                    f"{backend} has no float64 values of `{key.partition(',')[0]}`: {brief(reply.message)}"
                )
        lost = len(replies) < 4
        if needed or lost:
            message = next((reply.message for reply in needed.values()), "the process of this backend ended before")
            self.crash(backend, message)
        else:
            self.cells["runs", backend] = Cell("runs", backend, "pass")

    def nowhere(self, reply: Reply) -> CheckError:
        """Return the error where no backend can run the model."""
        own = reply.message.startswith("TargetError: ")
        text = brief(reply.message.removeprefix("TargetError: "), math.inf)
        return error_of(text if own else f"{self.build} raises on every backend: {text}", reply)

    # --- stages ------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the descriptions of the model by backend."""
        arguments = {"build": self.build, "data": self.data, "seed": self.seed, "size": self.size, "steps": self.steps}
        answers = self.ask(list(self.workers), [("model", "describe_model", arguments)])
        replies = {backend: some["model"] for backend, some in answers.items()}
        failed = {backend: reply for backend, reply in replies.items() if reply.status != "done"}
        if failed and len(failed) == len(replies):
            raise self.nowhere(next(iter(failed.values())))
        for backend, reply in failed.items():
            self.crash(backend, reply.message)
        described = {backend: reply.result for backend, reply in replies.items() if reply.status == "done"}
        self.versions = {backend: one["versions"] for backend, one in described.items()}
        return described

    def compare_data(self, described: Mapping[str, Any]) -> list[Any]:
        """Return the batches of most backends."""
        prints = {
            backend: [batches_of.bytes_of(batch) for batch in one["batches"]] for backend, one in described.items()
        }
        common = next(iter(prints.values())) if self.against else stages.usual(prints)
        source = next(backend for backend, of in prints.items() if of == common)
        for backend, of in prints.items():
            if of == common:
                self.cells["data", backend] = Cell("data", backend, "pass")
                continue
            detail = batches_of.differs(described[source]["batches"], described[backend]["batches"])
            self.fail("data", backend, f"{detail}. What follows is of the batches of {source}")
        return list(described[source]["batches"])

    def compare_weights(self, described: Mapping[str, Any]) -> list[str]:
        """Return the backends whose models have the same weights."""
        forms = {
            backend: [(path, array.shape, path in one["trainable"]) for path, array in one["weights"].items()]
            for backend, one in described.items()
        }
        common = next(iter(forms.values())) if self.against else stages.usual(forms)
        for backend, form in forms.items():
            if form == common:
                self.cells["weights", backend] = Cell("weights", backend, "pass")
                continue
            if sorted(form) == sorted(common):
                names = [(mine[0], theirs[0]) for mine, theirs in zip(form, common, strict=True) if mine != theirs]
                detail = f"the same weights in another order: `{names[0][0]}`, elsewhere `{names[0][1]}`"
                self.fail("weights", backend, detail)
                continue
            here, there = dict.fromkeys(form), dict.fromkeys(common)
            mine, theirs = next(((a, b) for a, b in zip(form, common, strict=False) if a != b), (None, None))
            if mine is None:
                extra = next(iter([*(w for w in here if w not in there), *(w for w in there if w not in here)]))
                mine, theirs = (extra, None) if extra in here else (None, extra)
            self.fail("weights", backend, f"another architecture: {_weight(mine)}, elsewhere {_weight(theirs)}")
        return [backend for backend, form in forms.items() if form == common]

    def compare_runs(self, done: Mapping[str, Mapping[str, Any]]) -> None:
        """Judge what the backends computed."""
        forward, train = done["forward"], done["train"]
        self.facts |= {call.kind for reply in forward.values() for call in reply["inference"]["calls"]}
        wide = {key.partition(",")[0]: some for key, some in done.items() if "wide" in key}
        self.deterministic(forward)
        narrow: set[str] = set()
        added: list[Found] = []
        if len(forward) > 1:
            for row, way in (("forward", "inference"), ("forward_training", "training")):
                found = [
                    stages.judged(item, narrow, self.unit) for item in stages.of_calls(forward, wide["forward"], way)
                ]
                added = [one for one in found if one.item.name.startswith(stages.LOSS_OF)]
                self.judge(row, list(forward), [one for one in found if one not in added], self.layer)
        if len(train) < 2:
            self.deterministic_step(train)
            return
        of_logs = [
            stages.judged(item, narrow, self.unit)
            for item in stages.of_training(train, wide["train"], lambda run: run["logs"][0])
        ]
        losses = sorted(
            (one for one in of_logs if stages.is_loss(one.item.name)), key=lambda one: one.item.name == "loss"
        )
        self.judge("loss", list(train), [*added, *losses], self.log)
        self.judge("metrics", list(train), [one for one in of_logs if not stages.is_loss(one.item.name)], self.log)
        gradients = [
            stages.judged(item, narrow, self.unit)
            for item in stages.of_training(train, wide["train"], lambda r: r["gradients"])
        ]
        self.nothing = {one.item.name for one in gradients if one.nothing}
        self.compared = {one.item.name for one in gradients}
        self.deterministic_step(train)
        self.judge("gradient", list(train), gradients, self.gradient_of(forward, gradients))
        steps = [
            stages.judged(item, narrow, self.unit)
            for item in stages.of_training(train, wide["train"], lambda run: run["weights"])
        ]
        self.judge("step", list(train), steps, self.weight)
        name = next((one.item.name for one in reversed(losses)), "")
        self.curves = {b: _curve(reply["run"]["logs"], name) for b, reply in train.items()} if name else {}
        curves = [
            _growing(item, narrow, self.unit)
            for item in stages.of_training(
                train, wide["train"], lambda run: {name: _curve(run["logs"], name)} if name else {}
            )
        ]
        self.judge("curve", list(train), curves, self.curve)
        self.explain(steps, curves)

    def judge(
        self, row: str, backends: Sequence[str], found: Sequence[Found], say: Callable[[Found, str], str]
    ) -> None:
        """Make the cells of a stage; the first item that is off is what is named."""
        for backend in backends:
            if not found:
                self.cells[row, backend] = Cell(row, backend, "not applicable", "there is none")
                continue
            errors = {one.item.name: one.errors.get(backend, 0.0) / (one.tolerance or 1.0) for one in found}
            off = [one for one in found if backend in one.off]
            if off:
                first = off[-1] if row == "gradient" else off[0]  # gradients come from the last weight to the first
                earlier = next((s for s in STAGES if s != row and self.failing(s, backend)), "")
                detail = f"follows from `{earlier}`" if earlier else say(first, backend)
                self.fail(row, backend, detail, first, errors, "" if earlier else self.smallest(row, first, backend))
                continue
            worst = max(found, key=lambda one: one.errors.get(backend, 0.0) / (one.tolerance or 1.0))
            self.cells[row, backend] = Cell(
                row,
                backend,
                "pass",
                "",
                worst.errors.get(backend, 0.0),
                worst.tolerance,
                worst.item.name,
                errors=errors,
            )

    def failing(self, row: str, backend: str) -> bool:
        """Whether a stage already fails."""
        cell = self.cells.get((row, backend))
        return cell is not None and cell.status == "fail"

    def fail(
        self,
        row: str,
        backend: str,
        detail: str,
        found: Found | None = None,
        errors: Mapping[str, float] | None = None,
        batch: str = "",
    ) -> None:
        """Make a cell that fails."""
        error, tolerance, case = None, None, None
        if found is not None:
            error, tolerance, case = found.errors.get(backend, np.inf), found.tolerance, found.item.name
        kind = "wrong" if error is None or np.isfinite(error) else "nan"
        self.cells[row, backend] = Cell(
            row, backend, "fail", detail, error, tolerance, case, self.line(), errors or {}, kind, batch
        )

    def crash(self, backend: str, message: str) -> None:
        """Make the cell of a backend that did not come to an end."""
        detail = message.removeprefix("TargetError: ")
        self.cells["runs", backend] = Cell("runs", backend, "fail", detail, reproduce=self.line(), kind="crash")

    def line(self) -> str:
        """Return a command that does it again."""
        words = ["multiloss compare", shlex.quote(self.build), "--data", shlex.quote(self.data)]
        words += ["--against", shlex.quote(self.against.path)] if self.against else []
        words += ["--steps", str(self.steps), "--batch-size", str(self.size), "--seed", str(self.seed)]
        words += next(iter(self.workers.values())).settings.words
        pythons = {backend: worker.python for backend, worker in self.workers.items()}
        here = [backend for backend, python in pythons.items() if python == sys.executable]
        words += ["--backends", ",".join(here)] if here else []
        return " ".join(
            [*words, *(w for b, p in pythons.items() if b not in here for w in ("--backend", shlex.quote(f"{b}={p}")))]
        )

    def smallest(self, row: str, found: Found, backend: str) -> str:
        """Return one row of the model's input that shows the difference of a layer, as Python code, or ""."""
        values = found.item.values
        rows = len(tree.leaves(self.batch[0])[0])
        if row != "forward" or found.shape or any(v.ndim == 0 or len(v) != rows for v in values.values()):
            return ""
        other = next((b for b in values if b not in found.off), next(b for b in values if b != backend))
        apart = np.abs(values[backend].astype(np.float64) - values[other]).reshape(rows, -1).max(axis=1, initial=0.0)
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        x = tree.map(lambda leaf: leaf[worst : worst + 1], self.batch[0])
        if sum(leaf.size for leaf in tree.leaves(x)) > _SHOWN:
            return ""
        asked = {"given": self.given, "batch": (x, None, None), "wide": False}
        replies = _done(self.ask(list(values), [("row", "forward_model", asked)]), "row")
        again = (
            [item for item in stages.of_calls(replies, {}, "inference") if item.name == found.item.name]
            if replies
            else []
        )
        if not again or backend not in stages.judged(again[0], set(replies), self.unit).off:
            return ""
        results = [f"# on {b}: {tree.code(v)}" for b, v in again[0].values.items() if v.size <= _SHOWN]
        return "\n".join([f"x = {tree.code(x)}", *results])

    # --- words -------------------------------------------------------------------------------------------------------

    def how_far(self, found: Found, backend: str) -> str:
        """Say by how much, and who says so."""
        if found.shape:
            return f"its shape is {found.shape}"
        units, others = found.units.get(backend, np.inf), [b for b in found.item.values if b not in found.off]
        amount = f"by {units:.2g} times what rounding does" if np.isfinite(units) else "by NaN or infinity"
        if not others:
            return f"{amount}, and no two backends agree" if len(found.off) > 2 else f"{amount}: either may be wrong"
        if found.imprecise:
            return f"{amount}, but not in float64: its float32 has less precision, as TF32 or half precision has"
        return f"{amount}{', in float64 too' if found.by_wide else ''}"

    def layer(self, found: Found, backend: str) -> str:
        """Say which layer."""
        item = found.item
        text = f"`{item.name}` ({item.kind}, {item.shapes}) is the first layer that differs"
        return f"{text}: {self.how_far(found, backend)}"

    def log(self, found: Found, backend: str) -> str:
        """Say which loss or metric."""
        values = ", ".join(f"{float(np.ravel(v)[-1]):.7g} on {b}" for b, v in found.item.values.items())
        name = found.item.name
        text = f"`{name}`"
        if name.startswith(stages.LOSS_OF):
            text = f"what `{name.removeprefix(stages.LOSS_OF)}` ({found.item.kind}) adds to the loss"
        elif name in self.source["losses"]:
            text = f"`{name}`, which is {self.source['losses'][name]},"
        return f"{text} differs {self.how_far(found, backend)}: {values}"

    def curve(self, found: Found, backend: str) -> str:
        """Say from which step on."""
        text = f"`{found.item.name}` differs from step {len(next(iter(found.item.values.values())))} on"
        return f"{text}, after steps of the optimizer {self.source['optimizer']}: {self.how_far(found, backend)}"

    def weight(self, found: Found, backend: str) -> str:
        """Say which weight."""
        name, far = found.item.name, self.how_far(found, backend)
        if name not in self.source["trainable"]:
            return f"`{name}`, which is not trained, differs after one step: {far}"
        text = f"`{name}` differs after one step of the optimizer {self.source['optimizer']}"
        return f"{text}, though its gradient agrees: {far}" if name in self.compared else f"{text}: {far}"

    def gradient_of(self, forward: Mapping[str, Any], gradients: Sequence[Found]) -> Callable[[Found, str], str]:
        """Return what says where a gradient parts: by single layers, from the last weight that differs on."""

        def say(found: Found, backend: str) -> str:
            if layer := self.replayed(forward, found.item.name, backend):
                return f"{layer}, {self.how_far(found, backend)}"
            if found is not gradients[-1]:
                text = f"the gradient of `{found.item.name}` differs, {self.how_far(found, backend)}"
                owner = _owner(forward, found.item.name)
                return f"{text}, and those of later weights agree: {owner} has another gradient by this weight"
            losses = " and ".join(self.source["losses"].values()) or "the model's own"
            text = f"the gradients of weights up to `{found.item.name}` differ, {self.how_far(found, backend)}"
            if len(self.workers) < 2 or backend not in self.workers:
                return text  # layers of a record cannot be run again
            return f"{text}, and no layer by itself: that of the loss, {losses}, does"

        return say

    def replayed(self, forward: Mapping[str, Any], weight: str, backend: str) -> str:
        """Return the layer that has another gradient, by itself, for the same inputs; "" if none has."""
        source = next(b for b in forward if b != backend)
        calls = forward[source]["training"]["calls"]
        first = next((i for i, call in enumerate(calls) if weight in call.weights), 0)
        calls = [call for call in calls[first:] if not call.name.startswith(stages.LOSS_OF)]
        inputs = {call.name: call.inputs for call in calls if any(a.dtype.kind == "f" for a in call.inputs)}
        asked = {"given": self.given, "batch": self.batch, "inputs": inputs, "training": True}
        replies = _done(self.ask(list(forward), [("replay", "replay_layers", asked)]), "replay")
        for call in calls:
            answers = {
                b: reply[call.name][1] for b, reply in replies.items() if reply.get(call.name, ("",))[0] == "done"
            }
            if len(answers) < 2 or backend not in answers:
                continue
            for k in range(len(answers[backend][1] or [])):
                values = {b: answer[1][k] for b, answer in answers.items() if answer[1]}
                if backend in stages.judged(stages.Item(call.name, values, {}, {}), set(values), self.unit).off:
                    return (
                        f"`{call.name}` ({call.kind}) has another gradient for the same inputs, by its input of shape "
                        f"{list([a for a in call.inputs if a.dtype.kind == 'f'][k].shape)}"
                    )
        return ""

    def deterministic(self, forward: Mapping[str, Any]) -> None:
        """Compare what layers return in two runs of one backend."""
        for backend, reply in forward.items():
            if backend not in self.workers:
                continue
            self.cells["deterministic", backend] = Cell("deterministic", backend, "pass")
            for way in ("training", "inference"):
                for one, other in zip(reply[way]["calls"], reply[way]["again"], strict=False):
                    pairs = zip(one.outputs, other.outputs, strict=False)
                    apart = max((stages.apart(a, b) for a, b in pairs), default=0.0)
                    if apart > stages.ROUNDINGS * self.unit * max(map(stages.largest, one.outputs), default=0.0):
                        detail = f"`{one.name}` ({one.kind}) gives other numbers in a second run, in {way}"
                        detail += ". If they are random, let it have an argument `training`, and draw none without"
                        self.fail("deterministic", backend, detail)
                        break

    def deterministic_step(self, train: Mapping[str, Any]) -> None:
        """Compare weights after the same step of one backend, taken twice."""
        for backend, reply in train.items():
            if backend not in self.workers or self.failing("deterministic", backend):
                continue
            for name, value in reply["run"]["weights"].items():
                apart = stages.apart(value, reply["again"]["weights"][name])
                # Threads add up in another order, which an optimizer makes larger where gradients are small.
                if apart > 1e-3 * stages.largest(value) and name not in self.nothing:
                    self.fail("deterministic", backend, f"`{name}` differs after the same step, taken twice")
                    break

    def explain(self, steps: Sequence[Found], curves: Sequence[Found]) -> None:
        """Add what a reader asks of differences that are rounding."""
        amplified = [
            one.item.name
            for one in steps
            if one.item.name in self.nothing
            and one.rounding > 1e3 * stages.ROUNDING * max(map(stages.largest, one.item.values.values()))
        ]
        nothing = sorted(self.nothing)
        if nothing:
            names = ", ".join(f"`{name}`" for name in nothing[:3]) + (
                f" and {len(nothing) - 3} more" if nothing[3:] else ""
            )
            text = f"The gradient of {names} is 0: what float32 has is rounding, as of a bias before a normalization."
            if amplified:
                text += (
                    " The optimizer divides it by its own size, so that these weights move by other amounts everywhere."
                )
            self.notes.append(text)
        for one in curves:
            size = stages.largest(next(iter(one.item.values.values())))
            parted = any(cell.status == "fail" for cell in self.cells.values())
            if not parted and one.rounding > 100 * stages.ROUNDING * size:
                self.notes.append(
                    f"Within {self.steps} steps, losses differ by {max(one.errors.values()):.2g}. What rounds weights, "
                    f"inputs and updates changes them by {one.rounding:.2g}: training amplifies it, and none is off."
                )


def _owner(forward: Mapping[str, Any], weight: str) -> str:
    """Return the layer that a weight is of, the innermost, with its class and shapes."""
    recorded: list[stages.Call] = [call for reply in forward.values() for call in reply["training"]["calls"]]
    having = [call for call in recorded if weight in call.weights]
    if not having:
        return "its layer"
    call = min(having, key=lambda call: len(call.weights))
    return f"`{call.name}` ({call.kind}, {stages.shapes_of(call)})"


def _growing(item: stages.Item, narrow: set[str], unit: float) -> Found:
    """Judge a curve by what rounding does to it up to each step, since it grows."""
    steps = len(next(iter(item.values.values())))
    last: Found | None = None
    for step in range(1, steps + 1):
        cut = stages.Item(
            item.name,
            {b: v[:step] for b, v in item.values.items()},
            {b: [one[:step] for one in some if len(one) == steps] for b, some in item.moved.items()},
            {b: v[:step] for b, v in item.wide.items()},
        )
        last = stages.judged(cut, narrow, unit)
        if last.off:
            return last
    assert last is not None
    return last


def _curve(logs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(np.sum(log[name])) for log in logs]


def _done(replies: Mapping[str, Mapping[str, Reply]], key: str) -> dict[str, Any]:
    return {b: some[key].result for b, some in replies.items() if key in some and some[key].status == "done"}


def _weight(form: Any) -> str:
    if form is None:
        return "none"
    path, shape, trainable = form
    return f"`{path}` {list(shape)}{'' if trainable else ', not trainable'}"
