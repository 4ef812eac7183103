"""The overlap family beyond the table: masks, identities, empty truth, precision, messages, and the metrics."""

import re

import keras
import numpy as np
import pytest
from cases import CASES, CLASSES, FIRST_EMPTY, HARD, LOGITS, ONE_HOT, PARTS, SOFT
from frameworks import MODES, evaluate, evaluate_unknown_sizes
from keras import ops

import multiloss
from multiloss import DiceCoefficient, DiceLoss, JaccardIndex, dice, jaccard, oracles, tversky

NAMES = [
    "cross_entropy",
    "dice",
    "dice_cross_entropy",
    "dice_focal",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "jaccard",
    "log_cosh_dice",
    "lovasz",
    "mcc",
    "tversky",
    "unified_focal",
]
EACH = pytest.mark.parametrize("name", NAMES)
# float32 rounds to 6e-8; losses of some dozen pixels are of order 1.
CLOSE = {"rtol": 0, "atol": 2e-6}


def values(name, y, x, **arguments):
    return ops.convert_to_numpy(getattr(multiloss, name)(y, x, **arguments))


# --- masks and weights -----------------------------------------------------------------------------------------------

rng = np.random.default_rng(4)
PIXELS = rng.uniform(0, 2, (3, 5)).astype(np.float32) * (rng.uniform(0, 1, (3, 5)) > 0.3)
MASKS = {
    "[B]": PIXELS[:, 0],
    "[B, N]": PIXELS,
    "[B, N] of bool": PIXELS > 0,
    "[B, N, 1]": PIXELS[..., None],
    "[B, N, C]": PIXELS[..., None] * np.array([1, 0, 2], np.float32),
}


@EACH
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("over", ["sample", "batch"])
def test_masks_weight_pixels(name, mask, over):
    options = {"mode": "multiclass", "mask": MASKS[mask], "over": over}
    expected = getattr(oracles, name)(CLASSES, PARTS, **options)
    np.testing.assert_allclose(values(name, CLASSES, PARTS, **options), expected, **CLOSE)


@EACH
def test_pixels_of_weight_0_are_as_good_as_absent(name):
    options = {"mode": "multiclass"}
    padded, more = np.pad(CLASSES, [[0, 0], [0, 4]], constant_values=1), np.pad(PARTS, [[0, 0], [0, 4], [0, 0]])
    mask = np.arange(9) < 5
    expected = values(name, CLASSES, PARTS, **options)
    for given in (np.tile(mask, (3, 1)), np.tile(mask, (3, 1)).astype(np.float16)):
        np.testing.assert_allclose(values(name, padded, more, mask=given, **options), expected, **CLOSE)
    marked = np.where(mask, padded, 255)
    np.testing.assert_allclose(values(name, marked, more, ignore_index=255, **options), expected, **CLOSE)
    wanted = np.where(mask[:, None], np.eye(3, dtype=int)[padded], [0, 0, 1])
    one_hot = values(name, wanted * mask[:, None], more, mask=np.tile(mask, (3, 1)), **options)
    np.testing.assert_allclose(one_hot, expected, **CLOSE)


def test_masks_of_pixels_and_classes_have_their_classes_where_predictions_have_them():
    options = {"mode": "multilabel", "data_format": "channels_first"}
    y, x, mask = (np.moveaxis(part, -1, 1) for part in (ONE_HOT, PARTS, MASKS["[B, N, C]"]))
    expected = oracles.dice(ONE_HOT, PARTS, mode="multilabel", mask=MASKS["[B, N, C]"])
    np.testing.assert_allclose(values("dice", y, x, mask=mask, **options), expected, **CLOSE)


def test_weights_with_axes_of_pixels_go_into_the_sums():
    expected = np.mean(oracles.dice(ONE_HOT, PARTS, mode="multiclass", mask=PIXELS))
    for weights in (PIXELS, PIXELS[..., None]):
        loss = float(DiceLoss(mode="multiclass")(ONE_HOT, PARTS, weights))
        assert loss == pytest.approx(expected, abs=CLOSE["atol"])


def test_a_keras_mask_of_pixels_goes_into_the_sums():
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.convert_to_tensor(PIXELS > 0)

    expected = oracles.dice(CLASSES, PARTS, mode="multiclass", mask=PIXELS > 0)
    weights = np.array([1.0, 0.0, 3.0], np.float32)
    loss = DiceLoss(mode="multiclass", reduction="sum")
    assert float(loss(CLASSES, Mask()(PARTS), weights)) == pytest.approx(weights @ expected, abs=5e-6)  # float32


@EACH
def test_weights_pick_samples(name):
    class_name = next(other for other in dir(multiloss) if other.lower() == name.replace("_", "") + "loss")
    loss = getattr(multiloss, class_name)(reduction="sum")
    first = float(loss(HARD, SOFT, np.array([1.0, 0.0, 0.0], np.float32)))
    assert first == pytest.approx(values(name, HARD, SOFT)[0], abs=CLOSE["atol"])
    # Far more than rounding, and less than samples of random pixels differ by.
    assert first != pytest.approx(float(loss(HARD, SOFT, np.array([0.0, 1.0, 0.0], np.float32))), abs=1e-4)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)])
@pytest.mark.parametrize("reduction", [None, "sum", "sum_over_batch_size"])
def test_weights_and_masks_of_rows_may_have_axes_of_1(shape, reduction):
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return 1 * inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.convert_to_tensor(np.reshape([True, False, True], shape))

    loss, weights = DiceLoss(reduction=reduction), np.array([1.0, 0.5, 2.0], np.float32)
    rows = oracles.dice(HARD, SOFT)
    expected = {None: rows * weights, "sum": rows @ weights, "sum_over_batch_size": rows @ weights / 3}[reduction]
    weighted = ops.convert_to_numpy(loss(HARD, SOFT, weights.reshape(shape)))
    np.testing.assert_allclose(weighted, expected, **CLOSE)
    assert weighted.shape == np.shape(expected)
    left = rows * [1, 0, 1]
    expected = {None: left, "sum": left.sum(), "sum_over_batch_size": left.sum() / 2}[reduction]  # as Keras divides
    masked = ops.convert_to_numpy(loss(HARD, Mask()(SOFT)))
    np.testing.assert_allclose(masked, expected, **CLOSE)
    assert masked.shape == np.shape(expected)
    both = float(DiceLoss(reduction="sum")(HARD, Mask()(SOFT), weights))
    np.testing.assert_allclose(both, left @ weights, **CLOSE)


# --- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"smooth": 1.0}, {"smooth": 2.0, "squared": True}, {"over": "all"}])
def test_dice_and_jaccard_are_cases_of_tversky(options):
    for y in (HARD, HARD * 0):
        d, j = (ops.convert_to_numpy(loss(y, SOFT, empty="formula", **options)) for loss in (dice, jaccard))
        # Some roundings of float32, 6e-8 each.
        np.testing.assert_allclose(ops.convert_to_numpy(tversky(y, SOFT, empty="formula", **options)), d, rtol=1e-6)
        same = tversky(y, SOFT, alpha=1, beta=1, empty="formula", **options)
        np.testing.assert_allclose(ops.convert_to_numpy(same), j, rtol=1e-6)
        np.testing.assert_allclose(1 - j, (1 - d) / (2 - (1 - d)), rtol=0, atol=1e-6)


@EACH
def test_the_order_of_pixels_and_of_classes_does_not_matter(name):
    weights = [0.5, 2.0, 1.0]
    options = {"mode": "multiclass"}
    before = values(name, CLASSES, PARTS, class_weight=weights, **options)
    order = rng.permutation(5)
    np.testing.assert_allclose(
        values(name, CLASSES[:, order], PARTS[:, order], class_weight=weights, **options), before, **CLOSE
    )
    classes = np.array([0, 2, 1])  # class 0, the background of the unified focal loss, in its place
    moved = values(name, classes[CLASSES], PARTS[..., classes], class_weight=[weights[c] for c in classes], **options)
    np.testing.assert_allclose(moved, before, **CLOSE)


@pytest.mark.parametrize("over", ["sample", "batch", "class", "all"])
def test_the_order_of_classes_that_count_changes_nothing(over):
    options = {"mode": "multiclass", "class_weight": (1.0, 5.0, 20.0), "over": over}
    for name in ("dice", "cross_entropy", "lovasz"):
        np.testing.assert_allclose(
            values(name, CLASSES, PARTS, classes=(2, 0, 1), **options), values(name, CLASSES, PARTS, **options), **CLOSE
        )


def test_metrics_give_classes_in_the_order_asked_for():
    orders = ((0, 1, 2), (2, 1, 0), (2, 0))
    results = []
    for classes in orders:
        metric = DiceCoefficient(mode="multiclass", classes=classes, average=None)
        metric.update_state(CLASSES, PARTS)
        results.append(ops.convert_to_numpy(metric.result()))
    for classes, result in zip(orders, results, strict=True):
        np.testing.assert_array_equal(result, results[0][list(classes)])


SQUARED = {"squared": True}
BEST = [
    ("cross_entropy", {}),
    ("dice", SQUARED),
    ("dice_cross_entropy", SQUARED),
    ("dice_focal", {**SQUARED, "gamma": 0}),
    ("focal", {"gamma": 0}),
    ("focal_tversky", {**SQUARED, "alpha": 0.5, "gamma": 2, "beta": 0.5}),
    *(("generalized_dice", {**SQUARED, "weighting": weighting}) for weighting in ("square", "simple", "uniform")),
    ("jaccard", SQUARED),
    ("log_cosh_dice", SQUARED),
    ("tversky", {**SQUARED, "alpha": 2, "beta": 2}),
]
NOT_BEST = [
    ("cldice", {}),
    ("dice", {}),
    ("dice", {**SQUARED, "smooth": (1, 2)}),
    ("dice_cross_entropy", {}),
    ("dice_focal", {"gamma": 0}),
    ("dice_focal", SQUARED),
    ("focal", {}),
    ("focal_tversky", {}),
    ("generalized_dice", {}),
    ("jaccard", {}),
    ("log_cosh_dice", {}),
    ("mcc", {}),
    ("tversky", {}),
    ("unified_focal", {}),
    ("unified_focal", {"gamma": 0}),
]


@pytest.mark.parametrize(
    ("name", "options", "best"), [*((*case, True) for case in BEST), *((*case, False) for case in NOT_BEST)]
)
def test_soft_labels_are_their_own_best_prediction_where_the_docs_say_so(name, options, best):
    loss = getattr(multiloss, name)
    value, gradient = evaluate("eager", lambda y, x: loss(y, x, **options), SOFT, SOFT)
    if best:
        # What float32 leaves of sums that cancel; elsewhere the gradient is a thousand times as much.
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
        pixels = name in ("cross_entropy", "dice_cross_entropy", "dice_focal", "focal")
        assert pixels or np.abs(value).max() < 1e-6
    else:
        assert np.abs(gradient).max() > 1e-3
    assert "soft labels" in loss.__doc__.lower()


# --- not a number ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "cldice"])
def test_a_nan_shows_in_every_loss(name):
    x = SOFT.copy()
    x[0, 0, 0] = np.nan
    result = values(name, HARD, x)
    assert np.isnan(result[0])
    assert np.isfinite(result[1:]).all()


@pytest.mark.parametrize("metric", [DiceCoefficient, JaccardIndex])
@pytest.mark.parametrize("average", ["macro", None])
def test_a_nan_shows_in_every_metric(metric, average):
    metric = metric(average=average, thresh=None)
    metric.update_state(HARD, np.where(np.arange(3)[:, None, None] == 0, np.nan, SOFT))
    assert np.isnan(ops.convert_to_numpy(metric.result())).all()


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_labels_beyond_int32_are_of_no_class(dtype):
    wide = CLASSES.astype(dtype)
    wide[0, 0] = 2**32 if "64" in dtype else 2**32 - 1
    expected = oracles.dice(wide.astype(np.int64), PARTS, mode="multiclass")
    assert (expected[0] != oracles.dice(CLASSES, PARTS, mode="multiclass")[0]).all()
    np.testing.assert_allclose(values("dice", wide, PARTS, mode="multiclass"), expected, **CLOSE)
    np.testing.assert_allclose(values("dice", wide.tolist(), PARTS, mode="multiclass"), expected, **CLOSE)


def test_options_may_be_numbers_of_numpy():
    options = {"classes": np.array([2, 0]), "class_weight": np.array([1, 2, 3]), "ignore_index": np.int64(1)}
    plain = {"classes": (2, 0), "class_weight": (1.0, 2.0, 3.0), "ignore_index": 1}
    results = [values("dice", CLASSES, PARTS, mode="multiclass", **given) for given in (options, plain)]
    np.testing.assert_array_equal(*results)


# --- sizes known only when running -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "cldice"])
@pytest.mark.parametrize("sides", [(2, 3, 5), (1, 37, 41), (0, 3, 5)])
def test_sizes_need_not_be_known(name, sides):
    """1517 pixels are more than two blocks, and no multiple of one."""
    y, x = rng.integers(0, 2, sides), rng.uniform(0.02, 0.98, sides).astype(np.float32)
    value, gradient = evaluate_unknown_sizes(getattr(multiloss, name), y, x)
    np.testing.assert_allclose(value, getattr(oracles, name)(y, x), **CLOSE)
    assert gradient.shape == x.shape
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("axes", [(2, 6, 1), (2, 1, 7), (2, 1, 1)])
def test_axes_of_pixels_of_a_mask_may_be_1(axes):
    y, x = rng.integers(0, 2, (2, 6, 7)), rng.uniform(0, 1, (2, 6, 7)).astype(np.float32)
    mask = rng.uniform(0, 2, axes).astype(np.float32)
    full = np.broadcast_to(mask, y.shape)
    for name in ("dice", "cross_entropy", "lovasz", "cldice"):
        np.testing.assert_allclose(values(name, y, x, mask=mask), getattr(oracles, name)(y, x, mask=full), **CLOSE)


def test_ignored_pixels_around_an_image_do_not_change_its_centrelines():
    y, x = rng.integers(0, 2, (2, 6, 7)), rng.uniform(0, 1, (2, 6, 7)).astype(np.float32)
    around = [[0, 0], [2, 1], [3, 4]]
    mask, expected = np.pad(np.ones(y.shape), around), oracles.cldice(y, x)
    more = np.pad(x, around, constant_values=0.7)
    np.testing.assert_allclose(
        values("cldice", np.pad(y, around, constant_values=1), more, mask=mask), expected, **CLOSE
    )
    marked = np.pad(y, around, constant_values=255)
    np.testing.assert_allclose(values("cldice", marked, more, ignore_index=255), expected, **CLOSE)


def test_masks_of_centrelines():
    y, x = rng.integers(0, 2, (2, 6, 7)), rng.uniform(0, 1, (2, 6, 7)).astype(np.float32)
    mask = rng.integers(0, 2, (2, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(values("cldice", y, x, mask=mask), oracles.cldice(y, x, mask=mask), **CLOSE)


# --- truth that is empty ---------------------------------------------------------------------------------------------


def test_what_empty_says_of_a_class_without_truth():
    """Of two classes, one predicted perfectly and one absent, predicted at a quarter of its pixels."""
    truth = np.array([[[1, 0], [1, 0], [0, 0], [0, 0]]])
    prediction = np.array([[[1, 0], [1, 0], [0, 1], [0, 0]]], np.float32)
    expected = {"penalize": 1 / 8, "formula": 1 / 2, "one": 0, "zero": 1 / 2, "skip": 0}
    for empty, value in expected.items():
        loss = dice(truth, prediction, mode="multilabel", smooth=0, empty=empty)
        # All sums are whole numbers, so that one division is rounded, to 6e-8.
        np.testing.assert_allclose(ops.convert_to_numpy(loss), [value], atol=1e-7)
    nothing = dice(truth * 0, prediction, mode="multilabel", smooth=0, empty="skip")
    np.testing.assert_array_equal(ops.convert_to_numpy(nothing), [0])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("cross_entropy", "focal")])  # of no ratios
@pytest.mark.parametrize("empty", ["penalize", "formula", "one", "zero", "skip"])
def test_what_empty_says_of_each_loss(name, empty):
    """Of samples of which one has no truth, and of classes of which one is always absent."""
    classes, hidden = {"mode": "multiclass"}, {"mask": np.array([1.0, 0.0, 2.0])}
    for y, x, options in (
        (FIRST_EMPTY, SOFT, {}),
        (FIRST_EMPTY, SOFT, hidden),
        (np.where(CLASSES == 2, 0, CLASSES), PARTS, classes),
    ):
        expected = getattr(oracles, name)(y, x, empty=empty, **options)
        np.testing.assert_allclose(values(name, y, x, empty=empty, **options), expected, **CLOSE)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("cross_entropy", "focal", "lovasz", "mcc")])
def test_labels_are_smoothed_before_logits_but_not_before_emptiness(name):
    options = {"label_smoothing": 0.1, "from_logits": True, "empty": "one"}
    np.testing.assert_allclose(
        values(name, FIRST_EMPTY, LOGITS, **options), getattr(oracles, name)(FIRST_EMPTY, LOGITS, **options), **CLOSE
    )


@EACH
@pytest.mark.parametrize("over", ["sample", "batch"])
def test_gradients_of_tiny_probabilities_are_finite(name, over):
    """Of 1e-22 and 1e-30, whose squares are 0 in float32, and with no smooth."""
    logits = np.zeros((2, 16, 3), np.float32)
    logits[0, :, 0], logits[1, :, 0] = 50, 70
    options = {"mode": "multiclass", "from_logits": True, "over": over}
    options |= {} if name in ("cross_entropy", "focal", "lovasz") else {"smooth": 0}
    for truth in (np.zeros((2, 16), int), np.ones((2, 16), int)):
        for mode in MODES[:2] if "inductor" not in MODES else MODES[:1]:
            value, gradient = evaluate(mode, lambda y, x: getattr(multiloss, name)(y, x, **options), truth, logits)
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "inductor"])
@pytest.mark.parametrize("smooth", [1e-20, 1e-37])
def test_gradients_are_finite_with_a_smooth_whose_square_is_0(mode, smooth):
    for loss in (dice, multiloss.dice_coef):
        options = {"smooth": smooth, **({"empty": "formula"} if loss is dice else {})}
        value, gradient = evaluate(
            mode, lambda y, x, f=loss, o=options: f(y, x, **o), np.zeros((2, 3)), np.zeros((2, 3), np.float32)
        )
        np.testing.assert_array_equal(value, np.zeros(2) if loss is dice else 1)
        assert np.isfinite(gradient).all()


@EACH
def test_gradients_are_finite_everywhere(name):
    ends = {"zeros": np.zeros((2, 6)), "ones": np.ones((2, 6)), "both": np.tile([0, 1], (2, 3))}
    for truth in ends.values():
        for prediction in ends.values():
            for smooth in [{}] if name in ("cross_entropy", "focal", "lovasz") else [{}, {"smooth": 0}]:
                value, gradient = evaluate(
                    "eager",
                    lambda y, x, smooth=smooth: getattr(multiloss, name)(y, x, **smooth),
                    truth,
                    prediction.astype(np.float32),
                )
                assert np.isfinite(value).all()
                assert np.isfinite(gradient).all()


def test_saturated_logits_have_finite_gradients():
    for name in NAMES:
        x = np.where(HARD, 1e4, -1e4).astype(np.float32) * (-1) ** np.arange(3)[:, None, None]
        value, gradient = evaluate(
            "eager",
            lambda y, x, name=name: getattr(multiloss, name)(y, x, from_logits=True),
            HARD,
            x.astype(np.float32),
        )
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


# --- precision -------------------------------------------------------------------------------------------------------


def _dice_of(inside, outside, true, false):
    return 1 - 2 * true * inside / (true + true * inside + false * outside)


def _focal_of(inside, outside, true, false):
    losses = -((1 - inside) ** 2) * np.log(inside), -(outside**2) * np.log(1 - outside)
    return (true * losses[0] + false * losses[1]) / (true + false)


def _mcc_of(inside, outside, true, false):
    tp, fp, fn, tn = true * inside, false * outside, true * (1 - inside), false * (1 - outside)
    return 1 - (tp * tn - fp * fn) / np.sqrt((tp + fp) * true * false * (tn + fn))


@pytest.mark.parametrize(
    ("loss", "expected", "dtype"),
    [
        (dice, _dice_of, "float16"),
        (dice, _dice_of, "bfloat16"),
        (multiloss.focal, _focal_of, "float16"),
        (multiloss.mcc, _mcc_of, "bfloat16"),
    ],
)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode in ("eager", "jit", "xla")])
def test_masks_of_4096_in_half_precision(loss, expected, dtype, mode):
    truth = np.zeros((1, 4096, 4096), bool)
    truth[:, :2000] = True
    half = np.where(truth, 0.9, 0.05).astype(np.float32)
    exact = ops.convert_to_numpy(ops.cast(ops.cast(ops.convert_to_tensor(half), dtype), "float32"))[0, [0, -1], 0]
    value, gradient = evaluate(mode, lambda y, x: loss(y, ops.cast(x, dtype)), truth, half)
    wanted = expected(*exact.astype(np.float64), 2000 * 4096, 2096 * 4096)
    assert value == pytest.approx([wanted], abs=1e-6)  # promised are 1e-3; the sums are float32, in blocks
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "inductor"])
@pytest.mark.parametrize("shape", [(2, 1024, 1024), (2, 1000, 999), (1, 1009, 1013), (1, 1009, 1013, 3)])
def test_long_sums_are_exact(mode, shape):
    """XLA on a CPU, left to itself, adds floats one by one. The last two sizes are no multiples of any block."""
    rng = np.random.default_rng(1)
    options = {"over": "batch"} if len(shape) == 3 else {"mode": "multilabel", "over": "all"}
    truth, x = rng.integers(0, 2, shape), rng.uniform(0, 1, shape).astype(np.float32)
    tp, size = np.sum(truth * x.astype(np.float64)), np.sum(truth) + np.sum(x, dtype=np.float64)
    value, _ = evaluate(mode, lambda y, x: dice(y, x, **options), truth, x)
    # 1e-6 and not 1e-5, by which a million terms one by one are off.
    assert float(value) == pytest.approx(1 - 2 * tp / size, abs=5e-7)


# --- messages --------------------------------------------------------------------------------------------------------

MULTI = {"mode": "multiclass"}
ERRORS = [
    (HARD, SOFT, {"mode": "multi"}, ValueError, "`mode` must be one of 'binary', 'multiclass', 'multilabel'. Received"),
    (HARD, SOFT, {"over": "pixel"}, ValueError, "`over` must be one of 'sample', 'batch', 'class', 'all'. Received"),
    (1, 0.5, {}, ValueError, "`y_pred` must have shape [B, ...]."),
    (CLASSES[:, :-1], PARTS, MULTI, ValueError, "`y_true` and `y_pred` must have the same shape."),
    (CLASSES, PARTS, {**MULTI, "class_weight": {0: 1, 1: 1, 2: 1}}, TypeError, "`class_weight` must be None or a seq"),
    (CLASSES, PARTS, {**MULTI, "class_weight": np.ones((3, 3))}, TypeError, "`class_weight` must be None or a seq"),
    (CLASSES, PARTS, {**MULTI, "class_weight": np.ones(())}, TypeError, "`class_weight` must be None or a sequence"),
    (CLASSES, PARTS, {**MULTI, "classes": [float("inf")]}, ValueError, "`classes` must be class indices >= 0."),
    (CLASSES, PARTS, {**MULTI, "ignore_index": 2**32}, ValueError, "`ignore_index` must be an int32"),
    (HARD, SOFT, {"mode": np.array(["binary"])}, ValueError, "`mode` must be one of 'binary',"),
    (HARD, SOFT, {"empty": 1}, ValueError, "`empty` must be one of 'penalize', 'formula', 'one', 'zero', 'skip'."),
    (
        HARD,
        SOFT,
        {"data_format": "NCHW"},
        ValueError,
        "`data_format` must be one of 'channels_last', 'channels_first'.",
    ),
    (HARD, SOFT, {"squared": 1}, TypeError, "`squared` must be True or False. Received: 1"),
    (
        HARD,
        SOFT,
        {"alpha": 1},
        TypeError,
        "`alpha` is not an argument of dice. Expected, of options: mode, from_logits",
    ),
    (HARD, SOFT, {"classes": [0]}, ValueError, "`classes` needs a class axis"),
    (HARD, SOFT, {"smooth": -1}, ValueError, "`smooth` must be a finite number >= 0. Received: -1"),
    (HARD, SOFT, {"smooth": (1, 2, 3)}, ValueError, "`smooth` must be a number >= 0 or two of them."),
    (HARD, SOFT, {"label_smoothing": 1}, ValueError, "`label_smoothing` must be a number in [0, 1). Received: 1"),
    (HARD, SOFT, {"thresh": 0}, ValueError, "`thresh` must be None or a number in (0, 1). Received: 0"),
    (HARD, SOFT, {"ignore_index": 1.0}, TypeError, "`ignore_index` must be None or an integer. Received: 1.0"),
    (
        SOFT,
        SOFT,
        {"ignore_index": 1},
        ValueError,
        "`ignore_index` needs `y_true` of integers or booleans: floats may be",
    ),
    (HARD[:, :2], SOFT, {}, ValueError, "`y_true` and `y_pred` must have the same shape. Received shapes: (3, 2, 3)"),
    (HARD, SOFT, {"mask": SOFT[:2]}, ValueError, "`mask` must be a scalar or fit the leading axes of `y_pred`"),
    (CLASSES, PARTS, {}, ValueError, "`y_true` and `y_pred` must have the same shape. Received shapes: (3, 5) and"),
    (
        CLASSES,
        PARTS[:, 0, 0],
        MULTI,
        ValueError,
        "`y_pred` must have shape [B, ..., C] in multiclass mode. Received: (3,)",
    ),
    (
        CLASSES,
        PARTS[..., :1],
        MULTI,
        ValueError,
        "`y_pred` must have a class axis of known size >= 2 in multiclass mode",
    ),
    (CLASSES * 0.5, PARTS, MULTI, TypeError, "`y_true` must be integers where it has no class axis. Received dtype"),
    (ONE_HOT[..., :2], PARTS, MULTI, ValueError, "`y_true` and `y_pred` must have the same shape."),
    (
        ONE_HOT,
        PARTS,
        {**MULTI, "ignore_index": 3},
        ValueError,
        "`ignore_index` must be one of the 3 classes of one-hot",
    ),
    (
        CLASSES,
        PARTS,
        {**MULTI, "classes": [0, 3]},
        ValueError,
        "`classes` must be less than the 3 classes of `y_pred`.",
    ),
    (CLASSES, PARTS, {**MULTI, "classes": []}, ValueError, "`classes` must be one or more different indices. Received"),
    (CLASSES, PARTS, {**MULTI, "classes": "01"}, TypeError, "`classes` must be None or a sequence of class indices"),
    (
        CLASSES,
        PARTS,
        {**MULTI, "classes": [1], "include_background": False},
        ValueError,
        "`include_background=False` and `classes` exclude each other",
    ),
    (
        CLASSES,
        PARTS,
        {**MULTI, "class_weight": [1, 2]},
        ValueError,
        "`class_weight` must have one number for each of the 3",
    ),
    (CLASSES, PARTS, {**MULTI, "class_weight": [1, 2, -1]}, ValueError, "`class_weight` must be a finite number >= 0."),
    (CLASSES, PARTS, {**MULTI, "class_weight": [0, 0, 0]}, ValueError, "`class_weight` must have one number > 0."),
    (
        CLASSES,
        PARTS,
        {**MULTI, "class_weight": [1, 0, 0], "include_background": False},
        ValueError,
        "`class_weight` must have one number > 0 among the classes that count.",
    ),
    (
        HARD[..., :1],
        SOFT[..., :1],
        {"mode": "multilabel", "include_background": False},
        ValueError,
        "`include_background=False` leaves no class.",
    ),
]


@pytest.mark.parametrize(("y", "x", "options", "error", "message"), ERRORS)
def test_errors(y, x, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        dice(y, x, **options)
    mask = options.pop("mask", None) if "mask" in options else None
    with pytest.raises(error):
        DiceLoss(**options)(y, x, mask)


UNEQUAL = "`squared=True` needs `alpha` equal to `beta`. Received: "


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("tversky", {"alpha": -1}, ValueError, "`alpha` must be a finite number >= 0. Received: -1"),
        ("tversky", {"alpha": 0.7, "beta": 0.3, "squared": True}, ValueError, f"{UNEQUAL}alpha=0.7, beta=0.3"),
        ("tversky", {"alpha": 0, "squared": True}, ValueError, f"{UNEQUAL}alpha=0, beta=0.5"),
        ("focal_tversky", {"squared": True}, ValueError, f"{UNEQUAL}alpha=0.3, beta=0.7"),
        ("focal_tversky", {"gamma": 0}, ValueError, "`gamma` must be a finite number > 0. Received: 0"),
        ("focal", {"gamma": -1}, ValueError, "`gamma` must be a finite number >= 0. Received: -1"),
        ("focal", {"smooth": 1}, TypeError, "`smooth` is not an argument of"),
        ("mcc", {"smooth": (1, 2)}, ValueError, "`smooth` must be one number for"),
        (
            "generalized_dice",
            {"weighting": "cube"},
            ValueError,
            "`weighting` must be one of 'square', 'simple', 'uniform'.",
        ),
        ("generalized_dice", {"over": "all"}, ValueError, "`over` must be 'sample' or 'batch': classes are added up"),
        ("lovasz", {"hinge": True}, ValueError, "`hinge=True` takes `from_logits=True` and `mode` 'binary' or"),
        ("lovasz", {"hinge": 1}, TypeError, "`hinge` must be True or False. Received: 1"),
        ("cldice", {"iterations": 0.5}, ValueError, "`iterations` must be an integer >= 0. Received: 0.5"),
        ("unified_focal", {"weight": 2}, ValueError, "`weight` must be a number in [0, 1]. Received: 2"),
        ("unified_focal", {"gamma": 1}, ValueError, "`gamma` must be a number in [0, 1). Received: 1"),
        ("unified_focal", {"symmetric": 1}, TypeError, "`symmetric` must be True or False. Received: 1"),
        ("unified_focal", {"over": "all"}, ValueError, "`over` must be 'sample' or 'batch' for"),
        ("dice_focal", {"dice_weight": -1}, ValueError, "`dice_weight` must be a finite number >= 0. Received: -1"),
    ],
)
def test_errors_of_parameters(name, parameters, error, message):
    class_name = next(other for other in dir(multiloss) if other.lower() == name.replace("_", "") + "loss")
    with pytest.raises(error, match=re.escape(message)):
        getattr(multiloss, name)(HARD, SOFT, **parameters)
    with pytest.raises(error, match=re.escape(message)):
        getattr(multiloss, class_name)(**parameters)


def test_oracles_too_refuse_squares_with_unequal_weights():
    with pytest.raises(ValueError, match=re.escape(f"{UNEQUAL}alpha=0.3, beta=0.7")):
        oracles.focal_tversky(HARD, SOFT, squared=True)


def test_errors_of_the_others():
    with pytest.raises(ValueError, match=re.escape("`y_pred` must have two or three axes of pixels. Received: 1")):
        multiloss.cldice(HARD[..., 0], SOFT[..., 0])
    with pytest.raises(TypeError, match=re.escape("`losses` must be overlap losses of multiloss. Received: Dice")):
        multiloss.CombinedLoss([keras.losses.Dice()])
    with pytest.raises(ValueError, match=re.escape("`losses` must be one or more, all with a value for each sample")):
        multiloss.CombinedLoss([DiceLoss(), DiceLoss(over="all")])
    with pytest.raises(ValueError, match=re.escape("`weights` must be one for each of 1 losses. Received: 2")):
        multiloss.CombinedLoss([DiceLoss()], [1, 2])
    with pytest.raises(ValueError, match=re.escape("`average` must be 'macro' or None. Received: 'micro'")):
        DiceCoefficient(average="micro")
    with pytest.raises(TypeError, match=re.escape("`smooth` is not an argument of JaccardIndex.")):
        JaccardIndex(smooth=1)


# --- metrics ---------------------------------------------------------------------------------------------------------


def index_of(metric, tp, fp, fn):
    return 2 * tp / (2 * tp + fp + fn) if isinstance(metric, DiceCoefficient) else tp / (tp + fp + fn)


@pytest.mark.parametrize("metric", [DiceCoefficient, JaccardIndex])
@pytest.mark.parametrize("weights", [None, np.array([1, 0, 2, 1, 3, 1, 1], np.float32)])
def test_metrics_do_not_depend_on_how_data_are_divided(metric, weights):
    y, x = rng.integers(0, 3, (7, 5)), rng.dirichlet(np.ones(4), (7, 5)).astype(np.float32)  # class 3 is never true
    w = np.ones(7) if weights is None else weights
    counts = []
    for c in range(4):
        t, p = (y == c) * w[:, None], (x[..., c] > 0.4) * w[:, None]
        tp = np.sum(t * (x[..., c] > 0.4))
        counts.append((tp, p.sum() - tp, t.sum() - tp))
    for average in (None, "macro"):
        streaming = metric(mode="multiclass", thresh=0.4, average=average)
        expected = np.array([index_of(streaming, *count) for count in counts])
        for _ in range(2):
            for part in (slice(0, 4), slice(4, 5), slice(5, 7)):
                streaming.update_state(y[part], x[part], None if weights is None else weights[part])
            result = ops.convert_to_numpy(streaming.result())
            np.testing.assert_allclose(result, expected if average is None else expected.mean(), rtol=1e-6)  # float32
            streaming.reset_state()


@pytest.mark.parametrize("average", [None, "macro"])
def test_small_indices_are_not_lost(average):
    metric = JaccardIndex(thresh=None, average=average)
    metric.update_state(np.array([[1, 0]]), np.array([[1e-9, 1.0]], np.float32))
    assert np.squeeze(ops.convert_to_numpy(metric.result())) == pytest.approx(5e-10, rel=1e-6)  # float32


def test_metrics_of_classes_never_seen():
    metric = DiceCoefficient(mode="multilabel", average=None)
    metric.update_state(np.array([[[1, 0]]]), np.array([[[0.9, 0.1]]], np.float32))
    np.testing.assert_array_equal(ops.convert_to_numpy(metric.result()), [1, np.nan])
    macro = DiceCoefficient(mode="multilabel", class_weight=[1, 3])
    macro.update_state(np.array([[[1, 0]]]), np.array([[[0.1, 0.1]]], np.float32))
    assert float(macro.result()) == 0
    assert float(DiceCoefficient().result()) == 0


def test_metrics_count_single_pixels_among_many():
    """float32 alone stays at 2^24."""
    metric = JaccardIndex(thresh=None)
    metric.update_state(np.ones((1, 1)), np.full((1, 1), 1, np.float32), np.array([2.0**24], np.float32))
    for _ in range(64):
        metric.update_state(np.ones((1, 1)), np.ones((1, 1), np.float32))
        metric.update_state(np.ones((1, 1)), np.zeros((1, 1), np.float32))
    tp = 2**24 + 64
    # The index rounds to 6e-8, which is 1.6 % of this difference from 1, 4e-6.
    assert 1 - float(metric.result()) == pytest.approx(64 / (tp + 64), rel=0.02)


def test_metrics_in_compile_through_save_and_load(tmp_path):
    y, x = rng.integers(0, 2, (10, 4, 1)), rng.uniform(0, 1, (10, 4, 1)).astype(np.float32)
    model = keras.Sequential([keras.Input((4, 1)), keras.layers.Activation("linear")])
    model.compile(loss=DiceLoss(), metrics=[DiceCoefficient(thresh=0.5), JaccardIndex(mode="multilabel")])
    before = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    tp, size = np.sum(y * (x > 0.5)), np.sum(y) + np.sum(x > 0.5)
    # Counts are exact, their quotient rounds to 6e-8.
    assert before["dice_coefficient"] == pytest.approx(2 * tp / size, rel=1e-6)
    assert before["jaccard_index"] == pytest.approx(tp / (size - tp), rel=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, batch_size=4, verbose=0, return_dict=True) == before
    for metric in (DiceCoefficient(thresh=None, average=None, mode="multiclass", class_weight=[1, 2]), JaccardIndex()):
        assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()


@pytest.mark.parametrize("kind", ["metrics", "weighted_metrics"])
def test_metrics_leave_out_what_a_keras_mask_does(kind):
    """Of steps of which half are masked, and the others predicted perfectly, but for one in the second sample."""

    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return 1 * inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.any(inputs > 0, axis=-1)

    inputs = keras.Input((4, 1))
    model = keras.Model(inputs, Mask()(inputs))
    metrics = [DiceCoefficient(thresh=None), JaccardIndex(mode="multilabel", thresh=None)]
    model.compile(loss=DiceLoss(over="all"), **{kind: metrics})
    x, y = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32)[..., None], np.array([[1, 1, 1, 1], [1, 0, 1, 1]])
    for rows, dice_of_rows in (([0], 1), ([0, 1], 6 / 7)):
        result = model.evaluate(x[rows], y[rows][..., None], verbose=0, return_dict=True)
        # Quotients of float32.
        assert result["dice_coefficient"] == pytest.approx(dice_of_rows, abs=1e-6)
        assert result["jaccard_index"] == pytest.approx(dice_of_rows / (2 - dice_of_rows), abs=1e-6)
        assert result["loss"] == pytest.approx(1 - dice_of_rows, abs=1e-5)  # smooth
    weighted = model.evaluate(x, y[..., None], verbose=0, return_dict=True, sample_weight=np.array([1.0, 0.0]))
    expected = 1 if kind == "weighted_metrics" else 6 / 7
    assert weighted["dice_coefficient"] == pytest.approx(expected, abs=1e-6)


def test_every_function_is_here_or_has_its_reason():
    """`cldice` needs images, and has its cases in the table."""
    functions = {
        case.function.func.__name__
        for case in CASES.values()
        if hasattr(multiloss.overlap, case.function.func.__name__)
    }
    assert functions - {"cldice", "dice_coef"} == set(NAMES)


def test_logits_are_what_they_say():
    probabilities = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    for name in NAMES:
        expected = getattr(oracles, name)(HARD, probabilities)
        # Sigmoids and logarithms of float32, then sums over some dozen pixels.
        np.testing.assert_allclose(values(name, HARD, LOGITS, from_logits=True), expected, rtol=1e-5, atol=1e-6)
