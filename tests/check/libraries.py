"""The losses of Keras and of libraries for it, as `multiloss check` takes them, and the faults that it finds there.

Shared by `docs/found.py`, which writes the page, and `tests/libraries`, which holds that nothing else is found.
NumPy only.
"""

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

Cases = dict[str, tuple[Any, Any]]


class Loss(NamedTuple):
    """A loss to check: target, inputs and oracle as `multiloss check` takes them, and how many more cases to draw."""

    target: str
    inputs: str
    oracle: str | None = None
    search: int = 0


class Fault(NamedTuple):
    """A fault, examined without the checker.

    `losses` are patterns of `library/name`, `checks` the rows of the report in which it shows, the clearest first.
    """

    losses: tuple[str, ...]
    checks: tuple[str, ...]
    cause: str
    upstream: str = "no issue found"

    def explains(self, library: str, name: str, check: str) -> bool:
        """Return whether a failing check of a loss is this fault."""
        return self.concerns(library, name) and check in self.checks

    def concerns(self, library: str, name: str) -> bool:
        """Return whether the loss has this fault."""
        return any(fnmatchcase(f"{library}/{name}", pattern) for pattern in self.losses)


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _classes(seed: int, logits: bool) -> Cases:
    """Return images of 2 x 2 pixels and 3 classes: labels [B, H, W] and predictions [B, H, W, 3]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, (4, 2, 2)).astype(np.int32)
    y[:, 0, 0], y[:, 0, 1], y[:, 1, 0] = 0, 1, 2  # every class in every image
    x = rng.normal(size=(*y.shape, 3)).astype(np.float32)
    right, wrong = (20 * np.eye(3, dtype=np.float32)[(y + shift) % 3] for shift in (0, 1))
    many = rng.integers(0, 3, (1, 257, 257)).astype(np.int32)
    truths_and_scores = {
        "random": (y, x),
        "tied values": (y, 0 * x),
        "one class only": (0 * y, x),
        "a class absent": (y.clip(0, 1), x),
        "sure and right": (y, right),
        "sure and wrong": (y, wrong),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
        "many pixels": (many, rng.normal(size=(*many.shape, 3)).astype(np.float32)),
    }
    return {name: (y, scores if logits else _softmax(scores)) for name, (y, scores) in truths_and_scores.items()}


def classes(seed: int) -> Cases:
    """Return class indices [B, H, W, 1] and probabilities [B, H, W, 3]."""
    return {name: (y[..., None], x) for name, (y, x) in _classes(seed, False).items()}


def class_logits(seed: int) -> Cases:
    """Return class indices [B, H, W, 1] and logits [B, H, W, 3]."""
    return {name: (y[..., None], x) for name, (y, x) in _classes(seed, True).items()}


def one_hot(seed: int) -> Cases:
    """Return one-hot labels and probabilities, both [B, H, W, 3]."""
    return {name: (np.eye(3, dtype=np.float32)[y], x) for name, (y, x) in _classes(seed, False).items()}


def one_hot_logits(seed: int) -> Cases:
    """Return one-hot labels and logits, both [B, H, W, 3]."""
    return {name: (np.eye(3, dtype=np.float32)[y], x) for name, (y, x) in _classes(seed, True).items()}


def lines(seed: int) -> Cases:
    """Return binary masks [B, 5, 5, 1] of thin lines, and probabilities."""
    rng = np.random.default_rng(seed)
    y = np.zeros((3, 5, 5, 1), np.float32)
    y[0, 2], y[1, :, 1], y[2, 1:4, 1:4] = 1, 1, 1  # a row, a column and a square
    x = (1 / (1 + np.exp(1 - 2 * y - rng.normal(size=y.shape)))).astype(np.float32)
    return {
        "random": (y, x),
        "tied values": (y, x.round(1)),
        "empty masks": (0 * y, x),
        "full masks": (0 * y + 1, x),
        "sure and right": (y, y),
        "sure and wrong": (y, 1 - y),
        "empty, and predicted so": (0 * y, 0 * y),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def class_lines(seed: int) -> Cases:
    """Return class indices [B, 5, 5, 1] of thin lines, and probabilities [B, 5, 5, 2]."""
    return {
        name: (y.astype(np.int32), np.concatenate([1 - x, x], -1).astype(np.float32))
        for name, (y, x) in lines(seed).items()
    }


def one_hot_lines(seed: int) -> Cases:
    """Return one-hot labels of thin lines and probabilities, both [B, 5, 5, 2]."""
    return {name: (np.eye(2, dtype=np.float32)[y[..., 0]], x) for name, (y, x) in class_lines(seed).items()}


def ranking(seed: int) -> Cases:
    """Return relevances, where -1 means no item, and scores, both [B, 5]."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 4, (4, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    y[:, 0], y[:, 1] = 0, 3  # at least one pair in every list
    padded = y.copy()
    padded[:, 3:] = -1
    return {
        "random": (y, x),
        "tied scores": (y, 0 * x),
        "equal relevances": (0 * y + 1, x),
        "large equal relevances": (0 * y + 100, x),
        "padded lists": (padded, x),
        "no items": (0 * y - 1, x),
        "right order, far apart": (y, 30 * y),
        "wrong order, far apart": (y, -30 * y),
        "offset by 1e4": (y, x + 1e4),
        "many items": (rng.integers(0, 4, (1, 300)).astype(np.float32), rng.normal(size=(1, 300)).astype(np.float32)),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def masked_ranking(seed: int) -> Cases:
    """Return relevances and a mask of the items that count, as a dict, and scores, all [B, 5]."""
    rng = np.random.default_rng(seed + 1)
    (y, x), *_ = ranking(seed).values()
    some = rng.integers(0, 2, y.shape).astype(bool)
    some[:, :2] = True
    masks = {
        "random": some,
        "all items": np.ones_like(some),
        "no items": np.zeros_like(some),
        "one item": np.eye(*y.shape, dtype=bool),
        "empty lists among others": some & (np.arange(len(y)) % 2 == 0)[:, None],
    }
    cases: Cases = {name: ({"labels": y, "mask": mask}, x) for name, mask in masks.items()}
    cases["tied scores"] = ({"labels": y, "mask": some}, 0 * x)
    cases["batch of 2"] = ({"labels": y[:2], "mask": some[:2]}, x[:2])
    cases["batch of 1"] = ({"labels": y[:1], "mask": some[:1]}, x[:1])
    return cases


def boxes(seed: int) -> Cases:
    """Return boxes as corners, left, top, right and bottom, [B, 3, 4] each."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 5, (2, 4, 3, 2))
    y, near = np.concatenate([corners, corners + rng.uniform(1, 4, corners.shape)], -1).astype(np.float32)
    near = (0.8 * y + 0.2 * near).astype(np.float32)  # overlapping, none equal
    middle = (y[..., :2] + y[..., 2:]) / 2
    point = np.concatenate([middle, middle], -1)
    return {
        "random": (y, near),
        "equal boxes": (y, y),
        "apart": (y, near + 20),
        "touching": (y, y + np.stack([y[..., 2] - y[..., 0], 0 * y[..., 0]] * 2, -1)),
        "one inside the other": (y, (0.5 * y + 0.5 * point).astype(np.float32)),
        "predicted points": (y, point),
        "offset by 1e4": (y + 1e4, near + 1e4),
        "batch of 2": (y[:2], near[:2]),
        "batch of 1": (y[:1], near[:1]),
    }


def boxes_3d(seed: int) -> Cases:
    """Return boxes [B, 3, 7], with the heading last, and predictions [B, 3, 10] with two bins of headings."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0, 3, (4, 3, 7)).astype(np.float32), rng.normal(size=(4, 3, 10)).astype(np.float32)
    turned = y.copy()
    turned[..., 6] *= -4  # headings beyond a whole turn, in either direction
    return {
        "random": (y, x),
        "tied values": (y, 0 * x),
        "turned": (turned, x),
        "equal places": (y, np.concatenate([y[..., :3], x[..., 3:]], -1)),
        "values at +-1e4": (y, 1e4 * x),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def heat_maps(seed: int) -> Cases:
    """Return heat maps with a peak of 1 and values between 0 and 1 around it, and probabilities, [B, 2, 2, 2]."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0, 0.9, (2, 4, 2, 2, 2)).astype(np.float32)
    y[:, 0, 0] = 1
    peaks = (y == 1).astype(np.float32)
    return {
        "random": (y, x),
        "tied values": (y, 0 * x + 0.5),
        "no peak": (0 * y, x),
        "all peaks": (0 * y + 1, x),
        "sure and right": (y, peaks),
        "sure and wrong": (y, 1 - peaks),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def projections(seed: int) -> Cases:
    """Return two projections of the same images, [B, 4] each."""
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(2, 6, 4)).astype(np.float32)
    return {
        "random": (y, x),
        "equal projections": (y, y),
        "coincident rows": (y, x[[0, 0, 1, 1, 2, 2]]),
        "opposite": (y, -y),
        "values at 1e-4": (y, 1e-4 * x),
        "values at +-1e4": (y, 1e4 * x),
        "rows of zeros": (y, 0 * x),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def image_text(seed: int) -> Cases:
    """Return 1 for an image and its own text, -1 for all others, and logits, [B, B] each."""
    rng = np.random.default_rng(seed)
    y, x = (2 * np.eye(4) - 1).astype(np.float32), rng.normal(size=(4, 4)).astype(np.float32)
    return {
        "random": (y, x),
        "tied values": (y, 0 * x),
        "sure and right": (y, 1e4 * y),
        "sure and wrong": (y, -1e4 * y),
        "batch of 2": (y[:2, :2], x[:2, :2]),
        "batch of 1": (y[:1, :1], x[:1, :1]),
    }


def depths(seed: int) -> Cases:
    """Return depths, where 0 means that none was measured, and positive predictions, [B, 2, 2, 1] each."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0.5, 3, (2, 4, 2, 2, 1)).astype(np.float32)
    gaps = y * (np.arange(y.size).reshape(y.shape) % 3 > 0)
    cut = y.copy()
    cut[1::2] = 0
    return {
        "random": (y, x),
        "tied values": (y, 0 * x + 1),
        "equal to the truth": (y, y),
        "unmeasured pixels": (gaps, x),
        "unmeasured images": (cut, x),
        "twice the truth": (y, 2 * y),
        "predicted to be 0": (gaps, x * (gaps > 0)),
        "far": (1e4 * y, 1e4 * x),
        "batch of 2": (y[:2], x[:2]),
        "batch of 1": (y[:1], x[:1]),
    }


def ctc(seed: int) -> Cases:
    """Return label sequences that are shorter than the logit sequences and padded with 0."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(1, 4, (4, 3)).astype(np.int32), rng.normal(size=(4, 7, 4)).astype(np.float32)
    y[1, 1:] = y[2, 2:] = 0
    same = np.ones_like(y)
    return {"random": (y, x), "repeated labels": (same, x), "equal logits": (y, 0 * x), "sure": (y, 30 * x)}


# --- oracles, from the formulas in the losses' documentation ----------------------------------------------------------


def _areas(boxes: Any) -> Any:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _ious(y: Any, x: Any) -> tuple[Any, Any]:
    """Return the IoU of each pair of boxes, and their union's share of the smallest box around both."""
    inner = np.concatenate([np.maximum(y[..., :2], x[..., :2]), np.minimum(y[..., 2:], x[..., 2:])], -1)
    outer = np.concatenate([np.minimum(y[..., :2], x[..., :2]), np.maximum(y[..., 2:], x[..., 2:])], -1)
    common = np.where((inner[..., 2:] > inner[..., :2]).all(-1), _areas(inner), 0)
    union = _areas(y) + _areas(x) - common
    return common / union, union / _areas(outer)


def iou(y: Any, x: Any) -> Any:
    """Return 1 - the mean IoU of the pairs of boxes: a scalar, to compare also with values of another shape."""
    return 1 - _ious(y, x)[0].mean()


def giou(y: Any, x: Any) -> Any:
    """Return 1 - the mean generalized IoU of the pairs of boxes."""
    ious, shares = _ious(y, x)
    return 1 - (ious - (1 - shares)).mean()


def overlap(y: Any, p: Any, weight: float, smooth: float) -> Any:
    """Return 1 - a Tversky index whose two weights are equal, for each image and class: 0.5 is Dice, 1 is IoU."""
    axes = tuple(range(1, p.ndim - 1))
    both, either = (y * p).sum(axes), (y + p).sum(axes)
    return 1 - (both + smooth) / (both + weight * (either - 2 * both) + smooth)


def generalized_dice(y: Any, p: Any) -> Any:
    """Return 1 - the generalized Dice coefficient of each image: 0 where nothing is true or predicted."""
    axes = tuple(range(1, p.ndim - 1))
    both, true, predicted = (y * p).sum(axes), y.sum(axes), p.sum(axes)
    weights = np.where(true > 0, 1 / (true**2 + 1e-7), 0)
    share = 2 * (weights * both).sum(-1) / ((weights * (true + predicted)).sum(-1) + 1e-7)
    return 1 - np.where((true + predicted == 0).all(-1), 1, share)


def smooth_l1(y: Any, x: Any, cutoff: float) -> Any:
    """Return the mean of squares below the cutoff and absolute differences above it, which meet there."""
    off = np.abs(y - x)
    return np.where(off < cutoff, 0.5 * off**2 / cutoff, off - 0.5 * cutoff).mean(-1)


def focal(y: Any, p: Any, smoothing: float) -> Any:
    """Return the binary focal loss with smoothed labels, alpha 0.25 and gamma 2, summed over the last axis."""
    p = p.clip(1e-7, 1 - 1e-7)
    smooth = y * (1 - smoothing) + 0.5 * smoothing
    entropy = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p))
    right = smooth * p + (1 - smooth) * (1 - p)
    return (np.where(y == 1, 0.25, 0.75) * (1 - right) ** 2 * entropy).sum(-1)


def center_net(y: Any, x: Any) -> Any:
    """Return the loss of 3D boxes with two bins of headings and anchors of size (1, 2, 1)."""

    def absolute(a: Any, b: Any) -> Any:
        off = np.abs(a - b)
        return np.where(off < 1 / 9, 4.5 * off**2, off - 1 / 18).sum(-1)

    turned = np.mod(y[..., 6] + np.pi / 2, 2 * np.pi)
    bins = np.floor(turned / np.pi).astype(int)
    rest = (turned - bins * np.pi - np.pi / 2) / (np.pi / 2)
    logits, rests = x[..., 3:5], x[..., 5:7]
    own = np.take_along_axis(logits, bins[..., None], -1)[..., 0]
    entropy = np.logaddexp(logits[..., 0], logits[..., 1]) - own
    heading = entropy + absolute(np.take_along_axis(rests, bins[..., None], -1), rest[..., None])
    return absolute(y[..., :3], x[..., :3]) + heading + absolute(y[..., 3:6] / [1, 2, 1], x[..., 7:] + 1)


def list_mle(y: Any, x: Any) -> Any:
    """Return minus the logarithm of the probability of the order of the relevances, list by list."""
    labels, mask = (y["labels"], y["mask"] != 0) if isinstance(y, dict) else (y, np.ones(y.shape, bool))
    losses = []
    for relevances, scores, counts in zip(labels, x, mask & (labels >= 0), strict=True):
        scores = scores[counts][np.argsort(-relevances[counts], kind="stable")]
        losses.append(sum(np.logaddexp.reduce(scores[i:]) - scores[i] for i in range(len(scores))))
    return np.array(losses, np.float64)


def _medicai() -> dict[str, Loss]:
    kinds = {
        "Binary": ("num_classes=1", "masks", "lines"),
        "Categorical": ("num_classes=3", f"{_HERE}:one_hot", "one_hot_lines"),
        "Sparse": ("num_classes=3", f"{_HERE}:classes", "class_lines"),
    }
    losses = {}
    for kind, (count, inputs, thin) in kinds.items():
        for formula in ("Dice", "DiceCE", "GeneralizedDice", "IoU", "Tversky"):
            name = f"{kind}{formula}Loss"
            losses[name] = Loss(f"medicai.losses:{name}(from_logits=False, {count})", inputs)
        # Few iterations, since its images are small; and the gradient of the skeleton, which is not taken by default.
        name, two = f"{kind}CenterlineDiceLoss", count.replace("3", "2")
        target = f"medicai.losses:{name}(from_logits=False, {two}, iters=2, memory_efficient_skeleton=False)"
        losses[name] = Loss(target, f"{_HERE}:{thin}")
    for formula, weight, smooth in (("Dice", 0.5, 5e-8), ("IoU", 1, 1e-7), ("Tversky", 0.5, 1e-7)):
        name = f"Binary{formula}Loss"
        losses[name] = losses[name]._replace(oracle=f"{_HERE}:overlap(weight={weight}, smooth={smooth})")
    name = "BinaryGeneralizedDiceLoss"
    losses[name] = losses[name]._replace(oracle=f"{_HERE}:generalized_dice")
    for kind, count, inputs in (
        ("Binary", 1, "masks"),
        ("Categorical", 3, f"{_HERE}:one_hot_logits"),
        ("Sparse", 3, f"{_HERE}:class_logits"),
    ):
        name = f"{kind}DiceCELoss"
        losses[f"{name}, logits"] = Loss(f"medicai.losses:{name}(from_logits=True, num_classes={count})", inputs)
    return losses


_HERE = "tests/check/libraries.py"
_CV, _HUB, _RS = "keras_cv.losses", "keras_hub.src.models", "keras_rs.losses"
# library -> name -> loss. keras-hub has no module of losses: these two are what its tasks compile with by default.
LIBRARIES: dict[str, dict[str, Loss]] = {
    "keras": {
        # An empty mask, predicted to be empty, is right.
        "Dice": Loss(
            "keras.losses:Dice",
            "masks",
            "multiloss.oracles:dice(mode='binary', batch=True, average='micro', smooth=1e-7)",
            50,
        )
    }
    | {
        name: Loss(f"keras.losses:{name}", family, search=0 if name == "CTC" else 50)
        for name, family in {
            "BinaryCrossentropy": "masks",
            "BinaryFocalCrossentropy": "masks",
            "CTC": f"{_HERE}:ctc",
            "CategoricalCrossentropy": "one-hot",
            "CategoricalFocalCrossentropy": "one-hot",
            "CategoricalGeneralizedCrossEntropy": "integer-labels",
            "CategoricalHinge": "one-hot",
            "Circle": "labels-embeddings",
            "CosineSimilarity": "regression",
            "Hinge": "sign-labels",
            "Huber": "regression",
            "KLDivergence": "one-hot",
            "LogCosh": "regression",
            "MeanAbsoluteError": "regression",
            "MeanAbsolutePercentageError": "regression",
            "MeanSquaredError": "regression",
            "MeanSquaredLogarithmicError": "positive",
            "Poisson": "positive",
            "SparseCategoricalCrossentropy": "integer-labels",
            "SquaredHinge": "sign-labels",
            "Tversky": "masks",
        }.items()
    },
    "keras-cv": {
        "BinaryPenaltyReducedFocalCrossEntropy": Loss(
            f"{_CV}:BinaryPenaltyReducedFocalCrossEntropy", f"{_HERE}:heat_maps"
        ),
        "CIoULoss": Loss(f"{_CV}:CIoULoss('xyxy')", f"{_HERE}:boxes"),
        "CenterNetBoxLoss": Loss(
            f"{_CV}:CenterNetBoxLoss(num_heading_bins=2, anchor_size=[1.0, 2.0, 1.0])",
            f"{_HERE}:boxes_3d",
            f"{_HERE}:center_net",
        ),
        "FocalLoss": Loss(f"{_CV}:FocalLoss", "masks"),
        "FocalLoss, logits": Loss(f"{_CV}:FocalLoss(from_logits=True)", "masks"),
        "FocalLoss, smoothed labels": Loss(
            f"{_CV}:FocalLoss(label_smoothing=0.1)", "masks", f"{_HERE}:focal(smoothing=0.1)"
        ),
        "GIoULoss": Loss(f"{_CV}:GIoULoss('xyxy')", f"{_HERE}:boxes", f"{_HERE}:giou"),
        "IoULoss": Loss(f"{_CV}:IoULoss('xyxy')", f"{_HERE}:boxes"),
        "IoULoss, linear": Loss(f"{_CV}:IoULoss('xyxy', mode='linear')", f"{_HERE}:boxes", f"{_HERE}:iou"),
        "SimCLRLoss": Loss(f"{_CV}:SimCLRLoss(temperature=0.5)", f"{_HERE}:projections"),
        "SmoothL1Loss": Loss(f"{_CV}:SmoothL1Loss", "regression"),
        "SmoothL1Loss, cutoff": Loss(
            f"{_CV}:SmoothL1Loss(l1_cutoff=0.5)", "regression", f"{_HERE}:smooth_l1(cutoff=0.5)"
        ),
    },
    "keras-hub": {
        "DepthAnythingLoss": Loss(f"{_HUB}.depth_anything.depth_anything_loss:DepthAnythingLoss", f"{_HERE}:depths"),
        "SigLIPLoss": Loss(f"{_HUB}.siglip.siglip_loss:SigLIPLoss", f"{_HERE}:image_text"),
    },
    "keras-rs": {
        f"{name}{form}": Loss(
            f"{_RS}:{name}", f"{_HERE}:{inputs}", f"{_HERE}:list_mle" if name == "ListMLELoss" else None
        )
        for form, inputs in {"": "ranking", ", masked": "masked_ranking"}.items()
        for name in (
            "ListMLELoss",
            "PairwiseHingeLoss",
            "PairwiseLogisticLoss",
            "PairwiseMeanSquaredError",
            "PairwiseSoftZeroOneLoss",
        )
    },
    "medicai": _medicai(),
}

_WEIGHTS = ("sample_weight", "mask")
# What was found. A fault of Keras that a library's loss shows is listed once, with Keras's.
FAULTS = [
    # --- Keras
    Fault(
        (
            "keras/BinaryCrossentropy",
            "keras/BinaryFocalCrossentropy",
            "keras-cv/BinaryPenalty*",
            "keras-cv/CIoULoss",
            "keras-cv/CenterNetBoxLoss",
            "keras-cv/FocalLoss*",
            "keras-rs/Pairwise*",
            "medicai/CategoricalDiceLoss",
            "medicai/CategoricalCenterlineDiceLoss",
            "medicai/CategoricalIoULoss",
            "medicai/CategoricalTverskyLoss",
            "medicai/SparseDiceLoss",
            "medicai/SparseCenterlineDiceLoss",
            "medicai/SparseIoULoss",
            "medicai/SparseTverskyLoss",
        ),
        _WEIGHTS,
        "The loss gives several values a row, and Keras multiplies values `[B, N]` with weights `[B]` as they are, not "
        "as `[B, 1]`. That raises, or, where B = N, weights columns in place of rows without a word: with B = 2, the "
        "weights [1, 0] take the left half of both images in place of the first image.",
        "keras-team/keras#23235 (merged in July 2026, not in 3.15.1) is about weights of a higher rank",
    ),
    Fault(
        ("keras/Huber", "keras/CosineSimilarity", "keras/SparseCategoricalCrossentropy"),
        ("config", "save"),
        "`get_config` leaves out `delta` or `axis`, which return to their defaults: for an error of 5, "
        "`Huber(delta=3.0)` is 10.5, but 4.5 when made from its own config.",
        "keras-team/keras#23286 (merged in July 2026, not in 3.15.1)",
    ),
    Fault(
        ("keras/BinaryCrossentropy", "keras/BinaryFocalCrossentropy"),
        ("float16", "bfloat16"),
        "With dtype float16 or bfloat16, probabilities are clipped at 1 - 1e-7, which rounds to 1: at a saturated, "
        "correct pixel the gradient or the loss is NaN.",
        "keras-team/keras#377, closed in 2015, is the same with another epsilon in float32",
    ),
    Fault(
        ("keras/CategoricalGeneralizedCrossEntropy",),
        ("finite", "gradient", "search"),
        "For q < 1, the derivative of p ** q at p = 0 is infinite and not clipped: the gradient is -inf, and NaN in "
        "the rest of the row.",
    ),
    Fault(
        ("keras/CategoricalGeneralizedCrossEntropy",),
        ("rank",),
        "Labels `[B, 1]` broadcast against `[B]`: 3 rows give 9 values.",
    ),
    Fault(
        ("keras/CategoricalHinge",),
        ("empty_batch",),
        "`ops.max` of an empty tensor raises on TensorFlow and torch; the other losses of Keras accept an empty batch.",
    ),
    Fault(
        ("keras/Circle",),
        ("large_labels",),
        "Labels are cast to float32, where 2^24 and 2^24 + 1 are equal, so that other pairs are positive.",
    ),
    Fault(
        ("keras/CTC", "keras/Hinge", "keras/SquaredHinge", "keras-cv/CenterNetBoxLoss"),
        ("retracing",),
        "`lax.scan`, `ops.cond` or `ops.vectorized_map` gets a new function at every call. Outside of a compiled "
        "function, JAX (for the last TensorFlow) compiles it each time.",
    ),
    Fault(
        ("keras/Dice",),
        ("value", "gradient", "empty_batch", "search"),
        "An empty mask that is predicted as empty has a loss of 1: epsilon is in the denominator only.",
    ),
    Fault(
        ("keras/Dice", "keras/Tversky"),
        _WEIGHTS,
        "The value is a scalar for the batch, which weights can only scale: weights [1, 0] and [0, 1] give the same.",
        "keras-team/keras#19637, closed by the parameter `axis`, whose default remains",
    ),
    Fault(
        ("keras/Dice", "keras/Tversky"),
        ("float16",),
        "Sums of more than 65504 pixels overflow in float16.",
    ),
    Fault(
        ("keras/KLDivergence",),
        ("float16",),
        "Probabilities are clipped at 1e-7, which float16 cannot represent precisely: infinite gradients on "
        "TensorFlow, NaN on JAX, and on torch an infinite value where a prediction is saturated and wrong.",
    ),
    Fault(
        ("keras/CosineSimilarity",),
        ("gradient", "search"),
        "At rows of zeros the gradient is NaN on JAX and torch, and 0 on TensorFlow.",
        "keras-team/keras#23075, mended by #23093 (merged in July 2026, not in 3.15.1)",
    ),
    Fault(
        ("keras/SparseCategoricalCrossentropy",),
        ("gradient", "search"),
        "TensorFlow clips probabilities at 1e-7 before normalizing them, JAX and torch afterwards: where a wrong class "
        "has the probability 0, its gradient is 0 on TensorFlow and 1 on JAX and torch.",
    ),
    # --- keras-cv
    Fault(
        ("keras-cv/GIoULoss", "keras-cv/IoULoss*"),
        ("value", "gradient", "finite", "batch_size", "sample_weight", "mask", "reduction", "unknown_batch"),
        "Of `[B, N, N]` IoUs of all pairs of boxes, `ops.diagonal` is taken over the first two axes: over images "
        "against boxes. Boxes `[B, N, 4]` that equal the truth have a loss of 0.65 in place of 0, and N values in "
        "place of B. Only boxes `[N, 4]` give what the documentation says.",
    ),
    Fault(
        ("keras-cv/IoULoss",),
        ("finite", "gradient", "float16", "bfloat16"),
        "The default mode is -log(IoU): boxes that do not overlap have an infinite loss and NaN gradients.",
    ),
    Fault(
        ("keras-cv/CIoULoss",),
        ("config", "save"),
        "`get_config` leaves out the required `bounding_box_format`: a model with this loss cannot be loaded.",
    ),
    Fault(
        ("keras-cv/CenterNetBoxLoss",),
        ("value", "gradient"),
        "`tf.math.floormod` became `ops.floor(ops.mod(...))`: true headings are rounded down to whole radians.",
        "keras-team/keras-cv#2432 (merged in 2024, after 0.9.0, the last release)",
    ),
    Fault(
        ("keras-cv/SmoothL1Loss, cutoff",),
        ("value", "gradient"),
        "The cutoff moves the border between squares and absolute differences, but not their formulas, which meet at "
        "1 only: with 0.5, an error of 0.4999 costs 0.125, and one of 0.5001 costs 0.0001.",
        "keras-team/keras-cv#920, closed as stale in 2025",
    ),
    Fault(
        ("keras-cv/SmoothL1Loss*",),
        ("rank",),
        "Labels `[B]` broadcast against predictions `[B, 1]`: values are means over B * B differences.",
    ),
    Fault(
        ("keras-cv/FocalLoss, smoothed labels",),
        ("value", "gradient"),
        "`alpha` is chosen where a label equals 1, after smoothing, when none does: positives get 1 - alpha as well.",
        "keras-team/keras-cv#672, closed as stale; keras-team/keras-cv#680 and #1086 would mend it",
    ),
    Fault(
        ("keras-cv/FocalLoss, logits",),
        ("value", "gradient"),
        "The cross-entropy is that of `ops.sigmoid(logits)`. On TensorFlow, Keras finds the logits behind the sigmoid "
        "and is exact. On JAX and torch it clips probabilities at 1e-7: a wrong pixel with a logit of 20 costs 15.0 on "
        "TensorFlow, and 11.96 elsewhere, where its gradient is 0.",
    ),
    # --- keras-hub
    Fault(
        ("keras-hub/DepthAnythingLoss",),
        ("gradient", "finite", "fit"),
        "Pixels without a depth are set to 0 before the logarithm and left out by `where` after it: 0 * inf is NaN in "
        "their gradient, and so in every weight. Where an image has no depth, or is predicted exactly, the square "
        "root's derivative at 0 makes the whole image NaN.",
    ),
    Fault(
        ("keras-hub/DepthAnythingLoss",),
        ("config", "save"),
        "The config holds the function `silog`, which is not registered: a model with this loss cannot be loaded.",
    ),
    # --- keras-rs
    Fault(
        ("keras-rs/ListMLELoss",),
        ("value", "gradient"),
        "1e-10 is added to the sum of exponentials before its logarithm, so that items 23 below the best cost what "
        "they should not: a list in the right order with distances of 30 has a loss of 111 in place of 0.",
        "no issue found; keras-team/keras-rs#130 has the discussion of the constant",
    ),
    Fault(
        ("keras-rs/ListMLELoss",),
        ("value", "gradient", "float16", "bfloat16"),
        "On torch, ties are ordered by subtracting 1e-6 for each place. Rounding loses it for relevances above 16 in "
        "float32, and always in float16 and bfloat16: equal items are ordered otherwise than on TensorFlow and JAX.",
        "keras-team/keras-rs#205 (open) replaces it",
    ),
    Fault(
        ("keras-rs/PairwiseLogisticLoss*",),
        ("gradient", "fit"),
        "log(1 + exp(-z)) is computed as relu(-z) + log(1 + exp(-abs(z))), two functions with a kink at z = 0. "
        "There, TensorFlow and torch take 0 for both slopes, and the gradient is 0 in place of -1/2: scores that are "
        "equal at first, as after zero initialization, never part. On JAX the gradient is right.",
    ),
    # --- medicai
    Fault(
        ("medicai/BinaryDiceCELoss, logits",),
        ("value",),
        "The probability of a logit is clipped at 1 - 1e-7, which float32 rounds to 1 - 1.2e-7: the cross-entropy of a "
        "sure and wrong pixel is 15.94 in place of 16.12. That of logits themselves needs no clipping.",
    ),
    Fault(
        ("medicai/*",),
        ("config", "save"),
        "No class has a `get_config`, and all have required arguments: a model with one of these losses cannot be "
        "loaded.",
    ),
    Fault(
        ("medicai/*DiceCELoss*",),
        ("sample_weight", "mask", "reduction", "fit"),
        "The loss reduces to a scalar itself and tells Keras that nothing is to be reduced. Weights [1, 0, 0, 0] then "
        "give the vector [l, 0, 0, 0], where l is the loss of the whole batch.",
    ),
    Fault(
        ("medicai/BinaryDiceLoss", "medicai/BinaryIoULoss", "medicai/BinaryTverskyLoss"),
        ("value", "gradient"),
        "Predictions are clipped at 1e-7, which is also the smoothing: an empty mask of 64 x 64 pixels, predicted as "
        "empty, has a loss of 0.9998 in place of 0. Where a prediction is 0 or 1, the gradient is 0.",
    ),
    Fault(
        ("medicai/BinaryGeneralizedDiceLoss",),
        ("value", "gradient"),
        "An image without truth is to count as perfect where nothing is predicted. Since predictions are clipped at "
        "1e-7 first, that never holds: its loss is 1 and its gradient 0, whatever is predicted.",
    ),
]
