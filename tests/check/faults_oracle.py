"""What the losses of `faults.py` should be, in NumPy."""

import numpy as np


def mse(y, x):
    return np.mean((x - y) ** 2, axis=-1)


def distance(y, x):
    rows = [[np.mean((a - b) ** 2) for b, z in zip(x, y, strict=True) if z == w] for a, w in zip(x, y, strict=True)]
    return np.array([sum(row) for row in rows], np.float64)
