"""Losses within a hand-written `jax.shard_map` or `jax.pmap`, held to one device, as a program: `python axis.py PLAN`.

Prints, as JSON, the largest error of value and gradients of each loss in each way, relative to the largest entry; and
what is said of names that are none. PLAN: "few" or "all" of the losses.
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from multiloss import BatchDiceLoss, ContrastiveLoss, DiceLoss, PairwiseUserLoss, SupConLoss

PLAN = sys.argv[1]
B = 16
MESH = Mesh(np.array(jax.devices()), ("batch",))
PARTS = PartitionSpec(), PartitionSpec("batch"), PartitionSpec("batch"), PartitionSpec("batch")

rng = np.random.default_rng(0)
X, IDS = rng.normal(size=(B, 4)).astype("float32"), rng.integers(0, 4, size=B).astype("int32")
MASKS, WEIGHTS = (rng.uniform(size=(B, 3)) < 0.4).astype("float32"), rng.uniform(0.2, 3, size=B).astype("float32")
X[5], IDS[5] = X[9], IDS[9]  # that coincide, on different devices
WEIGHTS[3] = 0
START = {"kernel": rng.normal(size=(4, 3)).astype("float32"), "margin": np.float32(1.5)}  # the same on all devices

# name -> function of a margin and `across_replicas`
LOSSES = {
    "user, learned margin": lambda margin, across: PairwiseUserLoss(margin, across_replicas=across),
    "batch dice": lambda margin, across: BatchDiceLoss(across_replicas=across),
}
if PLAN == "all":
    LOSSES |= {
        "user, own rows, tiles of 2": lambda margin, across: PairwiseUserLoss(margin, tile=2),
        "supcon, weighted mean": lambda margin, across: SupConLoss(
            reduction="mean_with_sample_weight", across_replicas=across
        ),
        "contrastive, sum, ignored label, tiles of 2": lambda margin, across: ContrastiveLoss(
            neg_margin=margin, reduction="sum", ignore_label=1, tile=2, across_replicas=across
        ),
        "dice": lambda margin, across: DiceLoss(mode="multilabel", batch=True, across_replicas=across),
    }


def value(name, across, parameters, x, truth, weights):
    x = x @ parameters["kernel"]
    x = jax.nn.sigmoid(x) if "dice" in name else x
    return LOSSES[name](parameters["margin"], across)(truth, x, weights)


def alone(name, *batch):
    """The same on one device."""
    if "own rows" not in name:
        return value(name, False, *batch)
    parts = zip(*(jax.numpy.split(part, 4) for part in batch[1:]), strict=True)
    return sum(value(name, False, batch[0], *part) for part in parts) / 4


def mean(tree):
    return jax.lax.pmean(tree, "batch")


def mean_of_gradients(name):
    """As usual under `pmap`: gradients of each device's loss, then their mean."""
    return lambda *batch: mean(jax.value_and_grad(lambda *batch: value(name, "batch", *batch))(*batch))


def gradient_of_mean(name):
    """As usual in `shard_map`: the gradient of the mean of the losses."""
    return jax.value_and_grad(lambda *batch: mean(value(name, "batch", *batch)))


def by_pmap(name, *batch):
    rows = [part.reshape(4, B // 4, *part.shape[1:]) for part in batch[1:]]
    results = jax.pmap(mean_of_gradients(name), axis_name="batch", in_axes=(None, 0, 0, 0))(batch[0], *rows)
    return jax.tree.map(lambda part: part[0], results)


def by_shard_map(step, **options):
    def run(name, *batch):
        return jax.jit(jax.shard_map(step(name), mesh=MESH, in_specs=PARTS, out_specs=PartitionSpec(), **options))(
            *batch
        )

    return run


WAYS = {"pmap": by_pmap, "shard_map": by_shard_map(gradient_of_mean)}
if PLAN == "all":
    WAYS["shard_map, unchecked"] = by_shard_map(mean_of_gradients, check_vma=False)


def error(got, expected):
    return float(np.abs(np.asarray(got) - expected).max() / max(np.abs(expected).max(), 1e-9))


def complaint(across):
    try:
        by_shard_map(lambda name: lambda *batch: mean(value(name, across, *batch)))(
            "batch dice", START, X, MASKS, WEIGHTS
        )
    except ValueError as error:
        return str(error)


errors = {}
for name in LOSSES:
    batch = START, X, MASKS if "dice" in name else IDS, WEIGHTS
    expected = jax.jit(jax.value_and_grad(lambda start, batch, name=name: alone(name, start, *batch)))(START, batch[1:])
    for way, run in WAYS.items():
        if PLAN == "few" and (way == "pmap") != ("dice" in name):
            continue
        pairs = zip(jax.tree.leaves(run(name, *batch)), jax.tree.leaves(expected), strict=True)
        errors[f"{name}: {way}"] = max(error(*pair) for pair in pairs)
print(json.dumps([errors, complaint("rows"), complaint(True)]))
