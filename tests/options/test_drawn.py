"""Every public loss with drawn parameters: the checker has nothing to say against any of them.

Each class is checked with 20 sets of parameters, half of them against its oracle, on the backend of the environment,
which is torch: it compiles nothing for float64, and takes a third of the time of the others. By hand, from the root:
`DRAWN=200 KERAS_BACKEND=jax pytest -m "full or not full" tests/options/test_drawn.py -k Jaccard`.
"""

import functools
import inspect
import os
import zlib

import keras
import numpy as np
import pytest
from test_own_losses import LOSSES

from multiloss import losses
from multiloss.check import Workers, check_loss, families
from multiloss.check.backends import BACKEND

SETS = int(os.environ.get("DRAWN", "20"))
CHECKS = ("value", "finite", "gradient", "batch_size", "sample_weight", "reduction", "config")
WHOLE = families.batches
CLASSES = 5  # of the families "one-hot" and "integer-labels"
PUBLIC = [
    name
    for name, thing in vars(losses).items()
    if inspect.isclass(thing) and issubclass(thing, keras.losses.Loss) and name not in ("OverlapLoss", "PairwiseLoss")
]


def rarely(rng, drawn, default):
    return drawn if rng.random() < 0.2 else default


def log(rng, low, high):
    return float(10 ** rng.uniform(low, high))


def smooth(rng):
    one = rarely(rng, 0.0, log(rng, -7, 0))
    return rarely(rng, (one, log(rng, -7, 0)), one)


# How each option is drawn. `across_replicas`, `name`, `dtype`, `validate` and `data_format` do not change these values.
DRAWS = {
    "mode": lambda rng: rng.choice([None, "binary", "multiclass", "multilabel"]),
    "from_logits": lambda rng: bool(rng.random() < 0.4),
    "batch": lambda rng: rarely(rng, True, False),
    "average": lambda rng: [None, "macro", "micro"][rng.integers(3)],
    "classes": lambda rng: rarely(rng, tuple(map(int, rng.permutation(CLASSES)[: rng.integers(1, CLASSES)])), None),
    "include_background": lambda rng: rarely(rng, False, True),
    "class_weight": lambda rng: rarely(rng, tuple(map(float, rng.uniform(0, 2, CLASSES).round(2))), None),
    "ignore_index": lambda rng: rarely(rng, int(rng.integers(-1, CLASSES)), None),
    "smooth": smooth,
    "squared": lambda rng: bool(rng.random() < 0.3),
    "soft_label": lambda rng: rarely(rng, True, False),
    "empty": lambda rng: ["penalize", "formula", "perfect", "worst", "skip"][rng.integers(5)],
    "label_smoothing": lambda rng: rarely(rng, float(rng.uniform(0, 0.5)), 0.0),
    "thresh": lambda rng: rarely(rng, float(rng.uniform(0.1, 0.9)), None),
    "reduction": lambda rng: ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", None][rng.integers(5)],
    # of the losses
    "alpha": lambda rng: float(rng.uniform(0, 1)),
    "beta": lambda rng: float(rng.uniform(0, 1)),
    "delta": lambda rng: float(rng.uniform(0, 1)),
    "weight": lambda rng: float(rng.uniform(0, 1)),
    "gamma": lambda rng: [0.0, 0.5, 0.75, 1.0, 2.0, float(rng.uniform(0, 5))][rng.integers(6)],
    "symmetric": lambda rng: bool(rng.random() < 0.5),
    "pos_weight": lambda rng: rarely(rng, float(rng.uniform(0, 5)), None),
    "weighted_mean": lambda rng: rarely(rng, True, False),
    "dice_weight": lambda rng: float(rng.uniform(0, 2)),
    "pixel_weight": lambda rng: float(rng.uniform(0, 2)),
    "weighting": lambda rng: ["square", "simple", "uniform"][rng.integers(3)],
    "hinge": lambda rng: bool(rng.random() < 0.3),
    "iterations": lambda rng: int(rng.integers(0, 4)),
    "margin": lambda rng: rarely(rng, None, log(rng, -1, 1)),
    "pairs": lambda rng: ["sum", "mean"][rng.integers(2)],
    "pos_margin": lambda rng: rarely(rng, 0.0, log(rng, -1, 0.5)),
    "neg_margin": lambda rng: log(rng, -1, 1),
    "temperature": lambda rng: log(rng, -1.5, 1),
    "tile": lambda rng: rarely(rng, 4, None),
    "ignore_label": lambda rng: rarely(rng, int(rng.integers(3)), None),
}
NOT_DRAWN = {"across_replicas", "name", "dtype", "validate", "data_format"}
NOT_OF_ORACLES = ("reduction", "tile")
# Their oracles keep probabilities from 0 and 1, while of logits, the losses are exact.
OF_PIXELS = ("CrossEntropyLoss", "FocalLoss", "DiceCrossEntropyLoss", "DiceFocalLoss", "UnifiedFocalLoss")


def drawn(name, rng):
    """Arguments that the class takes, and inputs that fit them; drawn again where the constructor refuses them."""
    while True:
        options = {
            option: DRAWS[option](rng)
            for option in inspect.signature(getattr(losses, name)).parameters
            if option not in NOT_DRAWN
        }
        inputs = inputs_for(name, options, rng)
        try:
            getattr(losses, name)(**options)
        except (TypeError, ValueError):
            continue
        return options, inputs


def inputs_for(name, options, rng):
    """A family of inputs for the mode. Options that need other inputs take their defaults."""
    if name in ("PairwiseUserLoss", "ContrastiveLoss", "SupConLoss"):
        return "labels-embeddings"
    if name == "ClDiceLoss":  # it takes images
        options["mode"] = "binary"
    mode = options.get("mode")
    labels = "integer-labels" if mode == "multiclass" and rng.random() < 0.5 else "one-hot"
    inputs = labels if mode in ("multiclass", "multilabel") else "masks"
    without = set() if inputs == "integer-labels" else {"ignore_index"}  # other labels are floats
    without |= {"classes", "include_background", "class_weight"} if inputs == "masks" else set()
    without |= {"alpha", "pos_weight"} if mode == "multiclass" and name in ("FocalLoss", "CrossEntropyLoss") else set()
    without |= set() if mode == "multiclass" else {"weighted_mean"}
    parameters = inspect.signature(getattr(losses, name)).parameters
    options.update({option: parameters[option].default for option in without & options.keys()})
    return inputs


def text_of(name, options):
    return f"{name}({', '.join(f'{option}={value!r}' for option, value in options.items())})"


PARTS = ("DiceLoss", "JaccardLoss", "MCCLoss", "FocalLoss", "CrossEntropyLoss")


def smoothed(name, rng):
    """Arguments of a part of a sum, whose values are one a sample."""
    names = inspect.signature(getattr(losses, name)).parameters
    options = {option: DRAWS[option](rng) for option in ("empty", "thresh", "gamma") if option in names}
    return options | ({"smooth": log(rng, -7, 0)} if "smooth" in names else {})


def set_of(name, number):
    """The target, the oracle and the inputs of one set."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    if name == "CombinedLoss":
        common = {"mode": "binary", "from_logits": False, "reduction": DRAWS["reduction"](rng)}
        parts = [text_of(part, {**smoothed(part, rng), **common}) for part in rng.permutation(PARTS)[:2]]
        return f"multiloss.losses:CombinedLoss([{', '.join(parts)}], [1.0, 0.5])", None, "masks"
    options, inputs = drawn(name, rng)
    target, oracle = f"multiloss.losses:{text_of(name, options)}", None
    if number % 2 and not (options.get("from_logits") and name in OF_PIXELS):
        known = {option: value for option, value in options.items() if option not in NOT_OF_ORACLES}
        oracle = f"multiloss.oracles:{text_of(LOSSES.get(name, 'dice_loss'), known)}"
    return target, oracle, inputs


def few_rows(inputs, seed, logits=False, **_):
    """The small cases of a family, with two rows: numerical derivatives take a time that grows with their square.

    `test_own_losses.py` checks large images, for which the oracle of `lovasz` takes a minute.
    """
    cases = [case for case in families.family(inputs, seed, logits) if not case.large]
    return cases if inputs == "labels-embeddings" else [case.take(slice(2)) for case in cases]


def few_cases(number, *arguments, **options):
    """The first case and two others, of clDice, whose values in float64, of many pools, take ten times as long.

    None has ties: of equal neighbours each pool takes one, and what comes of it need not be the slope of the whole.
    """
    first, *others = (case for case in few_rows(*arguments, **options) if case.name != "tied values")
    return [first, *(others[(2 * number + k) % len(others)] for k in range(2))]


def batches_for(name, number, target):
    """Whole families with a threshold: no derivatives are compared, and in few rows nothing may reach it."""
    if "thresh=" in target and "thresh=None" not in target:
        return WHOLE
    return functools.partial(few_cases, number) if name == "ClDiceLoss" else few_rows


@pytest.fixture(scope="module")
def workers():
    with Workers() as kept:
        yield kept


@pytest.mark.full
@pytest.mark.parametrize("name", PUBLIC)
def test_drawn_parameters_hold(name, workers, monkeypatch):
    for number in range(SETS):
        target, oracle, inputs = set_of(name, number)
        monkeypatch.setattr(families, "batches", batches_for(name, number, target))
        report = check_loss(target, oracle, inputs=inputs, backends=[BACKEND], checks=CHECKS, workers=workers)
        assert report.ok, f"set {number}: {report.text()}"
        assert {cell.status for cell in report.cells if cell.check in ("value", "gradient")} == {"pass"}


def test_each_option_is_drawn():
    options = {option for name in PUBLIC for option in inspect.signature(getattr(losses, name)).parameters}
    assert options - NOT_DRAWN - {"losses", "weights"} == set(DRAWS)
