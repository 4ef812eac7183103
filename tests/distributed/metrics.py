"""Metrics of data on several devices, as a program: `python metrics.py ENGINE OUT.npz PLAN`; PLAN is not used.

ENGINE: "data" (JAX, 4 devices), "mirrored" (TensorFlow, 2 logical devices) or "ddp" (torch, one of the processes of
torchrun's variables, whose states are added up as docs/metrics.md says). Writes the results, and what they are to be.
"""

import contextlib
import sys

import keras
import numpy as np
from keras import ops

from multiloss import DiceLoss
from multiloss.metrics import ConfusionMatrix, DiceCoefficient, JaccardIndex

ENGINE, OUT, _ = sys.argv[1:4]
rng = np.random.default_rng(0)
TRUTH = rng.integers(0, 3, (16, 20))
PREDICTED = rng.dirichlet(np.ones(3), TRUTH.shape).astype("float32")
WEIGHTS = rng.uniform(0.2, 3, 16).astype("float32")
TRUTH[12:] = 0  # the last replica has no other class


def found():
    return [
        DiceCoefficient(name="dice", mode="multiclass"),
        JaccardIndex(name="samples", mode="multiclass", samplewise=True, average=None, num_classes=3),
        ConfusionMatrix(name="matrix", mode="multiclass", num_classes=3),
    ]


def numbers(metrics):
    return {metric.name: ops.convert_to_numpy(metric.result()) for metric in metrics}


def by_keras(scope):
    with scope:
        inputs = keras.Input(PREDICTED.shape[1:])
        model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
        model.compile(loss=DiceLoss(), weighted_metrics=found())
        return model.evaluate(PREDICTED, TRUTH, batch_size=8, sample_weight=WEIGHTS, verbose=0, return_dict=True)


def by_process():
    from torch import distributed

    distributed.init_process_group("gloo")
    rows = slice(None, 5) if distributed.get_rank() == 0 else slice(5, None)
    metrics = found()
    for metric in metrics:
        metric.update_state(TRUTH[rows], PREDICTED[rows], WEIGHTS[rows])
        states = [None] * distributed.get_world_size()
        distributed.all_gather_object(states, metric.state())
        metric.reset_state()
        metric.merge_state(*states)
    distributed.destroy_process_group()
    return numbers(metrics)


expected = found()
for metric in expected:
    metric.update_state(TRUTH, PREDICTED, WEIGHTS)
expected = numbers(expected)
if ENGINE == "data":
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
    got = by_keras(contextlib.nullcontext())
elif ENGINE == "mirrored":
    import tensorflow as tf

    got = by_keras(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope())
else:
    got = by_process()
np.savez(
    OUT, **{f"expected {name}": x for name, x in expected.items()}, **{f"got {name}": got[name] for name in expected}
)
