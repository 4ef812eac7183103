"""What the losses of `planted.py` should be, from their definitions, in NumPy: one number for each row."""

import numpy as np


def squared(y, x):
    return np.mean((x - y) ** 2, axis=-1)


def squared_mean(y, x):
    """For a loss that gives only this, the mean over the batch."""
    return np.mean((x - y) ** 2) if x.size else np.float64("nan")


def squared_3(y, x):
    """With the factor 3."""
    return 3.0 * squared(y, x)


def squared_sum(y, x):
    """With the reduction "sum"."""
    return np.sum(squared(y, x))


def scaled(y, x):
    """Divided by the largest truth, or by 1."""
    return squared(y, x) / np.max(np.abs(y), initial=1.0)


def rms(y, x):
    return np.sqrt(squared(y, x) + 1e-12)


def cosine(y, x):
    norms = np.sqrt(np.sum(y * y, axis=-1) + 1e-12) * np.sqrt(np.sum(x * x, axis=-1) + 1e-12)
    return 1.0 - np.sum(y * x, axis=-1) / norms


def pinball(y, x):
    return np.mean(np.where(y >= x, 0.9 * (y - x), 0.1 * (x - y)), axis=-1)


def largest(y, x):
    return np.max(np.abs(y - x), axis=-1)


def excess(y, x):
    return np.mean(np.maximum(x - y, 0.0) ** 1.5, axis=-1)


def logcosh(y, x):
    return np.mean(np.logaddexp(x - y, y - x) - np.log(2.0), axis=-1)


def _pixels(array):
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


def dice(y, x):
    y, x = _pixels(y), _pixels(x)
    return 1.0 - (2.0 * np.sum(y * x, axis=1) + 1.0) / (np.sum(y, axis=1) + np.sum(x, axis=1) + 1.0)


def dice_without_smooth(y, x):
    """Its limit, 1, where nothing is true; 0 where nothing is predicted either."""
    y, x = _pixels(y), _pixels(x)
    total = np.sum(y, axis=1) + np.sum(x, axis=1)
    return np.where(total > 0, 1.0 - 2.0 * np.sum(y * x, axis=1) / np.where(total > 0, total, 1.0), 0.0)


def crossentropy(y, x):
    y, x = _pixels(y), _pixels(x)
    return -np.mean(np.where(y > 0, np.log(x + 1e-7), np.log(1.0 - x + 1e-7)), axis=1)


def focal(y, x):
    y, x = _pixels(y), _pixels(x)
    right = np.where(y > 0, x, 1.0 - x)
    return -np.mean((1.0 - right) ** 2 * np.log(right + 1e-7), axis=1)


def categorical(y, x):
    return -np.log(x[np.arange(len(x)), np.argmax(y, axis=-1)] + 1e-7) if y.ndim == 2 else _categorical(y, x)


def _categorical(y, x):
    return -np.log(np.take_along_axis(x, np.argmax(y, axis=-1)[..., None], axis=-1)[..., 0] + 1e-7)


def expected_error(y, x):
    return 1.0 - np.take_along_axis(x, np.argmax(y, axis=-1)[..., None], axis=-1)[..., 0]


def sparse(y, x):
    labels = y.reshape(x.shape[:-1]).astype(int)
    return -np.log(np.take_along_axis(x, labels[..., None], axis=-1)[..., 0] + 1e-7)


def _distance(a, b):
    return np.sqrt(np.sum((a - b) ** 2) + 1e-12)


def contrastive(y, x):
    y = y.reshape(-1)
    rows = []
    for i in range(len(x)):
        pairs = [(y[i] == y[j], _distance(x[i], x[j])) for j in range(len(x)) if j != i]
        each = [d**2 if same else max(0.0, 1.0 - d) ** 2 for same, d in pairs]
        rows.append(sum(each) / max(len(each), 1))
    return np.array(rows, np.float64)


def batch_hard(y, x):
    y = y.reshape(-1)
    rows = []
    for i in range(len(x)):
        distances = [(y[i] == y[j], _distance(x[i], x[j])) for j in range(len(x))]
        others = [d for same, d in distances if not same]
        furthest = max(d for same, d in distances if same)
        rows.append(max(0.0, furthest - min(others) + 1.0) if others else 0.0)
    return np.array(rows, np.float64)
