"""One table of cases: every loss of multiloss with its oracle, parameters and batches. The tests are loops over it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from multiloss import losses, oracles


@dataclass(frozen=True)
class Case:
    """A function with one set of parameters, and the Keras loss made of it, held to an oracle on batches.

    Functions and oracles take `(y, x)`, labels or truth and embeddings or predictions.
    """

    function: Callable
    oracle: Callable
    loss: Callable  # () -> the Keras loss of (y, x, sample_weight) whose value is `total`
    total: Callable  # (oracle, y, x, weights: whole numbers [B]) -> float, by the definition of weights
    batches: dict  # name -> (y, x)
    scale: Callable  # (y, x) -> what an error of the value is a fraction of, in the shape of the value
    # (oracle, x) -> the oracle, and the point, to be differentiated for the gradient
    tangent: Callable = lambda oracle, x: (oracle, x)
    # The batches whose gradient, in float32, depends on the last bits of x
    delicate: frozenset = frozenset()


def gradient_of(oracle, y, x, upstream=1.0):
    """Gradient of `sum(upstream * oracle(y, x))` by central differences of fourth order in float64.

    The step is 1e-7 of the spread of x, far below the smallest distance (1e-4) and the smallest smooth (1e-5) in the
    table: truncation, (1e-7 / 1e-5)^4 at worst, and rounding, 1e-16 / 1e-7, are far below the tolerances.
    """
    x = np.asarray(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    spread = np.ptp(x, axis=0).max(initial=0.0) if len(x) else 0.0
    h = 1e-7 * (spread or np.abs(x).max(initial=0.0) or 1.0)
    for index in np.ndindex(x.shape):
        values = {}
        for steps in (-2, -1, 1, 2):
            moved = x.copy()
            moved[index] += steps * h
            values[steps] = np.sum(upstream * np.asarray(oracle(y, moved)))
        gradient[index] = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)
    return gradient


# --- pairwise: labels [B] or [B, K], embeddings [B, D] ---

rng = np.random.default_rng(20)
IDS = np.array([3, 1, 3, 3, 2, 1, 2, 3, 1], dtype=np.int64)
X = rng.normal(size=(9, 4)).astype(np.float32)

PAIRWISE_BATCHES = {
    "random": (IDS, X),
    "duplicated rows": (IDS, X[[0, 1, 0, 3, 4, 1, 1, 0, 8]]),  # of the same user and of different ones
    "all rows equal": (IDS, np.repeat(X[:1], 9, axis=0)),
    "same user": (np.full(9, 7), X),
    "different users": (np.arange(9), X),
    "clusters of width 1e-4": (IDS, X[IDS] + np.float32(1e-4) * X),
    "offset 1000": (IDS, X + 1000),
    "scale 1e25": (IDS, X * np.float32(1e25)),
    "scale 1e-25": (IDS, X * np.float32(1e-25)),
    "one feature": (IDS, X[:, :1]),
    "a row of zeros": (IDS, X * (np.arange(9) != 4)[:, None].astype(np.float32)),
    "batch of 0": (IDS[:0], X[:0]),
    "batch of 1": (IDS[:1], X[:1]),
    "batch of 2": (IDS[:2], X[:2]),
    "labels [B, 1]": (IDS[:, None], X),
    "labels [B, 2]": (np.stack([IDS, np.arange(9) % 2], axis=1), X),
    "labels of int32": (IDS.astype(np.int32), X),
    "labels of uint8": (IDS.astype(np.uint8), X),
    "labels of bool": (IDS == 3, X),
    "ids above 2**24": (2**24 + IDS % 2, X),
}
DELICATE = frozenset({"clusters of width 1e-4", "offset 1000"})
# The square of 1e25 is infinite in float32, and 1e-25 is nothing to a margin of 1, not even to the oracle.
CONTRASTIVE_BATCHES = {name: batch for name, batch in PAIRWISE_BATCHES.items() if not name.startswith("scale")}
# Directions of a single feature are all 1 or -1, with a gradient of 0; so is that of zeros, by definition.
SUPCON_BATCHES = {
    name: batch for name, batch in PAIRWISE_BATCHES.items() if name not in ("one feature", "a row of zeros")
}


def _pairwise_total(oracle, y, x, weights):
    """The definition of weights: a pair weighs the mean of its rows. The loss of a pair alone comes from the oracle."""
    pairs = [[i, j] for i in range(len(x)) for j in range(i + 1, len(x))]
    return sum(np.mean(weights[pair]) * oracle(y[pair], x[pair]).sum() for pair in pairs)


def _weighted_sum(oracle, y, x, weights):
    return np.sum(weights * oracle(y, x))


def _sums_of_distances(y, x):
    x = np.asarray(x, dtype=np.float64)
    return np.array([0.5 * sum(np.sqrt(np.sum((x - row) ** 2, axis=1))) for row in x])


def _pairwise(**parameters):
    oracle = partial(oracles.pairwise_user_loss, **parameters)
    return Case(
        function=partial(losses.pairwise_user_loss, **parameters),
        oracle=oracle,
        loss=partial(losses.PairwiseUserLoss, reduction="sum", **parameters),
        total=_pairwise_total,
        batches=PAIRWISE_BATCHES,
        scale=_sums_of_distances,
        delicate=DELICATE,
    )


def _contrastive(**parameters):
    oracle = partial(oracles.contrastive, **parameters)

    def scale(y, x):
        """The largest squares that may have been subtracted from, or 1."""
        x = np.asarray(x, dtype=np.float64)
        margin = parameters.get("neg_margin", 1.0)
        return np.array([max(margin, *np.sum((x - row) ** 2, axis=1)) for row in x]) + margin**2

    return Case(
        function=partial(losses.contrastive, **parameters),
        oracle=oracle,
        loss=partial(losses.ContrastiveLoss, reduction="sum", **parameters),
        total=_weighted_sum,
        batches=CONTRASTIVE_BATCHES,
        scale=scale,
        delicate=DELICATE,
    )


def _supcon(**parameters):
    oracle = partial(oracles.supcon, **parameters)
    return Case(
        function=partial(losses.supcon, **parameters),
        oracle=oracle,
        loss=partial(losses.SupConLoss, reduction="sum", **parameters),
        total=_weighted_sum,
        batches=SUPCON_BATCHES,
        # Cosines are rounded, and divided by the temperature.
        scale=lambda y, x: np.full(len(x), 4 / parameters.get("temperature", 0.1)),
        delicate=DELICATE,
    )


# --- overlap: truth and predictions of one shape ---

SHAPE = (3, 4, 5, 2)
TRUTH = rng.integers(0, 2, SHAPE)
PROBABILITY = rng.uniform(0.01, 0.99, SHAPE).astype(np.float32)
ZEROS, ONES = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)

OVERLAP_BATCHES = {
    "random": (TRUTH, PROBABILITY),
    "truth of float32": (TRUTH.astype(np.float32), PROBABILITY),
    "truth of bool": (TRUTH == 1, PROBABILITY),
    "truth of uint8": (TRUTH.astype(np.uint8), PROBABILITY),
    "soft labels": (rng.uniform(0, 1, SHAPE).astype(np.float32), PROBABILITY),
    "empty truth": (ZEROS, PROBABILITY),
    "empty prediction": (TRUTH, ZEROS),
    "both empty": (ZEROS, ZEROS),
    "both full": (ONES, ONES),
    "saturated": (TRUTH, (rng.uniform(0, 1, SHAPE) > 0.5).astype(np.float32)),
    "ties with the threshold": (TRUTH, np.where(PROBABILITY > 0.6, np.float32(0.3), PROBABILITY)),
    "shape [B]": (TRUTH[:, 0, 0, 0], PROBABILITY[:, 0, 0, 0]),
    "shape [B, N]": (TRUTH[:, 0, :, 0], PROBABILITY[:, 0, :, 0]),
    "batch of 0": (TRUTH[:0], PROBABILITY[:0]),
    "batch of 1": (TRUTH[:1], PROBABILITY[:1]),
    "batch of 2": (TRUTH[:2], PROBABILITY[:2]),
}


def _dice(smooth, thresh):
    parameters = {"smooth": smooth, "thresh": thresh}
    oracle = partial(oracles.dice_coef, **parameters)

    def total(oracle, y, x, weights):
        """The definition of weights: a sample of weight n counts as n samples."""
        return -oracle(np.repeat(y, weights, axis=0), np.repeat(x, weights, axis=0))

    def tangent(oracle, x):
        """Straight-through: the soft formula, at the hard values."""
        return (oracle, x) if thresh is None else (partial(oracles.dice_coef, smooth=smooth), x > np.float32(thresh))

    return Case(
        function=partial(losses.dice_coef, **parameters),
        oracle=oracle,
        loss=partial(losses.dice_loss, **parameters),
        total=total,
        batches=OVERLAP_BATCHES,
        scale=lambda y, x: 1.0,
        tangent=tangent,
    )


# --- overlap, per sample: truth and predictions by `mode` ---

SMALL = (3, 4, 3)  # of one class, or with a last axis of three
CLASSES = rng.integers(0, 3, (3, 5))
SOFT = rng.uniform(0.02, 0.98, SMALL).astype(np.float32)
LOGITS = (2 * rng.normal(size=SMALL)).astype(np.float32)
HARD = rng.integers(0, 2, SMALL)
PARTS = rng.dirichlet(np.ones(3), (3, 5)).astype(np.float32)  # [B, N, C], classes that exclude each other
EMPTY, FULL = np.zeros(SMALL, np.float32), np.ones(SMALL, np.float32)
FIRST_EMPTY = (np.arange(3) > 0)[:, None, None] * HARD

BINARY = {
    "random": (HARD, SOFT),
    "truth of bool": (HARD == 1, SOFT),
    "soft labels": (SOFT[::-1].copy(), SOFT),
    "empty truth": (EMPTY, SOFT),
    "one empty truth": (FIRST_EMPTY, SOFT),
    "full truth": (FULL, SOFT),
    "empty prediction": (HARD, EMPTY),
    "both empty": (EMPTY, EMPTY),
    "both full": (FULL, FULL),
    "saturated": (HARD, (SOFT > 0.5).astype(np.float32)),
    "shape [B]": (HARD[:, 0, 0], SOFT[:, 0, 0]),
    "batch of 0": (HARD[:0], SOFT[:0]),
    "batch of 1": (HARD[:1], SOFT[:1]),
}
# Where a loss has no derivative, or central differences step over the end of the range.
EDGES = {"both empty", "both full", "empty prediction", "saturated"}
ONE_HOT = np.eye(3, dtype=np.int64)[CLASSES]
MULTICLASS = {
    "random": (CLASSES, PARTS),
    "one-hot": (ONE_HOT, PARTS),
    "labels [B, ..., 1]": (CLASSES[..., None].astype(np.uint8), PARTS),
    "absent classes": (np.where(np.arange(3)[:, None] > 0, CLASSES, 1), PARTS),
    "batch of 0": (CLASSES[:0], PARTS[:0]),
}
IGNORED = {name: batch for name, batch in MULTICLASS.items() if name != "one-hot"}
LABELS = {name: BINARY[name] for name in ("random", "soft labels", "one empty truth", "empty truth", "batch of 1")}
LINES = rng.uniform(0.05, 0.95, (2, 3, 4)).astype(np.float32)  # no two alike, so minima have a derivative
TUBES = {"random": (LINES[::-1].copy(), LINES)}
TUBES_3D = {
    "random": (np.moveaxis(LINES, 0, 2)[None, ..., None], np.moveaxis(LINES[::-1], 0, 2)[None, ..., None].copy())
}


def _logits(batches):
    return {name: (y, np.log(np.clip(x, 1e-3, 1 - 1e-3) * np.float32(1.5))) for name, (y, x) in batches.items()}


def _channels_first(batches):
    return {
        name: (np.moveaxis(y, -1, 1) if y.ndim == x.ndim else y, np.moveaxis(x, -1, 1).copy())
        for name, (y, x) in batches.items()
    }


def _overlap(function, loss, batches, but=(), **parameters):
    oracle = partial(getattr(oracles, function.__name__), **parameters)
    whole = parameters.get("batch", False)

    def tangent(oracle, x):
        """Straight-through: the soft formula, at the hard values."""
        thresh = parameters.get("thresh")
        return (oracle, x) if thresh is None else (partial(oracle, thresh=None), x > np.float32(thresh))

    return Case(
        function=partial(function, **parameters),
        oracle=oracle,
        loss=partial(loss, reduction="sum", **parameters),
        total=(lambda oracle, y, x, weights: oracle(y, x, mask=weights)) if whole else _weighted_sum,
        batches={key: batch for key, batch in batches.items() if key not in but},
        scale=lambda y, x: max(1.0, np.max(oracle(y, x), initial=0.0)),  # logarithms are rounded as they are large
        tangent=tangent,
    )


def _combined(name=None, dtype=None, **options):
    parts = [losses.DiceLoss(dtype=dtype, **options), losses.FocalLoss(dtype=dtype, **options)]
    return losses.CombinedLoss(parts, [1.0, 0.5], name=name, dtype=dtype)


WEIGHTS = (0.5, 2.0, 1.0)
SINGLE = {name: batch for name, batch in MULTICLASS.items() if name in ("random", "one-hot", "absent classes")}

# The name tells the loss and its parameters. A new loss is a line here.
CASES = {
    "pairwise_user_loss": _pairwise(),
    "pairwise_user_loss margin=1.5": _pairwise(margin=1.5),
    "contrastive pos_margin=1 neg_margin=2.5": _contrastive(pos_margin=1.0, neg_margin=2.5),
    "supcon": _supcon(),
    "dice_loss": _dice(smooth=1e-5, thresh=None),
    "dice_loss smooth=1": _dice(smooth=1.0, thresh=None),
    "dice_loss thresh=0.5": _dice(smooth=1e-5, thresh=0.5),
    "dice_loss smooth=1 thresh=0.3": _dice(smooth=1.0, thresh=0.3),
    "dice": _overlap(losses.dice, losses.DiceLoss, BINARY),
    "dice squared": _overlap(
        losses.dice, losses.DiceLoss, BINARY, squared=True, smooth=(1.0, 2.0), empty="worst", label_smoothing=0.1
    ),
    "dice soft_label": _overlap(losses.dice, losses.DiceLoss, BINARY, {"soft labels"}, soft_label=True),
    "dice inferred": _overlap(losses.dice, losses.DiceLoss, {"random": MULTICLASS["random"]}),
    "dice thresh": _overlap(
        losses.dice, losses.DiceLoss, BINARY, thresh=0.5, batch=True, average="micro", empty="perfect"
    ),
    "dice multiclass": _overlap(
        losses.dice,
        losses.DiceLoss,
        _logits(IGNORED),
        mode="multiclass",
        from_logits=True,
        class_weight=WEIGHTS,
        ignore_index=1,
    ),
    "dice one-hot ignored": _overlap(
        losses.dice, losses.DiceLoss, {"random": MULTICLASS["one-hot"]}, mode="multiclass", ignore_index=2
    ),
    "dice channels_first": _overlap(
        losses.dice,
        losses.DiceLoss,
        _channels_first(MULTICLASS),
        mode="multiclass",
        data_format="channels_first",
        include_background=False,
        average="micro",
        class_weight=WEIGHTS,
        empty="formula",
    ),
    "dice multilabel": _overlap(
        losses.dice,
        losses.DiceLoss,
        LABELS,
        mode="multilabel",
        classes=(2, 0),
        class_weight=WEIGHTS,
        batch=True,
        empty="skip",
    ),
    "jaccard": _overlap(losses.jaccard, losses.JaccardLoss, BINARY),
    "tversky": _overlap(
        losses.tversky,
        losses.TverskyLoss,
        LABELS,
        alpha=0.3,
        beta=0.7,
        mode="multilabel",
        empty="skip",
        class_weight=WEIGHTS,
    ),
    "focal_tversky": _overlap(losses.focal_tversky, losses.FocalTverskyLoss, BINARY, EDGES, gamma=0.75),
    "focal_tversky gamma=2": _overlap(
        losses.focal_tversky, losses.FocalTverskyLoss, BINARY, gamma=2.0, empty="formula", smooth=1.0
    ),
    "log_cosh_dice": _overlap(losses.log_cosh_dice, losses.LogCoshDiceLoss, BINARY),
    "generalized_dice": _overlap(losses.generalized_dice, losses.GeneralizedDiceLoss, MULTICLASS, mode="multiclass"),
    "generalized_dice simple": _overlap(
        losses.generalized_dice,
        losses.GeneralizedDiceLoss,
        LABELS,
        mode="multilabel",
        weighting="simple",
        batch=True,
        class_weight=WEIGHTS,
        squared=True,
    ),
    "generalized_dice skip": _overlap(
        losses.generalized_dice,
        losses.GeneralizedDiceLoss,
        MULTICLASS,
        mode="multiclass",
        weighting="uniform",
        empty="skip",
    ),
    "mcc": _overlap(losses.mcc, losses.MCCLoss, BINARY, smooth=1.0),
    "mcc smooth=0": _overlap(
        losses.mcc, losses.MCCLoss, LABELS, {"soft labels"}, mode="multilabel", smooth=0, average="micro"
    ),
    "cross_entropy": _overlap(
        losses.cross_entropy,
        losses.CrossEntropyLoss,
        _logits(IGNORED),
        mode="multiclass",
        from_logits=True,
        class_weight=WEIGHTS,
        ignore_index=0,
    ),
    "cross_entropy multilabel": _overlap(
        losses.cross_entropy,
        losses.CrossEntropyLoss,
        LABELS,
        mode="multilabel",
        class_weight=WEIGHTS,
        label_smoothing=0.2,
        batch=True,
    ),
    "cross_entropy pos_weight": _overlap(
        losses.cross_entropy,
        losses.CrossEntropyLoss,
        {"random": BINARY["random"], "soft labels": BINARY["soft labels"]},
        mode="multilabel",
        pos_weight=(3.0, 1.0, 0.5),
    ),
    "cross_entropy weighted_mean": _overlap(
        losses.cross_entropy,
        losses.CrossEntropyLoss,
        {"random": MULTICLASS["random"]},
        class_weight=WEIGHTS,
        weighted_mean=True,
        label_smoothing=0.2,
        batch=True,
    ),
    "focal alpha": _overlap(losses.focal, losses.FocalLoss, {"random": BINARY["random"]}, gamma=2.0, alpha=0.25),
    "focal": _overlap(losses.focal, losses.FocalLoss, BINARY, EDGES, gamma=2.0),
    "focal gamma=0.5": _overlap(
        losses.focal, losses.FocalLoss, {"random": (HARD, LOGITS)}, gamma=0.5, from_logits=True
    ),
    "dice_cross_entropy": _overlap(
        losses.dice_cross_entropy,
        losses.DiceCrossEntropyLoss,
        MULTICLASS,
        mode="multiclass",
        pixel_weight=0.5,
        label_smoothing=0.1,
    ),
    "dice_focal": _overlap(losses.dice_focal, losses.DiceFocalLoss, BINARY, EDGES, dice_weight=2.0),
    "combined": replace(
        _overlap(losses.dice_focal, losses.DiceFocalLoss, BINARY, EDGES, pixel_weight=0.5),
        loss=partial(_combined, reduction="sum"),
    ),
    "unified_focal": _overlap(losses.unified_focal, losses.UnifiedFocalLoss, BINARY, EDGES),
    "unified_focal symmetric": _overlap(
        losses.unified_focal,
        losses.UnifiedFocalLoss,
        MULTICLASS,
        mode="multiclass",
        symmetric=True,
        gamma=0.3,
        delta=0.7,
        weight=0.4,
        batch=True,
    ),
    "lovasz": _overlap(losses.lovasz, losses.LovaszLoss, BINARY, {"soft labels", *EDGES}),
    "lovasz hinge": _overlap(
        losses.lovasz, losses.LovaszLoss, {"random": (HARD, LOGITS)}, mode="multilabel", hinge=True, from_logits=True
    ),
    "lovasz multiclass": _overlap(
        losses.lovasz, losses.LovaszLoss, SINGLE, mode="multiclass", batch=True, empty="skip", class_weight=WEIGHTS
    ),
    "cldice": _overlap(losses.cldice, losses.ClDiceLoss, TUBES, iterations=2),
    "cldice 3-D": _overlap(losses.cldice, losses.ClDiceLoss, TUBES_3D, iterations=1, mode="multilabel", smooth=1.0),
}
# Of so few rows, the pairwise losses compute all pairs at once; with `tile`, in the loop that is for many.
CASES |= {
    f"{name} tile=4": replace(case, function=partial(case.function, tile=4), loss=partial(case.loss, tile=4))
    for name, case in CASES.items()
    if "labels [B, 2]" in case.batches
}
