"""Models that cannot be compared, on one backend or on any, and data that do not fit; and data in every form."""

import os
import time

import keras
import numpy as np
from keras import layers

ON_TORCH = keras.backend.backend() == "torch"
ROWS = 24


class Stepping(keras.Sequential):
    """A linear model that does something else before a step, on torch only if `everywhere` is not set."""

    def __init__(self, before=None, everywhere=False):
        super().__init__([keras.Input((3,), name="measurements"), layers.Dense(1, name="answer")], name="stepping")
        self.before = before if ON_TORCH or everywhere else None
        self.compile(keras.optimizers.SGD(0.1), "mean_squared_error")

    def train_step(self, *arguments):
        if self.before is not None:
            self.before()
        return super().train_step(*arguments)


def _raise():
    raise RuntimeError("no such\nkernel on this device")


# --- models ----------------------------------------------------------------------------------------------------------


def build():
    return Stepping()


def build_with_arguments(width):
    return Stepping()


def build_nothing():
    """Forgets to return the model."""


def build_uncompiled():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1)])


def build_raises():
    raise RuntimeError("no such file: weights.h5")


def build_raises_on_torch():
    return _raise() if ON_TORCH else Stepping()


def build_dies_on_torch():
    return os._exit(3) if ON_TORCH else Stepping()


def step_raises():
    return Stepping(_raise)


def step_raises_everywhere():
    return Stepping(_raise, everywhere=True)


def step_dies():
    return Stepping(lambda: os._exit(3))


def step_hangs():
    return Stepping(lambda: time.sleep(600))


def build_of_dicts():
    measurements = keras.Input((3,), name="measurements")
    outputs = {"answer": layers.Dense(1, name="answer")(measurements)}
    model = keras.Model({"measurements": measurements}, outputs, name="of_dicts")
    model.compile(keras.optimizers.SGD(0.1), {"answer": "mean_squared_error"})
    return model


class Penalized(layers.Layer):
    """Has the only loss of its model."""

    def call(self, x):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


def build_without_labels():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="answer"), Penalized(name="penalized")])
    model.compile(keras.optimizers.SGD(0.1))
    return model


# --- data ------------------------------------------------------------------------------------------------------------


def arrays(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, 3)).astype("float32")
    return x, x.sum(1, keepdims=True), rng.uniform(0.5, 2, ROWS).astype("float32")


def without_weights(seed):
    return arrays(seed)[:2]


def without_labels(seed):
    return arrays(seed)[0]


def dicts(seed):
    x, y, weights = arrays(seed)
    return {"measurements": x}, {"answer": y}, {"answer": weights}


class Batches(keras.utils.PyDataset):
    """Batches of 8 rows."""

    def __init__(self, seed):
        super().__init__()
        self.arrays = arrays(seed)

    def __len__(self):
        return ROWS // 8

    def __getitem__(self, place):
        return tuple(array[8 * place : 8 * place + 8] for array in self.arrays)


def unequal(seed):
    x, y, _ = arrays(seed)
    return x, y[:-1]


def words(seed):
    x, y, _ = arrays(seed)
    return x, np.where(y > 0, "yes", "no")


def wider(seed):
    x, y, _ = arrays(seed)
    return np.concatenate([x, x], axis=-1), y


def four(seed):
    return (*arrays(seed), None)


def empty(seed):
    x, y, _ = arrays(seed)
    return x[:0], y[:0]


def of_no_seed():
    return arrays(0)


def wrong_type_inside(seed):
    return arrays(seed) + 1


def raises(seed):
    raise OSError("no such file: train.csv")


def raises_on_torch(seed):
    return _raise() if ON_TORCH else arrays(seed)


def other_numbers_on_torch(seed):
    x, y, weights = arrays(seed)
    y[10] += ON_TORCH
    return x, y, weights


def fewer_on_torch(seed):
    return tuple(array[: 16 if ON_TORCH else ROWS] for array in arrays(seed))
