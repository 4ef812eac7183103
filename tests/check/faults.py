"""Losses with one fault each, for the tests of the checker, and a right one to compare: mean squared error.

Their oracles stand in `faults_oracle.py`.
"""

import os
import time

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


class Right(keras.losses.Loss):
    """A loss without a fault: dtype kept, half precision raised, truth of the rank of the prediction."""

    def __init__(self, reduction="sum_over_batch_size", name="right", dtype=None, factor=1.0):
        super().__init__(reduction=reduction, name=name, dtype="float32" if dtype in ("float16", "bfloat16") else dtype)
        self.given, self.factor = dtype, factor

    def call(self, y, x):
        y = ops.expand_dims(y, -1) if len(y.shape) < len(x.shape) else y
        return self.factor * ops.mean(ops.square(x - y), axis=-1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype, "factor": self.factor}


class WrongValue(Right):
    def call(self, y, x):
        return super().call(y, x) + 1e-4 * ops.max(ops.stop_gradient(super().call(y, x)), initial=0.0)


class WrongGradient(Right):
    def call(self, y, x):
        value = super().call(y, x)
        return value + 1e-3 * (value - ops.stop_gradient(value))


class NaNGradientOnTorch(Right):
    """Where truth and prediction coincide, on one backend only."""

    def call(self, y, x):
        value = super().call(y, x)
        if BACKEND != "torch":
            return value
        distance = ops.sum(ops.square(x - ops.cast(y, x.dtype)), axis=-1) if x.shape == y.shape else value
        return value + 0 * ops.sqrt(distance)


class IgnoredWeight(Right):
    def __call__(self, y, x, sample_weight=None):
        return super().__call__(y, x, None)


class IgnoredMask(Right):
    def __call__(self, y, x, sample_weight=None):
        return super().__call__(y, ops.convert_to_tensor(x) * 1, sample_weight)  # a tensor without the mask


class Overflow(Right):
    """Sums in float16 if that is what comes in."""

    def __call__(self, y, x, sample_weight=None):
        value = super().__call__(y, x, sample_weight)
        if keras.backend.standardize_dtype(ops.convert_to_tensor(x).dtype) == "float16":
            many = ops.sum(ops.ones(ops.shape(x), dtype="float16") * ops.cast(2.0, "float16"))
            return value + 0 * ops.cast(many, value.dtype)
        return value


class Stateful(Right):
    """Remembers how often it was called, in an array, for whose values torch does not trace anew."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = np.zeros(1, np.float32)

    def call(self, y, x):
        self.calls = self.calls + 1
        return super().call(y, x) * ops.convert_to_tensor(np.where(self.calls < 5, 1.0, 1.5), "float32")


class LostParameter(Right):
    def get_config(self):
        config = super().get_config()
        del config["factor"]
        return config


class Retracing(Right):
    """JAX compiles a loop anew whose body is another function each time; torch traces anew for another text."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = ""

    def call(self, y, x):
        self.calls += "x"
        value = super().call(y, x)
        if BACKEND == "jax":
            return value + ops.fori_loop(0, 1, lambda i, total: total, ops.zeros(()))
        return value + 0.0 * len(self.calls)


class WrongAtSevenEighths(Right):
    """At a number that no family has: only a search finds it."""

    def call(self, y, x):
        return super().call(y, x) + ops.max(ops.cast(ops.equal(x, 0.875), "float32"), axis=-1, initial=0.0)


class KeywordsLoseDtype(keras.losses.Loss):
    """As most losses are written."""

    def __init__(self, factor=1.0, **keywords):
        super().__init__(**keywords)
        self.factor = factor

    def call(self, y, x):
        return self.factor * ops.mean(ops.square(x - y), axis=-1)

    def get_config(self):
        return {"factor": self.factor}


class KeywordsKeepDtype(KeywordsLoseDtype):
    def get_config(self):
        return {**keras.losses.Loss.get_config(self), "factor": self.factor, "dtype": self.dtype}


class ConstantDtype(Right):
    def get_config(self):
        return {**super().get_config(), "dtype": "float32"}


class OtherOnTorch(Right):
    def call(self, y, x):
        return super().call(y, x) * (2 if BACKEND == "torch" else 1)


class TracedAtEveryCall(Right):
    """TensorFlow only."""

    def call(self, y, x):
        if BACKEND != "tensorflow":
            return super().call(y, x)
        import tensorflow as tf

        return tf.function(super().call)(y, x)


class OfNumbers(Right):
    """One number a row."""

    def call(self, y, x):
        return ops.square(x - y)


class NoFloat64(Right):
    """Refuses what its gradients are compared with when there is no oracle."""

    def call(self, y, x):
        if keras.backend.standardize_dtype(x.dtype) == "float64":
            raise TypeError("no float64 here")
        return super().call(y, x)


class CrashAtSevenEighths(Right):
    def call(self, y, x):
        if (ops.convert_to_numpy(ops.stop_gradient(x)) == 0.875).any():
            os._exit(7)
        return super().call(y, x)


class CrashOnJax(Right):
    def call(self, y, x):
        if BACKEND == "jax" and tuple(x.shape) == (6, 3):
            os._exit(7)
        return super().call(y, x)


class HangOnJax(Right):
    def call(self, y, x):
        if BACKEND == "jax" and tuple(x.shape) == (6, 3):
            time.sleep(600)
        return super().call(y, x)


class Distance(keras.losses.Loss):
    """Mean squared difference from the other rows of the same label, which Keras casts to float32."""

    def __init__(self, reduction="sum_over_batch_size", name="distance", dtype=None):
        super().__init__(reduction=reduction, name=name, dtype="float32" if dtype in ("float16", "bfloat16") else dtype)

    def call(self, y, x):
        y = ops.reshape(y, (-1,))
        same = ops.cast(ops.equal(y[:, None], y), x.dtype)
        squares = ops.mean(ops.square(x[:, None] - x), axis=-1)
        return ops.sum(same * squares, axis=1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
