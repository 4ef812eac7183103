"""Train one model on several devices with a pairwise loss of the whole batch, and compare with one device.

Each line launches it for one engine, on processor cores if there is nothing better:

    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=4 python examples/distributed.py
    KERAS_BACKEND=tensorflow python examples/distributed.py
    KERAS_BACKEND=tensorflow python examples/distributed.py --workers 2
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/distributed.py

They are `keras.distribution.DataParallel`; `tf.distribute.MirroredStrategy`; `MultiWorkerMirroredStrategy`, whose
workers `--workers` starts on this machine, where a cluster sets `TF_CONFIG`; and torch's `DistributedDataParallel`.

Data: the 1797 digits of 8 x 8 pixels of scikit-learn, the digit in the place of the user. The encoder is trained three
times with the same initial weights and batches: on one device, and on all replicas with and without
`across_replicas=True`. Without, the pairs of rows of two replicas are missing (but on JAX, whose arrays are whole).
"""

import argparse
import atexit
import contextlib
import json
import os
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from sklearn.datasets import load_digits

from multiloss import PairwiseUserLoss

BATCH, STEPS = 240, 7
BACKEND = keras.backend.backend()


class Losses(keras.callbacks.Callback):
    """The loss of each batch; Keras reports the mean so far."""

    def __init__(self):
        super().__init__()
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(logs["loss"])

    def each(self):
        return np.diff(np.array(self.means) * np.arange(1, len(self.means) + 1), prepend=0)


def encoder(kind=keras.Sequential):
    """The same encoder each time."""
    model = kind([keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(8)])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) / 8 for weight in model.get_weights()])
    return model


def fit(x, y, across, batch=BATCH, scope=contextlib.nullcontext, kind=keras.Sequential):
    """Losses of the steps and weights after the last, by Keras's own loop."""
    with scope():
        model = encoder(kind)
        model.compile(keras.optimizers.SGD(1e-3), PairwiseUserLoss(margin=2.0, across_replicas=across))
    losses = Losses()
    model.fit(x, y, batch_size=batch, shuffle=False, verbose=0, callbacks=[losses])
    return losses.each(), model.get_weights()


# --- engines: (x, y, whether across replicas) -> losses, weights; and which rows are whose ---------------------------


def jax_devices():
    """The devices of `XLA_FLAGS`, or of the machine."""
    devices = keras.distribution.list_devices()

    def train(x, y, across):
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        result = fit(x, y, across)
        keras.distribution.set_distribution(None)
        return result

    return train, len(devices), range(len(devices))


def tensorflow_devices():
    """All GPUs, or two halves of the processor."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        cores = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cores[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = tf.distribute.MirroredStrategy()
    count = strategy.num_replicas_in_sync
    return lambda x, y, across: fit(x, y, across, scope=strategy.scope), count, range(count)


def tensorflow_workers():
    """A loop of one's own: that of Keras 3.15 fails under this strategy, whatever the loss."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    count, index = strategy.num_replicas_in_sync, strategy.cluster_resolver.task_id

    def train(x, y, across):
        with strategy.scope():
            model, optimizer = encoder(), keras.optimizers.SGD(1e-3)
            optimizer.build(model.trainable_variables)
        loss = PairwiseUserLoss(margin=2.0, across_replicas=across)

        @tf.function
        def step(x, y):
            def replica(x, y):
                with tf.GradientTape() as tape:
                    value = loss(y, model(x, training=True))
                optimizer.apply(tape.gradient(value, model.trainable_variables))
                return value

            return strategy.reduce("SUM", strategy.run(replica, (x, y)), axis=None)

        own = np.arange(len(x)).reshape(STEPS, count, -1)[:, index]
        return np.array([float(step(x[rows], y[rows])) for rows in own]), model.get_weights()

    return train, count, [index]


def torch_processes():
    """The processes of torchrun."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(torch.distributed.destroy_process_group)
    count, index = torch.distributed.get_world_size(), torch.distributed.get_rank()

    class Replicated(keras.Sequential):
        """Keras's `fit`, which knows nothing of torch's replicas, with a step that runs the replicated model."""

        def train_step(self, data):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            if "replicated" not in vars(self):
                vars(self)["replicated"] = DistributedDataParallel(self)  # past Keras and torch: it contains the model
            y_pred = vars(self)["replicated"](x)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
            self.zero_grad()
            loss.backward()
            with torch.no_grad():
                gradients = [variable.value.grad for variable in self.trainable_variables]
                self.optimizer.apply(gradients, self.trainable_variables)
            self._loss_tracker.update_state(loss)
            return self.compute_metrics(x, y, y_pred, sample_weight)

    def train(x, y, across):
        own = np.arange(len(x)).reshape(STEPS, count, -1)[:, index].reshape(-1)
        return fit(x[own], y[own], across, BATCH // count, kind=Replicated)

    return train, count, [index]


def main():
    """Train, and say how far apart the results are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, help="processes to start for TensorFlow's MultiWorkerMirroredStrategy")
    workers = parser.parse_args().workers
    if workers:
        cluster = {"worker": [f"127.0.0.1:{20401 + index}" for index in range(workers)]}
        configs = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(workers)]
        environments = [{**os.environ, "TF_CONFIG": json.dumps(config)} for config in configs]
        processes = [subprocess.Popen([sys.executable, __file__], env=each) for each in environments]
        sys.exit(max([process.wait() for process in processes]))

    if BACKEND == "tensorflow":
        train, count, replicas = tensorflow_workers() if "TF_CONFIG" in os.environ else tensorflow_devices()
    else:
        train, count, replicas = {"jax": jax_devices, "torch": torch_processes}[BACKEND]()
    for replica in replicas:
        first, last = replica * BATCH // count, (replica + 1) * BATCH // count - 1
        # The line's end in the same write as the line, since several processes share one output.
        print(f"replica {replica} of {count}: rows {first} to {last}\n", end="")

    x, y = load_digits(return_X_y=True)
    x, y = (x[: STEPS * BATCH] / 16).astype("float32"), y[: STEPS * BATCH]
    results = {across: train(x, y, across) for across in (True, False)}
    alone, weights = fit(x, y, across=False)
    if 0 in replicas:
        print(f"one device:                        loss {alone[0]:9.4f} to {alone[-1]:9.4f}")
        for across, (losses, moved) in results.items():
            apart = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(moved, weights, strict=True))
            differ = f"losses differ by {np.abs(losses / alone - 1).max():.0e}, weights by {apart:.0e}"
            print(
                f"{count} replicas, across_replicas={across!s:5}: loss {losses[0]:9.4f} to {losses[-1]:9.4f}; {differ}"
            )


if __name__ == "__main__":
    main()
