"""Models without a fault, whose numbers part because Keras itself does something else on one backend."""

import keras
import numpy as np
from keras import layers, ops

ROWS = 32  # one batch


def _compiled(parts, loss="mean_squared_error", optimizer=None, **options):
    model = keras.Sequential(parts, name="known")
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **options)
    return model


# --- data ------------------------------------------------------------------------------------------------------------


def data_rows(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, 4)).astype("float32")
    return x, x[:, :1] * x[:, 1:2]


def data_padded(seed):
    """Every fourth row is padding: zeros, of which the answer is 0."""
    x, y = data_rows(seed)
    padding = (np.arange(ROWS) % 4 == 0)[:, None]
    return np.where(padding, np.float32(0), x), np.where(padding, np.float32(0), y)


def data_blank(seed):
    """Every fourth row is zeros, and its answer is 1."""
    x, y = data_padded(seed)
    return x, np.where((x == 0).all(1, keepdims=True), np.float32(1), y)


def data_far(seed):
    """Of class 0, where the logit of class 1 is 20."""
    x, _ = data_rows(seed)
    x[:, 0] = 20
    return x, np.zeros((ROWS, 1), "float32")


def data_far_classes(seed):
    x, y = data_far(seed)
    return x, np.concatenate([1 - y, y], axis=1)


def data_repeated(seed):
    """Each sentence is one word, 4 times, which no other has."""
    words = np.repeat(np.arange(ROWS)[:, None], 4, axis=1)
    return words.astype("int32"), np.random.default_rng(seed).uniform(5, 6, (ROWS, 1)).astype("float32")


def data_words(seed):
    """Sentences of ten words, up to 6 long; 0 is padding."""
    rng = np.random.default_rng(seed)
    words = np.where(np.arange(6) < rng.integers(1, 7, (ROWS, 1)), rng.integers(1, 10, (ROWS, 6)), 0)
    return words.astype("int32"), rng.standard_normal((ROWS, 1)).astype("float32")


def data_tags(seed):
    """1 for each word, and 0 for as many paddings."""
    words = np.random.default_rng(seed).integers(1, 10, (ROWS, 6)) * (np.arange(6) < 3)
    return words.astype("int32"), (words > 0)[..., None].astype("float32")


def data_weighted_tags(seed):
    words, y = data_tags(seed)
    return words, y, y[..., 0]


def data_unknown_word(seed):
    words, y = data_words(seed)
    words[0, 0] = ROWS
    return words, y


def data_images(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((8, 8, 8, 1)).astype("float32"), rng.standard_normal((8, 1)).astype("float32")


def data_hashes(seed):
    """Ids of more than 32 bits, as hashes have."""
    x, _ = data_rows(seed)
    return x, np.random.default_rng(seed).integers(2**40, 2**50, (ROWS, 1))


# --- steps and losses ------------------------------------------------------------------------------------------------


def build_embedding(optimizer="Adam", **options):
    parts = [
        keras.Input((None,), dtype="int32", name="words"),
        layers.Embedding(ROWS, 4, name="of_words"),
        layers.GlobalAveragePooling1D(name="mean_word"),
        layers.Dense(1, name="late"),
    ]
    return _compiled(parts, optimizer=getattr(keras.optimizers, optimizer)(0.01, **options))


def build_sigmoid(activation="sigmoid", loss="binary_crossentropy"):
    first = keras.initializers.Constant([[1.0], [0.0], [0.0], [0.0]])
    return _compiled([keras.Input((4,)), layers.Dense(1, activation=activation, kernel_initializer=first)], loss)


def build_logits():
    return build_sigmoid(None, keras.losses.BinaryCrossentropy(from_logits=True))


def build_softmax(activation="softmax"):
    first = keras.initializers.Constant([[-0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    return _compiled(
        [keras.Input((4,)), layers.Dense(2, activation=activation, kernel_initializer=first)],
        "categorical_crossentropy",
    )


def same_hash(y_true, y_pred):
    """Ids in units of 2**40."""
    return ops.mean(ops.square(ops.cast(y_true, y_pred.dtype) / 2.0**40 - y_pred), axis=-1)


def build_sigmoid_of_classes():
    return build_softmax("sigmoid")


def build_clipped_embedding():
    return build_embedding("SGD", clipvalue=0.001)


def build_hashes():
    return _compiled([keras.Input((4,)), layers.Dense(1)], same_hash)


# --- outputs of layers -----------------------------------------------------------------------------------------------


def _of_images(*middle):
    return _compiled([keras.Input((8, 8, 1)), *middle, layers.Flatten(), layers.Dense(1)])


def build_average_pooling(padding="same"):
    return _of_images(layers.AveragePooling2D(3, strides=2, padding=padding, name="halved"))


def build_bicubic(**options):
    return _of_images(layers.Resizing(16, 16, **{"interpolation": "bicubic", "name": "doubled", **options}))


def build_bicubic_upsampling():
    return _of_images(layers.UpSampling2D(2, interpolation="bicubic", name="doubled"))


def build_layer_normalization():
    return _of_images(layers.LayerNormalization(axis=(1, 2), name="of_images"))


def build_permuted():
    back = layers.Permute((2, 3, 1))
    return _of_images(layers.Permute((3, 1, 2)), layers.LayerNormalization(axis=(2, 3), name="of_images"), back)


# --- gradients -------------------------------------------------------------------------------------------------------


def build_absolute_error(loss="mean_absolute_error"):
    """With padding, its answer is 0, as it should be."""
    return _compiled([keras.Input((4,)), layers.Dense(1)], loss)


def _of_columns(*middle):
    """The bias is 0, as at the start, so that a row of zeros is 0 after it."""
    return _compiled([keras.Input((4,)), layers.Dense(4), *middle, layers.Dense(1)])


def build_leaky_relu():
    return _of_columns(layers.LeakyReLU(name="leaky"))


def build_elu():
    return _of_columns(layers.ELU(name="leaky"))


class Length(layers.Layer):
    """The length of each row."""

    def call(self, x):
        return ops.norm(x, axis=-1, keepdims=True)


class SafeLength(layers.Layer):
    """The length of each row, whose gradient at 0 is 0."""

    def call(self, x):
        square = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return ops.where(square > 0, ops.sqrt(ops.where(square > 0, square, ops.ones_like(square))), square)


class Deviation(layers.Layer):
    """The standard deviation of each row."""

    def call(self, x):
        return ops.std(x, axis=-1, keepdims=True)


def build_norm():
    return _of_columns(Length(name="length"))


def build_safe_norm():
    return _of_columns(SafeLength(name="length"))


def build_std():
    return _of_columns(Deviation(name="deviation"))


def build_unit():
    return _of_columns(layers.UnitNormalization(name="unit"))


def build_l1():
    return _compiled([keras.Input((4,)), layers.Dense(1, bias_regularizer="l1")])


# --- metrics ---------------------------------------------------------------------------------------------------------


def build_masked_metric():
    parts = [
        keras.Input((6,), dtype="int32"),
        layers.Embedding(10, 4, mask_zero=True),
        layers.Dense(1, kernel_initializer="zeros"),
    ]
    return _compiled(parts, weighted_metrics=[keras.metrics.MeanAbsoluteError(name="distance")])


def build_of_one_name():
    """Two layers that have the same name, which a model of its own class may have."""
    model = OfOneName(name="of_one_name")
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


class OfOneName(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.one, self.other = layers.Dense(4, name="same"), layers.Dense(4, name="same")

    def call(self, x):
        return ops.sum(self.other(ops.tanh(self.one(x))), axis=-1, keepdims=True)
