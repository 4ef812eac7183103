"""The losses over pairs as plain NumPy loops over pairs, in float64, from their definitions."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["contrastive", "pairwise_user_loss", "supcon"]


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

    Examples:
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

    Examples:
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
        embeddings: numbers `[B, D]`; a row of zeros has a cosine of 0 with every other row.
        temperature: what cosines are divided by, > 0.
        **options: as in `pairwise_user_loss`; a weight is a number of rows that are alike.

    Returns:
        float64 `[B]`, 0 for a row that is the only one of its label.

    Raises:
        ValueError: for wrong ranks, different batch sizes, float labels that are not whole, a temperature <= 0.

    Examples:
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
            return 0.0
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
