"""Labels with which a loss computes, but which are probably not what was meant: a loss warns of them once."""

import numpy as np
from keras import backend, ops

from multiloss import _frameworks
from multiloss.pairwise._engine.formula import Side

# The number of calls that read labels, for which a processor waits for an accelerator.
LOOKS = 4


def have_values(*sides: Side | None) -> bool:
    """Return whether labels can be read: they are not traced, and not on other hosts."""
    given = [part for side in sides if side is not None for part in (side.labels, side.kept) if part is not None]
    return all(map(_frameworks.has_value, given))


def flags_of_pairs(rows: Side, references: Side | None, seen: bool) -> str | None:
    """Return a warning if labels look like flags of ready-made pairs, and embeddings like a prediction for each pair.

    Where labels cannot be read, it goes by shapes, except on torch, where a warning cannot be compiled.
    """
    if references is not None or rows.x.shape[1] != 1:
        return None
    if seen:
        labels = np.asarray(ops.convert_to_numpy(rows.labels))  # of several columns if split: then the others are 0
        if not (labels.size and np.isin(labels[:, 0], (0, 1)).all() and (labels[:, 1:] == 0).all()):
            return None
    elif backend.backend() == "torch" or rows.labels.shape[1] != (1 if rows.kept is None else 2):
        return None
    return (
        "`labels` are classes of rows for ContrastiveLoss, which forms all pairs of a batch itself. If these are flags "
        "of ready-made pairs, and `embeddings` [B, 1] are distances or probabilities of them, it does not learn what "
        "is meant: docs/concepts/pairs.md has a loss for ready-made pairs."
    )


def no_positives(rows: Side, references: Side | None, seen: bool) -> str | None:
    """Return a warning if no row has a positive, as far as labels can be read."""
    if not seen:
        return None
    labels = _kept_labels(rows)
    others = labels if references is None else _kept_labels(references)
    if len(labels) < (2 if references is None else 1):
        return None
    if len({*labels}) < len(labels) if references is None else {*labels} & {*others}:
        return None
    found = "No reference has the label of a row" if references else "No two rows of a batch have the same label"
    return (
        f"{found}: SupConLoss is 0, without a gradient, for rows without positives. Draw batches with several rows of "
        "a label; `multiloss.RowsWithoutPositives`, a metric, tells how many rows have none."
    )


def _kept_labels(side: Side) -> list[tuple[int, ...]]:
    labels = np.asarray(ops.convert_to_numpy(side.labels))
    labels = labels if side.kept is None else labels[np.asarray(ops.convert_to_numpy(side.kept)) > 0]
    return [tuple(label) for label in labels.tolist()]
