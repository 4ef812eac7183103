"""The losses of overlapping masks as plain NumPy loops over samples and classes, in float64, from their definitions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "cldice",
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
    "tversky",
    "unified_focal",
]

_OPTIONS = {
    "mode": None,
    "from_logits": False,
    "batch": False,
    "average": "macro",
    "classes": None,
    "include_background": True,
    "class_weight": None,
    "ignore_index": None,
    "smooth": 1e-5,
    "squared": False,
    "soft_label": False,
    "empty": "penalize",
    "label_smoothing": 0.0,
    "thresh": None,
    "data_format": "channels_last",
}
_WORDS = {
    "mode": ("binary", "multiclass", "multilabel"),
    "average": ("macro", "micro", None),
    "empty": ("penalize", "formula", "perfect", "worst", "skip"),
}


class _Pixels(NamedTuple):
    """The pixels of one ratio: vectors of truth, prediction, weight, truth before label smoothing, and logits."""

    t: np.ndarray
    p: np.ndarray
    w: np.ndarray
    raw: np.ndarray
    z: np.ndarray


def _options(y_true: Any, y_pred: Any, given: dict[str, Any], *without: str) -> dict[str, Any]:
    """All options, `mode` as it is or is inferred, and `classes` as those that count."""
    unknown = set(given) - set(_OPTIONS) | set(given) & set(without)
    if unknown:
        raise TypeError(f"unknown options: {sorted(unknown)}")
    o = {**_OPTIONS, **given}
    if o["mode"] is None:
        o["mode"] = _inferred(np.asarray(y_true), np.asarray(y_pred), o["data_format"])
    for name, words in _WORDS.items():
        if o[name] not in words:
            raise ValueError(f"`{name}` must be one of {words}. Received: {o[name]!r}")
    of_classes = o["classes"] is not None, not o["include_background"], o["class_weight"] is not None
    if o["mode"] == "binary" and any(of_classes):
        raise ValueError("`classes`, `include_background` and `class_weight` need a class axis. `mode` is: binary")
    if o["squared"] and o["soft_label"]:
        raise ValueError("`squared` and `soft_label` exclude each other")
    if o["classes"] is None:
        o["classes"] = range(0 if o["include_background"] else 1, _size(y_pred, o))
    return o


def _inferred(t: np.ndarray, x: np.ndarray, data_format: str) -> str:
    """Multiclass for class indices where predictions have two classes or more, else binary."""
    if x.ndim < 2 or t.dtype.kind not in "biu":
        return "binary"
    axis = 1 if data_format == "channels_first" else x.ndim - 1
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    indices = t.shape in ((*before, *after), (*before, 1, *after))
    return "multiclass" if indices and x.shape[axis] > 1 else "binary"


def _size(y_pred: Any, o: dict[str, Any]) -> int:
    """How many classes there are, whether they count or not."""
    if o["mode"] == "binary":
        return 1
    return int(np.shape(y_pred)[1 if o["data_format"] == "channels_first" else -1])


def _ratios(y_true: Any, y_pred: Any, mask: Any, o: dict[str, Any]) -> list[list[tuple[float, _Pixels]]]:
    """For each value of the loss, the weight and the pixels of each class (or of all together)."""
    t, x = np.asarray(y_true), np.asarray(y_pred)
    m = None if mask is None else np.asarray(mask, dtype=np.float64)
    multiclass = o["mode"] == "multiclass"
    if o["mode"] != "binary" and o["data_format"] == "channels_first":
        t, x = (np.moveaxis(a, 1, -1) if a.ndim == x.ndim else a for a in (t, x))
        m = np.moveaxis(m, 1, -1) if m is not None and m.ndim == x.ndim else m
    w = np.ones(x.shape)
    if m is not None:
        w = w * m.reshape(m.shape + (1,) * (x.ndim - m.ndim))

    if multiclass and (t.ndim < x.ndim or t.shape[-1] == 1 < x.shape[-1]):
        t = t if t.ndim < x.ndim else t[..., 0]
        w = w * (t != o["ignore_index"])[..., None]
        t = np.stack([t == c for c in range(x.shape[-1])], axis=-1)
    elif o["ignore_index"] is not None:
        w = w * ~(t[..., [o["ignore_index"]]] == 1 if multiclass else t == o["ignore_index"])
    if t.shape != x.shape:
        raise ValueError(f"`y_true` and `y_pred` must have the same shape. Received shapes: {t.shape} and {x.shape}")
    if o["mode"] == "binary":
        t, x, w = t[..., None], x[..., None], w[..., None]

    gone = w == 0
    # In a softmax, the logits of a class that does not count are part of those that do.
    softmax = o["from_logits"] and multiclass
    t, x = np.where(gone, 0, t), np.where(np.all(gone, axis=-1, keepdims=True) if softmax else gone, 0, x)
    p = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    z = x.astype(np.float64)
    if softmax:
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        p, z = np.where(gone, 0, p), np.where(gone, 0, z)
    elif o["from_logits"]:
        p = 1 / (1 + np.exp(-z))
    p = (p if o["thresh"] is None else p > o["thresh"]).astype(np.float64)
    raw = t.astype(np.float64)
    s = o["label_smoothing"]
    t = raw * (1 - s) + s / (x.shape[-1] if multiclass else 2)

    weights = np.ones(x.shape[-1]) if o["class_weight"] is None else np.asarray(o["class_weight"], dtype=np.float64)
    micro = o["average"] == "micro"
    w = w * weights if micro else w
    result: list[list[tuple[float, _Pixels]]] = []
    for row in [range(len(x))] if o["batch"] else [[b] for b in range(len(x))]:
        result.append([])
        for group in [list(o["classes"])] if micro else [[c] for c in o["classes"]]:
            vectors = [
                np.concatenate([a[b, ..., c].ravel() for b in row for c in group] or [np.zeros(0)])
                for a in (t, p, w, raw, z)
            ]
            result[-1].append((1.0 if micro else float(weights[group[0]]), _Pixels(*vectors)))
    return result


def _averaged(
    y_true: Any,
    y_pred: Any,
    mask: Any,
    o: dict[str, Any],
    loss: Callable[[_Pixels], float],
    then: Callable[[float], float] = float,
) -> Any:
    """Mean over classes, if any, of `then` of the losses of ratios, those without truth as `empty` says."""
    values: list[Any] = []
    for row in _ratios(y_true, y_pred, mask, o):
        losses = [then(_unless_empty(loss, x, o)) for _, x in row]
        weights = [0.0 if _absent(x) and o["empty"] == "skip" else weight for weight, x in row]
        above, below = sum(a * b for a, b in zip(weights, losses, strict=True)), sum(weights)
        values.append(losses if o["average"] is None else above / below if below else 0.0)
    result = np.array(values, dtype=np.float64).reshape((-1, len(o["classes"])) if o["average"] is None else -1)
    return result if not o["batch"] else result[0] if o["average"] is None else values[0]


def _absent(x: _Pixels) -> bool:
    return bool(np.sum(x.w * x.raw) == 0)


def _unless_empty(loss: Callable[[_Pixels], float], x: _Pixels, o: dict[str, Any]) -> float:
    if x.w.size and not np.sum(x.w):
        return 0.0
    if not _absent(x) or o["empty"] == "formula":
        return loss(x)
    predicted = np.sum(x.w * (x.p**2 if o["squared"] else x.p))
    mean = float(predicted / np.sum(x.w)) if np.sum(x.w) else 0.0
    return {"penalize": mean, "perfect": 0.0, "worst": 1.0, "skip": 0.0}[o["empty"]]


def _halves(o: dict[str, Any]) -> tuple[float, float]:
    smooth = o["smooth"]
    above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)
    return above / 2, below / 2


def _overlap(x: _Pixels, o: dict[str, Any]) -> Any:
    """What truth and prediction share: of products, or for soft labels the lesser of the two (Wang et al. 2023)."""
    return np.sum(x.w * (x.p + x.t - np.abs(x.p - x.t))) / 2 if o["soft_label"] else np.sum(x.w * x.t * x.p)


def _tversky(x: _Pixels, alpha: float, beta: float, o: dict[str, Any]) -> float:
    if o["squared"] and alpha != beta:
        raise ValueError(f"`squared=True` needs `alpha` equal to `beta`. Received: alpha={alpha}, beta={beta}")
    power = 2 if o["squared"] else 1
    tp = _overlap(x, o)
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
        **options: as in `multiloss.losses.OverlapLoss`; `data_format` is "channels_last" by default.

    Returns:
        float64 `[B]`, or a float for `batch=True`; for `average=None` `[B, C]`, or `[C]`, of the classes that count.

    Raises:
        TypeError: for an unknown option.
        ValueError: for different shapes, words that no option has, options of classes in binary mode, and
            `soft_label` together with `squared`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.dice([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0)
        array([0.25])
    """
    o = _options(y_true, y_pred, options)
    return _averaged(y_true, y_pred, mask, o, lambda x: _tversky(x, 0.5, 0.5, o))


def jaccard(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """1 minus the intersection over the union, else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.jaccard([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0)
        array([0.4])
    """
    o = _options(y_true, y_pred, options)
    return _averaged(y_true, y_pred, mask, o, lambda x: _tversky(x, 1.0, 1.0, o))


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

    Examples:
        >>> from multiloss import oracles
        >>> oracles.tversky([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], alpha=0, beta=1, smooth=0)
        array([0.25])
    """
    o = _options(y_true, y_pred, options)
    return _averaged(y_true, y_pred, mask, o, lambda x: _tversky(x, alpha, beta, o))


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
        gamma: the exponent. With another than 1, a loss below 0, as two `smooth` can make it, counts as 0.
        mask: as in `dice`.
        **options: as in `dice`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.focal_tversky([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], alpha=0, beta=1, gamma=2, smooth=0)
        array([0.0625])
    """
    o = _options(y_true, y_pred, options)

    def loss(x: _Pixels) -> float:
        return _tversky(x, alpha, beta, o)

    return _averaged(
        y_true, y_pred, mask, o, loss, then=lambda value: value if gamma == 1 else max(value, 0.0) ** gamma
    )


def log_cosh_dice(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """log(cosh) of the Dice loss of each class (with what `empty` makes of it), else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.log_cosh_dice([[1, 1, 0, 0]], [[1.0, 0.5, 0.5, 0.0]], smooth=0).round(4)
        array([0.0309])
    """
    o = _options(y_true, y_pred, options)

    def loss(x: _Pixels) -> float:
        return _tversky(x, 0.5, 0.5, o)

    return _averaged(y_true, y_pred, mask, o, loss, then=lambda value: float(np.log(np.cosh(value))))


def generalized_dice(y_true: Any, y_pred: Any, *, weighting: str = "square", mask: Any = None, **options: Any) -> Any:
    """The Dice loss of all classes added up, weighted by their sizes, of each sample.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        weighting: "square", "simple" or "uniform"; absent classes have the largest weight of the others.
        mask: as in `dice`.
        **options: as in `dice`, without `average`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.generalized_dice([[0, 0, 1]], [[[1, 0], [0, 1], [0, 1]]], mode="multiclass", smooth=0)
        array([0.33333333])
    """
    o = _options(y_true, y_pred, options, "average")
    exponent, power = {"square": 2, "simple": 1, "uniform": 0}[weighting], 2 if o["squared"] else 1
    above, below = (2 * half for half in _halves(o))
    values = []
    together = _ratios(y_true, y_pred, mask, {**o, "average": "micro"})
    for row, [(_, whole)] in zip(_ratios(y_true, y_pred, mask, o), together, strict=True):
        sizes = [np.sum(x.w * x.t**power) for _, x in row if not _absent(x)]
        if not sizes:  # one empty ratio, of all classes
            values.append(_unless_empty(lambda x: _tversky(x, 0.5, 0.5, o), whole, o))
            continue
        numerator = denominator = 0.0
        for weight, x in row:
            if _absent(x) and o["empty"] == "skip":
                continue
            size = min(sizes) if _absent(x) else np.sum(x.w * x.t**power)
            weight = weight * (min(sizes) / size) ** exponent
            numerator += weight * 2 * _overlap(x, o)
            denominator += weight * np.sum(x.w * (x.t**power + x.p**power))
        values.append(1 - (numerator + above) / (denominator + below) if denominator + below else 0.0)
    return values[0] if o["batch"] else np.array(values)


def mcc(y_true: Any, y_pred: Any, *, mask: Any = None, **options: Any) -> Any:
    """1 minus the Matthews correlation of truth and prediction, half of `smooth` added to each count, else as `dice`.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        mask: as in `dice`.
        **options: as in `dice`, without `soft_label`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.mcc([[1, 1, 0, 0]], [[1, 1, 1, 1]], smooth=0)
        array([1.])
    """
    o = _options(y_true, y_pred, options, "soft_label")

    def loss(x: _Pixels) -> float:
        half = _halves(o)[0]
        tp, fp = np.sum(x.w * x.t * x.p) + half, np.sum(x.w * (1 - x.t) * x.p) + half
        fn, tn = np.sum(x.w * x.t * (1 - x.p)) + half, np.sum(x.w * (1 - x.t) * (1 - x.p)) + half
        root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return float(1 - (tp * tn - fp * fn) / root) if root else 1.0

    return _averaged(y_true, y_pred, mask, o, loss)


def cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    pos_weight: Any = None,
    weighted_mean: bool = False,
    mask: Any = None,
    **options: Any,
) -> Any:
    """Minus the logarithm of the probability of the truth, in the mean over pixels, of each sample.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        pos_weight: None, or how much the logarithm of p counts beside that of 1 - p, >= 0; in multilabel mode a number
            or C of them. Not for multiclass.
        weighted_mean: whether, in multiclass mode, `class_weight` weights pixels by their truth in a weighted mean.
        mask: as in `dice`.
        **options: as in `dice`, without `average` and `soft_label`.

    Raises:
        ValueError: as in `dice`, and for a `pos_weight` or a `weighted_mean` that the mode does not have.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.cross_entropy([[1, 0]], [[0.5, 0.25]]).round(4)
        array([0.4904])
    """
    o = _options(y_true, y_pred, options, "average", "soft_label")
    if pos_weight is not None:
        fits = np.shape(pos_weight) in ((), (_size(y_pred, o),) if o["mode"] == "multilabel" else ())
        if o["mode"] == "multiclass" or not fits or not np.all(np.asarray(pos_weight) >= 0):
            raise ValueError(f"`pos_weight` must be None, or >= 0 and not for multiclass. Received: {pos_weight!r}")
    if weighted_mean and (o["mode"] != "multiclass" or o["class_weight"] is None):
        raise ValueError("`weighted_mean` needs multiclass mode and `class_weight`")
    positive = np.broadcast_to(1.0 if pos_weight is None else pos_weight, _size(y_pred, o))[list(o["classes"])]

    def loss(place: int, x: _Pixels) -> Any:
        return positive[place] * x.t * _surprise(x.p) + _negative(x, o) * _surprise(1 - x.p)

    return _over_pixels(y_true, y_pred, mask, o, loss, weighted_mean)


def focal(
    y_true: Any, y_pred: Any, *, gamma: float = 2.0, alpha: float | None = None, mask: Any = None, **options: Any
) -> Any:
    """The terms of `cross_entropy`, each times the gamma-th power of what the probability lacks.

    Args:
        y_true: as in `dice`.
        y_pred: as in `dice`.
        gamma: the exponent.
        alpha: None, or the weight in [0, 1] of the term of p, beside 1 - alpha of that of 1 - p. Not for multiclass.
        mask: as in `dice`.
        **options: as in `dice`, without `average` and `soft_label`.

    Raises:
        ValueError: as in `dice`, and for an `alpha` outside [0, 1] or in multiclass mode.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.focal([[1, 0]], [[0.5, 0.25]]).round(4)
        array([0.0956])
    """
    o = _options(y_true, y_pred, options, "average", "soft_label")
    if alpha is not None and not (o["mode"] != "multiclass" and 0 <= alpha <= 1):
        raise ValueError(f"`alpha` must be None, or in [0, 1] and not for multiclass. Received: {alpha!r}")
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def loss(_: int, x: _Pixels) -> Any:
        return positive * x.t * _surprise(x.p, gamma) + negative * _negative(x, o) * _surprise(1 - x.p, gamma)

    return _over_pixels(y_true, y_pred, mask, o, loss)


def _surprise(p: np.ndarray, gamma: float = 0.0) -> Any:
    p = np.clip(p, 2.0**-23, 1 - 2.0**-23)
    return -np.log(p) * (1 - p) ** gamma


def _negative(x: _Pixels, o: dict[str, Any]) -> Any:
    """How much a pixel is not of the class, which says nothing of its own where classes exclude each other."""
    return 0.0 if o["mode"] == "multiclass" else 1 - x.t


def _over_pixels(
    y_true: Any,
    y_pred: Any,
    mask: Any,
    o: dict[str, Any],
    losses: Callable[[int, _Pixels], Any],
    weighted_mean: bool = False,
) -> Any:
    """Mean over pixels of the losses of (place of the class, pixels); over classes a mean, or a sum if exclusive."""
    values = []
    for row in _ratios(y_true, y_pred, mask, o):
        value = 0.0
        of_truth = sum(weight * np.sum(x.w * x.raw) for weight, x in row)
        for place, (weight, x) in enumerate(row):
            below = of_truth if weighted_mean else np.sum(x.w)
            value += weight * np.sum(x.w * losses(place, x)) / below if below else 0.0
        values.append(value if o["mode"] == "multiclass" else value / sum(weight for weight, _ in row))
    return values[0] if o["batch"] else np.array(values)


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
        **options: as in `dice`; `average` is "macro" or "micro".

    Examples:
        >>> from multiloss import oracles
        >>> oracles.dice_cross_entropy([[1, 0]], [[0.5, 0.25]], smooth=0).round(4)
        array([0.919])
    """
    pixels = cross_entropy(y_true, y_pred, mask=mask, **_of_pixels(options))
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
        **options: as in `dice`; `average` is "macro" or "micro".

    Examples:
        >>> from multiloss import oracles
        >>> oracles.dice_focal([[1, 0]], [[0.5, 0.25]], smooth=0).round(4)
        array([0.5242])
    """
    pixels = focal(y_true, y_pred, gamma=gamma, mask=mask, **_of_pixels(options))
    return dice_weight * dice(y_true, y_pred, mask=mask, **options) + pixel_weight * pixels


def _of_pixels(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("average", "macro") is None:
        raise ValueError("`average` must be 'macro' or 'micro'. Received: None")
    return {name: value for name, value in options.items() if name not in ("average", "soft_label", "thresh")}


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
        gamma: the exponent of the focal part, and 1 minus that of the Tversky part, of which what is below 0, as two
            `smooth` can make it, counts as 0.
        symmetric: whether background is treated as foreground is.
        mask: as in `dice`.
        **options: as in `dice`, without `average` and `soft_label`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.unified_focal([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]]).round(4)
        array([0.272])
    """
    o = _options(y_true, y_pred, options, "average", "soft_label")
    exclusive = o["mode"] == "multiclass"

    def missed(x: _Pixels, background: bool) -> float:
        value = _unless_empty(lambda x: _tversky(x, 1 - delta, delta, o), x, o)
        exponent = 1.0 if background and not symmetric else 1 - gamma
        return value if exponent == 1 else max(value, 0.0) ** exponent

    def surprise(t: np.ndarray, p: np.ndarray, background: bool) -> Any:
        share = 1 - delta if background else delta
        return share * t * _surprise(p, gamma if background or symmetric else 0.0)

    values = []
    for row in _ratios(y_true, y_pred, mask, o):
        above = below = 0.0
        for place, (class_weight, x) in enumerate(row):
            others = x._replace(t=1 - x.t, p=1 - x.p, raw=1 - x.raw)
            value = missed(x, place == 0) if exclusive else (missed(x, False) + missed(others, True)) / 2
            class_weight = 0.0 if _absent(x) and o["empty"] == "skip" else class_weight
            above, below = above + class_weight * value, below + class_weight
        values.append(above / below if below else 0.0)
    regions = values[0] if o["batch"] else np.array(values)

    def pixels(place: int, x: _Pixels) -> Any:
        if exclusive:
            return surprise(x.t, x.p, place == 0)
        return surprise(x.t, x.p, False) + surprise(1 - x.t, 1 - x.p, True)

    return weight * regions + (1 - weight) * _over_pixels(y_true, y_pred, mask, o, pixels)


def lovasz(y_true: Any, y_pred: Any, *, hinge: bool = False, mask: Any = None, **options: Any) -> Any:
    """Lovász extension of the Jaccard loss of sets of wrong pixels, else as `dice`.

    Args:
        y_true: as in `dice`, 0 and 1.
        y_pred: as in `dice`.
        hinge: whether errors are `max(0, 1 - (2 t - 1) logit)` instead of `|t - p|`.
        mask: as in `dice`.
        **options: as in `dice`, without `soft_label`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.lovasz([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]]).round(4)
        array([0.3667])
    """
    o = _options(y_true, y_pred, options, "soft_label")

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

    return _averaged(y_true, y_pred, mask, o, loss)


def cldice(y_true: Any, y_pred: Any, *, iterations: int = 3, mask: Any = None, **options: Any) -> Any:
    """1 minus the harmonic mean of how much of each skeleton lies in the other mask, else as `dice`.

    Args:
        y_true: as in `dice`, with two or three axes of pixels.
        y_pred: as in `dice`.
        iterations: how often to erode.
        mask: as in `dice`; where it is 0 there is no neighbour.
        **options: as in `dice`, without `soft_label`.

    Examples:
        >>> from multiloss import oracles
        >>> oracles.cldice([[[0, 1, 0], [0, 1, 0], [0, 1, 0]]], [[[1, 0, 1], [0, 1, 0], [0, 0, 0]]], smooth=0)
        array([0.66666667])
    """
    o = _options(y_true, y_pred, options, "soft_label")
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

    return _averaged(y_true, y_pred, mask, o, loss)


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

    Examples:
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

    Examples:
        >>> from multiloss import oracles
        >>> oracles.dice_loss(smooth=1)([1, 1, 0], [1, 0, 0])
        -0.75
    """

    def loss(y_true: Any, y_pred: Any) -> float:
        return -dice_coef(y_true, y_pred, smooth, thresh)

    return loss
