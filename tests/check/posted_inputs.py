"""Batches for those losses of `posted.py` that no family of inputs fits: functions of a seed, NumPy only."""

import numpy as np


def mean_and_variance(seed):
    """Targets `[B, 1]`; means and logarithms of variances `[B, 2]`."""
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(6, 1)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    exact = np.concatenate([y, np.zeros_like(y)], axis=1)
    return {"random": (y, x), "exact": (y, exact), "large": (100 * y, 3 * x), "batch of 1": (y[:1], x[:1])}


def pairs(seed):
    """Whether the two of a pair are of one class, `[B, 1]`; their distances `[B, 1]`."""
    rng = np.random.default_rng(seed)
    y = np.array([[1], [0], [1], [0], [0], [1]], np.float32)
    x = rng.uniform(0.1, 2, size=(6, 1)).astype(np.float32)
    return {"random": (y, x), "coincident": (y, 0 * x), "at the margin": (y, 0 * x + 1), "batch of 1": (y[:1], x[:1])}


def triplets(seed):
    """Nothing, `[B, 1]`; anchors, positives and negatives of 4 features, `[B, 12]`."""
    rng = np.random.default_rng(seed)
    y, x = np.zeros((6, 1), np.float32), rng.normal(size=(6, 12)).astype(np.float32)
    return {"random": (y, x), "coincident": (y, np.tile(x[:, :4], (1, 3))), "batch of 1": (y[:1], x[:1])}


def views(seed):
    """Nothing, `[B, 1]`; two views of each example, `[B, 2, D]`."""
    rng = np.random.default_rng(seed)
    y, x = np.zeros((6, 1), np.float32), rng.normal(size=(6, 2, 4)).astype(np.float32)
    return {"random": (y, x), "equal views": (y, np.repeat(x[:, :1], 2, axis=1)), "batch of 1": (y[:1], x[:1])}


def lists(seed):
    """Relevances and scores of 5 items, `[B, 5]`."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 3, (6, 5)).astype(np.float32), rng.normal(size=(6, 5)).astype(np.float32)
    ties = rng.integers(-1, 2, (6, 5)).astype(np.float32)
    return {"random": (y, x), "tied values": (y, ties), "nothing relevant": (0 * y, x), "batch of 1": (y[:1], x[:1])}


def two_classes(seed):
    """One-hot labels and probabilities of two classes, `[B, 2]`."""
    rng = np.random.default_rng(seed)
    y = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]]
    p = rng.uniform(0.1, 0.9, size=(6, 1)).astype(np.float32)
    x = np.concatenate([p, 1 - p], axis=1)
    return {"random": (y, x), "sure and right": (y, y), "sure and wrong": (y, 1 - y), "batch of 1": (y[:1], x[:1])}
