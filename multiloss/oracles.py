"""The losses as plain NumPy loops, in float64, written from their definitions: what every other form is held to.

Each function takes the arguments of the loss of its name, as arrays, lists or pandas objects, and loops over pairs or
pixels. Slow, and meant to be read. Neither Keras nor the rest of multiloss is used here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["contrastive", "dice_coef", "dice_loss", "pairwise_user_loss", "supcon"]


def pairwise_user_loss(user_id: Any, encodings: Any, *, margin: float | None = None) -> np.ndarray:
    """Add the distance of every pair i < j of the same user, subtract that of every other, half to each row.

    Args:
        user_id: ids `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        encodings: numbers `[B, D]`.
        margin: None, or the most that the distance of different users counts for, >= 0.

    Returns:
        float64 `[B]`, whose sum is the sum over the pairs. B = 0 and B = 1 give zeros.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float ids that are not whole numbers, a negative margin.

    Example:
        >>> from multiloss import oracles
        >>> oracles.pairwise_user_loss(["ann", "ann", "bob"], [[0, 0], [3, 4], [0, 1]], margin=1)
        array([ 2.,  2., -1.])
    """
    ids, x = _labelled("user_id", user_id, "encodings", encodings)
    if margin is not None and not margin >= 0:
        raise ValueError(f"`margin` must be None or >= 0. Received: {margin!r}")

    cap = np.inf if margin is None else margin
    rows = np.zeros(len(x))
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            distance = np.sqrt(np.sum((x[i] - x[j]) ** 2))
            signed = distance if np.all(ids[i] == ids[j]) else -min(distance, cap)
            rows[i] += signed / 2
            rows[j] += signed / 2
    return rows


def contrastive(labels: Any, embeddings: Any, *, pos_margin: float = 0.0, neg_margin: float = 1.0) -> np.ndarray:
    """Half the square by which each pair misses its margin, in the mean over the pairs of a row.

    Args:
        labels: labels `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        embeddings: numbers `[B, D]`.
        pos_margin: distance up to which pairs of the same label cost nothing, >= 0.
        neg_margin: distance from which pairs of different labels cost nothing, >= 0.

    Returns:
        float64 `[B]`, whose mean is the mean over the pairs. B = 0 and B = 1 give zeros.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float labels that are not whole, a negative margin.

    Example:
        >>> from multiloss import oracles
        >>> oracles.contrastive(["ann", "ann", "bob"], [[0, 0], [3, 4], [0, 1]], pos_margin=1, neg_margin=4)
        array([6.25, 4.  , 2.25])
    """
    ids, x = _labelled("labels", labels, "embeddings", embeddings)
    if not pos_margin >= 0 or not neg_margin >= 0:
        raise ValueError(f"`pos_margin` and `neg_margin` must be >= 0. Received: {pos_margin!r} and {neg_margin!r}")

    rows = np.zeros(len(x))
    for i in range(len(x)):
        for j in range(len(x)):
            if j != i:
                distance = np.sqrt(np.sum((x[i] - x[j]) ** 2))
                missed = distance - pos_margin if np.all(ids[i] == ids[j]) else neg_margin - distance
                rows[i] += max(missed, 0.0) ** 2 / 2 / (len(x) - 1)
    return rows


def supcon(labels: Any, embeddings: Any, *, temperature: float = 0.1) -> np.ndarray:
    """Cross-entropy of picking the rows of one's own label out of all others, by the cosine of their embeddings.

    Args:
        labels: labels `[B]`, `[B, 1]` or `[B, K]` of any kind that `==` compares: integers, strings, whole floats.
        embeddings: numbers `[B, D]`; a row of zeros has a cosine of 1/2 with every row that is not.
        temperature: what cosines are divided by, > 0.

    Returns:
        float64 `[B]`, 0 for a row that is the only one of its label.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float labels that are not whole, a temperature <= 0.

    Example:
        >>> from multiloss import oracles
        >>> oracles.supcon(["ann", "ann", "bob"], [[1, 0], [2, 0], [0, 3]], temperature=1).round(3)
        array([0.313, 0.313, 0.   ])
    """
    ids, x = _labelled("labels", labels, "embeddings", embeddings)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be > 0. Received: {temperature!r}")

    def cosine(i: int, j: int) -> float:
        lengths = np.sqrt(np.sum(x[i] ** 2)), np.sqrt(np.sum(x[j] ** 2))
        if 0 in lengths:
            return 1.0 if lengths[0] == lengths[1] else 0.5
        return float(np.sum((x[i] / lengths[0]) * (x[j] / lengths[1])))

    rows = np.zeros(len(x))
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        positives = [j for j in others if np.all(ids[i] == ids[j])]
        logits = {j: cosine(i, j) / temperature for j in others}
        top = max(logits.values(), default=0.0)
        total = top + np.log(sum(np.exp(logit - top) for logit in logits.values())) if others else 0.0
        for p in positives:
            rows[i] -= (logits[p] - total) / len(positives)
    return rows


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
