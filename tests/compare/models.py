"""Models without a fault, small enough for each to train within seconds, and data for them.

`build_*()` returns a compiled model, and `data_*(seed)` all its rows in NumPy. None of them uses anything that Keras is
known to do otherwise on one backend, so that what parts here is rounding, or what rounding becomes.
"""

import keras
import numpy as np
from keras import layers, ops

import multiloss

ROWS = 96  # three batches of 32

# --- a classifier of images, with batch normalization ----------------------------------------------------------------


def _convolution(x, filters, name, strides=1):
    """A convolution with a bias, whose true gradient is 0: the batch normalization takes it out."""
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=True, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def build_cnn():
    image = keras.Input((16, 16, 1), name="image")
    x = _convolution(image, 4, "block_1")
    x = _convolution(x, 8, "block_2", strides=2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="classes")(x), name="cnn")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data_cnn(seed):
    """Stripes of four directions, in noise."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, ROWS)
    row, column = np.mgrid[:16, :16]
    stripes = np.stack([np.sin(v) for v in (row, column, (row + column) / 1.4, (row - column) / 1.4)])[label]
    return (stripes + 0.5 * rng.standard_normal(stripes.shape))[..., None].astype("float32"), label.astype("int32")


# --- a U-Net ---------------------------------------------------------------------------------------------------------


def build_unet():
    image = keras.Input((16, 16, 1), name="image")
    convolution = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    fine = layers.Conv2D(4, **convolution, name="down_1")(image)
    coarse = layers.Conv2D(8, **convolution, name="down_2")(layers.MaxPooling2D(name="pool_1")(fine))
    x = layers.Conv2D(8, **convolution, name="bottom")(layers.MaxPooling2D(name="pool_2")(coarse))
    x = layers.Concatenate(name="skip_2")([layers.UpSampling2D(name="up_2")(x), coarse])
    x = layers.Conv2D(8, **convolution, name="join_2")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up_1")(x)
    x = layers.Conv2D(4, **convolution, name="join_1")(layers.Concatenate(name="skip_1")([x, fine]))
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    model = keras.Model(image, mask, name="unet")
    model.compile(keras.optimizers.Adam(0.01), multiloss.DiceLoss(), metrics=[multiloss.DiceCoefficient()])
    return model


def data_unet(seed):
    """Discs, in noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:16, :16]
    centre = rng.uniform(4, 12, (2, ROWS, 1, 1))
    disc = np.hypot(row - centre[0], column - centre[1]) < rng.uniform(2, 5, (ROWS, 1, 1))
    image = disc + 0.5 * rng.standard_normal(disc.shape)
    return image[..., None].astype("float32"), disc[..., None].astype("float32")


# --- a recurrent model with a mask -----------------------------------------------------------------------------------


def build_lstm():
    words = keras.Input((8,), dtype="int32", name="words")
    x = layers.Embedding(20, 6, mask_zero=True, name="embedding")(words)
    x = layers.LSTM(6, name="lstm")(x)
    model = keras.Model(words, layers.Dense(1, activation="sigmoid", name="positive")(x), name="lstm_model")
    # Not Adam: Keras's on TensorFlow is another one for embeddings, `keras_embedding_adam` in `partings.py`.
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "binary_crossentropy", metrics=["accuracy"])
    return model


def data_lstm(seed):
    """Sentences of 2 to 8 words, filled up with zeros. Positive are those with more words above 10 than below."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 20, (ROWS, 8))
    words = np.where(np.arange(8) < rng.integers(2, 9, (ROWS, 1)), words, 0)
    positive = (words > 10).sum(1) > ((words > 0) & (words <= 10)).sum(1)
    return words.astype("int32"), positive[:, None].astype("float32")


# --- embeddings ------------------------------------------------------------------------------------------------------


def build_embedding():
    x = features = keras.Input((10,), name="features")
    x = layers.Dense(16, activation="gelu", name="hidden")(x)
    x = layers.LayerNormalization(name="layer_norm")(x)
    model = keras.Model(features, layers.Dense(4, name="direction")(x), name="embedding_model")
    model.compile(keras.optimizers.Adam(0.01), multiloss.SupConLoss(temperature=0.5))
    return model


def data_embedding(seed):
    """Points around eight centres, whose ids float32 cannot tell apart."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 8, ROWS)
    centres = np.random.default_rng(8).standard_normal((8, 10))
    features = centres[label] + 0.5 * rng.standard_normal((ROWS, 10))
    return features.astype("float32"), (2**24 + label).astype("int32")


# --- its own training step -------------------------------------------------------------------------------------------


class OwnStep(keras.Model):
    """A regression whose training step also asks for the same answer where the input has noise of a fixed form.

    Its weights are made when it is first called.
    """

    def __init__(self):
        super().__init__(name="own_step")
        self.hidden = layers.Dense(8, activation="tanh", name="hidden")
        self.answer = layers.Dense(1, name="answer")
        self.distance = keras.metrics.MeanAbsoluteError(name="distance")

    def call(self, x, training=False):
        return self.answer(self.hidden(x))

    def objective(self, predict, x, y, sample_weight):
        """Loss and predictions, where `predict` is the model."""
        x = ops.convert_to_tensor(x)  # `train_on_batch` on torch gives NumPy
        y_pred = predict(x)
        again = predict(x + 0.1 * ops.sin(7 * x))
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        return loss + 0.5 * ops.mean(ops.square(again - y_pred)), y_pred

    def train_step(self, *arguments):
        """The step of this backend: JAX's is given the state and returns the new one."""
        return getattr(self, f"_{keras.backend.backend()}_step")(*arguments)

    def _tensorflow_step(self, data):
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss, y_pred = self.objective(lambda x: self(x, training=True), x, y, sample_weight)
        gradients = tape.gradient(loss, [weight.value for weight in self.trainable_weights])
        self.optimizer.apply(gradients, self.trainable_weights)
        return self._measured(loss, x, y, y_pred, sample_weight)

    def _torch_step(self, data):
        import torch

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.zero_grad()
        loss, y_pred = self.objective(lambda x: self(x, training=True), x, y, sample_weight)
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in self.trainable_weights], self.trainable_weights)
        return self._measured(loss, x, y, y_pred, sample_weight)

    def _measured(self, loss, x, y, y_pred, sample_weight):
        next(metric for metric in self.metrics if metric.name == "loss").update_state(loss, ops.shape(y)[0])
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """What `evaluate` asks for too: a metric that no `compile` was given is updated here or nowhere."""
        self.distance.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def _jax_step(self, state, data):
        import jax

        trainable, others, optimizer, measured = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def objective(trainable):  # without layers that change a weight, `others` stay as they are
            def predict(x):
                return self.stateless_call(trainable, others, x, training=True)[0]

            return self.objective(predict, x, y, sample_weight)

        (loss, y_pred), gradients = jax.value_and_grad(objective, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        logs, new = {}, []
        for metric in self.metrics:
            own = measured[len(new) : len(new) + len(metric.variables)]
            if metric.name == "loss":
                own = metric.stateless_update_state(own, loss, sample_weight=y.shape[0])
            else:
                own = metric.stateless_update_state(own, y, y_pred, sample_weight=sample_weight)
            logs[metric.name] = metric.stateless_result(own)
            new += own
        return logs, (trainable, others, optimizer, new)


def build_own_step():
    model = OwnStep()
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error")
    return model


def data_own_step(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, 6)).astype("float32")
    return x, np.sin(x[:, :2]).sum(1, keepdims=True)


# --- two inputs, two outputs, losses of layers ------------------------------------------------------------------------


class Spread(layers.Layer):
    """Adds a loss, for values whose variance is not 1, and changes nothing."""

    def call(self, x):
        self.add_loss(0.01 * ops.square(ops.var(x) - 1))
        return x


def build_two_heads():
    signal, place = keras.Input((8,), name="signal"), keras.Input((2,), name="place")
    x = layers.Dense(8, activation="tanh", name="of_signal")(signal)
    x = layers.ActivityRegularization(l2=0.01, name="small")(x)
    x = layers.Concatenate(name="both")([x, layers.Dense(4, activation="tanh", name="of_place")(place)])
    x = Spread(name="spread")(x)
    outputs = {
        "height": layers.Dense(1, name="height")(x),
        "kind": layers.Dense(3, activation="softmax", name="kind")(x),
    }
    model = keras.Model({"signal": signal, "place": place}, outputs, name="two_heads")
    model.compile(
        keras.optimizers.Adam(0.01),
        loss={"height": "mean_squared_error", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"height": 1.0, "kind": 0.3},
        metrics={"height": ["mean_absolute_error"], "kind": ["accuracy"]},
    )
    return model


def data_two_heads(seed):
    rng = np.random.default_rng(seed)
    signal, place = (rng.standard_normal((ROWS, width)).astype("float32") for width in (8, 2))
    kind = np.digitize(place[:, 0] + signal[:, 0], [-0.7, 0.7])
    y = {"height": signal[:, :2].sum(1, keepdims=True) * place[:, 1:], "kind": kind.astype("int32")}
    return {"signal": signal, "place": place}, y


# --- randomness in training ------------------------------------------------------------------------------------------


def build_dropout():
    x = features = keras.Input((8,), name="features")
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.3, seed=1, name="drop")(x)
    x = layers.GaussianNoise(0.1, seed=2, name="noise")(x)
    model = keras.Model(features, layers.Dense(1, name="answer")(x), name="dropout_model")
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error", weighted_metrics=["mean_absolute_error"])
    return model


def data_dropout(seed):
    """With weights of rows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, 8)).astype("float32")
    return x, np.abs(x[:, :1]), rng.uniform(0.5, 2, ROWS).astype("float32")


MODELS = {
    "cnn": (build_cnn, data_cnn),
    "unet": (build_unet, data_unet),
    "lstm": (build_lstm, data_lstm),
    "embedding": (build_embedding, data_embedding),
    "own_step": (build_own_step, data_own_step),
    "two_heads": (build_two_heads, data_two_heads),
    "dropout": (build_dropout, data_dropout),
}
