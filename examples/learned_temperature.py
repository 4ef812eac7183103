"""Learn the temperature of a supervised contrastive loss along with the encoder, under `fit`.

    python -m pip install ".[jax,examples]" && KERAS_BACKEND=jax python examples/learned_temperature.py

A loss has no weights that Keras trains, a layer has. So the temperature belongs to a layer, which makes the loss anew
at each call, with the temperature of the moment, and adds it. It is learned as a logarithm, which keeps it positive.

Data: the 1797 digits of 8 x 8 pixels of scikit-learn, every third held out. Initial weights and batches come from
NumPy, so that TensorFlow, JAX and PyTorch can be compared: set `KERAS_BACKEND`. Prints the loss and the temperature
before and after, and how many of the held-out digits have a nearest neighbour, among those trained on, of their class.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from multiloss import SupConLoss


class LearnedTemperature(keras.layers.Layer):
    """Passes embeddings on, and adds their loss, of which it learns the temperature."""

    def __init__(self, start=1.0, **options):
        super().__init__(**options)
        self.start = start

    def build(self, shapes):
        # No autocast: under a policy of half precision a temperature would be rounded to 3 digits.
        start = keras.initializers.Constant(float(np.log(self.start)))
        self.logarithm = self.add_weight((), initializer=start, name="logarithm", autocast=False)

    def call(self, inputs):
        labels, embeddings = inputs
        self.add_loss(SupConLoss(ops.exp(self.logarithm))(labels, embeddings))
        return embeddings

    def temperature(self):
        """What has been learned so far."""
        return float(np.exp(ops.convert_to_numpy(self.logarithm)))


def main():
    """Train, and print what was learned."""
    x, y = load_digits(return_X_y=True)
    x, y, test = (x / 16).astype("float32"), y.astype("int32"), np.arange(len(y)) % 3 == 0

    encoder = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(16)])
    rng = np.random.default_rng(0)
    encoder.set_weights([rng.normal(size=weight.shape) / 8 for weight in encoder.get_weights()])

    pixels, labels = keras.Input((64,)), keras.Input((), dtype="int32")
    adds = LearnedTemperature()
    model = keras.Model([labels, pixels], adds([labels, encoder(pixels)]))
    model.compile(keras.optimizers.Adam(1e-2))  # the loss is the layer's

    before = adds.temperature()
    order = np.concatenate([rng.permutation(np.flatnonzero(~test)) for _ in range(60)])
    batches = order[: len(order) // 256 * 256]
    history = [float(model.train_on_batch([y[rows], x[rows]])) for rows in batches.reshape(-1, 256)]

    nearest = KNeighborsClassifier(1).fit(embedded(encoder, x[~test]), y[~test])
    print(f"Backend: {keras.backend.backend()}")
    print(f"Loss: {np.mean(history[:10]):.4f} before, {np.mean(history[-10:]):.4f} after")
    print(f"Temperature: {before:.3f} before, {adds.temperature():.3f} after")
    print(f"Nearest neighbour of its class: {nearest.score(embedded(encoder, x[test]), y[test]):.3f}")


def embedded(encoder, x):
    """Embeddings of length 1."""
    embeddings = encoder.predict(x, verbose=0)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
