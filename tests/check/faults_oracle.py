"""What the losses of `faults.py` should be, in NumPy."""

import numpy as np


def mse(y, x):
    return np.mean((x - y) ** 2, axis=-1)


def mse_log(y, x):
    return mse(y, x) * np.log(mse(y, x))


def distance(y, x):
    rows = [[np.mean((a - b) ** 2) for b, z in zip(x, y, strict=True) if z == w] for a, w in zip(x, y, strict=True)]
    return np.array([sum(row) for row in rows], np.float64)


def masked(y, x):
    rows = [np.mean((b[m] - a[m]) ** 2) if m.any() else 0.0 for a, b, m in zip(y["labels"], x, y["mask"], strict=True)]
    return np.array(rows, np.float64)


def gaussian(y, x):
    mean, log_variance = x
    return np.mean((mean - y) ** 2 / np.exp(log_variance) + log_variance, axis=-1)
