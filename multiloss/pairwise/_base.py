"""The base class of the pairwise losses: an author writes the value of a pair and what a row makes of its pairs."""

import inspect
import numbers
from collections.abc import Hashable
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np
from keras import ops

from multiloss import _arguments, _frameworks, distribution
from multiloss._arguments import Tensor
from multiloss._base import Loss
from multiloss.distribution import Share
from multiloss.pairwise._engine import accumulate, direct, loop, tiles
from multiloss.pairwise._engine.formula import Formula, Side
from multiloss.pairwise._engine.tiles import Tile


class PairwiseOptions(TypedDict, total=False):
    """The options that every pairwise loss takes; `PairwiseLoss` describes them."""

    reduction: str | None
    name: str | None
    dtype: Any
    tile: Tile
    ignore_label: int | tuple[int, ...] | None
    across_replicas: bool


class PairOptions(TypedDict, total=False):
    """What every pairwise function takes besides labels and embeddings; `PairwiseLoss` describes them."""

    ref_labels: Any
    ref_embeddings: Any
    pair_weights: Any
    ignore_label: int | tuple[int, ...] | None
    tile: Tile


class PairwiseLoss(Loss):
    """A loss over pairs: of the rows of a batch among themselves, or of its rows and reference rows.

    The base of the pairwise losses, and of your own: `docs/pairwise.md` writes one in twenty lines. Its author writes

    - `__init__`, with the parameters, each of which becomes an attribute of the same name, and `**options`, which go to
      `super().__init__`;
    - `reductions`: how each value of a pair is reduced over the pairs of a row: "sum", "logsumexp", "max", "min", or
      "count" for how many pairs a boolean is true of;
    - `values(distance, positive)`: of pairs `[T, W]`, by their distance, floats >= 0, and whether they have the same
      label, booleans; a tuple of one value for each of `reductions`. A value may be a pair `(value, which)`, whose
      booleans say which pairs are reduced. Elementwise, of `keras.ops` alone, and finite for any finite distance;
    - `row(reduced, count)`: the loss `[B]` of each row, of a tuple with what its pairs were reduced to, each `[B]`, and
      of how many there are, a scalar or `[B]`, 1 where there is none. Of no pair a sum and a count are 0, a logsumexp
      and a maximum are about -1e30, a minimum about 1e30.

    Within both methods, `self` has the arguments of the constructor as attributes and nothing else, numbers among them
    as scalars of the dtype of the distances: **parameters are data**. An argument may be a number, a NumPy or backend
    scalar, or a `keras.Variable`. Another value compiles nothing anew, and scalars and trainable variables get their
    gradient. The range of a number is checked, that of a traced value is not. The config has numbers.

    The derivative of the values by the distance comes from the framework. A class may have a method
    `slopes(distance, positive)` that returns it for each value, or None where there is none; many pairs are
    differentiated by it while no parameter gets a gradient.

    Args:
        reduction: as in `keras.losses.Loss`: `"sum_over_batch_size"` (the mean over the rows of a batch), `"sum"`,
            `"mean"`, `"mean_with_sample_weight"`, or None for the rows.
        name: name of the loss; by default that of the class, as `contrastive_loss` for `ContrastiveLoss`.
        dtype: dtype to compute in, Keras's `floatx` by default; half precision is raised to float32.
        tile: None, how many rows to take at a time, a positive integer, or "all". By default few pairs are computed at
            once, and of many 2^21 / B' rows at a time, at least 64 and at most 256; fewer take less memory. "all" is
            for derivatives other than the gradient (below) at any size, and takes memory for B x B' x D numbers.
        ignore_label: None, or the label whose rows are in no pair, for labels `[B, K]` a tuple of K integers. Such a
            row has a loss and a gradient of 0, and no part in the mean over a batch, as if it were masked.
        across_replicas: whether the pairs are those of the whole batch where it is spread over devices by
            `keras.distribution` (JAX), by a strategy of `tf.distribute`, or over processes of `torch.distributed`.
            Otherwise they are those of the rows on each device, except on JAX, whose arrays are always whole. Where
            nothing of the like is set up, it changes nothing. All replicas must take part in each call.

    **Data.** A loss is called as `loss(labels, embeddings, sample_weight)`, or `rows(labels, embeddings)` for the rows
    alone. Labels are integers `[B]`, `[B, 1]` or `[B, K]`; two rows have the same label if all K are equal. Compared
    exactly, through `fit`, too: NumPy arrays and lists up to 64 bits on every backend, tensors in their own dtype. What
    the backend itself does to a label before any loss sees it remains: JAX narrows int64 to int32. Anything else, see
    `encode_ids`. Embeddings are numbers `[B, D]`; half precision and integers are computed in float32. A loss is of
    its `dtype`; `rows`, and the functions, are float64 for embeddings of float64, if the backend has it, and leave out
    masks and other replicas. NaN in every row if any embedding has a NaN or infinity. Both may come with

    - `ref_labels`, `ref_embeddings`, `[B', ...]` and `[B', D]`: the rows are paired with these, all of them, and not
      with each other; means are over them. Their gradient comes as that of the rows. It is not computed for NumPy
      arrays and lists, nor for tensors that are seen to need none: of torch without `requires_grad`, of JAX outside of
      what is differentiated or traced.
    - `pair_weights` `[B, B']` (`[B, B]` without references), finite numbers >= 0 or booleans: how much a pair counts in
      its row. For "max" and "min" it counts if that is above 0, for "logsumexp" as so many pairs. They need not be
      symmetric, and get no gradient. `count` is their sum.

    A `sample_weight` of shape `[B]` (or `[B, 1]`, or a scalar) weights rows. A mask on the predictions leaves rows out
    as in any Keras loss: it is a weight of 0, with the mean taken over the rows that remain; the pairs of other rows
    with a masked one count.

    **Gradient.** That of a distance is a unit vector, exactly 0 for pairs that coincide, where it has none. That of
    "max" and "min" goes to the pair that attains it, in equal shares to all that do within rounding (2^-20 of it).
    Inside a functional model of JAX with an unknown batch size, Keras traces a loss for the shape of its result alone,
    and gets NaN. Where pairs are computed at once, there are second derivatives (0 for pairs that coincide), forward
    mode, and `torch.func`. Elsewhere there are first derivatives in reverse mode, and an error for others.

    **Exactness**, in float32: distances are rounded by about 1e-7 of themselves and 1e-7 of the largest entry of the
    (centred) batch, with no epsilon. Sums of distances are within 1e-6, their gradient within 1e-5 of its largest
    entry, and 1e-3 where labels are drawn together to clusters 1e-4 wide; up to 1e-2 if pairs are 1e-5 of the largest
    entry apart and few others are near, or if some points lie a thousand times further out than the rest. Pairs closer
    than about 1e-6 of the largest entry may count as coinciding. The engine's notes say how, and why accelerators that
    round the inputs of matrix products, and torch's autocast, change none of it.

    **Cost**: time O(B B' D), for a single sum about that of five matrix products of all pairs, twice that if the
    upstream gradient is not the same for all rows, as with a `sample_weight`; memory O((B + B') D), and `pair_weights`.
    Few pairs are computed at once, from differences, which is exact to some roundings of each distance, and takes the
    time and memory of plain code, O(B B' D): up to 2^20 for B B' D; 2^23 on TensorFlow and JAX outside of what is
    compiled; 2^26 on accelerators; for D <= 512, sizes known in advance, and rows that are not those of a replica.

    **Replicas.** With `across_replicas`, each replica computes its own rows against all columns, and weights, masks and
    the mean are those of the whole batch, however its rows are divided. On JAX and torch the result is the loss of the
    whole batch, on TensorFlow, where Keras adds up the losses of replicas, its share in it; without reduction, the rows
    of the whole batch. Gradients are such that parameters move as on one device once the engine has averaged them
    (`DistributedDataParallel`) or added them up (Keras's optimizers under `tf.distribute`). `docs/distribution.md` has
    costs and the ways to launch.

    Raises:
        TypeError, ValueError: in the constructor for its arguments; at a call for labels that are not integers,
            embeddings that are not numbers `[B, D]`, sizes that do not fit, a `sample_weight` that is not one number a
            row, symbols of a functional model outside of a layer; and, on each replica, if replicas differ in the
            number of features or the dtype of what they pass, or if only some pass weights.

    Example:
        >>> from keras import ops
        >>> from multiloss.losses import PairwiseLoss
        >>> class HardestPair(PairwiseLoss):
        ...     reductions = ("max", "min")
        ...     def __init__(self, margin=1.0, **options):
        ...         super().__init__(**options)
        ...         self.margin = margin
        ...     def values(self, distance, positive):
        ...         return (distance, positive), (distance, ~positive)
        ...     def row(self, reduced, count):
        ...         furthest, nearest = reduced
        ...         return ops.maximum(furthest - nearest + self.margin, 0)
        >>> round(float(HardestPair(reduction="sum")([7, 7, 9], [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])), 3)
        6.757
    """

    reductions: ClassVar[tuple[str, ...]] = ("sum",)
    normalize: ClassVar[bool] = False
    """Whether distances are those of directions, embeddings divided by their length; that of zeros is zeros."""
    rows_per_pair: int
    """Within `row`: in how many rows each pair counts, 2, or 1 with references."""
    _carried: ClassVar[tuple[str, ...]] = ()  # arguments of the constructor, without the options

    def __init_subclass__(cls, **keywords: Any):
        """Look at what the author wrote once: no compiler traces that."""
        super().__init_subclass__(**keywords)
        kinds = {parameter.kind for parameter in inspect.signature(cls.__init__).parameters.values()}
        own = "__init__" in vars(cls)
        if own and (inspect.Parameter.VAR_KEYWORD not in kinds or inspect.Parameter.VAR_POSITIONAL in kinds):
            raise TypeError(
                f"`{cls.__name__}.__init__` must take its arguments by name and `**options`, which go to "
                f"`super().__init__`. Received: {inspect.signature(cls.__init__)}"
            )
        cls._carried = tuple(name for name in cls._constructor if name not in PairwiseOptions.__annotations__)
        unknown = [name for name in cls.reductions if name not in accumulate.REDUCTIONS]
        if unknown or not cls.reductions:
            raise ValueError(
                f"`{cls.__name__}.reductions` must be one or more of {', '.join(map(repr, accumulate.REDUCTIONS))}. "
                f"Received: {cls.reductions!r}"
            )

    def __init__(
        self,
        *,
        tile: Tile = None,
        ignore_label: int | tuple[int, ...] | None = None,
        across_replicas: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.tile = tiles.tile_size(tile)
        self.ignore_label = _arguments.ignore_label(ignore_label)
        self.across_replicas = _arguments.boolean("across_replicas", across_replicas)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Any, ...]:
        """Return a value of each pair for each of `reductions`; written by the author of a loss."""
        raise NotImplementedError(f"{type(self).__name__} must define `values(distance, positive)`")

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the loss of each row, of its reduced values and the number of its pairs; written by the author."""
        raise NotImplementedError(f"{type(self).__name__} must define `row(reduced, count)`")

    def rows(self, labels: Any, embeddings: Any, /, **pairs: Unpack[PairOptions]) -> Tensor:
        """Return the loss `[B]` of each row, not weighted, masked or reduced. The class describes the arguments."""
        x, given = _arguments.embeddings("embeddings", embeddings), self._given(pairs)
        return self._rows(self._side("", x, _columns("", x, labels, given), given), given)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the rows of labels and embeddings, as Keras calls them."""
        return self.rows(y_true, y_pred)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, **pairs: Unpack[PairOptions]) -> Tensor:
        """Return the reduced loss, or its rows if `reduction` is None. The class describes the arguments."""
        y_pred, weights = self._cast("embeddings", y_pred, sample_weight)
        x, given, share = _arguments.embeddings("embeddings", y_pred), self._given(pairs), None
        columns = _columns("", x, distribution.unaveraged(y_true), given)
        weights = {name: _arguments.weights(name, weight, x, 1, "embeddings") for name, weight in weights.items()}
        if self.across_replicas:
            for name in ("ref_labels", "ref_embeddings", "pair_weights"):
                if given[name] is not None:
                    raise ValueError(
                        f"`{name}` must be None with `across_replicas=True`, which is for the pairs of one batch: rows "
                        "against references need no other replica"
                    )
            if given["tile"] == "all":
                raise ValueError(
                    '`tile` must be None or a positive integer with `across_replicas=True`. Received: "all"'
                )
            beside = {n: ops.reshape(w, (-1, 1)) + 0 * ops.cast(x[:, :1], w.dtype) for n, w in weights.items()}
            own = {"embeddings": x, "labels": columns, "sample_weight": None, "mask": None, **beside}
            whole, share = distribution.gather(own)
            x, columns = whole["embeddings"], whole["labels"]
            weights = {name: whole[name] for name in beside}
        rows = self._side("", x, columns, given)
        values = self._rows(rows, given, share)
        if rows.kept is not None:
            mask = weights.get("mask")
            weights["mask"] = rows.kept if mask is None else rows.kept * ops.reshape(mask, (-1,)[: len(mask.shape)])
        value = self._reduced(values, weights)
        return value if share is None else share.loss(value, averaged=self.reduction not in ("sum", "none", None))

    def _given(self, pairs: Any) -> dict[str, Any]:
        """Return what was given at a call, all of it, those that the constructor has by default from there."""
        for name in pairs:
            if name not in _PAIRS:
                raise TypeError(
                    f"{type(self).__name__} has no argument `{name}` at a call. It takes: {', '.join(_PAIRS)}"
                )
        given = {**dict.fromkeys(_PAIRS), "tile": self.tile, "ignore_label": self.ignore_label, **pairs}
        for name, other in (("ref_labels", "ref_embeddings"), ("ref_embeddings", "ref_labels")):
            if given[name] is not None and given[other] is None:
                raise ValueError(f"`{name}` must come with `{other}`. Received: None for `{other}`")
        tile, ignored = tiles.tile_size(given["tile"]), _arguments.ignore_label(given["ignore_label"])
        return {**given, "tile": tile, "ignore_label": ignored}

    def _side(self, prefix: str, x: Tensor, columns: Tensor, given: dict[str, Any]) -> Side:
        kept = None
        if given["ignore_label"] is not None:
            kept = ops.cast(_arguments.labels_other_than(given["ignore_label"], columns), x.dtype)
            x = _standing_in(x, kept)
        return Side(_directions(x) if self.normalize else x, columns, kept)

    def _rows(self, rows: Side, given: dict[str, Any], share: Share | None = None) -> Tensor:
        """Return the loss of each row."""
        x, references, weights, tile = rows.x, None, given["pair_weights"], given["tile"]
        if given["ref_embeddings"] is not None:
            ref_x = ops.cast(_arguments.embeddings("ref_embeddings", given["ref_embeddings"]), x.dtype)
            columns = _columns("ref_", ref_x, given["ref_labels"], given)
            for what, one, other in (("embeddings", ref_x, x), ("labels", columns, rows.labels)):
                if one.shape[1] != other.shape[1]:
                    raise ValueError(
                        f"`ref_{what}` must have as many columns as `{what}`. "
                        f"Received: {_width(what, one)} and {_width(what, other)}"
                    )
            references = self._side("ref_", ref_x, columns, given)
        if weights is not None:
            weights = ops.cast(_arguments.pair_weights(weights, x, (references or rows).x), x.dtype)
        if _frameworks.has_symbolic_size(x):
            return ops.sum(x, axis=1) * np.nan

        formula, scalars = self._formula(x.dtype)
        back = _frameworks.may_need_gradient(given["ref_embeddings"])
        if share is None and direct.suits(rows, references, tile):
            reduced = direct.reduced(formula, scalars, rows, references, weights)
        else:
            tile = None if tile == "all" else tile
            reduced = loop.reduced(formula, scalars, rows, references, weights, back, tile, share)
        count = _count(rows, references, weights)
        if rows.kept is not None:  # of no pair, the loss of a row or its gradient may be infinite
            reduced = tuple(_standing_in(number[:, None], rows.kept)[:, 0] for number in reduced)
            count = _standing_in(count[:, None], rows.kept)[:, 0] if len(count.shape) else count
        loss = formula.bound(scalars)
        loss.rows_per_pair = 1 if references else 2
        values = loss.row(reduced, count)
        if not _arguments.has_shape(values, reduced[0]):
            raise ValueError(
                f"`{type(self).__name__}.row` must return a tensor of shape [B], {tuple(reduced[0].shape)}. "
                f"Received {_arguments.described(values)}"
            )
        return values if rows.kept is None else ops.where(rows.kept > 0, values, ops.zeros_like(values))

    def _formula(self, dtype: Any) -> tuple[Formula, list[Tensor]]:
        """Return the loss without the values of its parameters, and these."""
        scalars, learned, constants = {}, [], []
        for name in self._carried:
            value = getattr(self, name)
            if _arguments.is_parameter(value):
                learned.append(_frameworks.may_need_gradient(value))
                is_number = isinstance(value, (numbers.Real, np.ndarray))  # which are not to be rounded on the way
                tensor = ops.convert_to_tensor(_arguments.as_number(value) if is_number else value, dtype=dtype)
                scalars[name] = ops.cast(tensor, dtype)
            elif isinstance(value, Hashable) and not hasattr(value, "shape"):
                constants.append((name, value))
            else:
                raise TypeError(
                    f"`{name}` of {type(self).__name__} must be a number, a scalar, or hashable, as a tuple is. "
                    f"Received: {type(value).__name__}"
                )
        return Formula(type(self), tuple(scalars), tuple(learned), tuple(constants)), list(scalars.values())

    def __getattr__(self, name: str) -> Any:
        """Say what there is where an author looks for more; called for what is missing."""
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, property):  # in which something else is missing
            return attribute.__get__(self)
        takes = ", ".join(self._carried) or "none"
        raise AttributeError(
            f"{type(self).__name__} has no attribute `{name}`. The constructor must call `super().__init__(**options)` "
            f"and set one for each of its arguments, and `values` and `row` have no others: {takes}"
        )


_PAIRS = tuple(PairOptions.__annotations__)


def _count(rows: Side, references: Side | None, weights: Tensor | None) -> Tensor:
    """How many pairs each row has, or the sum of their weights; 1 where there is none."""
    x, columns = rows.x, references or rows
    if weights is None and rows.kept is None and columns.kept is None:
        size = columns.x.shape[0] or ops.shape(columns.x)[0]
        size -= references is None
        return ops.cast(max(size, 1) if isinstance(size, int) else ops.maximum(size, 1), x.dtype)
    if weights is None:
        count = ops.sum(columns.kept) - (rows.kept if references is None else 0)
    else:
        counted = weights if columns.kept is None else weights * columns.kept
        if references is None:  # not by a difference, of which the diagonal may leave nothing
            place = ops.arange(ops.shape(x)[0], dtype="int32")
            counted = ops.where(ops.equal(place[:, None], place), ops.zeros_like(counted), counted)
        count = ops.sum(counted, axis=1)
    return ops.where(count > 0, count, ops.ones_like(count))


def _columns(prefix: str, x: Tensor, labels: Any, given: dict[str, Any]) -> Tensor:
    """Return labels as columns, split where those of two dtypes are compared."""
    split = given["ref_embeddings"] is not None or given["ignore_label"] is not None
    return _arguments.labels(f"{prefix}labels", labels, f"{prefix}embeddings", x, split)


def _width(what: str, columns: Tensor) -> int:
    return int(columns.shape[1]) // (2 if what == "labels" else 1)


def _standing_in(x: Tensor, kept: Tensor) -> Tensor:
    """Rows, with the first that is kept in the place of each that is not: nothing depends on those, if they are NaN."""
    # A row of ones, if none is kept; there may be none at all.
    one = ops.ones((1, x.shape[1]), dtype=x.dtype)
    place = ops.argmax(ops.concatenate([kept, ops.cast(one[:, 0], kept.dtype)], axis=0))
    first = ops.take(ops.concatenate([x, one], axis=0), ops.expand_dims(ops.cast(place, "int32"), 0), axis=0)
    return ops.where(ops.expand_dims(kept, 1) > 0, x, ops.stop_gradient(first))


def _directions(x: Tensor) -> Tensor:
    """Rows divided by their length; those of zeros stay zeros, without a gradient."""
    if 0 in x.shape:
        return x
    # First by the largest entry, whose square may overflow or underflow. The direction does not depend on it.
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=1, keepdims=True))
    zero = ops.equal(largest, 0)
    x = ops.where(zero, ops.ones_like(x), x / ops.where(zero, ops.ones_like(largest), largest))
    return ops.where(zero, 0.0, x / ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True)))
