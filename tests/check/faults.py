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


class SqrtOfZero(Right):
    """The root of the error, whose gradient is NaN or infinite where truth and prediction coincide."""

    def call(self, y, x):
        return ops.sqrt(super().call(y, x))


class LogOfZero(Right):
    """NaN where truth and prediction coincide."""

    def call(self, y, x):
        value = super().call(y, x)
        return value * ops.log(value)


class NoFloat64OnTorch(Right):
    def call(self, y, x):
        if BACKEND == "torch" and keras.backend.standardize_dtype(x.dtype) == "float64":
            raise TypeError("no float64 here")
        return super().call(y, x)


class WrongOrRaises(Right):
    """Wrong for many rows, and refuses two."""

    def call(self, y, x):
        if len(x) == 2:
            raise ValueError("two rows")
        return super().call(y, x) * 1.001


class Raises(Right):
    def call(self, y, x):
        raise ValueError("never")


class StraightThrough(Right):
    """The gradient of the error, with the values of a count."""

    straight_through = True

    def call(self, y, x):
        error = super().call(y, x)
        return error + ops.stop_gradient(ops.floor(error) - error)


class StraightThroughUnsaid(StraightThrough):
    straight_through = False


class StraightThroughNaN(StraightThrough):
    def call(self, y, x):
        return super().call(y, x) + 0 * ops.sqrt(keras.losses.mean_squared_error(y, x))


class StraightThroughOtherOnTorch(StraightThrough):
    def call(self, y, x):
        value = super().call(y, x)
        return value + (value - ops.stop_gradient(value) if BACKEND == "torch" else 0)


class OffAbove64Rows(Right):
    def call(self, y, x):
        return super().call(y, x) * (1.001 if (x.shape[0] or 0) > 64 else 1)


class Flat(Right):
    """Values `[B * T]` of predictions `[B, T, D]`."""

    def call(self, y, x):
        value = super().call(y, x)
        return ops.reshape(value, (-1,)) if len(x.shape) == 3 else value


class Broadcast(Right):
    """Labels of `[B]` against predictions of `[B, 1]`: all with all."""

    def call(self, y, x):
        return self.factor * ops.mean(ops.square(x - y), axis=-1)


class RefusesEmpty(Right):
    def call(self, y, x):
        if not len(x):
            raise ValueError("no rows")
        return super().call(y, x)


class RefusesEmptyOnTorch(RefusesEmpty):
    def call(self, y, x):
        return super().call(y, x) if BACKEND == "torch" else Right.call(self, y, x)


class WrongForTwoRows(Right):
    """Only rows that are together show it."""

    def call(self, y, x):
        return super().call(y, x) * (1.001 if len(x) > 1 else 1)


def expanded_distances(y, x):
    """`Distance` by |a|^2 + |b|^2 - 2 a b, of which little is left at an offset, on every backend alike."""
    y = ops.reshape(y, (-1,))
    same = ops.cast(ops.equal(y[:, None], y), x.dtype)
    squares = ops.sum(ops.square(x), axis=-1)
    return ops.sum(same * (squares[:, None] + squares - 2 * ops.matmul(x, ops.transpose(x))), axis=1) / x.shape[-1]


def product(y_true, y_pred):
    """As plain as a function can be: right only if both are tensors of one dtype."""
    return y_true * y_pred


def exactly(y_true, y_pred):
    """Refuse labels that were cast."""
    if "int" not in str(y_true.dtype):
        raise TypeError(f"labels of {y_true.dtype}")
    return ops.mean(ops.square(y_pred - ops.cast(y_true, y_pred.dtype)), axis=-1)


def exactly_said(y_true, y_pred):
    return exactly(y_true, y_pred)


exactly_said.exact_labels = True


def make(factor=1.0, power=2.0):
    """A factory, which a call with labels and predictions does not disturb."""
    return lambda y_true, y_pred: factor * ops.mean(ops.abs(y_pred - y_true) ** power, axis=-1)


def masked(y_true, y_pred, wrong=0.0):
    """The mean error of the labels that the mask has, of a dict."""
    mask = ops.cast(y_true["mask"], y_pred.dtype)
    error = ops.square(y_pred - ops.cast(y_true["labels"], y_pred.dtype)) * mask
    return ops.sum(error, axis=-1) / ops.maximum(ops.sum(mask, axis=-1), 1.0) + wrong * ops.sum(error, axis=-1)


class Gaussian(keras.losses.Loss):
    """Predictions are a mean and a logarithm of a variance."""

    def __init__(self, wrong=0.0, name="gaussian", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.wrong = wrong

    def call(self, y, x):
        mean, log_variance = x
        error = ops.square(mean - y) * ops.exp(-log_variance)
        return ops.mean(error + log_variance + self.wrong * ops.stop_gradient(log_variance), axis=-1)

    def get_config(self):
        return {**super().get_config(), "wrong": self.wrong, "dtype": self.dtype}
