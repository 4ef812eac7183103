"""Models that agree, each with something that a tool could trip over."""

import keras
import numpy as np
from keras import layers, ops


def _rows(name, *middle, **options):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, name="early"), *middle, layers.Dense(1, name="late")], name=name
    )
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": "mean_squared_error", **options})
    return model


def data_rows(seed):
    x = np.random.default_rng(seed).standard_normal((64, 8)).astype("float32")
    return x, np.sin(x[:, :1])


def data_words(seed):
    """Ids as floats, of which 0 is padding."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 9, (64, 6)).astype("float32")
    return words, (words.sum(1, keepdims=True) > 24).astype("float32")


def build_float_ids():
    """Ids, and padding, are compared with ==: a number that is moved would be another word."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(9, 4, mask_zero=True, name="words"),
            layers.LSTM(4, name="lstm"),
            layers.Dense(1, name="late"),
        ],
        name="float_ids",
    )
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


def build_mixed():
    """In bfloat16, with weights in float32."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="tanh", dtype="mixed_bfloat16", name="early"),
            layers.Dense(1, dtype="float32", name="late"),
        ],
        name="mixed",
    )
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


def build_scaled():
    """An optimizer around another."""
    return _rows("scaled", optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)))


def build_twice_named():
    """Two layers of one name."""

    class Twice(keras.Model):
        def __init__(self):
            super().__init__(name="twice")
            self.one, self.other = layers.Dense(8, name="same"), layers.Dense(8, name="same")
            self.late = layers.Dense(1, name="late")

        def call(self, x):
            return self.late(ops.tanh(self.other(ops.tanh(self.one(x)))))

    model = Twice()
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


def build_by_class():
    """A metric with a number for each class."""
    return _rows("by_class", metrics=[keras.metrics.F1Score(threshold=0.5)])


def build_normalized():
    """Moving statistics between layers whose gradients are looked at one by one."""
    return _rows("normalized", layers.BatchNormalization(name="norm"), layers.Dense(4, name="middle"))


def build_shared():
    """A layer that is called twice, and a model within the model."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh", name="inside")], name="inner")
    x = inputs = keras.Input((8,))
    x = layers.Dense(6, name="early")(x)
    x = layers.Dense(1, name="late")(inner(inner(x)))
    model = keras.Model(inputs, x, name="shared")
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error", steps_per_execution=1)
    return model


def build_in_another_order():
    """Layers that are made in the order of a set, say."""
    early, late = layers.Dense(1, name="one"), layers.Dense(1, name="other")
    inputs = keras.Input((8,))
    parts = [early(inputs), late(inputs)] if keras.backend.backend() == "torch" else [late(inputs), early(inputs)]
    model = keras.Model(inputs, layers.Add()(parts), name="in_another_order")
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model
