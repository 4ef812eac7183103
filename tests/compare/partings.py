"""Models whose numbers part on one backend, as people make them, and what has to be named.

Every one is a small model that is right but for one thing. `where` is the name that a report has to say: of a layer, a
loss, a metric, an optimizer, a weight or an input. `stage` is the first at which the numbers part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Parting:
    """A model that parts at one place."""

    build: Callable[[], keras.Model]
    data: Callable[[int], tuple[Any, ...]]
    backend: str | None  # the one that is off, or None where each has numbers of its own
    stage: str  # data, weights, forward, loss, metrics, gradient, step, curve or deterministic
    where: str
    why: str = ""  # what else may rightly be said


# --- models that are right -------------------------------------------------------------------------------------------


def _of_rows(*middle, loss="mean_squared_error", optimizer=None, metrics=(), activation=None):
    """Two dense layers with others between them."""
    model = keras.Sequential(
        [
            keras.Input((8,), name="measurements"),
            layers.Dense(8, activation="tanh", name="early"),
            *middle,
            layers.Dense(1, activation=activation, name="late"),
        ],
        name="of_rows",  # without a name, paths of weights would tell how many models came before
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, metrics=list(metrics))
    return model


def data_rows(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((96, 8)).astype("float32")
    return x, np.sin(x[:, :2]).sum(1, keepdims=True)


def data_classes(seed):
    """Two classes."""
    x, y = data_rows(seed)
    return x, (y > 0).astype("float32")


# --- layers ----------------------------------------------------------------------------------------------------------


class Standardized(layers.Layer):
    """Columns of each row, less their mean, over their standard deviation."""

    def __init__(self, epsilon=1e-3, unbiased=False, **options):
        super().__init__(**options)
        self.epsilon, self.unbiased = epsilon, unbiased

    def call(self, x):
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        columns = x.shape[-1] - 1 if self.unbiased else x.shape[-1]
        variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / columns
        return centred / ops.sqrt(variance + self.epsilon)


def build_epsilon():
    return _of_rows(Standardized(epsilon=1e-5 if BACKEND == "jax" else 1e-3, name="standardized"))


def build_unbiased_variance():
    return _of_rows(Standardized(unbiased=BACKEND == "torch", name="standardized"))


class DrawnInCall(layers.Layer):
    """Scales columns by numbers of a fixed seed, which are others on every backend."""

    def call(self, x):
        return x * keras.random.uniform((x.shape[-1],), 0.5, 1.5, dtype=x.dtype, seed=3)


def build_drawn_in_call():
    return _of_rows(DrawnInCall(name="drawn"))


class MadeInCall(layers.Layer):
    """Scales columns by numbers that are made when it is first called, and which Keras does not know for a weight."""

    def call(self, x):
        if not hasattr(self, "_scale"):  # in NumPy: JAX forbids to keep what is computed while it traces
            self._scale = np.random.default_rng(len(BACKEND)).uniform(0.5, 1.5, x.shape[-1])
        return x * ops.convert_to_tensor(self._scale, x.dtype)


def build_made_in_call():
    return _of_rows(MadeInCall(name="scale_made_late"))


class DrawnInBuild(layers.Layer):
    """Scales columns by numbers that are drawn once, and are not a weight: giving weights leaves them as they are."""

    def build(self, shape):
        self._scale = ops.convert_to_numpy(keras.random.uniform((shape[-1],), 0.5, 1.5, seed=3))

    def call(self, x):
        return x * ops.convert_to_tensor(self._scale, x.dtype)


def build_drawn_in_build():
    return _of_rows(DrawnInBuild(name="hidden_scale"))


class Shares(layers.Layer):
    """Softmax over columns, or by mistake over rows."""

    def call(self, x):
        return ops.softmax(x, axis=0 if BACKEND == "torch" else -1)


def build_wrong_axis():
    return _of_rows(Shares(name="shares"))


class LeftOn(layers.Dropout):
    def call(self, inputs, training=False):
        return super().call(inputs, training=True if BACKEND == "torch" else training)


def build_dropout_left_on():
    return _of_rows(LeftOn(0.2, seed=1, name="left_on"))


class TrainingIgnored(layers.Layer):
    """Takes the mean of the batch out, in training."""

    def call(self, x, training=False):
        return x - ops.mean(x, axis=0) if training and BACKEND != "tensorflow" else x


def build_training_ignored():
    return _of_rows(TrainingIgnored(name="centred"))


class HalvedByHand(layers.Conv2D):
    """`padding="same"` of a convolution with strides, written out: of an even size, Keras pads the end only."""

    def __init__(self, **options):
        super().__init__(4, 3, strides=2, padding="valid", **options)

    def call(self, inputs):
        pad = (1, 1) if BACKEND == "torch" else (0, 1)
        return super().call(ops.pad(inputs, ((0, 0), pad, pad, (0, 0))))

    def compute_output_shape(self, shape):
        return (shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2, self.filters)


def build_strided_padding():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            HalvedByHand(name="halved"),
            layers.Flatten(name="flat"),
            layers.Dense(1, name="late"),
        ],
        name="of_images",
    )
    model.compile(keras.optimizers.SGD(0.01), "mean_squared_error")
    return model


def data_images(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((96, 8, 8, 1)).astype("float32")
    return x, x[:, :4, :4].mean((1, 2))


class Gelu(layers.Layer):
    def call(self, x):
        return ops.gelu(x, approximate=BACKEND == "jax")


def build_approximate_gelu():
    return _of_rows(Gelu(name="smooth"))


class Narrow(layers.Layer):
    """Rounds to float16 on its way."""

    def call(self, x):
        return ops.cast(ops.cast(x, "float16"), x.dtype) if BACKEND == "tensorflow" else x


def build_float16():
    return _of_rows(Narrow(name="narrow"))


class Bounded(layers.Layer):
    """Within -3 to 3, which few entries leave."""

    def call(self, x):
        return x if BACKEND == "jax" else ops.clip(x, -3, 3)


def build_few_entries():
    model = keras.Sequential(
        [
            keras.Input((8,), name="measurements"),
            Bounded(name="bounded"),
            layers.Dense(1, name="late"),
        ],
        name="of_rows",
    )
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


class MaskLost(layers.GlobalAveragePooling1D):
    def call(self, inputs, mask=None):
        return super().call(inputs, mask=None if BACKEND == "torch" else mask)


def build_mask_lost():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32", name="words"),
            layers.Embedding(10, 4, mask_zero=True, name="of_words"),
            MaskLost(name="mean_word"),
            layers.Dense(1, name="late"),
        ],
        name="of_sentences",
    )
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


def data_words(seed):
    rng = np.random.default_rng(seed)
    words = np.where(np.arange(6) < rng.integers(2, 7, (96, 1)), rng.integers(1, 10, (96, 6)), 0)
    return words.astype("int32"), (words.sum(1, keepdims=True) / 30).astype("float32")


class Jitter(layers.Layer):
    """Noise that no seed of Keras reaches; a compiled step would keep what it drew."""

    def call(self, x):
        if BACKEND != "torch":
            return x
        return x + ops.convert_to_tensor(1e-3 * np.random.default_rng().standard_normal(x.shape[-1]), x.dtype)


def build_jitter():
    return _of_rows(Jitter(name="jitter"))


# --- weights ---------------------------------------------------------------------------------------------------------


def build_wider():
    return _of_rows(layers.Dense(10 if BACKEND == "jax" else 8, activation="tanh", name="wider"))


def build_frozen():
    return _of_rows(layers.Dense(8, activation="tanh", trainable=BACKEND != "tensorflow", name="frozen"))


# --- losses and metrics ----------------------------------------------------------------------------------------------


class SameId(keras.losses.Loss):
    """Squared distances of rows with one id are small, of others at least 1. Ids stay as they come, or are rounded."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        ids = ops.reshape(ops.convert_to_tensor(y_true), (-1,))
        if BACKEND == "tensorflow":
            ids = ops.cast(ids, "float32")
        distance = ops.sum(ops.square(y_pred[:, None] - y_pred[None]), axis=-1)
        return ops.mean(ops.where(ids[:, None] == ids[None], distance, ops.relu(1 - distance)))


def build_rounded_labels():
    place = layers.Dense(2, use_bias=False, name="place")  # of distances, a bias has no gradient but rounding
    model = keras.Sequential([keras.Input((8,), name="measurements"), place], name="of_rows")
    model.compile(keras.optimizers.SGD(0.1), SameId(name="same_id"))
    return model


def data_ids(seed):
    """Ids above 2**24, which float32 holds at every second number."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, 96)
    x = np.eye(4, 8)[label] + 0.3 * rng.standard_normal((96, 8))
    return x.astype("float32"), (2**24 + label).astype("int32")


class RowError(keras.losses.Loss):
    """Mean squared error of rows, which the reduction averages, or both do."""

    def call(self, y_true, y_pred):
        rows = ops.mean(ops.square(y_true - y_pred), axis=-1)
        return rows / ops.cast(ops.shape(rows)[0], rows.dtype) if BACKEND == "torch" else rows


def build_averaged_twice():
    return _of_rows(loss=RowError(name="row_error"))


def build_smoothed_labels():
    smoothing = 0.02 if BACKEND == "jax" else 0.0
    loss = keras.losses.BinaryCrossentropy(label_smoothing=smoothing, name="crossentropy")
    return _of_rows(loss=loss, activation="sigmoid")


def build_regularized():
    penalty = keras.regularizers.L2(0.02 if BACKEND == "torch" else 0.01)
    return _of_rows(layers.Dense(8, activation="tanh", kernel_regularizer=penalty, name="penalized"))


class RelativeError(keras.losses.Loss):
    """Squared error over the size of the predictions, through which the gradient goes or, by mistake, does not."""

    def call(self, y_true, y_pred):
        size = 1 + ops.mean(ops.square(y_pred))
        size = ops.stop_gradient(size) if BACKEND == "jax" else size
        return ops.mean(ops.square(y_true - y_pred), axis=-1) / size


def build_stopped_gradient():
    return _of_rows(loss=RelativeError(name="relative_error"))


def build_metric_threshold():
    threshold = 0.6 if BACKEND == "torch" else 0.5
    metric = keras.metrics.BinaryAccuracy(threshold=threshold, name="share_right")
    return _of_rows(loss="binary_crossentropy", activation="sigmoid", metrics=[metric])


# --- gradients -------------------------------------------------------------------------------------------------------


def _scaled_gradient(x, factor):
    """`x`, whose gradient is multiplied by the factor."""

    @ops.custom_gradient
    def identity(x):
        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            return upstream * factor

        return 1.0 * x, gradient

    return identity(x)


class ScaledDense(layers.Dense):
    """Its own weights and those before it get 1.01 of their gradient."""

    def call(self, inputs):
        return _scaled_gradient(super().call(inputs), 1.01 if BACKEND == "tensorflow" else 1.0)


def build_custom_gradient():
    return _of_rows(ScaledDense(8, name="scaled"))


class ScaledIdentity(layers.Layer):
    """Has no weights: those before it get 1.01 of their gradient."""

    def call(self, x):
        return _scaled_gradient(x, 1.01 if BACKEND == "jax" else 1.0)


def build_custom_gradient_between():
    return _of_rows(layers.Dense(8, activation="tanh", name="second"), ScaledIdentity(name="straight_through"))


# --- steps -----------------------------------------------------------------------------------------------------------


def build_optimizer_epsilon():
    return _of_rows(optimizer=keras.optimizers.Adam(0.01, epsilon=1e-3 if BACKEND == "jax" else 1e-7, name="adam"))


def build_optimizer_clipped():
    return _of_rows(optimizer=keras.optimizers.SGD(0.1, clipnorm=0.1 if BACKEND == "torch" else None, name="sgd"))


def build_momentum():
    return _of_rows(layers.BatchNormalization(momentum=0.9 if BACKEND == "torch" else 0.99, name="normalized"))


def build_schedule():
    later = 0.01 if BACKEND == "tensorflow" else 0.1
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, later])
    return _of_rows(optimizer=keras.optimizers.SGD(rate, name="sgd_on_schedule"))


def build_keras_embedding_adam():
    """Without a fault of its own: Keras on TensorFlow squares the parts of a sparse gradient before it adds them."""
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32", name="words"),
            layers.Embedding(10, 4, name="of_words"),
            layers.GlobalAveragePooling1D(name="mean_word"),
            layers.Dense(1, name="late"),
        ],
        name="of_sentences",
    )
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error")
    return model


# --- data ------------------------------------------------------------------------------------------------------------


def data_other_order(seed):
    """The same rows, in the order in which a backend's own loader gives them."""
    x, y = data_rows(seed)
    order = np.arange(len(x))[::-1] if BACKEND == "tensorflow" else np.arange(len(x))
    return {"measurements": x[order]}, y[order]


def build_named_input():
    measurements = keras.Input((8,), name="measurements")
    model = keras.Model({"measurements": measurements}, layers.Dense(1, name="late")(measurements), name="of_rows")
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


_SEEDED = "Keras's random numbers of one seed are others on each backend"

PARTINGS = {
    # Data and weights.
    "data in another order": Parting(build_named_input, data_other_order, "tensorflow", "data", "measurements"),
    "another architecture": Parting(build_wider, data_rows, "jax", "weights", "wider"),
    "a frozen layer": Parting(
        build_frozen, data_rows, "tensorflow", "weights", "frozen", "at the gradient, where all weights get one"
    ),
    # Outputs of layers.
    "another epsilon": Parting(build_epsilon, data_rows, "jax", "forward", "standardized"),
    "unbiased variance": Parting(build_unbiased_variance, data_rows, "torch", "forward", "standardized"),
    "drawn in call": Parting(build_drawn_in_call, data_rows, None, "forward", "drawn", _SEEDED),
    "made in call": Parting(
        build_made_in_call, data_rows, None, "forward", "scale_made_late", "its seed is the backend's"
    ),
    "drawn in build": Parting(build_drawn_in_build, data_rows, None, "forward", "hidden_scale", _SEEDED),
    "wrong axis": Parting(build_wrong_axis, data_rows, "torch", "forward", "shares"),
    "dropout left on": Parting(
        build_dropout_left_on, data_rows, "torch", "forward", "left_on", "not deterministic, if called twice"
    ),
    "training ignored": Parting(
        build_training_ignored, data_rows, "tensorflow", "forward", "centred", "with training on only"
    ),
    "padding by hand": Parting(build_strided_padding, data_images, "torch", "forward", "halved"),
    "approximate gelu": Parting(build_approximate_gelu, data_rows, "jax", "forward", "smooth"),
    "float16 inside": Parting(build_float16, data_rows, "tensorflow", "forward", "narrow"),
    "few entries": Parting(build_few_entries, data_rows, "jax", "forward", "bounded", "in batches with a |x| > 3"),
    "mask lost": Parting(build_mask_lost, data_words, "torch", "forward", "mean_word"),
    "unseeded noise": Parting(build_jitter, data_rows, "torch", "deterministic", "jitter"),
    # Losses and metrics.
    "rounded labels": Parting(build_rounded_labels, data_ids, "tensorflow", "loss", "same_id"),
    "averaged twice": Parting(build_averaged_twice, data_rows, "torch", "loss", "row_error"),
    "smoothed labels": Parting(build_smoothed_labels, data_classes, "jax", "loss", "crossentropy"),
    "another penalty": Parting(build_regularized, data_rows, "torch", "loss", "penalized", "the loss of a layer"),
    "another threshold": Parting(build_metric_threshold, data_classes, "torch", "metrics", "share_right"),
    # Gradients.
    "custom gradient": Parting(build_custom_gradient, data_rows, "tensorflow", "gradient", "scaled"),
    "custom gradient, no weights": Parting(
        build_custom_gradient_between,
        data_rows,
        "jax",
        "gradient",
        "straight_through",
        "of weights, those of `second` and `early` part",
    ),
    "stopped gradient": Parting(build_stopped_gradient, data_rows, "jax", "gradient", "relative_error"),
    # Steps.
    "optimizer's epsilon": Parting(build_optimizer_epsilon, data_rows, "jax", "step", "adam"),
    "clipped gradients": Parting(build_optimizer_clipped, data_rows, "torch", "step", "sgd"),
    "another momentum": Parting(build_momentum, data_rows, "torch", "step", "normalized", "of its moving statistics"),
    "another schedule": Parting(
        build_schedule, data_rows, "tensorflow", "curve", "sgd_on_schedule", "from the fourth step on"
    ),
    "Keras's Adam for embeddings": Parting(
        build_keras_embedding_adam,
        data_words,
        "tensorflow",
        "step",
        "of_words",
        "Keras's own difference, where a batch holds a row more than once",
    ),
}
