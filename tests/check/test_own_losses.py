"""Every public loss, held to its oracle by multiloss's own checker, on every backend."""

import itertools
from pathlib import Path

import pytest
from cases import CASES

import multiloss
from multiloss.check import CHECKS, assert_consistent

OWN = Path(__file__).with_name("own.py")
# Loss -> the function whose oracle it is held to
LOSSES = {
    case.loss.func.__name__: case.function.func.__name__
    for case in CASES.values()
    if isinstance(case.loss.func, type) and case.loss.func is not multiloss.CombinedLoss
}
# To compile is what takes long, on torch most of all: all of it is done to a loss of each room, and to every other loss
# on one backend, of which neighbours in the table have different ones. `tests/losses` compiles each of them on all.
COMPILING = ("compiled", "unknown_batch", "mask", "save", "fit", "retracing")
EAGER = tuple(check for check in CHECKS if check not in COMPILING)
BACKENDS = ("tensorflow", "jax", "torch")
# Two machines' worth of work on two cores: compiling takes some losses half a minute each.
TIMEOUT = 300


def held(loss, workers, small=False, **options):
    """The report of a class, or of a function, and its oracle, on images of which none is large if `small`."""
    name = LOSSES.get(loss, loss)
    target = f"multiloss:{loss}" if loss in LOSSES else f"multiloss.losses:{loss}"
    inputs = "labels-embeddings" if name in ("pairwise_user_loss", "contrastive", "supcon") else "masks"
    # The oracles of these two take a minute for a large image.
    inputs = f"{OWN}:small_images" if name in ("cldice", "lovasz") or (small and inputs == "masks") else inputs
    oracle = f"multiloss.oracles:{name}"
    return assert_consistent(target, oracle, inputs=inputs, timeout=TIMEOUT, workers=workers, **options)


@pytest.mark.full
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_holds_without_compiling(loss, workers):
    report = held(loss, workers, checks=EAGER)
    assert len(report.cells) == len(BACKENDS) * len(EAGER)


@pytest.mark.full
@pytest.mark.parametrize(
    ("loss", "backends"),
    [
        (loss, BACKENDS if loss in ("SupConLoss", "DiceLoss") else (backend,))
        for loss, backend in zip(LOSSES, itertools.cycle(BACKENDS))
    ],
)
def test_every_loss_holds_compiled(loss, backends, workers):
    # What is compiled is small anyway, and the oracle of `lovasz` takes a minute for large images.
    report = held(loss, workers, small=True, checks=COMPILING, backends=backends)
    assert len(report.cells) == len(backends) * (len(COMPILING) + 1)  # and "runs"


@pytest.mark.full
@pytest.mark.parametrize("name", ["contrastive", "cross_entropy"])
def test_functions_hold(name, workers):
    """A function of each room: they are made of the classes."""
    held(name, workers, checks=EAGER)


@pytest.mark.full
def test_sums_of_losses_hold(workers):
    target = "multiloss:CombinedLoss([DiceLoss(reduction='sum'), FocalLoss(reduction='sum')], [1.0, 0.5])"
    assert_consistent(target, f"{OWN}:combined", inputs="masks", timeout=TIMEOUT, workers=workers)


@pytest.mark.full
def test_the_factory_holds(workers):
    assert_consistent(
        "multiloss:dice_loss(smooth=1.0)", f"{OWN}:dice_loss", inputs="masks", timeout=TIMEOUT, workers=workers
    )


@pytest.mark.full
def test_with_a_threshold_the_gradient_is_another_on_purpose(workers):
    """A straight-through gradient is not that of the values, which would be 0 nearly everywhere."""
    report = assert_consistent(
        "multiloss:dice_loss(smooth=1.0, thresh=0.5)",
        f"{OWN}:hard_dice_loss",
        inputs="masks",
        checks=["value", "finite", "gradient", "compiled"],
        timeout=TIMEOUT,
        workers=workers,
    )
    (detail,) = {cell.detail for cell in report.cells if cell.check == "gradient"}
    assert detail == "straight-through, by intent: finite and the same on all backends"
