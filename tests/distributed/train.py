"""Five steps of each scenario by one engine, as a program: `python train.py ENGINE OUT.npz [PLAN]`.

ENGINE: "one" (a device by itself), "data" and "model" (JAX, meshes of 4 and of 2 x 2 devices), "mirrored" (TensorFlow,
2 logical devices), "workers" (TensorFlow, one of the processes of TF_CONFIG), "ddp" (torch, one of the processes of
torchrun's variables). Writes, for each scenario, the loss of each step and the weights after the last.

PLAN: "train", or what goes wrong in the last of the replicas: "features", "dtype" or "weights" differ, or it "dies";
or several of these, with commas, of which each but the last is told and gone on from.
"""

import contextlib
import os
import sys
import traceback

import keras
import numpy as np
from keras import ops

from multiloss import (
    BatchDiceLoss,
    ContrastiveLoss,
    CrossEntropyLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    PairwiseUserLoss,
    SupConLoss,
    dice_loss,
)
from multiloss.losses import PairwiseLoss

BACKEND = keras.backend.backend()
ENGINE, OUT, PLAN = [*sys.argv[1:], "train"][:3]
STEPS, FEATURES = 5, 4
ACROSS = ENGINE != "one"
STRATEGY = None  # TensorFlow's

rng = np.random.default_rng(6)
X = rng.normal(size=(STEPS, 48, FEATURES)).astype("float32")
X[:, 5] = X[:, 17] = X[:, 3]  # in the rows of several replicas, of one user and of different ones
IDS = 2**24 + rng.choice(6, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], size=(STEPS, 48))  # some users have a single row
IDS[:, [3, 5]], IDS[:, 17] = 2**24, 2**24 + 1
WEIGHTS = rng.uniform(0.2, 3, size=(STEPS, 48)).astype("float32")
LABELS = (rng.uniform(size=(STEPS, 48, 3)) < 0.4).astype("uint8")
LABELS[:, 6:, 2] = 0  # so that other replicas than the first do not have this class


class Halves(keras.losses.Loss):
    """The mean of the losses of two replicas, of 12 rows each."""

    def call(self, y_true, y_pred):
        return (dice_loss()(y_true[:12], y_pred[:12]) + dice_loss()(y_true[12:], y_pred[12:])) / 2


# name -> loss, optimizer, rows of the batches of a step, whether weighted, whether masked. Those of `contrastive` have
# labels of 8 bits.
OF_BATCH = {"batch": True, "across_replicas": ACROSS}
SCENARIOS = {
    "user, SGD": (PairwiseUserLoss(margin=1.5, across_replicas=ACROSS), "sgd", [24], False, False),
    "user, Adam, sum, weights": (PairwiseUserLoss(reduction="sum", across_replicas=ACROSS), "adam", [24], True, False),
    "contrastive, Adam, mask": (ContrastiveLoss(neg_margin=2.0, across_replicas=ACROSS), "adam", [24], False, True),
    "supcon, SGD, weighted mean, weights and mask": (
        SupConLoss(temperature=0.5, reduction="mean_with_sample_weight", across_replicas=ACROSS),
        *("sgd", [24], True, True),
    ),
    "supcon, Adam, tiles of 2": (
        SupConLoss(temperature=0.5, tile=2, across_replicas=ACROSS),
        "adam",
        [24],
        False,
        False,
    ),
}
SCENARIOS |= {
    "batch dice, SGD": (BatchDiceLoss(across_replicas=ACROSS), "steep", [24], False, False),
    "dice, SGD, weights": (DiceLoss(mode="multilabel", **OF_BATCH), "steep", [24], True, False),
    "generalized dice of indices, SGD, mask": (
        GeneralizedDiceLoss(mode="multiclass", from_logits=True, **OF_BATCH),
        *("steep", [24], False, True),
    ),
    "cross-entropy, Adam, sum, weights and mask": (
        CrossEntropyLoss(mode="multilabel", from_logits=True, reduction="sum", **OF_BATCH),
        *("adam", [24], True, True),
    ),
}
if BACKEND != "jax":  # which refuses to divide a batch by devices that do not divide it
    SCENARIOS["user, SGD, 23 rows, weights"] = (PairwiseUserLoss(across_replicas=ACROSS), "sgd", [24, 23], True, False)
    SCENARIOS["supcon, Adam, 1 row"] = (SupConLoss(across_replicas=ACROSS), "adam", [24, 1], False, False)
    SCENARIOS["batch dice, SGD, 23 rows, weights and mask"] = (
        BatchDiceLoss(across_replicas=ACROSS),
        *("steep", [24, 23], True, True),
    )
    SCENARIOS["cross-entropy, SGD, 1 row"] = (
        CrossEntropyLoss(mode="multilabel", from_logits=True, **OF_BATCH),
        *("steep", [24, 1], False, False),
    )
if BACKEND == "tensorflow":  # which adds up the losses of replicas: of batches, it is to be their mean
    SCENARIOS["batch dice of each replica"] = (dice_loss() if ACROSS else Halves(), "steep", [24], False, False)
if ENGINE == "workers":  # two processes compile each; "mirrored" has them all
    SOME = ("user, Adam, sum, weights", "supcon, SGD, weighted mean, weights and mask", "user, SGD, 23 rows, weights")
    SOME += ("batch dice, SGD, 23 rows, weights and mask",)
    SCENARIOS = {name: SCENARIOS[name] for name in SOME}


def data(loss):
    truth = IDS.astype("uint8") if isinstance(loss, ContrastiveLoss) else IDS
    if not isinstance(loss, PairwiseLoss):
        truth = LABELS.argmax(-1) if getattr(loss, "mode", None) == "multiclass" else LABELS
    return zip(X, truth, WEIGHTS, strict=True)


class Mask(keras.layers.Layer):
    """Leave out rows by their first feature."""

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[:, 0] > -0.5


def build(loss, masked):
    activation = "linear" if isinstance(loss, PairwiseLoss) or getattr(loss, "from_logits", False) else "sigmoid"
    # No bias in the last layer: it moves no distance, so that its gradient is rounding, which Adam would scale up.
    layers = [Mask()] * masked + [keras.layers.Dense(8, "tanh"), keras.layers.Dense(3, activation, use_bias=False)]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers])
    start = np.random.default_rng(1)
    model.set_weights([start.normal(size=weight.shape) / 2 for weight in model.get_weights()])
    return model


def optimizer(name):
    kind, rate = {
        "sgd": (keras.optimizers.SGD, 1e-2),
        "steep": (keras.optimizers.SGD, 1.0),  # losses of masks are from 0 to 1, however many rows there are
        "adam": (keras.optimizers.Adam, 1e-2),
    }[name]
    return kind(rate)


def by_fit(loss, name, rows, weighted, masked):
    with STRATEGY.scope() if STRATEGY else contextlib.nullcontext():
        model = build(loss, masked)
        model.compile(optimizer(name), loss)
    losses, every = [], slice(sum(rows))
    for x, y, weights in data(loss):
        weights = weights[every] if weighted else None
        history = model.fit(x[every], y[every], sample_weight=weights, batch_size=rows[0], shuffle=False, verbose=0)
        losses.append(history.history["loss"][0])
    return losses, model.get_weights()


def by_hand(take, loss, rows, index, count):
    """Losses of `take(x, y, weights)`, for the rows of one replica, which do not divide evenly."""
    losses = []
    for x, y, weights in data(loss):
        first, total = 0, 0.0
        for batch in rows:
            ends = [0, *(min(batch, batch * (k + 1) // count + 1) for k in range(count - 1)), batch]
            own = slice(first + ends[index], first + ends[index + 1])
            total += batch * take(x[own], y[own], weights[own])
            first += batch
        losses.append(total / first)
        if PLAN == "dies" and index == count - 1:
            os._exit(3)
    return losses


def gone_wrong(x, y, weights):
    if PLAN == "features":
        x = ops.concatenate([x, x], axis=1)
    if PLAN == "dtype":
        y = ops.cast(y, "int32")
    if PLAN == "weights":
        weights = None
    return x, y, weights


def by_workers(loss, name, rows, weighted, masked):
    """In a loop: Keras 3.15's own fails with this strategy, before any loss."""
    import tensorflow as tf

    index, count = STRATEGY.cluster_resolver.task_id, STRATEGY.num_replicas_in_sync
    with STRATEGY.scope():
        model, rule = build(loss, masked), optimizer(name)
        rule.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(*batch):
        def replica(x, y, weights):
            with tf.GradientTape() as tape:
                prediction = model(x)
                if index == count - 1:
                    prediction, y, weights = gone_wrong(prediction, y, weights)
                value = loss(y, prediction, weights if weighted else None)
            rule.apply(tape.gradient(value, model.trainable_variables))
            return value

        return STRATEGY.reduce("SUM", STRATEGY.run(replica, batch), axis=None)

    losses = by_hand(lambda *batch: float(step(*map(tf.convert_to_tensor, batch))), loss, rows, index, count)
    return losses, model.get_weights()


def by_ddp(loss, name, rows, weighted, masked):
    import torch
    from torch import distributed

    index, count = distributed.get_rank(), distributed.get_world_size()
    model, rule = build(loss, masked), optimizer(name)
    rule.build(model.trainable_variables)
    replicated = torch.nn.parallel.DistributedDataParallel(model)

    def take(*batch):
        x, y, weights = map(torch.as_tensor, batch)
        prediction = replicated(x)
        if index == count - 1:
            prediction, y, weights = gone_wrong(prediction, y, weights)
        model.zero_grad()
        value = loss(y, prediction, weights if weighted else None)
        value.backward()
        with torch.no_grad():
            rule.apply([variable.value.grad for variable in model.trainable_variables], model.trainable_variables)
        return float(value.detach())

    return by_hand(take, loss, rows, index, count), model.get_weights()


def start():
    """Set the engine up; return how it trains."""
    global STRATEGY
    if ENGINE in ("data", "model"):
        devices = keras.distribution.list_devices()
        if ENGINE == "data":
            plan = keras.distribution.DataParallel(devices=devices)
        else:
            mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
            layout = keras.distribution.LayoutMap(mesh)
            layout[".*dense.*kernel"] = ("model", None)
            plan = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
        keras.distribution.set_distribution(plan)
    elif ENGINE == "mirrored":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif ENGINE == "workers":
        import tensorflow as tf

        STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
        return by_workers
    elif ENGINE == "ddp":
        from datetime import timedelta

        from torch import distributed

        distributed.init_process_group("gloo", timeout=timedelta(seconds=30))
        return by_ddp
    return by_fit


train = start()
results = {}
*BEFORE, LAST = PLAN.split(",")
for wrong in BEFORE:
    PLAN = wrong
    try:
        train(*SCENARIOS["user, Adam, sum, weights"])
    except ValueError:
        traceback.print_exc()
PLAN = LAST
for number, (name, scenario) in enumerate(SCENARIOS.items()):
    if PLAN == "train" or name == "user, Adam, sum, weights":
        losses, weights = train(*scenario)
        results[f"{number} loss"] = losses
        results[f"{number} weights"] = np.concatenate([weight.ravel() for weight in weights])
np.savez(OUT, names=list(SCENARIOS), **results)
if ENGINE == "ddp":
    import torch

    torch.distributed.destroy_process_group()
