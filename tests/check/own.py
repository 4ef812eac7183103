"""What some of multiloss's own losses need to be checked beside what it exports: oracles, and inputs."""

import numpy as np

from multiloss import oracles


def combined(y, x):
    return np.sum(oracles.dice(y, x) + 0.5 * oracles.focal(y, x))


def dice_loss(y, x):
    return oracles.dice_loss(1.0)(y, x)


def hard_dice_loss(y, x):
    return oracles.dice_loss(1.0, 0.5)(y, x)


def small_images(seed):
    """Images that have a centre line: the oracle of clDice visits each pixel, and its neighbours, many times."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 2, (3, 3, 4)).astype(np.float32), rng.uniform(size=(3, 3, 4)).astype(np.float32)
    line = np.zeros_like(y)
    line[:, 1] = 1
    return {
        "random": (y, x),
        "a line": (line, 0.1 + 0.8 * line),
        "empty": (0 * y, x),
        "sure and wrong": (line, 1 - line),
        "batch of 1": (y[:1], x[:1]),
        "batch of 0": (y[:0], x[:0]),
    }


def rows(seed):
    y, x = np.random.default_rng(seed).integers(-16, 17, (2, 3, 2)).astype(np.float32) / 8
    return {"random": (y, x)}
