"""The base class of the pairwise losses: a subclass defines the value of a pair and the loss of a row."""

import inspect
import numbers
import warnings
from collections.abc import Hashable
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np
from keras import ops

from multiloss import _arguments, _frameworks, distribution
from multiloss._arguments import Tensor
from multiloss._base import Loss
from multiloss.distribution import Share
from multiloss.pairwise import _doubts
from multiloss.pairwise._engine import accumulate, direct, loop, tiles
from multiloss.pairwise._engine.formula import Formula, Side
from multiloss.pairwise._engine.tiles import Tile


class PairwiseOptions(TypedDict, total=False):
    """The options of every pairwise loss; see `PairwiseLoss`."""

    reduction: str | None
    name: str | None
    dtype: Any
    tile: Tile
    ignore_label: int | tuple[int, ...] | None
    across_replicas: bool | str


class PairOptions(TypedDict, total=False):
    """The options of every pairwise function and call; see `PairwiseLoss`."""

    ref_labels: Any
    ref_embeddings: Any
    pair_weights: Any
    ignore_label: int | tuple[int, ...] | None
    tile: Tile


class PairwiseLoss(Loss):
    """A loss over pairs: the pairs within a batch, or between its rows and reference rows.

    The base class of the pairwise losses, and of your own (`docs/write_your_own.md`). A subclass defines

    - `__init__`, which sets each parameter as an attribute of the same name and passes `**options` to
      `super().__init__`;
    - `reductions`: how each value of a pair is reduced over the pairs of a row: "sum", "logsumexp", "max", "min", or
      "count", the number of pairs for which a boolean is true;
    - `values(distance, positive)`: a tuple with one value for each of `reductions`, for pairs `[T, W]`. `distance` has
      floats >= 0, `positive` is true for pairs of the same label. A value may be a pair `(value, which)`, whose
      booleans select the pairs to reduce. Must be elementwise, use `keras.ops` only, and be finite for any finite
      distance;
    - `row(reduced, count)`: the loss `[B]` of each row. `reduced` is a tuple of the reduced values, each `[B]`; `count`
      is the number of pairs, a scalar or `[B]`, 1 for a row without pairs. For a row without pairs, a sum and a count
      are 0, a logsumexp and a maximum are about -1e30, a minimum is about 1e30.

    In both methods, `self` has only the arguments of the constructor as attributes. Numbers are scalars of the dtype of
    the distances: **parameters are data**. An argument may be a number, a NumPy or backend scalar, or a
    `keras.Variable`. A new value does not recompile, and scalars and trainable variables get their gradient. The range
    of a number is checked, that of a traced value is not. The config has numbers.

    The framework differentiates the values by the distance. A class may instead define `slopes(distance, positive)`,
    which returns the derivative of each value, or None if it has none. The loop over tiles uses it if no parameter gets
    a gradient.

    Args:
        reduction: as in `keras.losses.Loss`: `"sum_over_batch_size"` (the mean over the rows of a batch), `"sum"`,
            `"mean"`, `"mean_with_sample_weight"`, or None for the rows.
        name: name of the loss; by default that of the class, as `contrastive_loss` for `ContrastiveLoss`.
        dtype: dtype of the computation, Keras's `floatx` by default; half precision is raised to float32.
        tile: the number of rows per tile, a positive integer, None or "all". By default few pairs are computed at once
            and many in tiles of 2^21 / B' rows, at least 64 and at most 256; smaller tiles take less memory. "all"
            supports derivatives other than the gradient (below) at any size, in memory for B x B' x D numbers.
        ignore_label: None, or the label whose rows are excluded from all pairs; for labels `[B, K]` a tuple of K
            integers. Such a row has a loss and a gradient of 0 and is excluded from the mean, as if it were masked.
        across_replicas: whether the pairs are those of the global batch when it is distributed by `keras.distribution`
            (JAX), a strategy of `tf.distribute`, or processes of `torch.distributed`. Otherwise they are those of the
            rows on each device, except on JAX, whose arrays are always global. No effect without distribution. All
            replicas must take part in each call. Within a hand-written `jax.shard_map` or `jax.pmap`, where arrays are
            those of one device: the name of the axis of the batch.

    **Data.** A loss is called as `loss(labels, embeddings, sample_weight)`; `rows(labels, embeddings)` returns the rows
    without weights or reduction. Labels are classes of rows, not flags of pairs: integers `[B]`, `[B, 1]` or `[B, K]`;
    two rows have the same label if all K are equal. The comparison is exact, also in `fit`: NumPy arrays and lists up
    to 64 bits on every backend, tensors in their own dtype. A backend may still change a tensor before the loss
    receives it: JAX narrows int64 to int32. For other ids, see `encode_ids`. Labels `[B, K]` need a `sample_weight`
    instead of `fit(class_weight=...)`, for which Keras takes them for one-hot. Embeddings are numbers `[B, D]`; half
    precision and integers are computed in float32. A loss computes in its `dtype`; `rows` and the functions compute in
    float64 for float64 embeddings, if the backend has it, and ignore masks and other replicas. If any embedding has a
    NaN or infinity, every row is NaN. Both take

    - `ref_labels`, `ref_embeddings`, `[B', ...]` and `[B', D]`: each row is paired with all references instead of the
      other rows; means are over the references. They get a gradient as the rows do, except NumPy arrays, lists and
      tensors that are known to need none: torch without `requires_grad`, JAX outside of differentiation and tracing.
    - `pair_weights` `[B, B']` (`[B, B]` without references), finite numbers >= 0 or booleans: the weight of a pair in
      its row. For "max" and "min", pairs with a weight above 0 count; for "logsumexp", the weight is a multiplicity.
      Weights need not be symmetric, and get no gradient. `count` is their sum.

    A `sample_weight` of shape `[B]` (or `[B, 1]`, or a scalar) weights rows. A mask on the predictions excludes rows
    as in any Keras loss: it is a weight of 0, with the mean over the remaining rows. Within a batch, pairs of other
    rows with a row of weight 0 still count, and its NaN shows in them: `ignore_label` excludes it from all pairs. With
    references, a row of weight 0 may be NaN.

    **Gradient.** The gradient of a distance is a unit vector, and exactly 0 for coincident pairs, where it is
    undefined. The gradient of "max" and "min" goes in equal shares to all pairs that attain it within rounding (2^-20
    of it). In a functional model of JAX with an unknown batch size, Keras traces a loss only for its output shape, and
    gets NaN. Pairs computed at once have second derivatives (0 for coincident pairs), forward mode, and `torch.func`.
    Otherwise there are first derivatives in reverse mode, and an error for others.

    **Accuracy** in float32: distances have errors of about 1e-7 of themselves plus 1e-7 of the largest entry of the
    (centred) batch, with no epsilon. Sums of distances are within 1e-6. Their gradient is within 1e-5 of its largest
    entry; within 1e-3 if labels form clusters 1e-4 wide; and within 1e-2 if pairs are 1e-5 of the largest entry apart
    with few others near, or if some points lie a thousand times further out than the rest. Pairs closer than about 1e-6
    of the largest entry may count as coincident. This also holds on accelerators that round the inputs of matrix
    products, and under torch's autocast; the docstrings of the engine explain why.

    **Cost**: time O(B B' D), for a single sum about five matrix products over all pairs, and twice that if the upstream
    gradient differs between rows, as with a `sample_weight`; memory O((B + B') D) plus `pair_weights`. Few pairs are
    computed at once from differences, with an error of some roundings of each distance, in the time and memory of plain
    code, O(B B' D). That is for B B' D up to 2^20; up to 2^23 on TensorFlow and JAX outside of compiled functions; up
    to 2^26 on accelerators; and only for D <= 512, static sizes, and without `across_replicas` on several replicas.

    **Replicas.** With `across_replicas`, each replica computes its own rows against all columns. Weights, masks and the
    mean are those of the global batch, however its rows are divided. On JAX and torch the result is the loss of the
    global batch; on TensorFlow, where Keras adds the losses of replicas, it is this replica's share. Without reduction,
    it is the rows of the global batch. Parameters move as on one device once the engine has averaged gradients
    (`DistributedDataParallel`) or added them (Keras's optimizers under `tf.distribute`). `docs/distribution.md` has
    costs and launch commands.

    Raises:
        TypeError, ValueError: in the constructor for invalid arguments; at a call for labels that are not integers,
            embeddings that are not numbers `[B, D]`, sizes that do not match, a `sample_weight` that is not one number
            per row, or symbolic inputs of a functional model outside of a layer; and, on each replica, if replicas
            differ in the number of features, in dtype, or in whether they pass weights.

    Examples:
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
    """Whether embeddings are divided by their length first. A row of zeros has a cosine of 0 with every other."""
    rows_per_pair: int
    """Within `row`: the number of rows in which each pair counts, 2, or 1 with references."""
    _carried: ClassVar[tuple[str, ...]] = ()  # arguments of the constructor, without the options
    _doubt: ClassVar[Any] = None  # (rows, references, whether labels can be read) -> what to warn of once, or None
    _looks = 0  # how many times labels were read for it

    def __init_subclass__(cls, **keywords: Any):
        """Inspect the subclass once, here, where no compiler traces it."""
        super().__init_subclass__(**keywords)
        kinds = {parameter.kind for parameter in inspect.signature(cls.__init__).parameters.values()}
        own = "__init__" in vars(cls)
        if own and (inspect.Parameter.VAR_KEYWORD not in kinds or inspect.Parameter.VAR_POSITIONAL in kinds):
            raise TypeError(
                f"`{cls.__name__}.__init__` must take its arguments by name, and `**options` to pass to "
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
        across_replicas: bool | str = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.tile = tiles.tile_size(tile)
        self.ignore_label = _arguments.ignore_label(ignore_label)
        self.across_replicas = _arguments.replicas("across_replicas", across_replicas)

    def values(self, distance: Tensor, positive: Tensor) -> tuple[Any, ...]:
        """Return the values of pairs, one for each of `reductions`; a subclass defines this."""
        raise NotImplementedError(f"{type(self).__name__} must define `values(distance, positive)`")

    def row(self, reduced: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """Return the loss of each row from its reduced values and its number of pairs; a subclass defines this."""
        raise NotImplementedError(f"{type(self).__name__} must define `row(reduced, count)`")

    def rows(self, labels: Any, embeddings: Any, /, **pairs: Unpack[PairOptions]) -> Tensor:
        """Return the loss `[B]` of each row, not weighted, masked or reduced. See the class for the arguments."""
        x, given = _arguments.embeddings("embeddings", embeddings), self._given(pairs)
        return self._rows(self._side("", x, _columns("", x, labels, given), given), given)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the loss of each row, as Keras calls it."""
        return self.rows(y_true, y_pred)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, **pairs: Unpack[PairOptions]) -> Tensor:
        """Return the reduced loss, or its rows if `reduction` is None. See the class for the arguments."""
        y_pred, weights = self._cast("embeddings", y_pred, sample_weight)
        x, given, share = _arguments.embeddings("embeddings", y_pred), self._given(pairs), None
        columns = _columns("", x, distribution.unaveraged(y_true), given)
        weights = {name: _arguments.weights(name, weight, x, 1, "embeddings") for name, weight in weights.items()}
        if self.across_replicas:
            for name in ("ref_labels", "ref_embeddings", "pair_weights"):
                if given[name] is not None:
                    raise ValueError(
                        f"`{name}` must be None with `across_replicas=True`, which forms the pairs within one batch; "
                        "pairs with references need no other replica"
                    )
            if given["tile"] == "all":
                raise ValueError(
                    '`tile` must be None or a positive integer with `across_replicas=True`. Received: "all"'
                )
            per_row = {n: ops.reshape(w, (-1, 1)) + 0 * ops.cast(x[:, :1], w.dtype) for n, w in weights.items()}
            own = {"embeddings": x, "labels": columns, "sample_weight": None, "mask": None, **per_row}
            whole, share = distribution.gather(own, self.across_replicas)
            x, columns = whole["embeddings"], whole["labels"]
            weights = {name: whole[name] for name in per_row}
        if given["ref_embeddings"] is not None:  # no other row has pairs with a row of weight 0
            for weight in [weight for weight in weights.values() if len(weight.shape)]:
                x = _substituted(x, ops.cast(ops.not_equal(ops.reshape(weight, (-1,)), 0), x.dtype))
        rows = self._side("", x, columns, given)
        values = self._rows(rows, given, share, look=True)
        if rows.kept is not None:
            mask = weights.get("mask")
            weights["mask"] = rows.kept if mask is None else rows.kept * ops.reshape(mask, (-1,)[: len(mask.shape)])
        value = self._reduced(values, weights)
        return value if share is None else share.loss(value, averaged=self.averaged)

    def _given(self, pairs: Any) -> dict[str, Any]:
        """Return all options of a call, with defaults from the constructor."""
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
            x = _substituted(x, kept)
        return Side(*_directions(x), columns, kept) if self.normalize else Side(x, None, columns, kept)

    def _rows(self, rows: Side, given: dict[str, Any], share: Share | None = None, look: bool = False) -> Tensor:
        """Return the loss of each row."""
        x, references, weights, tile = rows.x, None, given["pair_weights"], given["tile"]
        if given["ref_embeddings"] is not None:
            ref_x = ops.cast(_arguments.embeddings("ref_embeddings", given["ref_embeddings"]), x.dtype)
            columns = _columns("ref_", ref_x, given["ref_labels"], given)
            for what, one, other in (("embeddings", ref_x, x), ("labels", columns, rows.labels)):
                if one.shape[1] != other.shape[1]:
                    hint = " (`encode_ids(ids, wide=True)` always gives two.)" if what == "labels" else ""
                    raise ValueError(
                        f"`ref_{what}` must have as many columns as `{what}`. "
                        f"Received: {_width(what, one)} and {_width(what, other)}{hint}"
                    )
            references = self._side("ref_", ref_x, columns, given)
        if weights is not None:
            weights = ops.cast(_arguments.pair_weights(weights, x, (references or rows).x), x.dtype)
        if _frameworks.has_symbolic_size(x):
            return ops.sum(x, axis=1) * np.nan
        if look and self._doubt is not None and self._looks < _doubts.LOOKS:
            self._look(rows, references)

        formula, scalars = self._formula(x.dtype)
        back = _frameworks.may_need_gradient(given["ref_embeddings"])
        if share is None and direct.suits(rows, references, tile):
            reduced = direct.reduced(formula, scalars, rows, references, weights)
        else:
            tile = None if tile == "all" else tile
            reduced = loop.reduced(formula, scalars, rows, references, weights, back, tile, share)
        count = _count(rows, references, weights)
        if rows.kept is not None:  # without pairs, the loss of a row or its gradient may be infinite
            reduced = tuple(_substituted(number[:, None], rows.kept)[:, 0] for number in reduced)
            count = _substituted(count[:, None], rows.kept)[:, 0] if len(count.shape) else count
        loss = formula.bound(scalars)
        loss.rows_per_pair = 1 if references else 2
        values = loss.row(reduced, count)
        if not _arguments.has_shape(values, reduced[0]):
            raise ValueError(
                f"`{type(self).__name__}.row` must return a tensor of shape [B], {tuple(reduced[0].shape)}. "
                f"Received {_arguments.described(values)}"
            )
        return values if rows.kept is None else ops.where(rows.kept > 0, values, ops.zeros_like(values))

    def _look(self, rows: Side, references: Side | None) -> None:
        """Warn if labels are probably not what was meant."""
        seen = _doubts.have_values(rows, references)
        if seen:
            self._looks += 1
        message = self._doubt(rows, references, seen)
        if message:
            self._looks = _doubts.LOOKS
            warnings.warn(message, UserWarning, stacklevel=4)

    def _formula(self, dtype: Any) -> tuple[Formula, list[Tensor]]:
        """Return the loss without the values of its parameters, and the values."""
        scalars, learned, constants = {}, [], []
        for name in self._carried:
            value = getattr(self, name)
            if _arguments.is_parameter(value):
                learned.append(_frameworks.may_need_gradient(value))
                is_number = isinstance(value, (numbers.Real, np.ndarray))  # converted without an intermediate rounding
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
        """Raise an error that lists the available attributes; called for missing ones."""
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, property):  # another attribute is missing within it
            return attribute.__get__(self)
        takes = ", ".join(self._carried) or "none"
        raise AttributeError(
            f"{type(self).__name__} has no attribute `{name}`. The constructor must call `super().__init__(**options)` "
            f"and set one for each of its arguments; `values` and `row` see only these: {takes}"
        )


_PAIRS = tuple(PairOptions.__annotations__)


def _count(rows: Side, references: Side | None, weights: Tensor | None) -> Tensor:
    """Return the number of pairs of each row, or the sum of their weights; 1 for a row without pairs."""
    x, columns = rows.x, references or rows
    if weights is None and rows.kept is None and columns.kept is None:
        size = columns.x.shape[0] or ops.shape(columns.x)[0]
        size -= references is None
        return ops.cast(max(size, 1) if isinstance(size, int) else ops.maximum(size, 1), x.dtype)
    if weights is None:
        count = ops.sum(columns.kept) - (rows.kept if references is None else 0)
    else:
        counted = weights if columns.kept is None else weights * columns.kept
        if references is None:  # masked, not subtracted: a large diagonal would cancel the rest
            place = ops.arange(ops.shape(x)[0], dtype="int32")
            counted = ops.where(ops.equal(place[:, None], place), ops.zeros_like(counted), counted)
        count = ops.sum(counted, axis=1)
    return ops.where(count > 0, count, ops.ones_like(count))


def _columns(prefix: str, x: Tensor, labels: Any, given: dict[str, Any]) -> Tensor:
    """Return labels as columns, split into 32-bit halves if labels of two dtypes are compared."""
    split = given["ref_embeddings"] is not None or given["ignore_label"] is not None
    return _arguments.labels(f"{prefix}labels", labels, f"{prefix}embeddings", x, split)


def _width(what: str, columns: Tensor) -> int:
    return int(columns.shape[1]) // (2 if what == "labels" else 1)


def _substituted(x: Tensor, kept: Tensor) -> Tensor:
    """Replace rows that are not kept by the first kept row, so that NaNs in them have no effect."""
    # A row of ones if none is kept; the batch may be empty.
    one = ops.ones((1, x.shape[1]), dtype=x.dtype)
    place = ops.argmax(ops.concatenate([kept, ops.cast(one[:, 0], kept.dtype)], axis=0))
    first = ops.take(ops.concatenate([x, one], axis=0), ops.expand_dims(ops.cast(place, "int32"), 0), axis=0)
    return ops.where(ops.expand_dims(kept, 1) > 0, x, ops.stop_gradient(first))


def _directions(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return directions, and what to add to the squared distances of a row: 1 for rows of zeros, 0 for all others.

    Rows of zeros stay zeros, so that all their squared distances are 2, those of a cosine of 0. They get no gradient,
    and what others get from them is along these others, of which only the direction counts.
    """
    if 0 in x.shape:
        return x, None
    # Divide by the largest entry first, so that squares do not overflow or underflow. The direction is the same.
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=1, keepdims=True))
    zero = ops.equal(largest, 0)
    x = ops.where(zero, ops.ones_like(x), x / ops.where(zero, ops.ones_like(largest), largest))
    x = ops.where(zero, 0.0, x / ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True)))
    return x, ops.cast(zero[:, 0], x.dtype)
