"""NumPy oracles of `faulty_metrics`."""

import numpy as np


def accuracy(y_true, y_pred):
    """An oracle."""
    return np.mean(y_pred.argmax(-1) == y_true) if len(y_true) else 0.0


def weighted_accuracy(y_true, y_pred, sample_weight):
    """An oracle of weights."""
    hits = y_pred.argmax(-1) == y_true
    return np.sum(hits * sample_weight) / np.sum(sample_weight) if len(y_true) else 0.0


def of_both(y_true, y_pred):
    """An oracle of a dict, in another order."""
    hits = np.sum(y_pred.argmax(-1) == y_true)
    return {"counts": [1e4 * hits, 1e4 * len(y_true)], "share": hits / max(len(y_true), 1)}


def positives(y_true, y_pred):
    """An oracle, for which 0.5 is no positive."""
    return np.sum(y_pred > 0.5)


def raising(y_true, y_pred):
    """An oracle of nothing."""
    raise KeyError("no such label")
