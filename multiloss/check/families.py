"""Difficult inputs by family, and which family the name of a loss suggests. NumPy only."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from multiloss.check import spec
from multiloss.check.inputs import Case, load, with_small_batches
from multiloss.check.targets import TargetError

FAMILIES = ("labels-embeddings", "masks", "one-hot", "integer-labels", "sign-labels", "positive", "regression")
PROBABILITIES = ("masks", "one-hot", "integer-labels")  # predictions are probabilities, or logits where asked for
# Class indices on both sides.
_INDICES = "y: int[B] in 0..1, x: int[B] in 0..1"
# In this order. What is not a family is a specification, see `spec`.
_BY_NAME = (
    (r"sparse|generalized_cross_?entropy", "integer-labels"),
    (r"categorical|one_?hot", "one-hot"),
    (r"(?<![a-z])ctc", "y: int[B, 3] in 1..3, x: logit[B, 7, 4]"),  # class 0 is the blank
    (
        r"(?<![a-z])rank|list_?(mle|net)|ndcg|pairwise_(hinge|logistic|mean_squared|soft_zero)",
        "y: int[B, 8] in 0..4, x: float[B, 8]",
    ),
    (
        r"triplet|contrastive|pairwise|supcon|metric_?learning|embedding|circle|n_?pairs?_|lifted|multi_?similarity",
        "labels-embeddings",
    ),
    (r"dice|tversky|jaccard|(?<![a-z])io_?u|lovasz|mcc|binary|bce|focal", "masks"),
    (r"kl_?d|divergence|jensen|cross_?entropy", "one-hot"),
    (r"hinge", "sign-labels"),
    (r"poisson|logarithmic|msle", "positive"),
    (r"(?<![a-z])gamma", "y: positive[B, 3], x: positive[B, 3]"),  # log of the truth: no zeros
)
# Of metrics, before the others.
_METRICS_BY_NAME = (
    (r"(?<!binary_)(?<!hot_)(?<!hot_mean_)(mean_io_?u|(?<!mean_)(?<![a-z])io_?u)", _INDICES),
    (r"confusion_?matrix|(?<![a-z])sparse", "integer-labels"),
    (r"(?<![a-z])(f1|f_?beta)", "y: onehot[B, 5], x: prob[B, 5]"),
    (r"without_positives|recall_at|(?<![a-z])map_at", "labels-embeddings"),
    (r"(?<![a-z])(auc|precision|recall|sensitivity|specificity|matthews|(true|false)_(posi|nega)tives)", "masks"),
)
_ROWS = 6
_LARGE = 65_600


def guess(target: str, metric: bool = False) -> str:
    """Return the family, or specification, that the target's name suggests: "regression" by default."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", target.partition(":")[2].partition("(")[0]).lower()
    known = (*(_METRICS_BY_NAME if metric else ()), *_BY_NAME)
    return next((inputs for pattern, inputs in known if re.search(pattern, name)), "regression")


def batches(inputs: str, seed: int, logits: bool = False, integers: bool = False) -> list[Case]:
    """Return the cases of a family, a specification, an `.npz` file, or the target of a function of a seed.

    `integers` allows predictions that are integers, which metrics may take.

    Raises:
        TargetError: if it is none of them, or does not fit its form.
    """
    if inputs in FAMILIES:
        return family(inputs, seed, logits)
    if spec.is_spec(inputs):
        return spec.cases(inputs, seed, integers)
    if inputs.endswith(".npz") or ":" in inputs:
        return load(inputs, seed, integers)
    raise TargetError(
        f"`inputs` must be one of {', '.join(FAMILIES)}, a specification such as 'y: int[B] in 0..2, x: prob[B, 3]', "
        f"an .npz file or a function. Received: {inputs!r}"
    )


def family(name: str, seed: int, logits: bool = False) -> list[Case]:
    """Return the cases of a family, the same for the same seed.

    Args:
        name: one of `FAMILIES`.
        seed: seed of the random numbers.
        logits: whether predictions of classes are logits instead of probabilities.
    """
    rng = np.random.default_rng(seed)
    make: dict[str, Callable[[Any, bool], list[Case]]] = {
        "labels-embeddings": _embeddings,
        "masks": _masks,
        "one-hot": _one_hot,
        "integer-labels": _integer_labels,
        "sign-labels": _sign_labels,
        "positive": _positive,
        "regression": _regression,
    }
    low, high = range_of(name, logits)
    return with_small_batches([case._replace(low=low, high=high) for case in make[name](rng, logits)], _ROWS)


def range_of(name: str, logits: bool) -> tuple[float, float]:
    """Return the range of the predictions of a family."""
    if name in PROBABILITIES and not logits:
        return 0.0, 1.0
    return 0.0 if name == "positive" else -np.inf, np.inf


def _embeddings(rng: Any, _: bool) -> list[Case]:
    y = np.array([0, 1, 0, 2, 1, 0], np.int32)
    x = rng.normal(size=(_ROWS, 4))
    coincident = x.copy()
    coincident[2], coincident[3] = coincident[0], coincident[1]  # one pair of the same label, one of different ones
    return [
        Case("random", y, x),
        Case("tied values", y, rng.integers(-1, 2, x.shape)),
        Case("coincident rows", y, coincident),
        Case("all labels the same", np.zeros_like(y), x),
        Case("all labels different", np.arange(_ROWS, dtype=np.int32), x),
        Case("offset by 1e4", y, x + 1e4),
        Case("values at +-1e4", y, x * 1e4),
        Case("many features", y[:2], rng.normal(size=(2, _LARGE))),
    ]


def _squash(x: Any, logits: bool) -> Any:
    return x if logits else 1 / (1 + np.exp(-x))


def _ends(truth: Any, logits: bool, right: bool) -> Any:
    """Return saturated predictions: probabilities of 0 and 1, or logits of +-1e4."""
    p = np.where((truth > 0) == right, 1.0, 0.0)
    return 1e4 * (2 * p - 1) if logits else p


def _masks(rng: Any, logits: bool) -> list[Case]:
    shape = (_ROWS, 2, 2, 1)  # small: central differences need two evaluations per entry
    y, x = rng.integers(0, 2, shape), _squash(rng.normal(size=shape), logits)
    y[:, 0, 0], y[:, 0, 1] = 0, 1
    many = rng.integers(0, 2, (1, 257, 256, 1))
    y, many = y.astype(np.float32), many.astype(np.float32)
    return [
        Case("random", y, x),
        Case("tied values", y, _squash(rng.integers(-1, 2, shape).astype(float), logits)),
        Case("empty masks", 0 * y, x),
        Case("full masks", 0 * y + 1, x),
        Case("sure and right", y, _ends(y, logits, True)),
        Case("sure and wrong", y, _ends(y, logits, False)),
        Case("empty, and predicted so", 0 * y, _ends(0 * y, logits, True)),
        Case("many pixels", many, _squash(rng.normal(size=many.shape), logits)),
        # Full masks: sums of random pixels are half as large, and do not overflow float16.
        Case("many full pixels", np.ones_like(many), _ends(np.ones_like(many), logits, True)),
    ]


def _one_hot(rng: Any, logits: bool) -> list[Case]:
    return [case._replace(y=np.eye(5, dtype=np.float32)[case.y]) for case in _integer_labels(rng, logits)]


def _integer_labels(rng: Any, logits: bool) -> list[Case]:
    def predictions(*shape: int) -> Any:
        x = rng.normal(size=(*shape, 5))
        return x if logits else np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    y, many = rng.permutation(np.arange(_ROWS) % 5).astype(np.int32), rng.integers(0, 5, (2, 7000)).astype(np.int32)
    return [
        Case("random", y, predictions(_ROWS)),
        Case("tied values", y, np.full((_ROWS, 5), 0.2)),
        Case("all labels the same", 0 * y, predictions(_ROWS)),
        Case("sure and right", y, _ends(np.eye(5)[y], logits, True)),
        Case("sure and wrong", y, _ends(np.eye(5)[(y + 1) % 5], logits, True)),
        Case("many rows", many, predictions(2, 7000)),
        Case("rank 3", y.reshape(2, 3), predictions(2, 3), optional=True),
    ]


def _sign_labels(rng: Any, _: bool) -> list[Case]:
    y, x = rng.permutation(np.arange(3 * _ROWS) % 2 * 2.0 - 1).reshape(_ROWS, 3), rng.normal(size=(_ROWS, 3))
    y, many = y.astype(np.float32), np.ones((2, _LARGE), np.float32)
    return [
        Case("random", y, x),
        Case("tied values", y, np.sign(x)),  # at the margin
        Case("all labels 1", 0 * y + 1, x),
        Case("all labels -1", 0 * y - 1, x),
        Case("sure and right", y, 1e4 * y),
        Case("sure and wrong", y, -1e4 * y),
        Case("many features", many, rng.normal(size=many.shape)),
    ]


def _positive(rng: Any, _: bool) -> list[Case]:
    y, x = rng.poisson(2, (_ROWS, 3)).astype(np.float32), np.exp(rng.normal(size=(_ROWS, 3)))
    many = rng.poisson(2, (2, _LARGE)).astype(np.float32)
    return [
        Case("random", y, x),
        Case("tied values", y, x.round() + 1),
        Case("targets of 0", 0 * y, x),
        Case("equal to the truth", y + 1, y + 1),
        Case("values at 1e-4", y * 1e-4, x * 1e-4),
        Case("values at 1e4", y * 1e4, x * 1e4),
        Case("many features", many, np.exp(rng.normal(size=many.shape))),
    ]


def _regression(rng: Any, _: bool) -> list[Case]:
    y, x = rng.normal(size=(2, _ROWS, 3)).astype(np.float32)
    many = rng.normal(size=(2, 2, _LARGE)).astype(np.float32)
    return [
        Case("random", y, x),
        Case("tied values", np.sign(y).round(), np.sign(x).round()),
        Case("equal to the truth", y, y),
        Case("positive", np.abs(y), np.abs(x)),
        Case("offset by 1e4", y + 1e4, x + 1e4),
        Case("values at +-1e4", y * 1e4, x * 1e4),
        Case("many features", *many),
        Case("rank 3", y.reshape(3, 2, 3), x.reshape(3, 2, 3), optional=True),
    ]
