"""Each loss of masks by two replicas, as a program: `python each.py ENGINE OUT.npz PLAN`.

ENGINE: "mirrored" (TensorFlow, 2 logical devices) or "ddp" (torch, one of the processes of torchrun's variables).
Writes, for each loss, its value and gradient as the engine makes them of those of the replicas, and what they are to
be, without replicas: those of the batch for a loss across replicas, and else the mean of those of each replica's rows.

PLAN: "all", each of them weighted, or "few", one of each kind and not weighted.
"""

import itertools
import sys

import keras
import numpy as np
from keras import ops

import multiloss.losses
from multiloss import DiceLoss, MCCLoss
from multiloss.losses import OverlapLoss

ENGINE, OUT, PLAN = sys.argv[1:4]
ENDS = [0, 5, 8]

rng = np.random.default_rng(2)
TRUTH = (rng.uniform(size=(8, 4, 4, 3)) < 0.4).astype("float32")
TRUTH[5:, ..., 2] = 0  # the second replica does not have this class
PREDICTED = rng.uniform(0.1, 0.9, size=TRUTH.shape).astype("float32")
WEIGHTS = rng.uniform(0.2, 3, size=8).astype("float32")

# name -> class and options. Those of which the authors of losses inherit have no formula.
LOSSES = {}
for name, kind in vars(multiloss.losses).items():
    if isinstance(kind, type) and issubclass(kind, OverlapLoss) and kind is not OverlapLoss:
        LOSSES[name] = kind, {} if name == "BatchDiceLoss" else {"mode": "multilabel", "batch": True}
for reduction in ("sum", "mean_with_sample_weight"):
    LOSSES[f"DiceLoss, {reduction}"] = DiceLoss, {"mode": "multilabel", "batch": True, "reduction": reduction}
    options = {"mode": "multilabel", "batch": True, "average": None, "reduction": reduction}
    LOSSES[f"MCCLoss of each class, {reduction}"] = MCCLoss, options
LOSSES["DiceLoss of each sample"] = DiceLoss, {"mode": "multilabel", "batch": False}
FEW = {"BatchDiceLoss", "DiceLoss", "DiceLoss, sum", "DiceLoss, mean_with_sample_weight", "LovaszLoss"}
FEW |= {"MCCLoss of each class, mean_with_sample_weight", "DiceLoss of each sample"}
# (name, whether across replicas)
CASES = [
    (name, across)
    for name, (kind, options) in LOSSES.items()
    for across in ([False, True] if "across_replicas" in kind._constructor and options.get("batch", True) else [False])
    if PLAN == "all" or name in FEW
]


def made(name, across):
    kind, options = LOSSES[name]
    return kind(**options, **({"across_replicas": True} if across else {}))


def derived(loss, truth, predicted, weights):
    """Value and gradient by the predictions."""
    if keras.backend.backend() == "torch":
        leaf = predicted.clone().requires_grad_()
        value = loss(truth, leaf, weights)
        value.backward()
        return value.detach(), leaf.grad
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = loss(truth, predicted, weights)
    return value, tape.gradient(value, predicted)


def rows(start, stop):
    given = TRUTH, PREDICTED, WEIGHTS if PLAN == "all" else None
    return [None if part is None else ops.convert_to_tensor(part[start:stop]) for part in given]


def alone(name, across):
    """Value, and gradient by all predictions, without replicas."""
    loss, ends = made(name, False), itertools.pairwise(ENDS)
    if across:
        return [ops.convert_to_numpy(part) for part in derived(loss, *rows(0, 8))]
    each = [[ops.convert_to_numpy(part) for part in derived(loss, *rows(*own))] for own in ends]
    values, gradients = zip(*each, strict=True)
    count = 1 if loss.reduction == "sum" else 2
    return sum(values) / count, np.concatenate(gradients) / count


def by_mirrored():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def together(name, across):
        own = strategy.experimental_distribute_values_from_function(
            lambda context: rows(*ENDS[context.replica_id_in_sync_group :][:2])
        )
        values, gradients = strategy.run(lambda parts: derived(made(name, across), *parts), (own,))
        values, gradients = map(strategy.experimental_local_results, (values, gradients))
        return sum(float(value) for value in values), np.concatenate(gradients)

    return together


def by_ddp():
    import torch
    from torch import distributed

    index = distributed.get_rank()

    def together(name, across):
        value, gradient = derived(made(name, across), *rows(*ENDS[index:][:2]))
        every = torch.zeros(PREDICTED.shape)
        every[slice(*ENDS[index:][:2])] = gradient
        for part in (every, value):
            distributed.all_reduce(part)
        count = 1 if made(name, across).reduction == "sum" and not across else 2
        return value.numpy() / count, every.numpy() / count

    return together


if ENGINE == "mirrored":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
expected = [alone(*case) for case in CASES]
if ENGINE == "ddp":
    from torch import distributed

    distributed.init_process_group("gloo")
together = {"mirrored": by_mirrored, "ddp": by_ddp}[ENGINE]()
got = [together(*case) for case in CASES]
results = {"expected": expected, "got": got}
np.savez(
    OUT,
    names=[name + ", across replicas" * across for name, across in CASES],
    **{f"{which} values": [value for value, _ in pairs] for which, pairs in results.items()},
    **{f"{which} gradients": [gradient for _, gradient in pairs] for which, pairs in results.items()},
)
if ENGINE == "ddp":
    distributed.destroy_process_group()
