"""The losses as plain NumPy loops, in float64, written from their definitions: what every other form is held to.

Each function takes the arguments of the loss of its name, as arrays, lists or pandas objects, and loops over pairs or
pixels. Slow, and meant to be read. Neither Keras nor the rest of multiloss is used here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "cldice",
    "contrastive",
    "cross_entropy",
    "dice",
    "dice_coef",
    "dice_cross_entropy",
    "dice_focal",
    "dice_loss",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "jaccard",
    "log_cosh_dice",
    "lovasz",
    "mcc",
    "pairwise_user_loss",
    "supcon",
    "tversky",
    "unified_focal",
]


def pairwise_user_loss(
    labels: Any, embeddings: Any, /, *, margin: float | None = None, pairs: str = "sum", **options: Any
) -> np.ndarray:
    """Add the distance of every pair of the same user, subtract that of every other, half to each row.

    Args:
        labels: users `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        embeddings: numbers `[B, D]`.
        margin: None, or the most that the distance of different users counts for, >= 0.
        pairs: "sum", or "mean" over the pairs of a row, each in full.
        **options: `ref_labels` and `ref_embeddings`, the same of what the rows are paired with, instead of each other,
            where a pair is in one row, in full; `pair_weights` `[B, B']`, how much a pair counts in its row;
            `ignore_label`, the label of rows that are in no pair.

    Returns:
        float64 `[B]`, whose sum is the sum over the pairs. B = 0 and B = 1 give zeros.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float ids that are not whole numbers, a negative margin.

    Example:
        >>> from multiloss import oracles
        >>> oracles.pairwise_user_loss(["ann", "ann", "bob"], [[0, 0], [3, 4], [0, 1]], margin=1)
        array([ 2.,  2., -1.])
    """
    p = _pairs(labels, embeddings, **options)
    if margin is not None and not margin >= 0:
        raise ValueError(f"`margin` must be None or >= 0. Received: {margin!r}")

    cap = np.inf if margin is None else margin
    rows = np.zeros(len(p.x))
    for i, others in enumerate(p.others):
        for j in others:
            distance = np.sqrt(np.sum((p.x[i] - p.y[j]) ** 2))
            rows[i] += p.weight[i, j] * (distance if p.same(i, j) else -min(distance, cap))
        if pairs == "mean":
            rows[i] /= sum(p.weight[i, j] for j in others) or 1
        elif "ref_embeddings" not in options:
            rows[i] /= 2
    return rows


def contrastive(
    labels: Any, embeddings: Any, /, *, pos_margin: float = 0.0, neg_margin: float = 1.0, **options: Any
) -> np.ndarray:
    """Half the square by which each pair misses its margin, in the mean over the pairs of a row.

    Args:
        labels: labels `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        embeddings: numbers `[B, D]`.
        pos_margin: distance up to which pairs of the same label cost nothing, >= 0.
        neg_margin: distance from which pairs of different labels cost nothing, >= 0.
        **options: as in `pairwise_user_loss`.

    Returns:
        float64 `[B]`, whose mean is the mean over the pairs. B = 0 and B = 1 give zeros.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float labels that are not whole, a negative margin.

    Example:
        >>> from multiloss import oracles
        >>> oracles.contrastive(["ann", "ann", "bob"], [[0, 0], [3, 4], [0, 1]], pos_margin=1, neg_margin=4)
        array([6.25, 4.  , 2.25])
    """
    p = _pairs(labels, embeddings, **options)
    if not pos_margin >= 0 or not neg_margin >= 0:
        raise ValueError(f"`pos_margin` and `neg_margin` must be >= 0. Received: {pos_margin!r} and {neg_margin!r}")

    rows = np.zeros(len(p.x))
    for i, others in enumerate(p.others):
        for j in others:
            distance = np.sqrt(np.sum((p.x[i] - p.y[j]) ** 2))
            missed = distance - pos_margin if p.same(i, j) else neg_margin - distance
            rows[i] += p.weight[i, j] * max(missed, 0.0) ** 2 / 2
        rows[i] /= sum(p.weight[i, j] for j in others) or 1
    return rows


def supcon(labels: Any, embeddings: Any, /, *, temperature: float = 0.1, **options: Any) -> np.ndarray:
    """Cross-entropy of picking the rows of one's own label out of all others, by the cosine of their embeddings.

    Args:
        labels: labels `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        embeddings: numbers `[B, D]`; a row of zeros has a cosine of 1/2 with every row that is not.
        temperature: what cosines are divided by, > 0.
        **options: as in `pairwise_user_loss`; a weight is a number of rows that are alike.

    Returns:
        float64 `[B]`, 0 for a row that is the only one of its label.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float labels that are not whole, a temperature <= 0.

    Example:
        >>> from multiloss import oracles
        >>> oracles.supcon(["ann", "ann", "bob"], [[1, 0], [2, 0], [0, 3]], temperature=1).round(3)
        array([0.313, 0.313, 0.   ])
    """
    p = _pairs(labels, embeddings, **options)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be > 0. Received: {temperature!r}")

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        lengths = np.sqrt(np.sum(a**2)), np.sqrt(np.sum(b**2))
        if 0 in lengths:
            return 1.0 if lengths[0] == lengths[1] else 0.5
        return float(np.sum((a / lengths[0]) * (b / lengths[1])))

    rows = np.zeros(len(p.x))
    for i, others in enumerate(p.others):
        positives = [j for j in others if p.same(i, j)]
        logits = {j: cosine(p.x[i], p.y[j]) / temperature for j in others}
        top = max(logits.values(), default=0.0)
        total = top + np.log(sum(p.weight[i, j] * np.exp(logits[j] - top) for j in others)) if others else 0.0
        for j in positives:
            rows[i] -= p.weight[i, j] * (logits[j] - total) / sum(p.weight[i, k] for k in positives)
    return rows


class _Pairs(NamedTuple):
    """Rows, what they are paired with, and how."""

    labels: np.ndarray
    x: np.ndarray
    ref_labels: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    others: list[list[int]]  # of each row, with what it is paired

    def same(self, i: int, j: int) -> bool:
        return bool(np.all(self.labels[i] == self.ref_labels[j]))


def _pairs(
    labels: Any,
    embeddings: Any,
    *,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    pair_weights: Any = None,
    ignore_label: Any = None,
) -> _Pairs:
    own, x = _labelled("labels", labels, "embeddings", embeddings)
    other, y = (own, x)
    if ref_embeddings is not None:
        other, y = _labelled("ref_labels", ref_labels, "ref_embeddings", ref_embeddings)
    weight = np.ones((len(x), len(y))) if pair_weights is None else np.asarray(pair_weights, dtype=np.float64)
    if weight.shape != (len(x), len(y)):
        raise ValueError(f"`pair_weights` must have shape {(len(x), len(y))}. Received shape: {weight.shape}")

    def kept(label: Any) -> bool:
        return ignore_label is None or not np.all(label == np.asarray(ignore_label, dtype=object))

    others = [
        [j for j in range(len(y)) if kept(own[i]) and kept(other[j]) and weight[i, j] and (y is not x or j != i)]
        for i in range(len(x))
    ]
    return _Pairs(own, x, other, y, weight, others)


def _labelled(name: str, labels: Any, rows_name: str, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    # As objects: NumPy and pandas would make floats of a mixture of int64 and uint64, and merge them.
    ids = np.asarray(labels.astype(object) if hasattr(labels, "astype") else labels, dtype=object)
    x = np.asarray(rows, dtype=np.float64)
    if ids.ndim not in (1, 2):
        raise ValueError(f"`{name}` must have shape [B] or [B, K]. Received shape: {ids.shape}")
    if x.ndim != 2:
        raise ValueError(f"`{rows_name}` must have shape [B, D]. Received shape: {x.shape}")
    if len(ids) != len(x):
        raise ValueError(
            f"`{name}` and `{rows_name}` must have the same batch size. Received shapes: {ids.shape} and {x.shape}"
        )
    if any(i is None or (isinstance(i, (float, np.floating)) and not float(i).is_integer()) for i in ids.ravel()):
        raise ValueError(f"`{name}` must not be missing, and whole where it is a float. Received others")
    return ids, x


# --- overlap ---------------------------------------------------------------------------------------------------------

_OPTIONS = {
    "mode": "binary",
    "from_logits": False,
    "over": "sample",
    "classes": None,
    "include_background": True,
    "class_weight": None,
    "ignore_index": None,
    "smooth": 1e-5,
    "squared": False,
    "empty": "penalize",
    "label_smoothing": 0.0,
    "thresh": None,
    "data_format": "channels_last",
}


class _Pixels(NamedTuple):
    """The pixels of one ratio: vectors of truth, prediction, weight, truth before label smoothing, and logits."""

    t: np.ndarray
    p: np.ndarray
    w: np.ndarray
    raw: np.ndarray
    z: np.ndarray


def _ratios(y_true: Any, y_pred: Any, mask: Any, o: dict[str, Any]) -> list[list[tuple[float, _Pixels]]]:
    """For each value of the loss, the weight and the pixels of each class (or of all together)."""
    unknown = set(o) - set(_OPTIONS)
    if unknown:
        raise TypeError(f"unknown options: {sorted(unknown)}")
    o = {**_OPTIONS, **o}
    t, x = np.asarray(y_true), np.asarray(y_pred)
    m = None if mask is None else np.asarray(mask, dtype=np.float64)
    if o["mode"] != "binary" and o["data_format"] == "channels_first":
        t, x = (np.moveaxis(a, 1, -1) if a.ndim == x.ndim else a for a in (t, x))
        m = np.moveaxis(m, 1, -1) if m is not None and m.ndim == x.ndim else m
    w = np.ones(x.shape)
    if m is not None:
        w = w * m.reshape(m.shape + (1,) * (x.ndim - m.ndim))

    if o["mode"] == "multiclass" and (t.ndim < x.ndim or t.shape[-1] == 1 < x.shape[-1]):
        t = t if t.ndim < x.ndim else t[..., 0]
        w = w * (t != o["ignore_index"])[..., None]
        t = np.stack([t == c for c in range(x.shape[-1])], axis=-1)
    elif o["ignore_index"] is not None:
        ignored = t[..., [o["ignore_index"]]] == 1 if o["mode"] == "multiclass" else t == o["ignore_index"]
        w, t = w * ~ignored, np.where(ignored & (o["mode"] != "multiclass"), 0, t)
    if t.shape != x.shape:
        raise ValueError(f"`y_true` and `y_pred` must have the same shape. Received shapes: {t.shape} and {x.shape}")
    if o["mode"] == "binary":
        t, x, w = t[..., None], x[..., None], w[..., None]

    p = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    z = x.astype(np.float64)
    if o["from_logits"] and o["mode"] == "multiclass":
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
    elif o["from_logits"]:
        p = 1 / (1 + np.exp(-z))
    p = (p if o["thresh"] is None else p > o["thresh"]).astype(np.float64)
    raw = t.astype(np.float64)
    s = o["label_smoothing"]
    t = raw * (1 - s) + s / (x.shape[-1] if o["mode"] == "multiclass" else 2)

    classes = range(0 if o["include_background"] else 1, x.shape[-1]) if o["classes"] is None else o["classes"]
    rows = [range(len(x))] if o["over"] in ("batch", "all") else [[b] for b in range(len(x))]
    groups = [list(classes)] if o["over"] in ("class", "all") else [[c] for c in classes]
    result: list[list[tuple[float, _Pixels]]] = []
    for row in rows:
        result.append([])
        for group in groups:
            weights = {c: 1.0 if o["class_weight"] is None else o["class_weight"][c] for c in group}
            vectors = [
                np.concatenate([a[b, ..., c].ravel() for b in row for c in group] or [np.zeros(0)])
                for a in (t, p, w * np.array([weights.get(c, 0.0) for c in range(x.shape[-1])]), raw, z)
            ]
            if len(group) == 1 and o["over"] in ("sample", "batch"):
                vectors[2] = np.concatenate([w[b, ..., group[0]].ravel() for b in row] or [np.zeros(0)])
            result[-1].append((weights[group[0]] if o["over"] in ("sample", "batch") else 1.0, _Pixels(*vectors)))
    return result


def _averaged(
    y_true: Any,
    y_pred: Any,
    mask: Any,
    o: dict[str, Any],
    loss: Callable[[_Pixels], float],
    then: Callable[[float], float] = float,
) -> Any:
    """Mean over classes of `then` of the losses of ratios, those without truth as `empty` says: `[B]`, or a float."""
    values = []
    for row in _ratios(y_true, y_pred, mask, o):
        above = below = 0.0
        for weight, x in row:
            weight = 0.0 if _absent(x) and o.get("empty") == "skip" else weight
            above += weight * then(_unless_empty(loss, x, o))
            below += weight
        values.append(above / below if below else 0.0)
    return values[0] if o.get("over") in ("batch", "all") else np.array(values)


def _absent(x: _Pixels) -> bool:
    return bool(np.sum(x.w * x.raw) == 0)


def _unless_empty(loss: Callable[[_Pixels], float], x: _Pixels, o: dict[str, Any]) -> float:
    policy = o.get("empty", "penalize")
    if x.w.size and not np.sum(x.w):
        return 0.0
    if not _absent(x) or policy == "formula":
        return loss(x)
    predicted = np.sum(x.w * (x.p**2 if o.get("squared") else x.p))
    mean = float(predicted / np.sum(x.w)) if np.sum(x.w) else 0.0
    return {"penalize": mean, "one": 0.0, "zero": 1.0, "skip": 0.0}[policy]


def _halves(o: dict[str, Any]) -> tuple[float, float]:
    smooth = o.get("smooth", 1e-5)
    above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)
    return above / 2, below / 2


def _tversky(x: _Pixels, alpha: float, beta: float, o: dict[str, Any]) -> float:
    if o.get("squared") and alpha != beta:
        raise ValueError(f"`squared=True` needs `alpha` equal to `beta`. Received: alpha={alpha}, beta={beta}")
    power = 2 if o.get("squared") else 1
    tp = np.sum(x.w * x.t * x.p)
    fp, fn = np.sum(x.w * x.p**power) - tp, np.sum(x.w * x.t**power) - tp
    above, below = _halves(o)
    whole = tp + alpha * fp + beta * fn + below
    return float(1 - (tp + above) / whole) if whole else 0.0


def dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """1 minus twice the overlap over the sum of the sizes, of each sample and class, in the mean over classes.

    Args:
        y_true: as in `multiloss.dice`.
        y_pred: as in `multiloss.dice`.
        mask: as in `multiloss.dice`.
        **options: as in `multiloss.OverlapOptions`; `data_format` is "channels_last" by default.

    Returns:
        float64 `[B]`, or a float for `over="batch"` and `over="all"`.

    Raises:
        TypeError: for an unknown option.
        ValueError: for different shapes.

    Example:
        >>> from multiloss import oracles
        >>> oracles.dice([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0)
        array([0.25])
    """
    return _averaged(y_true, y_pred, mask, options, lambda x: _tversky(x, 0.5, 0.5, options))


def jaccard(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """1 minus the intersection over the union, else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.jaccard([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0)
        array([0.4])
    """
    return _averaged(y_true, y_pred, mask, options, lambda x: _tversky(x, 1.0, 1.0, options))


def tversky(
    y_true: Any, y_pred: Any, *, alpha: float = 0.5, beta: float = 0.5, mask: Any = None, **options: Any
) -> Any:
    """1 minus the true positives over them, alpha false positives and beta false negatives, else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        alpha: weight of false positives.
        beta: weight of false negatives; with `squared`, the same.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.tversky([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], alpha=0, beta=1, smooth=0)
        array([0.25])
    """
    return _averaged(y_true, y_pred, mask, options, lambda x: _tversky(x, alpha, beta, options))


def focal_tversky(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    mask: Any = None,
    **options: Any,
) -> Any:
    """The Tversky loss of each class (with what `empty` makes of it) to the power of gamma, else as `tversky`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        alpha: weight of false positives.
        beta: weight of false negatives; with `squared`, the same.
        gamma: the exponent.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.focal_tversky([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], alpha=0, beta=1, gamma=2, smooth=0)
        array([0.0625])
    """

    def loss(x: _Pixels) -> float:
        return _tversky(x, alpha, beta, options)

    return _averaged(y_true, y_pred, mask, options, loss, then=lambda value: max(value, 0.0) ** gamma)


def log_cosh_dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """log(cosh) of the Dice loss of each class (with what `empty` makes of it), else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.log_cosh_dice([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0).round(4)
        array([0.0309])
    """

    def loss(x: _Pixels) -> float:
        return _tversky(x, 0.5, 0.5, options)

    return _averaged(y_true, y_pred, mask, options, loss, then=lambda value: float(np.log(np.cosh(value))))


def generalized_dice(y_true: Any, y_pred: Any, *, weighting: str = "square", mask: Any = None, **options: Any) -> Any:
    """The Dice loss of all classes added up, weighted by their sizes, of each sample.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        weighting: "square", "simple" or "uniform"; absent classes have the largest weight of the others.
        mask: as in `dice`.
        **options: as in `dice`; `over` is "sample" or "batch".

    Example:
        >>> from multiloss import oracles
        >>> oracles.generalized_dice([[0, 0, 1]], [[[1, 0], [0, 1], [0, 1]]], mode="multiclass", smooth=0)
        array([0.33333333])
    """
    exponent, squared = {"square": 2, "simple": 1, "uniform": 0}[weighting], options.get("squared")
    above, below = (2 * half for half in _halves(options))
    values = []
    for row in _ratios(y_true, y_pred, mask, options):
        present = [(weight, x) for weight, x in row if not _absent(x)]
        if not present:  # one empty ratio, of all classes
            x = _Pixels(*(np.concatenate(vectors) for vectors in zip(*(x for _, x in row), strict=True)))
            x = x._replace(w=np.concatenate([weight * x.w for weight, x in row]))
            values.append(_unless_empty(lambda x: _tversky(x, 0.5, 0.5, options), x, options))
            continue
        sizes = [np.sum(x.w * (x.t**2 if squared else x.t)) for _, x in present]
        numerator = denominator = 0.0
        for weight, x in present if options.get("empty") == "skip" else row:
            truth, prediction = x.t**2 if squared else x.t, x.p**2 if squared else x.p
            size = min(sizes) if _absent(x) else np.sum(x.w * truth)
            weight = weight * (min(sizes) / size) ** exponent
            numerator += weight * 2 * np.sum(x.w * x.t * x.p)
            denominator += weight * np.sum(x.w * (truth + prediction))
        values.append(1 - (numerator + above) / (denominator + below) if denominator + below else 0.0)
    return values[0] if options.get("over") == "batch" else np.array(values)


def mcc(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """1 minus the Matthews correlation of truth and prediction, half of `smooth` added to each count, else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.mcc([[1, 1, 0, 0]], [[1, 1, 1, 1]], smooth=0)
        array([1.])
    """

    def loss(x: _Pixels) -> float:
        half = _halves(options)[0]
        tp, fp = np.sum(x.w * x.t * x.p) + half, np.sum(x.w * (1 - x.t) * x.p) + half
        fn, tn = np.sum(x.w * x.t * (1 - x.p)) + half, np.sum(x.w * (1 - x.t) * (1 - x.p)) + half
        root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return float(1 - (tp * tn - fp * fn) / root) if root else 1.0

    return _averaged(y_true, y_pred, mask, options, loss)


def cross_entropy(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """Minus the logarithm of the probability of the truth, in the mean over pixels, of each sample.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.cross_entropy([[1, 0]], [[0.5, 0.25]]).round(4)
        array([0.4904])
    """
    return focal(y_true, y_pred, gamma=0.0, mask=mask, **options)


def focal(y_true: Any, y_pred: Any, *, gamma: float = 2.0, mask: Any = None, **options: Any) -> Any:
    """The terms of `cross_entropy`, each times the gamma-th power of what the probability lacks.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        gamma: the exponent.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.focal([[1, 0]], [[0.5, 0.25]]).round(4)
        array([0.0956])
    """
    exclusive = options.get("mode") == "multiclass"

    def loss(x: _Pixels) -> Any:
        losses = x.t * _surprise(x.p, gamma)
        return losses if exclusive else losses + (1 - x.t) * _surprise(1 - x.p, gamma)

    return _over_pixels(y_true, y_pred, mask, options, lambda _, x: loss(x))


def _surprise(p: np.ndarray, gamma: float) -> Any:
    p = np.clip(p, 2.0**-23, 1 - 2.0**-23)
    return -np.log(p) * (1 - p) ** gamma


def _over_pixels(y_true: Any, y_pred: Any, mask: Any, o: dict[str, Any], losses: Callable[[int, _Pixels], Any]) -> Any:
    """Mean over pixels of the losses of (place of the class, pixels); over classes a mean, or a sum if exclusive."""
    whole = o.get("over") in ("batch", "all")
    values = []
    for row in _ratios(y_true, y_pred, mask, {**o, "over": "batch" if whole else "sample"}):
        value = 0.0
        for place, (weight, x) in enumerate(row):
            value += weight * np.sum(x.w * losses(place, x)) / np.sum(x.w) if np.sum(x.w) else 0.0
        values.append(value if o.get("mode") == "multiclass" else value / sum(weight for weight, _ in row))
    return values[0] if whole else np.array(values)


def dice_cross_entropy(
    y_true: Any, y_pred: Any, *, dice_weight: float = 1.0, pixel_weight: float = 1.0, mask: Any = None, **options: Any
) -> Any:
    """Weighted sum of `dice` and `cross_entropy`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        dice_weight: weight of the former.
        pixel_weight: weight of the latter.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.dice_cross_entropy([[1, 0]], [[0.5, 0.25]], smooth=0).round(4)
        array([0.919])
    """
    pixels = cross_entropy(y_true, y_pred, mask=mask, **{**options, "thresh": None})
    return dice_weight * dice(y_true, y_pred, mask=mask, **options) + pixel_weight * pixels


def dice_focal(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    dice_weight: float = 1.0,
    pixel_weight: float = 1.0,
    mask: Any = None,
    **options: Any,
) -> Any:
    """Weighted sum of `dice` and `focal`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        gamma: as in `focal`.
        dice_weight: weight of the former.
        pixel_weight: weight of the latter.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.dice_focal([[1, 0]], [[0.5, 0.25]], smooth=0).round(4)
        array([0.5242])
    """
    pixels = focal(y_true, y_pred, gamma=gamma, mask=mask, **{**options, "thresh": None})
    return dice_weight * dice(y_true, y_pred, mask=mask, **options) + pixel_weight * pixels


def unified_focal(
    y_true: Any,
    y_pred: Any,
    *,
    weight: float = 0.5,
    delta: float = 0.6,
    gamma: float = 0.5,
    symmetric: bool = False,
    mask: Any = None,
    **options: Any,
) -> Any:
    """Tversky and focal losses of foreground and background, one enhanced and the other suppressed by gamma.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        weight: of the Tversky part.
        delta: weight of false negatives.
        gamma: the exponent of the focal part, and 1 minus that of the Tversky part.
        symmetric: whether background is treated as foreground is.
        mask: as in `dice`.
        **options: as in `dice`; `over` is "sample" or "batch".

    Example:
        >>> from multiloss import oracles
        >>> oracles.unified_focal([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]]).round(4)
        array([0.272])
    """
    exclusive = options.get("mode") == "multiclass"

    def missed(x: _Pixels, background: bool) -> float:
        value = max(_unless_empty(lambda x: _tversky(x, 1 - delta, delta, options), x, options), 0.0)
        return value if background and not symmetric else value ** (1 - gamma)

    def surprise(t: np.ndarray, p: np.ndarray, background: bool) -> Any:
        share = 1 - delta if background else delta
        return share * t * _surprise(p, gamma if background or symmetric else 0.0)

    values = []
    for row in _ratios(y_true, y_pred, mask, options):
        above = below = 0.0
        for place, (class_weight, x) in enumerate(row):
            others = x._replace(t=1 - x.t, p=1 - x.p, raw=1 - x.raw)
            value = missed(x, place == 0) if exclusive else (missed(x, False) + missed(others, True)) / 2
            class_weight = 0.0 if _absent(x) and options.get("empty") == "skip" else class_weight
            above, below = above + class_weight * value, below + class_weight
        values.append(above / below if below else 0.0)
    regions = values[0] if options.get("over") == "batch" else np.array(values)

    def pixels(place: int, x: _Pixels) -> Any:
        if exclusive:
            return surprise(x.t, x.p, place == 0)
        return surprise(x.t, x.p, False) + surprise(1 - x.t, 1 - x.p, True)

    return weight * regions + (1 - weight) * _over_pixels(y_true, y_pred, mask, options, pixels)


def lovasz(y_true: Any, y_pred: Any, *, hinge: bool = False, mask: Any = None, **options: Any) -> Any:
    """Lovász extension of the Jaccard loss of sets of wrong pixels, else as `dice`.

    Args:
        y_true: as in `dice`, 0 and 1.
        y_pred: as in `dice`.
        hinge: whether errors are `max(0, 1 - (2 t - 1) logit)` instead of `|t - p|`.
        mask: as in `dice`.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.lovasz([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]]).round(4)
        array([0.3667])
    """

    def jaccard_loss(x: _Pixels, wrong: np.ndarray) -> float:
        predicted = np.where(wrong, 1 - x.t, x.t)
        union = np.sum(x.w * np.maximum(x.t, predicted))
        return float(1 - np.sum(x.w * x.t * predicted) / union) if union else 0.0

    def loss(x: _Pixels) -> float:
        errors = np.maximum(0, 1 - (2 * x.t - 1) * x.z) if hinge else np.abs(x.t - x.p)
        wrong, value, before = np.zeros(len(errors), bool), 0.0, 0.0
        for i in np.argsort(-errors, kind="stable"):
            wrong[i] = True
            value += errors[i] * (jaccard_loss(x, wrong) - before)
            before = jaccard_loss(x, wrong)
        return value

    return _averaged(y_true, y_pred, mask, options, loss)


def cldice(y_true: Any, y_pred: Any, *, iterations: int = 3, mask: Any = None, **options: Any) -> Any:
    """1 minus the harmonic mean of how much of each skeleton lies in the other mask, else as `dice`.

    Args:
        y_true: as in `dice`, with two or three axes of pixels.
        y_pred: as in `dice`.
        iterations: how often to erode.
        mask: as in `dice`; where it is 0 there is no neighbour.
        **options: as in `dice`.

    Example:
        >>> from multiloss import oracles
        >>> oracles.cldice([[[0, 1, 0], [0, 1, 0], [0, 1, 0]]], [[[1, 0, 1], [0, 1, 0], [0, 0, 0]]], smooth=0)
        array([0.66666667])
    """
    o = {**_OPTIONS, **options}
    binary, first = o["mode"] == "binary", o["mode"] != "binary" and o["data_format"] == "channels_first"
    above, below = _halves(o)
    # Pixels in their places: taken apart by samples and classes, they are put together as images again.
    shape = np.shape(y_pred)
    image = shape[1:] if binary else shape[2:] if first else shape[1:-1]

    def loss(x: _Pixels) -> float:
        parts = []
        whole = int(np.prod(image))
        for start in range(0, len(x.t), whole):
            t, p, w = (vector[start : start + whole].reshape(image) for vector in (x.t, x.p, x.w))
            parts.append((t, p, w, _skeleton(t, w > 0, iterations), _skeleton(p, w > 0, iterations)))

        def share(line: int, body: int) -> float:
            found = sum(np.sum(part[2] * part[line] * part[body]) for part in parts) + above
            length = sum(np.sum(part[2] * part[line]) for part in parts) + below
            return float(found / length) if length else 0.0

        precision, sensitivity = share(4, 0), share(3, 1)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 1.0

    return _averaged(y_true, y_pred, mask, options, loss)


def _skeleton(x: np.ndarray, there: np.ndarray, iterations: int) -> Any:
    def around(x: np.ndarray, outside: Any, cross: bool) -> list[np.ndarray]:
        """Each pixel and its neighbours, those beside it or all around it: one array for each of the steps to them."""
        padded = np.pad(np.where(there, x, outside), 1, constant_values=outside)
        steps = [step for step in np.ndindex((3,) * x.ndim) if not cross or np.sum(np.abs(np.subtract(step, 1))) <= 1]
        return [padded[tuple(slice(k, k + n) for k, n in zip(step, x.shape, strict=True))] for step in steps]

    def over(x: np.ndarray, best: Any, cross: bool) -> np.ndarray:
        """The best of each pixel and its neighbours, and 0 where there are none."""
        found = best(around(x, np.inf if best is np.min else -np.inf, cross), axis=0)
        return np.where(np.any(around(there, False, cross), axis=0), found, 0.0)

    def removed(x: np.ndarray) -> Any:
        return np.maximum(x - over(over(x, np.min, cross=True), np.max, cross=False), 0)

    result = removed(x)
    for _ in range(iterations):
        x = over(x, np.min, cross=True)
        result = result + np.maximum(removed(x) - result * removed(x), 0)
    return result


def dice_coef(y_true: Any, y_pred: Any, smooth: float = 1e-5, thresh: float | None = None) -> float:
    """Twice the overlap over the sum of the sizes, counted pixel by pixel over the whole batch.

    Args:
        y_true: numbers or booleans of any shape.
        y_pred: numbers of the same shape; compared with `thresh` in its own dtype, half precision in float32.
        smooth: added to numerator and denominator, >= 0.
        thresh: None, or the number in (0, 1) above which a pixel counts as 1, and else as 0.

    Returns:
        float. 1 where both masks are empty, for `smooth=0` as well.

    Raises:
        ValueError: for different shapes, a negative smooth, a thresh outside (0, 1).

    Example:
        >>> from multiloss import oracles
        >>> oracles.dice_coef([1, 1, 0], [0.9, 0.2, 0.1], smooth=1, thresh=0.5)
        0.75
    """
    t, p = np.asarray(y_true), np.asarray(y_pred)
    if t.shape != p.shape:
        raise ValueError(f"`y_true` and `y_pred` must have the same shape. Received shapes: {t.shape} and {p.shape}")
    if not smooth >= 0:
        raise ValueError(f"`smooth` must be >= 0. Received: {smooth!r}")
    if thresh is not None and not 0 < thresh < 1:
        raise ValueError(f"`thresh` must be None or in (0, 1). Received: {thresh!r}")
    if thresh is not None:
        p = p.astype(np.result_type(p, np.float32)) > thresh

    overlap = truth = prediction = 0.0
    for index in np.ndindex(t.shape):
        overlap += float(t[index]) * float(p[index])
        truth += float(t[index])
        prediction += float(p[index])
    if truth + prediction + smooth == 0:
        return 1.0
    return (2 * overlap + smooth) / (truth + prediction + smooth)


def dice_loss(smooth: float = 1e-5, thresh: float | None = None) -> Callable[[Any, Any], float]:
    """Make a function of `(y_true, y_pred)` that returns `-dice_coef(y_true, y_pred, smooth, thresh)`.

    Args:
        smooth: as in `dice_coef`.
        thresh: as in `dice_coef`.

    Returns:
        A function whose value is a float.

    Example:
        >>> from multiloss import oracles
        >>> oracles.dice_loss(smooth=1)([1, 1, 0], [1, 0, 0])
        -0.75
    """

    def loss(y_true: Any, y_pred: Any) -> float:
        return -dice_coef(y_true, y_pred, smooth, thresh)

    return loss
