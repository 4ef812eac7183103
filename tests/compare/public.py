"""Four models of the kind that Keras's own examples train, re-written, smaller, on random data.

`docs/compare.md` says what `multiloss compare` finds in them.
"""

import keras
import numpy as np
from keras import layers, ops


def build_digits():
    """Two convolutions and dropout, for images of ten digits."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(name="pool_1"),
            layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(name="pool_2"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def data_digits(seed):
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, 10, 96)
    images = rng.uniform(0, 0.5, (96, 28, 28, 1))
    images[np.arange(96), 2 * digits + 4] += 0.5  # a bright line, at a height that tells the digit
    return images.astype("float32"), np.eye(10, dtype="float32")[digits]


def build_reviews():
    """Two bidirectional LSTMs over an embedding, for the sentiment of reviews."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(500, 16, name="words"),
            layers.Bidirectional(layers.LSTM(8, return_sequences=True), name="lstm_1"),
            layers.Bidirectional(layers.LSTM(8), name="lstm_2"),
            layers.Dense(1, activation="sigmoid", name="positive"),
        ],
        name="reviews",
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def data_reviews(seed):
    rng = np.random.default_rng(seed)
    words = np.minimum(rng.zipf(1.5, (96, 20)), 499).astype("int32")  # common words come more than once, as they do
    return words, (words.mean(1, keepdims=True) > np.median(words.mean(1))).astype("float32")


@keras.saving.register_keras_serializable(package="public")
class PositionEmbedding(layers.Layer):
    """Embeddings of words and of their places."""

    def __init__(self, words, places, size, **options):
        super().__init__(**options)
        self.words, self.places = (
            layers.Embedding(words, size, name="word"),
            layers.Embedding(places, size, name="place"),
        )

    def call(self, x):
        return self.words(x) + self.places(ops.arange(x.shape[-1]))


def build_transformer():
    """A block of a transformer over words and their places, for two classes."""
    x = inputs = keras.Input((20,), dtype="int32")
    x = PositionEmbedding(500, 20, 16, name="embedded")(x)
    attended = layers.MultiHeadAttention(2, 16, name="attention")(x, x)
    attended = layers.Dropout(0.1, name="drop_1")(attended)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm_1")(layers.Add(name="add_1")([x, attended]))
    wide = layers.Dense(16, name="back")(layers.Dense(32, activation="relu", name="wide")(x))
    wide = layers.Dropout(0.1, name="drop_2")(wide)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm_2")(layers.Add(name="add_2")([x, wide]))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    outputs = layers.Dense(2, activation="softmax", name="class")(x)
    model = keras.Model(inputs, outputs, name="transformer")
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data_transformer(seed):
    words, positive = data_reviews(seed)
    return words, positive[:, 0].astype("int32")


def build_pets():
    """A U-Net of separable convolutions, batch normalization and residuals, for the outlines of pets."""
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="entry")(x)
    previous = x = layers.Activation("relu", name="entry_relu")(layers.BatchNormalization(name="entry_norm")(x))
    for filters in (8, 16):
        x = layers.Activation("relu", name=f"down_{filters}_relu")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same", name=f"down_{filters}")(x)
        x = layers.BatchNormalization(name=f"down_{filters}_norm")(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"down_{filters}_pool")(x)
        residual = layers.Conv2D(filters, 1, strides=2, padding="same", name=f"down_{filters}_residual")(previous)
        previous = x = layers.Add(name=f"down_{filters}_add")([x, residual])
    for filters in (16, 8, 4):
        x = layers.Activation("relu", name=f"up_{filters}_relu")(x)
        x = layers.Conv2DTranspose(filters, 3, padding="same", name=f"up_{filters}")(x)
        x = layers.BatchNormalization(name=f"up_{filters}_norm")(x)
        x = layers.UpSampling2D(2, name=f"up_{filters}_wider")(x)
        residual = layers.UpSampling2D(2, name=f"up_{filters}_residual_wider")(previous)
        residual = layers.Conv2D(filters, 1, padding="same", name=f"up_{filters}_residual")(residual)
        previous = x = layers.Add(name=f"up_{filters}_add")([x, residual])
    outputs = layers.Conv2D(3, 3, activation="softmax", padding="same", name="pixel")(x)
    model = keras.Model(inputs, outputs, name="pets")
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
    return model


def data_pets(seed):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 1, (64, 32, 32, 3)).astype("float32")
    return images, np.digitize(images.mean(-1), [0.4, 0.6]).astype("int32")
