"""The checks of metrics, each an object of its own, as those of losses are."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare, tree
from multiloss.check.checks.base import Check, Findings, Missing, Raised, Replies, Request, Run
from multiloss.check.checks.compiled import of_one_form
from multiloss.check.checks.values import Finite, Runs, Value, nowhere_finite
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.slopes import Plain

BY_INTENT = "its result depends on how rows are divided into batches, by intent"
_UPDATE = "before any update"
MIXED = "rows of several cases"


@dataclasses.dataclass
class MetricRun(Run):
    """A run of the checks of a metric. The value of a case is its result after one update, all numbers in a row.

    Attributes:
        oracle_weights: whether the oracle takes weights, too.
        weighted: the truth of the plain case with `weights_of`, from such an oracle.
    """

    oracle_weights: bool = False
    weighted: Plain | None = None

    @property
    def main(self) -> Case:
        """The case for checks that need only one batch: of rows of several, if there is one."""
        return self.case(MIXED) or self.plain

    def stream(self, *batches: Any, **options: Any) -> Request:
        """Return the request for the result of a new metric after batches: cases, or pairs of a case and weights."""
        given = [(one.y, one.x, None) if isinstance(one, Case) else (one[0].y, one[0].x, one[1]) for one in batches]
        return Request("stream", target=self.target, batches=given, **options)

    def request(self, case: Case, **options: Any) -> Request:
        """Return the request for the result after one batch."""
        return self.stream(case, **options)

    def value_request(self, backend: str, case: Case) -> Request:
        """Return the request that several checks share."""
        return self.stream(case)

    def sizes(self, wanted: Any) -> Any:
        """Return the typical size of each number: the largest of its part of the result, here or in most cases.

        Cases where it is 0 do not count: of all others, a 0 is a difference of rounded numbers.
        """
        wanted = np.asarray(wanted, np.float64)
        results = [r for b in self.described for case in self.cases if (r := self.value_of(b, case)) is not None]
        lengths = next((result["lengths"] for result in results if len(result["value"]) == wanted.size), None)
        if lengths is None:
            return compare.largest(wanted)
        cuts = np.cumsum(lengths)[:-1]
        most = [
            [compare.largest(part) for part in np.split(r["value"], cuts)]
            for r in results
            if len(r["value"]) == wanted.size
        ]
        here = [compare.largest(part) for part in np.split(wanted, cuts)]
        typical = [
            float(np.median(some)) if (some := [one for one in part if one]) else 0.0
            for part in zip(*most, strict=True)
        ]
        return np.repeat(np.maximum(here, typical), lengths)

    def value_tolerance(self, wanted: Any, moved: Any) -> Any:
        return self.value_share * self.sizes(wanted) + np.nan_to_num(moved)

    def close(self, got: Any, wanted: Any, backend: str, slack: Any = 0.0) -> Difference:
        """Compare results that should differ by the rounding of float32 sums only, and by some slack."""
        return compare.difference(got, wanted, self.value_tolerance(wanted, 0.0) + slack)

    def takes_weights(self, backend: str) -> bool:
        """Whether `update_state` has a third argument."""
        return bool(self.described[backend]["weighted"])

    @property
    def batch_dependent(self) -> bool:
        """Whether the metric says that it is one of batches."""
        return any(description["batch_dependent"] for description in self.described.values())


def with_mixed(cases: list[Case], seed: int) -> list[Case]:
    """Return the cases with one more of the rows of the first three, shuffled, if they have one form.

    A metric that is 0 for few rows shows nothing there.
    """
    some = [case for case in of_one_form(cases) if case.rows == cases[0].rows and not case.large][:3]
    if len(some) < 2:
        return cases
    order = np.random.default_rng(seed).permutation(len(some) * some[0].rows)
    y, x = (
        tree.like(parts[0], [np.concatenate(leaves)[order] for leaves in zip(*map(tree.leaves, parts), strict=True)])
        for parts in ([case.y for case in some], [case.x for case in some])
    )
    return [*cases, cases[0]._replace(name=MIXED, y=y, x=x, plain=False)]


def weights_of(case: Case) -> np.ndarray:
    """Return weights of the rows of a case."""
    return np.linspace(0.5, 2.0, case.rows).astype(np.float32)


def _refused(error: Raised) -> bool:
    return str(error).startswith("TypeError")


class MetricValue(Value):
    """Results agree with the oracle or, without one, with those in float64 and of the other backends."""

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        asked = super().requests(run, backend)
        if run.oracle_weights and run.takes_weights(backend):
            asked["weighted"] = run.stream((run.main, weights_of(run.main)))
        return asked

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        super().verdict(run, backend, replies, found)
        if run.weighted is None or "weighted" not in replies[backend].requests:
            return
        case = run.main
        with found.at(f"{case.name}, weighted", case, "with weights"):
            try:
                got = replies[backend]["weighted"]["value"]
            except Raised as error:
                if _refused(error):
                    return
                raise
            off = compare.difference(got, run.weighted.value, run.value_tolerance(*_smooth(run.weighted)))
            found.add(f"{case.name}, weighted", off, "weighted result differs from the oracle", batch=case)

    def judge(self, run: Run, backend: str, case: Case, result: Any, found: Findings) -> None:
        if nowhere_finite(run, case, "value") and not (run.oracle and case.name in run.truths):
            found.undecided(case.name, "the result is not finite: see `finite`")
            return
        got, truth = result["value"], run.truths.get(case.name)
        values = {b: result["value"] for b in run.described if (result := run.value_of(b, case)) is not None}
        other = None if run.oracle else self._of_others(values, backend)
        smooth = 0.0
        if truth is not None:
            wanted, smooth = _smooth(truth)
            # Only an oracle tells on which side of a threshold a tie is.
            moved = smooth if run.oracle else truth.moved
            self._compare(run, case, got, wanted, moved, self.truth(run, backend, case)[1], found)
        if other is not None:
            # Values in float64 tell by how much rounding moves a result.
            smooth = smooth if np.shape(smooth) == np.shape(other[0]) else 0.0
            self._compare(run, case, got, other[0], smooth, f"that of {run.others(backend)}", found)
        if truth is None and other is None:
            found.undecided(case.name, run.untrue.get(case.name, "nothing to compare with"))

    @staticmethod
    def _compare(run: Run, case: Case, got: Any, wanted: Any, moved: Any, by: str, found: Findings) -> None:
        if np.shape(got) != np.shape(wanted):
            found.fail(case.name, f"a result of {np.size(got)} numbers, expected {np.size(wanted)}", batch=case)
            return
        off = compare.difference(got, wanted, run.value_tolerance(wanted, moved))
        lost = np.isfinite(wanted).all() and not np.isfinite(got).all()
        what = "the result is not finite: it" if lost else "the result"
        found.add(case.name, off, f"{what} differs from {by}", "nan" if lost else "wrong", case)


def _smooth(truth: Any) -> tuple[Any, Any]:
    return truth.value, truth.smooth


class MetricFinite(Finite):
    """No result is NaN or infinite, before the first update neither."""

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        return super().requests(run, backend) | {_UPDATE: run.stream()}

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        super().verdict(run, backend, replies, found)
        reply = replies[backend].reply(_UPDATE)
        if reply is not None and reply.status == "error":
            found.undecided(_UPDATE, f"`result` raises: {reply.message}")
            return
        with found.at(_UPDATE):
            value = replies[backend][_UPDATE]["value"]
            bad = value[~np.isfinite(value)]
            found.require(_UPDATE, not bad.size, f"the result is {bad[0] if bad.size else ''} {_UPDATE}", "nan")


def divisions(case: Case, seed: int, all_rows: bool = True) -> dict[str, list[Case]]:
    """Return random divisions of a case's rows into batches, by name. Sizes differ, and the last has shuffled rows."""
    rng = np.random.default_rng([seed, case.rows])
    made: dict[str, Any] = {}
    if all_rows:
        made["row by row"] = [np.array([row]) for row in range(case.rows)]
    for ordered in (True, False):
        rows = np.arange(case.rows) if ordered else rng.permutation(case.rows)
        cuts = np.sort(rng.choice(np.arange(1, case.rows), min(2, case.rows - 1), replace=False))
        parts = np.split(rows, cuts)
        if len({len(part) for part in parts}) == 1 and case.rows > len(parts):
            parts = np.split(rows, [1, 2])  # equal sizes would hide a mean of means
        sizes = ", ".join(str(len(part)) for part in parts)
        made[f"batches of {sizes}{'' if ordered else ', of shuffled rows'}"] = parts
    return {name: [case.take(part) for part in parts] for name, parts in made.items()}


class Streaming(Check):
    """The result does not depend on how rows are divided into batches, nor on the order of the batches."""

    name = "streaming"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if self._some(run) else "no case has two rows"

    @staticmethod
    def _some(run: Any) -> list[Case]:
        return [case for case in run.cases if case.rows > 1]

    def _streams(self, run: Any) -> dict[tuple[str, str], list[Case]]:
        """Return batches for each case and division: all divisions of the plain case, one of each other."""
        streams: dict[tuple[str, str], list[Case]] = {}
        for case in self._some(run):
            named = divisions(case, run.seed, all_rows=case is run.main)
            if run.batch_dependent:
                batches = list(named.values())[-1]
                named = {"in order": batches, "last batch first": batches[::-1]}
            elif case is run.main:
                half = case.rows // 2
                parts = [case.take(slice(half)), case.take(slice(0)), case.take(slice(half, None))]
                named["an empty batch"] = parts
            else:
                named = dict(list(named.items())[:1])
            streams |= {(case.name, name): batches for name, batches in named.items()}
        return streams

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        return {key: run.stream(*batches) for key, batches in self._streams(run).items()}

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        if run.batch_dependent:
            found.note = f"{BY_INTENT}: the order of batches does not matter"
        for name, division in self._streams(run):
            case, whole = run.case(name), run.value_of(backend, run.case(name))
            if whole is None:
                continue  # other checks say so
            label = f"{name}: {division}"
            reply = mine.reply((name, division))
            if division == "an empty batch" and reply is not None and reply.status == "error":
                continue  # it takes none
            with found.at(label, case, division):
                got = mine[name, division]["value"]
                wanted = mine[name, "in order"]["value"] if run.batch_dependent else whole["value"]
                what = "the order of batches" if run.batch_dependent else f"one update: rows in {division}"
                if division == "row by row":
                    what = "one update: row by row"
                if division == "an empty batch":
                    what = "one update: with an empty batch"
                nan = np.isfinite(wanted).all() and not np.isfinite(got).all()
                detail = f"the result depends on {what}" if run.batch_dependent else f"the result differs from {what}"
                off = run.close(got, wanted, backend, slack(run, case, whole["value"]))
                found.add(label, off, detail, "nan" if nan else "wrong", case)


def slack(run: Run, case: Case, value: Any) -> Any:
    """Return how far a result is from the truth already, of which `value` tells."""
    truth = run.truths.get(case.name)
    if truth is None or np.shape(truth.value) != np.shape(value):
        return 0.0
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(np.asarray(value) - truth.value), posinf=0.0)


class Weights(Check):
    """Weights 0 and 1 leave rows out, weight 2 counts a row twice, and weights count in every batch."""

    name = "weights"

    def why_not(self, run: Any, backend: str) -> str:
        if run.main.rows < 2:
            return f"the first case, {run.main.name!r}, has fewer than two rows"
        return "" if run.takes_weights(backend) else "`update_state` takes no `sample_weight`"

    def _pairs(self, run: Any) -> dict[str, tuple[list[Any], list[Any], str]]:
        """Return two streams that must have one result, by names, and what it means if they have not."""
        case = run.main
        rows = np.arange(case.rows)
        ones = np.ones(case.rows, np.float32)
        pairs = {"weights of 1": ([(case, ones)], [case], "weights of 1 are not as none")}
        if run.batch_dependent:
            return pairs
        zeros, twos = (rows % 3 != 1).astype(np.float32), (1.0 + (rows % 3 == 0)).astype(np.float32)
        weights = weights_of(case)
        parts = np.split(rows, [1, 1 + case.rows // 2])
        return pairs | {
            "weights of 0 and 1": (
                [(case, zeros)],
                [case.take(np.flatnonzero(zeros))],
                "weights of 0 and 1 are not as leaving rows out",
            ),
            "weights of 2": (
                [(case, twos)],
                [case.take(np.repeat(rows, twos.astype(int)))],
                "weights of 2 are not as giving rows twice",
            ),
            "weights in batches": (
                [(case.take(part), weights[part]) for part in parts],
                [(case, weights)],
                "with weights, several batches are not as one",
            ),
        }

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        return {
            (name, side): run.stream(*streams[side]) for name, streams in self._pairs(run).items() for side in (0, 1)
        }

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine, case = replies[backend], run.main
        if run.value_of(backend, case) is None:
            found.undecided(case.name, "the metric could not be run")
            return
        if run.batch_dependent:
            found.note = f"{BY_INTENT}: weights of 1 are as none"
        elif any((result := mine.get(key)) is not None and result["whole"] for key in mine.requests):
            found.note = "it takes weights of the shape of `y_true` only, not [B]"
        for name, (*_, detail) in self._pairs(run).items():
            with found.at(name, case, name):
                try:
                    got = mine[name, 0]["value"]
                except Raised as error:
                    if not _refused(error):
                        raise
                    found.note = f"it refuses `sample_weight`: {error}"
                    return
                off = run.close(
                    got, mine[name, 1]["value"], backend, slack(run, case, run.value_of(backend, case)["value"])
                )
                found.add(name, off, detail, batch=case)


def _others(run: Any) -> tuple[Case, Case]:
    """Return two batches of one form."""
    return run.main, run.plain if run.main is not run.plain else run.plain.take(slice(0, 1))


class Reset(Check):
    """After `reset_state` a metric is as new, and new ones know nothing of others."""

    name = "reset"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        second, first = _others(run)
        batches = {"first": [(first.y, first.x, None)], "second": [(second.y, second.x, None)]}
        return {"reset": Request("reset", target=run.target, **batches)}

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        case = run.main
        with found.at(case.name, case):
            result = replies[backend]["reset"]
            shared = run.close(result["after"], result["before"], backend)
            found.add(case.name, shared, "the result of a new metric depends on what others were given", batch=case)
            if not shared.ratio <= 1:
                return  # there is no new one to compare with
            pairs = [("again", "before", "after `reset_state` and an update, the result is not that of a new metric")]
            sizes = [np.shape(result[name]) for name in ("new", "empty")]
            if result["new"] is not None and result["empty"] is not None and sizes[0] == sizes[1]:
                pairs.insert(0, ("empty", "new", "after `reset_state`, the result is not that of a new metric"))
            for one, other, detail in pairs:
                found.add(case.name, run.close(result[one], result[other], backend), detail, batch=case)


class MetricConfig(Check):
    """A metric made anew from its config is the same."""

    name = "config"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if run.described[backend]["own"] else "a plain function has no config"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        batches = [(case.y, case.x, None) for case in _others(run)]
        return {"config": Request("metric_config", target=run.target, batches=batches)}

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        case = run.main
        with found.at(case.name):
            result = replies[backend]["config"]
            if result["lost"]:
                lost = ", ".join(f"`{name}`" for name in result["lost"])
                found.fail(case.name, f"`get_config` leaves out {lost}: lost when a model is saved", "setting")
            before, after = result["dtypes"] or ("", "")
            if before != after and result["dtype kept"]:
                found.fail(case.name, f"dtype {before} becomes {after}", "setting")
            elif before != after:
                found.note = "`get_config` leaves out `dtype`: a metric of another dtype than `floatx` loses it"
            off = run.close(result["after"], result["before"], backend)
            found.add(case.name, off, "the result differs after the round trip through `get_config`", "setting")


class MetricCompiled(Check):
    """Compiled updates and results are those of eager mode."""

    def __init__(self, name: str, unknown: bool):
        self.name, self.unknown = name, unknown

    def why_not(self, run: Run, backend: str) -> str:
        if self._modes(run, backend):
            return ""
        return f"{backend} traces with known sizes only" if self.unknown else f"{backend} updates metrics in eager mode"

    def _modes(self, run: Run, backend: str) -> list[str]:
        modes = run.described[backend]["modes"]
        return [mode for mode in modes if mode != "eager" and ("unknown" in mode) == self.unknown]

    def _batches(self, run: Any, backend: str) -> list[Any]:
        plain, other = _others(run)
        some: list[Case] = [plain, other, plain.take(slice(None, None, -1))]
        return [*some, plain.take(slice(1)), plain.take(slice(2))] if self.unknown else some

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        batches = self._batches(run, backend)
        streams = {"": batches}
        if run.takes_weights(backend):
            streams["with weights, "] = [(case, weights_of(case)) for case in batches]
        return {
            (name, mode): run.stream(*some, mode=mode)
            for name, some in streams.items()
            for mode in ("eager", *self._modes(run, backend))
        }

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        for name, mode in mine.requests:
            wanted = mine.get((name, "eager"))
            if wanted is None and not name and mode == "eager":
                with found.at(mode, run.main, mode):
                    mine[name, mode]
            if mode == "eager" or wanted is None:
                continue
            label = f"{name}{mode}"
            with found.at(label, run.main, label):
                off = run.close(mine[name, mode]["value"], wanted["value"], backend)
                found.add(label, off, "the result differs from eager mode", batch=run.main)
        if not found.all:
            found.undecided(run.main.name, "the metric could not be run in eager mode")


class Evaluate(Check):
    """In `evaluate` of a model, as `metrics` and `weighted_metrics`, results are those of the same batches."""

    name = "evaluate"
    _SIZE = 2

    def why_not(self, run: Any, backend: str) -> str:
        if backend in ("numpy", "openvino"):
            return f"{backend} trains no models"
        plain = run.main
        if not (tree.bare(plain.y) and tree.bare(plain.x)):
            return "labels or predictions are a structure, for which no model is at hand"
        return "" if plain.rows else "the first case has no rows"

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        case = run.main
        weight = weights_of(case) if run.takes_weights(backend) else None
        batches = [slice(start, start + self._SIZE) for start in range(0, case.rows, self._SIZE)]
        asked: dict[Any, Request] = {
            name: Request("evaluate", target=run.target, y=case.y, x=case.x, weight=given, size=self._SIZE)
            for name, given in (("metrics", None), ("weighted_metrics", weight))
            if name == "metrics" or given is not None
        }
        asked["eager", "metrics"] = run.stream(*(case.take(rows) for rows in batches))
        if weight is not None:
            asked["eager", "weighted_metrics"] = run.stream(*((case.take(rows), weight[rows]) for rows in batches))
        return asked

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine, case = replies[backend], run.main
        for name in ("metrics", "weighted_metrics"):
            if mine.get(("eager", name)) is None:
                continue  # other checks say so
            with found.at(name, case, f"compile({name}=[...])"):
                off = run.close(mine[name][name], mine["eager", name]["value"], backend)
                found.add(name, off, f"in `evaluate`, with compile({name}=[...]), the result is another", batch=case)
        if not found.all:
            found.undecided(case.name, "the metric could not be run in batches")


class MetricHalf(Check):
    """Predictions in half precision, as of a mixed-precision model, against float32 on the same inputs."""

    def __init__(self, dtype: str):
        self.name = dtype

    def why_not(self, run: Run, backend: str) -> str:
        if any(leaf.dtype.kind != "f" for leaf in tree.leaves(run.plain.x)):
            return "predictions are integers"
        return ""

    def _cases(self, run: Run) -> list[Case]:
        return [run.plain, *[case for case in run.cases if case.large]]

    def requests(self, run: Any, backend: str) -> dict[Any, Request]:
        asked: dict[Any, Request] = {}
        for case in self._cases(run):
            half = case._replace(x=tree.map(lambda leaf: compare.halved(leaf, self.name), case.x))
            asked[case.name, "float32"] = run.stream(half)
            asked[case.name, "half"] = run.stream(half, cast=self.name)
        return asked

    def verdict(self, run: Any, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        for case in self._cases(run):
            wide = mine.get((case.name, "float32"))
            if wide is None or not np.isfinite(wide["value"]).all():
                continue  # other checks say so
            with found.at(case.name, case):
                got, wanted = mine[case.name, "half"]["value"], wide["value"]
                nan = not np.isfinite(got).all()
                detail = f"the result of {self.name} predictions differs from that of float32 on the same inputs"
                off = compare.difference(got, wanted, compare.HALF[self.name] * run.sizes(wanted))
                found.add(
                    case.name, off, f"{detail}: it is not finite" if nan else detail, "nan" if nan else "wrong", case
                )
        if not found.all:
            found.undecided(run.plain.name, "the metric could not be run in float32")


def flat(result: Any) -> np.ndarray:
    """Return all numbers of an oracle's result, in the order of `metric_tasks.numbers`."""
    leaves = [np.asarray(leaf) for leaf in tree.leaves(result)]
    if not leaves or any(leaf.dtype.kind not in "biuf" for leaf in leaves):
        raise Missing(f"it must return numbers. Received: {type(result).__name__}")
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves])


# The rows of the report of a metric, in order.
ALL: dict[str, Check] = {
    check.name: check
    for check in (
        Runs(),
        MetricValue(),
        MetricFinite(),
        Streaming(),
        Weights(),
        Reset(),
        MetricConfig(),
        MetricCompiled("compiled", unknown=False),
        MetricCompiled("unknown_batch", unknown=True),
        Evaluate(),
        MetricHalf("float16"),
        MetricHalf("bfloat16"),
    )
}
METRIC_CHECKS = tuple(ALL)
