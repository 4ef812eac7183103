"""Whether the rank of labels, more axes and more rows change what they should not change."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare, tree
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, has_gradient
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case

# Above any number of rows at which a loss or a framework would change its method, and no multiple of 64.
_COPIES = 22


class BatchSize(Check):
    """If the values of rows, or their mean, do not depend on the number of rows in small batches, nor in large ones."""

    name = "batch_size"

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) else f"{backend} computes no gradients: values only"

    @staticmethod
    def _repeated(case: Case, copies: int) -> Case:
        return case.take(np.tile(np.arange(case.rows), copies))

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {
            copies: run.request(self._repeated(run.plain, copies), reduction=reduction(run), gradient=False)
            for copies in (1, 2, 3, _COPIES)
        }

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine, plain = replies[backend], run.plain
        if (reply := mine.reply(1)) is not None and reply.status == "error":
            return  # other checks say so
        with found.at(f"{_COPIES * plain.rows} rows"):
            one, two, three = (mine[copies]["value"].astype(np.float64) for copies in (1, 2, 3))
            form = next(
                (form for form in _FORMS if self._is(form, one, two, 2, run) and self._is(form, one, three, 3, run)),
                None,
            )
            if form is None:
                found.note = "rows depend on each other"
                return
            many = mine[_COPIES]["value"]
            wanted = form(one, _COPIES)
            # Sums of many rows round more; `VALUE` is far above that.
            off = compare.difference(many, wanted, run.value_share * max(compare.largest(wanted), compare.largest(one)))
            detail = (
                f"value changes with the number of rows: those of {plain.rows} rows, {_COPIES} times, are not the same"
            )
            found.add(f"{_COPIES * plain.rows} rows", off, detail)

    @staticmethod
    def _is(form: Any, one: Any, more: Any, copies: int, run: Run) -> bool:
        wanted = form(one, copies)
        size = max(compare.largest(one), 1e-30)
        return (
            np.shape(more) == np.shape(wanted)
            and compare.difference(more, wanted, 0.1 * run.value_share * size).ratio <= 1
        )


# How a batch of copies relates to one: a value for each row, a mean, or a sum.
_FORMS = (
    lambda value, copies: np.concatenate([value] * copies) if np.ndim(value) else np.full((2,), np.nan),
    lambda value, copies: value if not np.ndim(value) else np.full((2,), np.nan),
    lambda value, copies: value * copies if not np.ndim(value) else np.full((2,), np.nan),
)


def reduction(run: Run) -> str:
    """Return the reduction under which values are compared."""
    return "own" if run.own else "none"


class Rank(Check):
    """Labels `[B]` are those of `[B, 1]`, and values have leading axes of the predictions, whatever their rank."""

    name = "rank"

    def why_not(self, run: Run, backend: str) -> str:
        if not has_gradient(backend):
            return f"{backend} computes no gradients: values only"
        if not self._columns(run) and len(self._ranks(run)) < 2:
            return "`y_true` has a class or pixel axis" if run.kind else "only for inputs of a built-in family"
        return ""

    @staticmethod
    def _columns(run: Run) -> dict[str, tuple[Any, Any]]:
        """Return equivalent batches, with and without an axis of size 1."""
        if not tree.bare(run.plain.y) or not tree.bare(run.plain.x):
            return {}
        y, x = run.plain.y, run.plain.x
        if run.kind in ("labels-embeddings", "integer-labels"):
            return {"y_true [B]": (y, x), "y_true [B, 1]": (y[:, None], x)}
        if run.kind in ("regression", "positive"):
            return {"y_true [B, 1]": (y[:, :1], x[:, :1]), "y_true [B]": (y[:, 0], x[:, :1])}
        return {}

    @staticmethod
    def _ranks(run: Run) -> dict[int, Case]:
        """Return a case of each rank of predictions."""
        if not tree.bare(run.plain.x):
            return {}
        return {case.x.ndim: case for case in reversed(run.cases) if case.size and not case.large}

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        asked = {name: run.request(run.plain._replace(y=y, x=x)) for name, (y, x) in self._columns(run).items()}
        return asked | {rank: run.value_request(backend, case) for rank, case in self._ranks(run).items()}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        if names := list(self._columns(run)):
            first, other = names
            batch = run.plain._replace(name=other, **dict(zip("yx", self._columns(run)[other], strict=True)))
            reply = mine.reply(other)
            refused = reply.message if reply is not None and reply.status == "error" else ""
            if refused.startswith(("ValueError", "TypeError")):
                # Refused, so neither merged nor broadcast.
                found.add(other, Difference(0.0, 1.0))
            elif mine.get(first) is None:
                pass  # other checks say so
            else:
                with found.at(other, batch, other):
                    got, wanted = mine[other], mine[first]
                    shapes = [list(result["value"].shape) for result in (got, wanted)]
                    if shapes[0] != shapes[1]:
                        found.fail(
                            other, f"{other} gives values of shape {shapes[0]}, expected {shapes[1]}", batch=batch
                        )
                    else:
                        off = run.same(got, wanted, backend)
                        found.add(other, off, f"{other} gives another result than {first}", batch=batch)
        prefixes = {
            rank: (result["value"].shape, case)
            for rank, case in self._ranks(run).items()
            if (result := mine.get(rank)) is not None
        }
        plain = prefixes.get(getattr(run.plain.x, "ndim", 0))
        if plain is None or not _leading(*plain):
            return
        for shape, case in prefixes.values():
            detail = f"values of shape {list(shape)} for predictions {list(case.x.shape)}: not their leading axes"
            found.require(case.name, _leading(shape, case), detail, batch=case)


def _leading(shape: tuple[int, ...], case: Case) -> bool:
    return tuple(case.x.shape[: len(shape)]) == tuple(shape)


class LargeLabels(Check):
    """Labels that differ by 1 above 2^24 are different ids."""

    name = "large_labels"
    _OFFSET = 2**24

    def why_not(self, run: Run, backend: str) -> str:
        if not has_gradient(backend):
            return f"{backend} computes no gradients: values only"
        return "" if run.kind == "labels-embeddings" else "labels are not ids"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {"small": run.request(run.plain), "large": run.request(self._large(run))}

    def _large(self, run: Run) -> Case:
        return run.plain._replace(y=run.plain.y + np.int32(self._OFFSET))

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine, large = replies[backend], self._large(run)
        with found.at(run.plain.name, large):
            off = run.same(mine["large"], mine["small"], backend)
            detail = "labels above 2^24 that differ by 1 count as equal: Keras casts labels to float32"
            found.add(run.plain.name, off, detail, batch=large)
