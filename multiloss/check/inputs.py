"""The batches that a loss is checked on: difficult inputs, by family. NumPy only."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multiloss.check.targets import TargetError, resolve


class Case(NamedTuple):
    """One batch. `plain` marks the case for checks that need only one batch."""

    name: str
    y: np.ndarray
    x: np.ndarray
    plain: bool = False

    @property
    def large(self) -> bool:
        """Whether it has more than 65504 elements, the largest float16: too many for central differences."""
        return self.x.size > 65504


FAMILIES = ("labels-embeddings", "masks", "one-hot", "integer-labels", "regression")
_BY_NAME = (
    (r"sparse", "integer-labels"),
    (r"triplet|contrastive|pairwise|supcon|metric_?learning|embedding", "labels-embeddings"),
    (r"dice|tversky|jaccard|iou|lovasz|mcc|binary|bce|(?<!categorical)focal(?!.*categorical)", "masks"),
    (r"categorical|onehot|one_hot|hinge.*categorical", "one-hot"),
)
_ROWS = 6
_LARGE = 65_600


def guess(target: str) -> str:
    """Return the family that the target's name suggests, "regression" by default."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", target.partition(":")[2].partition("(")[0]).lower()
    order = _BY_NAME if "categorical" not in name else (_BY_NAME[0], _BY_NAME[3])
    return next((family for pattern, family in order if re.search(pattern, name)), "regression")


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
        "regression": _regression,
    }
    cases = make[name](rng, logits)
    random = cases[0]
    y, x = (np.concatenate([part[: _ROWS // 2]] * 2) for part in (random.y, random.x))
    cases.append(Case("duplicated rows", y, x))
    cases += [Case(f"batch of {rows}", random.y[:rows], random.x[:rows]) for rows in (2, 1, 0)]
    return [Case(case.name, case.y, case.x.astype(np.float32), case is random) for case in cases]


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
    return [Case(c.name, np.eye(5, dtype=np.float32)[c.y], c.x) for c in _integer_labels(rng, logits)]


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
    ]


def load(text: str, seed: int) -> list[Case]:
    """Return a user's cases, from an `.npz` file or a function.

    Args:
        text: path of an `.npz` with arrays `y_true` and `y_pred`, or `NAME_y_true` and `NAME_y_pred` for each case; or
            a target (see `targets.resolve`): a function of a seed that returns `{name: (y_true, y_pred)}`.
        seed: passed to the function.

    Raises:
        TargetError: if the file does not exist, or if the cases have another form.
    """
    if text.endswith(".npz"):
        if not Path(text).is_file():
            raise TargetError(f"no such file: {text}")
        try:
            with open(text, "rb") as opened, np.load(opened) as file:  # NumPy does not close a broken file
                arrays = dict(file)
        except Exception as error:  # from zip, zlib or pickle, or for an .npy file
            raise TargetError(f"{text} is not a readable .npz file: {type(error).__name__}: {error}") from error
        ends = [name.removesuffix("y_true") for name in arrays if name.endswith("y_true")]
        given = {end.rstrip("_") or "batch": (arrays[f"{end}y_true"], arrays.get(f"{end}y_pred")) for end in ends}
    else:
        make = resolve(text)
        if not callable(make):
            raise TargetError(f"`inputs` must be a family, an .npz file or a function. Received: {text!r}")
        try:
            given = make(seed)
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise TargetError(
                f"{text} must take a seed and return cases. With {seed} it raises {type(error).__name__}: {error}"
            ) from error
    if not isinstance(given, dict) or not given:
        raise TargetError(f"{text} must hold `y_true` and `y_pred`, or cases by name. Received: {type(given).__name__}")
    cases: list[Case] = []
    for name, pair in given.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or any(part is None for part in pair):
            raise TargetError(f"case {name!r} of {text} must be a pair (y_true, y_pred)")
        try:
            y, x = (np.asarray(part) for part in pair)
        except ValueError as error:
            raise TargetError(f"case {name!r} of {text} must consist of arrays: {error}") from error
        if x.dtype.kind != "f" or not x.ndim or y.shape[:1] != x.shape[:1] or y.dtype.kind not in "biuf":
            raise TargetError(
                f"case {name!r} of {text} must have float `y_pred` and numeric `y_true` with as many rows. "
                f"Received: {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            )
        cases.append(Case(str(name), y, x.astype(np.float32), not cases))
    return cases
