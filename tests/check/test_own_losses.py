"""Every public loss, held to its oracle by multiloss's own checker, on every backend."""

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
# To compile is what takes long, up to a minute a loss: the default tier does it to the factory's loss alone.
COMPILING = ("compiled", "unknown batch size", "mask", "save", "fit", "retracing")
# Two machines' worth of work on two cores: compiling takes some losses half a minute each.
TIMEOUT = 300


def inputs_of(name):
    if name in ("cldice",):
        return f"{OWN}:small_images"
    return "labels-embeddings" if name in ("pairwise_user_loss", "contrastive", "supcon") else "masks"


@pytest.mark.parametrize("loss", ["PairwiseUserLoss", "DiceLoss"])
def test_a_loss_of_each_room_holds_without_compiling(loss, workers):
    checks = [check for check in CHECKS if check not in COMPILING]
    target, oracle = f"multiloss:{loss}", f"multiloss.oracles:{LOSSES[loss]}"
    inputs = inputs_of(LOSSES[loss])
    report = assert_consistent(target, oracle, inputs=inputs, checks=checks, timeout=TIMEOUT, workers=workers)
    assert len(report.cells) == 3 * len(checks)


@pytest.mark.full
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_holds(loss, workers):
    target, oracle = f"multiloss:{loss}", f"multiloss.oracles:{LOSSES[loss]}"
    assert_consistent(target, oracle, inputs=inputs_of(LOSSES[loss]), timeout=TIMEOUT, workers=workers)


@pytest.mark.full
@pytest.mark.parametrize("name", LOSSES.values())
def test_functions_hold(name, workers):
    """Without compiling: what is compiled is the same as of the class."""
    target, oracle = f"multiloss.losses:{name}", f"multiloss.oracles:{name}"
    checks = [check for check in CHECKS if check not in COMPILING]
    assert_consistent(target, oracle, inputs=inputs_of(name), checks=checks, timeout=TIMEOUT, workers=workers)


@pytest.mark.full
def test_sums_of_losses_hold(workers):
    target = "multiloss:CombinedLoss([DiceLoss(reduction='sum'), FocalLoss(reduction='sum')], [1.0, 0.5])"
    assert_consistent(target, f"{OWN}:combined", inputs="masks", timeout=TIMEOUT, workers=workers)


def test_the_factory_holds(workers):
    assert_consistent(
        "multiloss:dice_loss(smooth=1.0)", f"{OWN}:dice_loss", inputs="masks", timeout=TIMEOUT, workers=workers
    )


@pytest.mark.full
def test_with_a_threshold_only_the_gradient_is_another(workers):
    """A straight-through gradient is not that of the values, on purpose: known to fail, and strictly so."""
    target, known = "multiloss:dice_loss(smooth=1.0, thresh=0.5)", OWN.with_name("known_straight_through.txt")
    report = assert_consistent(
        target, f"{OWN}:hard_dice_loss", inputs="masks", known=known, timeout=TIMEOUT, workers=workers
    )
    assert {cell.check for cell in report.cells if cell.status == "known"} == {"gradient"}
