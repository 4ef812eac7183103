"""Whether weights weight samples, masks mask them, and reductions reduce rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import tree
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, has_gradient
from multiloss.check.checks.compiled import compiled_modes
from multiloss.check.compare import Difference

_NO_LOSS = "a plain function: Keras applies weights, masks and the reduction"


class _OfLosses(Check):
    """A check of losses, on the plain case."""

    def why_not(self, run: Run, backend: str) -> str:
        if not has_gradient(backend):
            return f"{backend} computes no gradients: values only"
        return "" if run.described[backend]["loss"] else _NO_LOSS

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        if replies[backend].get("none") is None and "none" in replies[backend].requests:
            reply = replies[backend].reply("none")
            why = "the worker was lost earlier" if reply is None else f"the loss could not be run: {reply.message}"
            found.undecided(run.plain.name, why)
            return
        self.judge(run, backend, replies[backend], found)

    def judge(self, run: Run, backend: str, mine: Replies, found: Findings) -> None:
        """Judge the replies, of which "none" is a result."""
        raise NotImplementedError


def _rows(mine: Replies) -> np.ndarray:
    rows: np.ndarray = mine["none"]["value"].astype(np.float64)
    return rows


def _total(mine: Replies, name: str) -> float:
    """Return the value of a reply as one number: a sum of losses that reduce nothing does not either."""
    return float(np.sum(mine[name]["value"]))


def _of_samples(run: Run, mine: Replies) -> bool:
    """Whether values are those of samples, and not of the whole batch: one, or one a class."""
    rows, single = _rows(mine), mine.get("one")
    of_batch = single is not None and single["value"].shape == rows.shape  # of a single row, too
    return rows.ndim > 0 and len(rows) == run.plain.rows and not of_batch


def _weights(run: Run) -> np.ndarray:
    return np.linspace(0.5, 2.0, run.plain.rows).astype(np.float32)


def _mask(run: Run) -> np.ndarray:
    mask: np.ndarray = np.arange(run.plain.rows) % 3 != 1
    return mask


class SampleWeight(_OfLosses):
    """Weights `[B]` and `[B, 1]` weight samples."""

    name = "sample_weight"

    def why_not(self, run: Run, backend: str) -> str:
        if run.plain.rows < 2:
            return f"the first case, {run.plain.name!r}, has fewer than two rows"
        return super().why_not(run, backend)

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        plain, weights = run.plain, _weights(run)
        asked: dict[Any, Request] = {"none": run.request(plain), "one": run.request(plain.take(slice(0, 1)))}
        for i, weight in enumerate(np.eye(plain.rows, dtype=np.float32)[:2]):
            asked[f"only row {i}"] = run.request(plain, weight=weight, reduction="sum", gradient=False)
            asked[f"row {i} alone"] = run.request(plain.take(slice(i, i + 1)), reduction="sum", gradient=False)
        asked["weights"] = run.request(plain, weight=weights, reduction="sum", gradient=False)
        asked["weights [B, 1]"] = run.request(plain, weight=weights[:, None], reduction="sum", gradient=False)
        return asked

    def judge(self, run: Run, backend: str, mine: Replies, found: Findings) -> None:
        plain, rows, detail = run.plain, _rows(mine), "`sample_weight` does not weight samples"
        for i in range(2):
            name = f"only row {i}"
            with found.at(name, plain, name):
                got = _total(mine, name)
                if _of_samples(run, mine):
                    found.add(name, run.close(got, rows[i].sum(), backend), detail, batch=plain)
                    continue
                # With one value for the whole batch, a weight of 0 must have the effect of removing the row, but that
                # Keras's mean divides by the number of all rows.
                alone = _total(mine, f"row {i} alone")
                off = [run.close(got, alone / count, backend) for count in (1, plain.rows)]
                found.add(name, min(off, key=lambda each: each.ratio), detail, batch=plain)
        with found.at("weights", plain, "weights"):
            got = _total(mine, "weights")
            if _of_samples(run, mine):
                each = rows.reshape(len(rows), -1).sum(axis=1)
                found.add("weights", run.close(got, (_weights(run) * each).sum(), backend), detail, batch=plain)
            if (reply := mine.reply("weights [B, 1]")) is not None and reply.status == "done":  # or refused
                column = _total(mine, "weights [B, 1]")
                detail = "`sample_weight` of shape [B, 1] is not taken as one of shape [B]"
                found.add("weights [B, 1]", run.close(column, got, backend), detail, batch=plain)


class Mask(_OfLosses):
    """A Keras mask has the effect of weights of 0 and 1, also together with weights, eager and compiled."""

    name = "mask"

    def why_not(self, run: Run, backend: str) -> str:
        if not tree.bare(run.plain.x):
            return "predictions are a structure, whose masks Keras does not use"
        return super().why_not(run, backend)

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        plain, mask, weights = run.plain, _mask(run), _weights(run)
        asked: dict[Any, Request] = {"none": run.request(plain), "one": run.request(plain.take(slice(0, 1)))}
        for mode in ["eager", *compiled_modes(run, backend)[:1]]:
            gradient = mode != "eager"  # compiled modes come with it
            asked[mode] = run.request(plain, mode=mode, mask=mask, reduction="sum", gradient=gradient)
        asked["weights"] = run.request(plain, weight=mask.astype(np.float32), reduction="sum", gradient=False)
        asked["all weights"] = run.request(plain, weight=weights, reduction="sum", gradient=False)
        asked["masked weights"] = run.request(plain, weight=weights, mask=mask, reduction="sum", gradient=False)
        asked["product"] = run.request(plain, weight=weights * mask, reduction="sum", gradient=False)
        return asked

    def judge(self, run: Run, backend: str, mine: Replies, found: Findings) -> None:
        plain, rows, mask = run.plain, _rows(mine), _mask(run)
        for mode in ["eager", *compiled_modes(run, backend)[:1]]:
            with found.at(f"mask, {mode}", plain, f"with a mask, {mode}"):
                got, detail = _total(mine, mode), "a Keras mask differs from weights of 0 and 1"
                if _of_samples(run, mine):
                    off = run.close(got, rows[mask].sum(), backend)
                else:
                    off = self._of_batch(run, backend, got, _total(mine, "weights"))
                found.add(f"mask, {mode}", off, detail, batch=plain)
        with found.at("mask and weights", plain, "with a mask and weights"):
            if _of_samples(run, mine):
                each = rows.reshape(len(rows), -1).sum(axis=1)
                weighted = (each * _weights(run)).sum()
                if run.close(_total(mine, "all weights"), weighted, backend).ratio > 1:
                    return  # `sample_weight` says so
                off = run.close(_total(mine, "masked weights"), (each * mask * _weights(run)).sum(), backend)
            else:
                off = self._of_batch(run, backend, _total(mine, "masked weights"), _total(mine, "product"))
            found.add("mask and weights", off, "a Keras mask is not applied together with weights", batch=plain)

    @staticmethod
    def _of_batch(run: Run, backend: str, got: Any, wanted: Any) -> Difference:
        """Compare values of the whole batch. Keras's mean divides by the rows that a mask leaves, not so by weights."""
        shares = 1.0, run.plain.rows / _mask(run).sum()
        return min((run.close(got, wanted * share, backend) for share in shares), key=lambda off: off.ratio)


class Reduction(_OfLosses):
    """Reductions of a loss are those of its rows."""

    name = "reduction"
    _NAMES = ("sum", "sum_over_batch_size", "mean_with_sample_weight")

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        asked = {name: run.request(run.plain, reduction=name, gradient=False) for name in self._NAMES}
        return {"none": run.request(run.plain), **asked}

    def judge(self, run: Run, backend: str, mine: Replies, found: Findings) -> None:
        rows, got = _rows(mine), {}
        for name in self._NAMES:
            with found.at(name, run.plain, f"reduction {name!r}"):
                got[name] = mine[name]["value"]
                if rows.ndim and np.shape(got[name]) == rows.shape and not run.described[backend]["takes_reduction"]:
                    found.note = "it takes no `reduction`, and returns values of rows"
                    return
                scalar = not np.ndim(got[name])
                detail = f"reduction {name!r} returns shape {list(np.shape(got[name]))}, expected a scalar"
                found.require(name, scalar, detail, batch=run.plain)
                if not scalar:
                    del got[name]
        if not rows.ndim:  # a statistic of the whole batch has no rows to reduce
            wanted = dict.fromkeys(self._NAMES[:2], rows)
        else:
            # A loss may exclude rows of 0 from the mean, as Keras's `Circle` does for rows without a positive.
            mean = float(got.get("sum_over_batch_size", 0.0))
            count = round(rows.sum() / mean) if mean and np.isfinite(mean) else rows.size
            mean = rows.sum() / min(max(count, np.count_nonzero(rows), 1), rows.size)
            wanted = dict(zip(self._NAMES, (rows.sum(), mean, mean), strict=True))
        detail = "result differs from the reduction of the rows" if rows.ndim else "the reduction changes a scalar loss"
        for name in wanted.keys() & got.keys():
            found.add(name, run.close(got[name], wanted[name], backend), detail, batch=run.plain)
