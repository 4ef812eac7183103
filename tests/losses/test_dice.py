"""Dice beyond the table: worked by hand, half precision at size, a threshold that trains, weights, masks, messages."""

import re

import keras
import numpy as np
import pytest
from frameworks import FAST, MODES, QUICK, evaluate, full_on, modes
from keras import ops

from multiloss import DiceLoss, dice_coef, dice_loss
from multiloss._base import keras_mask

TRUTH = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
SOFT = np.array([[0.9, 0.4, 0.2, 0.1], [0.6, 0.7, 0.3, 0.0]], np.float32)


def as_numpy(x):
    return ops.convert_to_numpy(x)


@full_on("jax")
def test_worked_by_hand():
    # Soft: overlap 0.9 + 0.4 + 0.6, sizes 3 and 3.2. Hard: overlap 2 of 3 true and 3 predicted.
    assert float(dice_coef(TRUTH, SOFT, smooth=0)) == pytest.approx(2 * 1.9 / 6.2, rel=1e-6)  # float32
    assert float(dice_coef(TRUTH, SOFT, smooth=1)) == pytest.approx((2 * 1.9 + 1) / 7.2, rel=1e-6)
    assert float(dice_coef(TRUTH, SOFT, smooth=0, thresh=0.5)) == pytest.approx(2 * 2 / 6, rel=1e-6)
    assert float(dice_loss(smooth=1, thresh=0.5)(TRUTH, SOFT)) == pytest.approx(-5 / 7, rel=1e-6)


def test_small_coefficients_are_not_lost():
    for y, x, expected in (([[1, 0]], [[1e-9, 1.0]], 1e-9), ([[1, 0]], [[0.0, 0.25]], 0)):
        x = np.array(x, np.float32)
        assert float(dice_coef(y, x, smooth=0)) == pytest.approx(expected, rel=1e-6)  # float32
        assert float(dice_loss(smooth=0)(y, x)) == pytest.approx(-expected, rel=1e-6)


def test_keras_dice_is_one_minus_this_where_nothing_is_empty():
    theirs = float(keras.losses.Dice()(TRUTH.astype("float32"), SOFT))
    # Keras adds its epsilon, 1e-7, to the denominator only.
    assert theirs == pytest.approx(1 - float(dice_coef(TRUTH, SOFT, smooth=0)), abs=1e-6)


def test_order_of_pixels_does_not_matter():
    order = np.random.default_rng(0).permutation(TRUTH.size)
    shuffled = dice_coef(TRUTH.ravel()[order], SOFT.ravel()[order])
    assert float(shuffled) == pytest.approx(float(dice_coef(TRUTH, SOFT)), rel=1e-6)  # float32 in another order


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.full), "float32"])
@pytest.mark.parametrize("thresh", [None, 0.5])
def test_a_perfect_mask_of_a_million_pixels_is_perfect(dtype, thresh):
    ones = np.ones((1, 1024, 1024, 1), np.float32)
    prediction = ops.convert_to_tensor(ones, dtype=dtype)
    for truth in (ones.astype(bool), ones.astype(np.uint8), ones, prediction):
        assert float(dice_coef(truth, prediction, thresh=thresh)) == 1
        assert float(dice_loss(thresh=thresh)(truth, prediction)) == -1
        assert float(dice_loss(thresh=thresh, dtype=dtype)(truth, prediction)) == -1


def test_empty_masks_are_a_match_without_smooth_too():
    zeros = np.zeros((2, 3), np.float32)
    for smooth in (0, 1e-50, 1e-5, 1):  # 1e-50 is 0 in float32
        value, gradient = evaluate(QUICK, lambda t, p, smooth=smooth: dice_coef(t, p, smooth=smooth), zeros, zeros)
        assert value == 1
        assert np.isfinite(gradient).all()
        assert (smooth > 1e-45) or (gradient == 0).all()


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST))
@pytest.mark.parametrize("thresh", [None, 0.5])
def test_a_nan_shows_in_the_loss(mode, thresh):
    bad = SOFT.copy()
    bad[0, 0] = np.nan
    value, _ = evaluate(mode, lambda t, p: dice_coef(t, p, smooth=0, thresh=thresh), TRUTH, bad)
    assert np.isnan(value)


@full_on("tensorflow")
@pytest.mark.parametrize("thresh", [0.5, *(pytest.param(thresh, marks=pytest.mark.full) for thresh in (0.3, 0.9))])
def test_a_thresholded_dice_trains(thresh):
    """A plain `y_pred > thresh` has no gradient, and nothing moves. Straight-through, it learns a disc."""
    row, column = np.mgrid[-1:1:16j, -1:1:16j]
    x = np.stack([row, column, row**2, column**2], axis=-1).astype(np.float32)[None]
    y = (row**2 + column**2 < 0.5)[None, ..., None]
    dense = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input(x.shape[1:]), dense])
    dense.set_weights([np.zeros((4, 1)), np.zeros(1)])
    model.compile(loss=dice_loss(smooth=1.0, thresh=thresh), optimizer=keras.optimizers.SGD(5.0))
    losses = model.fit(x, y, epochs=100, verbose=0).history["loss"]
    assert losses[0] > -0.52  # all or nothing is predicted
    assert min(losses) < -0.85
    hard = model.predict(x, verbose=0) > thresh
    assert float(dice_coef(y, hard)) == pytest.approx(-model.evaluate(x, y, verbose=0), abs=1e-2)  # smooth differs


def test_each_call_returns_an_object_of_its_own_named_after_its_parameters():
    names = {
        dice_loss().name,
        dice_loss(smooth=1).name,
        dice_loss(thresh=0.5).name,
        dice_loss(smooth=1, thresh=0.25).name,
    }
    assert names == {
        "dice_loss_smooth_1e-05",
        "dice_loss_smooth_1",
        "dice_loss_smooth_1e-05_thresh_0.5",
        "dice_loss_smooth_1_thresh_0.25",
    }
    assert dice_loss() is not dice_loss()
    assert dice_loss(name="mine").name == "mine"


@full_on("jax")
def test_as_a_metric(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear")])
    model.compile(loss=dice_loss(), metrics=[dice_coef, dice_loss(thresh=0.5)])
    loss, coef, hard = model.evaluate(SOFT, TRUTH, verbose=0)
    assert loss == pytest.approx(-coef, rel=1e-6)  # float32
    assert hard == pytest.approx(-2 / 3, abs=1e-5)  # smooth
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").evaluate(SOFT, TRUTH, verbose=0)
    assert again == [loss, coef, hard]


# --- weights and masks -----------------------------------------------------------------------------------------------


def test_weights_pick_samples():
    loss = dice_loss()
    for sample in (0, 1):
        weights = np.eye(2)[sample]
        alone = float(loss(TRUTH[[sample]], SOFT[[sample]]))
        assert float(loss(TRUTH, SOFT, weights)) == pytest.approx(alone, rel=1e-6)  # float32
        assert float(loss(TRUTH, SOFT, weights[:, None])) == pytest.approx(alone, rel=1e-6)


@full_on("jax")
def test_weights_of_zero_hide_pixels():
    loss = dice_loss(smooth=1)
    hidden = np.ones((2, 4))
    hidden[:, 3] = 0
    expected = float(loss(TRUTH[:, :3], SOFT[:, :3]))
    assert float(loss(TRUTH, SOFT, hidden)) == pytest.approx(expected, rel=1e-6)  # float32
    images = [np.repeat(array[:, :, None, None], 2, axis=3) for array in (TRUTH, SOFT)]
    expected = float(loss(*(image[:, :3] for image in images)))
    for shape in [(2, 4), (2, 4, 1), (2, 4, 1, 1)]:
        assert float(loss(*images, hidden.reshape(shape))) == pytest.approx(expected, rel=1e-6)


def test_a_scalar_weight_weighs_every_pixel():
    assert float(dice_loss(smooth=0)(TRUTH, SOFT, 2.0)) == pytest.approx(
        float(dice_loss(smooth=0)(TRUTH, SOFT)), rel=1e-6
    )


def test_masked_steps_of_a_sequence_count_for_nothing():
    steps = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])  # 0 is padding
    embedding = keras.layers.Embedding(5, 1, mask_zero=True)
    model = keras.Sequential([keras.Input((4,)), embedding, keras.layers.Activation("sigmoid")])
    model.compile(loss=dice_loss())
    kept = steps.ravel() > 0
    prediction = model.predict(steps, verbose=0)
    expected = -float(dice_coef(TRUTH.ravel()[kept], prediction.ravel()[kept]))
    assert model.evaluate(steps, TRUTH[..., None], verbose=0) == pytest.approx(expected, rel=1e-6)  # float32


def test_predictions_without_a_mask_have_none():
    assert keras_mask(ops.convert_to_tensor(SOFT)) is None


# Of ours where the sizes are known; of TensorFlow, or of XLA, where they are not.
MISMATCH = re.compile("batch size|must be equal|concatenate|Concat")

# --- messages --------------------------------------------------------------------------------------------------------

SMOOTH = "`smooth` must be a finite number >= 0. Received: "
THRESH = "`thresh` must be None or a number in (0, 1). Received: "
PARAMETERS = [
    ({"smooth": -1e-5}, ValueError, f"{SMOOTH}-1e-05"),
    ({"smooth": np.inf}, ValueError, f"{SMOOTH}inf"),
    ({"smooth": np.nan}, ValueError, f"{SMOOTH}nan"),
    ({"smooth": 10**400}, ValueError, f"{SMOOTH}{10**400}"),
    ({"smooth": None}, TypeError, f"{SMOOTH}None of type NoneType"),
    ({"smooth": "1"}, TypeError, f"{SMOOTH}'1' of type str"),
    ({"thresh": 0}, ValueError, f"{THRESH}0"),
    ({"thresh": 1.0}, ValueError, f"{THRESH}1.0"),
    ({"thresh": -0.5}, ValueError, f"{THRESH}-0.5"),
    ({"thresh": np.nan}, ValueError, f"{THRESH}nan"),
    ({"thresh": "0.5"}, TypeError, f"{THRESH}'0.5' of type str"),
    ({"thresh": True}, TypeError, f"{THRESH}True of type bool"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), PARAMETERS)
def test_errors_of_parameters(parameters, error, message):
    for function in (dice_loss, lambda **kwargs: dice_coef(TRUTH, SOFT, **kwargs)):
        with pytest.raises(error) as caught:
            function(**parameters)
        assert str(caught.value) == message


BOTH = "`y_true` and `y_pred` must have the same"
INPUTS = [
    (TRUTH[:1], SOFT, ValueError, f"{BOTH} batch size. Received shapes: (1, 4) and (2, 4)"),
    (TRUTH[:, :1], SOFT, ValueError, f"{BOTH} shape. Received shapes: (2, 1) and (2, 4)"),
    (TRUTH, SOFT[..., None, None], ValueError, f"{BOTH} shape. Received shapes: (2, 4) and (2, 4, 1, 1)"),
    (TRUTH[0], SOFT, ValueError, f"{BOTH} shape. Received shapes: (4,) and (2, 4)"),
    (1, SOFT, ValueError, f"{BOTH} shape. Received shapes: () and (2, 4)"),
    (
        TRUTH,
        np.stack([SOFT] * 3, axis=-1),
        ValueError,
        f"{BOTH} shape. Received shapes: (2, 4) and (2, 4, 3). Class indices need `DiceLoss(mode='multiclass')`, "
        "or `DiceCoefficient(mode='multiclass')` as a metric",
    ),
    ([["a", "b"]], [[1.0, 0.0]], TypeError, "`y_true` must be an array of numbers. Received"),
    ([[1, 0]], [["a", "b"]], TypeError, "`y_pred` must be an array of numbers. Received"),
    (TRUTH, SOFT.astype(complex), TypeError, "`y_pred` must be an array of numbers. Received dtype: complex"),
]


@pytest.mark.parametrize(("truth", "prediction", "error", "message"), INPUTS)
def test_errors_of_inputs(truth, prediction, error, message):
    for function in (dice_coef, dice_loss()):
        with pytest.raises(error, match=re.escape(message)):
            function(truth, prediction)


@pytest.mark.parametrize("mode", modes(QUICK, of=[mode for mode in MODES if mode != "inductor"]))
def test_batch_sizes_that_differ_never_broadcast_known_or_not(mode):
    for thresh in (None, 0.5):
        with pytest.raises(Exception, match=MISMATCH):
            evaluate(mode, lambda t, p, thresh=thresh: dice_coef(t, p, thresh=thresh), TRUTH[:1], SOFT)


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (2, 3), (1, 4), (2, 4, 2)])
def test_errors_of_weights(shape):
    message = f"`sample_weight` must be a scalar or fit the leading axes of `y_pred`, (2, 4). Received shape: {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        dice_loss()(TRUTH, SOFT, np.ones(shape))


def test_a_floatx_other_than_float32_is_no_mask():
    """Where no mask is asked for, none is made of the dtype."""
    keras.config.set_floatx("float16")
    try:
        value = DiceLoss(smooth=0, reduction=None)(np.array([[1.0, 0.0]]), np.array([[0.75, 0.25]]))
    finally:
        keras.config.set_floatx("float32")
    assert value.shape == (1,)  # a mask of one number made it a number
    np.testing.assert_allclose(ops.convert_to_numpy(value), [0.25], rtol=1e-6)  # 1 - 1.5 / 2, raised to float32
