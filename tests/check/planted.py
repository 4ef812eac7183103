"""Losses with one fault each, as people make them, and the right losses that they derive from.

Their oracles stand in `planted_oracles.py`; `planted_table.py` says which row of the checker finds which fault.
"""

import contextlib
import os

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()

# --- right: regression -----------------------------------------------------------------------------------------------


class Squared(keras.losses.Loss):
    """Mean squared error, times a factor."""

    def __init__(self, factor=1.0, name="squared", **kwargs):
        super().__init__(name=name, **kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return self.factor * ops.mean(ops.square(y_pred - y_true), axis=-1)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class PreciseSquared(keras.losses.Loss):
    """Mean squared error of which half precision is computed in float32."""

    def __init__(self, reduction="sum_over_batch_size", name="precise_squared", dtype=None):
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def call(self, y_true, y_pred):
        if self.dtype in ("float16", "bfloat16"):
            y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return ops.sum(ops.square(y_pred - y_true), axis=-1) / y_pred.shape[-1]

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


class FromRows(Squared):
    """Mean squared error whose weights and reduction are applied by hand: right, and what faults derive from."""

    def weighted(self, y_true, y_pred, sample_weight):
        rows = self.call(ops.convert_to_tensor(y_true, self.dtype), ops.convert_to_tensor(y_pred, self.dtype))
        return rows if sample_weight is None else rows * ops.reshape(ops.cast(sample_weight, rows.dtype), (-1,))


class Scaled(Squared):
    """Divided by the largest truth of the batch, or by 1."""

    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred) / ops.max(ops.abs(y_true), initial=1.0)


def squared_error(y_true, y_pred):
    return ops.mean(ops.square(y_pred - y_true), axis=-1)


def rms_error(y_true, y_pred):
    return ops.sqrt(ops.mean(ops.square(y_pred - y_true), axis=-1) + 1e-12)


def cosine_distance(y_true, y_pred):
    y_true = y_true / ops.sqrt(ops.sum(ops.square(y_true), axis=-1, keepdims=True) + 1e-12)
    y_pred = y_pred / ops.sqrt(ops.sum(ops.square(y_pred), axis=-1, keepdims=True) + 1e-12)
    return 1.0 - ops.sum(y_true * y_pred, axis=-1)


def pinball(y_true, y_pred):
    """Quantile loss of the quantile 0.9."""
    off = y_true - y_pred
    return ops.mean(ops.maximum(0.9 * off, -0.1 * off), axis=-1)


def largest_error(y_true, y_pred):
    return ops.sort(ops.abs(y_true - y_pred), axis=-1)[..., -1]  # Keras's `max` refuses an empty batch


def excess(y_true, y_pred):
    """Mean of max(0, y_pred - y_true)^1.5."""
    off = y_pred - y_true
    safe = ops.where(off > 0, off, 1.0)
    return ops.mean(ops.where(off > 0, safe * ops.sqrt(safe), 0.0), axis=-1)


def logcosh(y_true, y_pred):
    off = ops.abs(y_pred - y_true)
    return ops.mean(off + ops.log1p(ops.exp(-2.0 * off)) - float(np.log(2.0)), axis=-1)


# --- right: probabilities --------------------------------------------------------------------------------------------


class Dice(keras.losses.Loss):
    """1 - (2 sum(y p) + smooth) / (sum(y) + sum(p) + smooth) of each image."""

    def __init__(self, smooth=1.0, name="dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smooth = smooth

    def call(self, y_true, y_pred):
        axes = (1, 2, 3)
        both = ops.sum(y_true * y_pred, axis=axes)
        total = ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes)
        return 1.0 - (2.0 * both + self.smooth) / (total + self.smooth)

    def get_config(self):
        return {**super().get_config(), "smooth": self.smooth}


def crossentropy(y_true, y_pred):
    """Binary crossentropy of the pixels of each image."""
    each = y_true * ops.log(y_pred + 1e-7) + (1.0 - y_true) * ops.log(1.0 - y_pred + 1e-7)
    return -ops.mean(each, axis=(1, 2, 3))


class PreciseCrossentropy(keras.losses.Loss):
    """The same, of which half precision is computed in float32."""

    def __init__(self, reduction="sum_over_batch_size", name="precise_crossentropy", dtype=None):
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def call(self, y_true, y_pred):
        if self.dtype in ("float16", "bfloat16"):
            y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        return crossentropy(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


def focal(y_true, y_pred):
    """Binary focal loss with gamma 2, of the pixels of each image."""
    right = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    return -ops.mean(ops.square(1.0 - right) * ops.log(right + 1e-7), axis=(1, 2, 3))


def categorical(y_true, y_pred):
    return -ops.sum(y_true * ops.log(y_pred + 1e-7), axis=-1)


def expected_error(y_true, y_pred):
    """Probability that a class drawn from the prediction is a wrong one."""
    return 1.0 - ops.sum(y_true * y_pred, axis=-1)


class SparseCrossentropy(keras.losses.Loss):
    """Crossentropy of class indices and probabilities."""

    def call(self, y_true, y_pred):
        labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        one_hot = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        return -ops.sum(one_hot * ops.log(y_pred + 1e-7), axis=-1)


# --- right: labels and embeddings ------------------------------------------------------------------------------------


def _same(labels, dtype):
    labels = ops.reshape(labels, (-1,))
    return ops.cast(ops.equal(labels[:, None], labels[None, :]), dtype)


def _distances(x):
    squares = ops.sum(ops.square(x[:, None, :] - x[None, :, :]), axis=-1)
    return ops.sqrt(squares + 1e-12)


def _contrastive(same, distances):
    """Mean over the other rows: d^2 of the same label, max(0, 1 - d)^2 of another."""
    apart = ops.square(ops.maximum(1.0 - distances, 0.0))
    others = 1.0 - ops.eye(ops.shape(distances)[0], dtype=distances.dtype)
    total = ops.sum(others * (same * ops.square(distances) + (1.0 - same) * apart), axis=-1)
    return total / ops.maximum(ops.sum(others, axis=-1), 1.0)


def contrastive(y_true, y_pred):
    return _contrastive(_same(y_true, y_pred.dtype), _distances(y_pred))


def batch_hard(y_true, y_pred):
    """max(0, furthest of the label - nearest of another + 1) of each row; 0 where there is no other label."""
    same, distances = _same(y_true, y_pred.dtype), _distances(y_pred)
    # With a column more, an empty batch can be sorted.
    furthest = ops.sort(ops.pad(same * distances, ((0, 0), (0, 1))), axis=-1)[:, -1]
    padded = ops.pad(ops.where(same > 0, 1e9, distances), ((0, 0), (0, 1)), constant_values=1e9)
    nearest = ops.sort(padded, axis=-1)[:, 0]
    return ops.maximum(furthest - nearest + 1.0, 0.0)


# --- faults of values ------------------------------------------------------------------------------------------------


class OffAbove64Rows(Squared):
    """A constant left over from a version that divided large batches."""

    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred)
        return rows * 1.0001 if (y_pred.shape[0] or 0) > 64 else rows


class First64Rows(Squared):
    """Saves memory."""

    def call(self, y_true, y_pred):
        return super().call(y_true[:64], y_pred[:64])


def cosine_of_the_wrong_sign(y_true, y_pred):
    return 2.0 - cosine_distance(y_true, y_pred)


def pinball_swapped(y_true, y_pred):
    return pinball(y_pred, y_true)


def crossentropy_of_logits(y_true, y_pred):
    """Takes the probabilities that it gets for logits."""
    return ops.mean(keras.ops.binary_crossentropy(y_true, y_pred, from_logits=True), axis=(1, 2, 3))


def crossentropy_large_epsilon(y_true, y_pred):
    each = y_true * ops.log(y_pred + 1e-2) + (1.0 - y_true) * ops.log(1.0 - y_pred + 1e-2)
    return -ops.mean(each, axis=(1, 2, 3))


def largest_error_counts_ties(y_true, y_pred):
    """Sums over the places of the maximum, of which there may be several."""
    off = ops.abs(y_true - y_pred)
    largest = ops.sort(off, axis=-1)[..., -1:]
    return ops.sum(ops.where(off == largest, off, 0.0), axis=-1)


def squared_error_squeezed(y_true, y_pred):
    """Removes the batch axis too, of a batch of 1."""
    return ops.mean(ops.square(ops.squeeze(y_pred) - ops.squeeze(y_true)), axis=-1)


def batch_hard_fills_with_largest(y_true, y_pred):
    """Without another label in the batch, takes the row's largest distance as that of the nearest other."""
    same, distances = _same(y_true, y_pred.dtype), _distances(y_pred)
    furthest = ops.sort(ops.pad(same * distances, ((0, 0), (0, 1))), axis=-1)[:, -1]
    largest = ops.sort(ops.pad(distances, ((0, 0), (0, 1))), axis=-1)[:, -1:]
    nearest = ops.sort(ops.pad((distances - largest) * (1.0 - same), ((0, 0), (0, 1))), axis=-1)[:, 0] + largest[:, 0]
    return ops.maximum(furthest - nearest + 1.0, 0.0)


def crossentropy_other_epsilon_on_torch(y_true, y_pred):
    epsilon = 1e-4 if keras.backend.backend() == "torch" else 1e-7
    each = y_true * ops.log(y_pred + epsilon) + (1.0 - y_true) * ops.log(1.0 - y_pred + epsilon)
    return -ops.mean(each, axis=(1, 2, 3))


def squared_error_in_half(y_true, y_pred):
    """Saves memory, in float16 of about three digits."""
    return ops.cast(squared_error(ops.cast(y_true, "float16"), ops.cast(y_pred, "float16")), y_pred.dtype)


def squared_error_in_single(y_true, y_pred):
    """Computes in float32 what is asked for in float64."""
    return ops.cast(squared_error(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")), y_pred.dtype)


def contrastive_by_products(y_true, y_pred):
    """x^2 + y^2 - 2 x y, which cancels far from the origin."""
    squares = ops.sum(ops.square(y_pred), axis=-1)
    products = ops.matmul(y_pred, ops.transpose(y_pred))
    distances = ops.sqrt(ops.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0) + 1e-12)
    return _contrastive(_same(y_true, y_pred.dtype), distances)


def contrastive_of_rounded_labels(y_true, y_pred):
    return _contrastive(_same(ops.cast(y_true, "float32"), y_pred.dtype), _distances(y_pred))


class FirstClassLeftOut(SparseCrossentropy):
    """Takes class 0 for padding."""

    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred)
        return ops.where(ops.reshape(y_true, ops.shape(rows)) == 0, 0.0, rows)


# --- faults of shapes ------------------------------------------------------------------------------------------------


class MeanOverAxis1(Squared):
    """Right for `[B, D]`; for `[B, T, D]` the mean is over T."""

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return self.factor * ops.mean(ops.square(y_pred - y_true), axis=1)


class Broadcasting(Squared):
    """`[B]` against `[B, 1]` becomes `[B, B]`."""

    def call(self, y_true, y_pred):
        return self.factor * ops.mean(ops.square(y_pred - y_true), axis=-1)


class OneHotOfColumn(SparseCrossentropy):
    """Labels `[B, 1]` become `[B, 1, classes]`, and broadcast against `[B, classes]`."""

    def call(self, y_true, y_pred):
        one_hot = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return -ops.sum(one_hot * ops.log(y_pred + 1e-7), axis=-1)


def squared_error_of_known_batch(y_true, y_pred):
    """Flattens with the batch size, which TensorFlow may not know."""
    size = y_true.shape[0]
    return ops.mean(ops.reshape(ops.square(y_pred - y_true), (size, y_pred.shape[-1])), axis=-1)


class LengthOfTruth(Squared):
    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred) * (len(y_true) / ops.cast(ops.shape(y_pred)[0], y_pred.dtype))


def squared_error_by_rows(y_true, y_pred):
    if y_pred.shape[0] == 0:
        return squared_error(y_true, y_pred)
    return ops.stack([squared_error(y_true[i], y_pred[i]) for i in range(y_pred.shape[0])])


def squared_error_by_integer_size(y_true, y_pred):
    size = int(ops.shape(y_pred)[0])
    return ops.sum(ops.square(y_pred - y_true), axis=-1) * (size / max(size, 1)) / y_pred.shape[-1]


class NoEmptyBatchOnJax(Squared):
    """An index that JAX and NumPy refuse to look for in an empty axis."""

    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred)
        if BACKEND == "jax" and rows.shape[0] == 0:
            raise IndexError("index 0 is out of bounds for axis 0 with size 0")
        return rows


# --- faults of gradients ---------------------------------------------------------------------------------------------


class GradientSlightlyOff(Squared):
    """By 5e-4 of itself."""

    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred)
        return rows + 5e-4 * (rows - ops.stop_gradient(rows))


class GradientTwiceOnTorch(Squared):
    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred)
        return 2.0 * rows - ops.stop_gradient(rows) if BACKEND == "torch" else rows


def focal_with_fixed_weights(y_true, y_pred):
    """The focal factor depends on the prediction too."""
    right = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    factor = ops.stop_gradient(ops.square(1.0 - right))
    return -ops.mean(factor * ops.log(right + 1e-7), axis=(1, 2, 3))


def error_of_argmax(y_true, y_pred):
    """The share of wrong classes, which has no slope."""
    wrong = ops.not_equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))
    return ops.cast(wrong, y_pred.dtype)


@ops.custom_gradient
def _halved_square(off):
    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        return upstream * off  # of off^2 it is 2 off

    return ops.square(off), gradient


@ops.custom_gradient
def _square_without_upstream(off):
    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        return 2.0 * off * ops.sign(upstream) / off.shape[-1]

    return ops.square(off), gradient


def squared_error_own_gradient(y_true, y_pred):
    """Its gradient lacks a factor of 2."""
    return ops.mean(_halved_square(y_pred - y_true), axis=-1)


class UpstreamIgnored(Squared):
    """Its gradient takes only the sign of what comes from above: right for a sum of the rows, and only there."""

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return self.factor * ops.mean(_square_without_upstream(y_pred - y_true), axis=-1)


# --- NaN and infinity ------------------------------------------------------------------------------------------------


def rms_error_without_epsilon(y_true, y_pred):
    return ops.sqrt(ops.mean(ops.square(y_pred - y_true), axis=-1))


def contrastive_without_epsilon(y_true, y_pred):
    """The diagonal is left out of the root; coincident rows are not."""
    squares = ops.sum(ops.square(y_pred[:, None, :] - y_pred[None, :, :]), axis=-1)
    diagonal = ops.eye(ops.shape(y_pred)[0], dtype=y_pred.dtype)
    return _contrastive(_same(y_true, y_pred.dtype), ops.sqrt(squares + diagonal))


def crossentropy_without_epsilon(y_true, y_pred):
    each = y_true * ops.log(y_pred) + (1.0 - y_true) * ops.log(1.0 - y_pred)
    return -ops.mean(each, axis=(1, 2, 3))


class DiceOfNothing(Dice):
    """0 / 0 where nothing is true or predicted."""

    def call(self, y_true, y_pred):
        axes = (1, 2, 3)
        both = ops.sum(y_true * y_pred, axis=axes)
        return 1.0 - 2.0 * both / (ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes))


def excess_behind_where(y_true, y_pred):
    """`where` hides the NaN of the value, not that of the gradient."""
    off = y_pred - y_true
    return ops.mean(ops.where(off > 0, off * ops.sqrt(off), 0.0), axis=-1)


def logcosh_by_its_name(y_true, y_pred):
    return ops.mean(ops.log(ops.cosh(y_pred - y_true)), axis=-1)


class Float16Overflow(PreciseSquared):
    """Sums squares in float16."""

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return ops.sum(ops.square(y_pred - y_true), axis=-1) / y_pred.shape[-1]


class Float16Epsilon(PreciseCrossentropy):
    """1e-8 is 0 in float16."""

    def call(self, y_true, y_pred):
        each = y_true * ops.log(y_pred + 1e-8) + (1.0 - y_true) * ops.log(1.0 - y_pred + 1e-8)
        return -ops.mean(each, axis=(1, 2, 3))


# --- weights, masks, the reduction -----------------------------------------------------------------------------------


class ColumnWeightsIgnored(Squared):
    """Takes weights `[B, 1]` for none."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None and len(sample_weight.shape) > 1:
            sample_weight = None
        return super().__call__(y_true, y_pred, sample_weight)


class WeightsSquared(Squared):
    """Applies weights before Keras applies them again."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = sample_weight * sample_weight
        return super().__call__(y_true, y_pred, sample_weight)


class WeightsOfColumns(FromRows):
    """`[B] * [B, 1]` is `[B, B]`."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is None or self.reduction != "sum":
            return super().__call__(y_true, y_pred, sample_weight)
        rows = self.weighted(y_true, y_pred, None)
        return ops.sum(rows * ops.reshape(ops.cast(sample_weight, rows.dtype), (-1, 1)))


class MeanOverBatch(Squared):
    """One number for the batch, which weights only scale."""

    def call(self, y_true, y_pred):
        return ops.mean(super().call(y_true, y_pred))


class MaskDropped(Squared):
    """A clipped prediction has no mask."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, ops.clip(y_pred, -1e9, 1e9), sample_weight)


class MaskDroppedWithWeights(Squared):
    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            y_pred = ops.clip(y_pred, -1e9, 1e9)
        return super().__call__(y_true, y_pred, sample_weight)


class ReducedTwice(Squared):
    """Divides by the batch size what Keras has divided already."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        value = super().__call__(y_true, y_pred, sample_weight)
        if self.reduction in ("sum_over_batch_size", "mean"):
            return value / ops.cast(ops.maximum(ops.shape(y_pred)[0], 1), value.dtype)
        return value


class ReductionIgnored(FromRows):
    """The mean, also where the sum is asked for."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        rows = self.weighted(y_true, y_pred, sample_weight)
        return rows if self.reduction in (None, "none") else ops.mean(rows)


# --- settings --------------------------------------------------------------------------------------------------------


class FactorLost(Squared):
    def get_config(self):
        config = super().get_config()
        del config["factor"]
        return config


class FactorConstant(Squared):
    def get_config(self):
        return {**super().get_config(), "factor": 1.0}


class ReductionLost(Squared):
    """Does not call `super().get_config()`."""

    def get_config(self):
        return {"name": self.name, "factor": self.factor}


class Transformed(Squared):
    """With a function that Keras saves as code, which it refuses to load."""

    def __init__(self, transform=lambda off: off * off, **kwargs):
        super().__init__(**kwargs)
        self.transform = transform

    def call(self, y_true, y_pred):
        y_true = ops.reshape(y_true, ops.shape(y_pred))
        return self.factor * ops.mean(self.transform(y_pred - y_true), axis=-1)

    def get_config(self):
        return {**super().get_config(), "transform": self.transform}


# --- state, tracing, processes ---------------------------------------------------------------------------------------


class RunningMean(Squared):
    """Divides by a running mean of earlier batches, which is 1 at first."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.running = 1.0

    def call(self, y_true, y_pred):
        rows = super().call(y_true, y_pred) / self.running
        self.running = 0.9 * self.running + 0.1 * ops.stop_gradient(ops.mean(rows))
        return rows


class StaleConstant(Squared):
    """`Scaled` by a NumPy number: a compiled function keeps that of the last batch that was not traced."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.largest = np.float32(1.0)

    def call(self, y_true, y_pred):
        with contextlib.suppress(Exception):  # a tensor that is traced has no numbers
            self.largest = np.max(np.abs(ops.convert_to_numpy(y_true)), initial=np.float32(1.0))
        return super().call(y_true, y_pred) / self.largest


def squared_error_noisy(y_true, y_pred):
    """Smooths its labels at random, by NumPy."""
    return squared_error(y_true + np.random.normal(scale=1e-2), y_pred)


def squared_error_if(y_true, y_pred):
    """A Python `if` over a tensor."""
    rows = squared_error(y_true, y_pred)
    if ops.sum(rows) > 0:
        return rows
    return 0.0 * rows


class NumpyInCall(Squared):
    """Truth that leaves the graph."""

    def call(self, y_true, y_pred):
        truth = ops.convert_to_numpy(y_true).reshape(y_pred.shape)
        return super().call(ops.convert_to_tensor(truth, y_pred.dtype), y_pred)


class Retracing(Squared):
    """Compiles itself anew with every call."""

    def call(self, y_true, y_pred):
        function = super().call
        if BACKEND == "jax":
            import jax

            return jax.jit(lambda y, x: function(y, x))(y_true, y_pred)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            return tf.function(lambda y, x: function(y, x))(y_true, y_pred)
        return function(y_true, y_pred)


class EndsTheProcess(Squared):
    def call(self, y_true, y_pred):
        if BACKEND == "jax" and tuple(y_pred.shape) == (6, 3):
            os._exit(7)
        return super().call(y_true, y_pred)


for function in (
    contrastive,
    batch_hard,
    batch_hard_fills_with_largest,
    contrastive_by_products,
    contrastive_of_rounded_labels,
    contrastive_without_epsilon,
):
    function.exact_labels = True
