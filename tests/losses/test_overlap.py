"""The overlap family beyond the table: not a number, unknown sizes, precision, and the metrics, on each backend."""

import functools
import itertools

import keras
import numpy as np
import pytest
from cases import CLASSES, HARD, PARTS, SOFT
from frameworks import BACKEND, FAST, QUICK, evaluate, evaluate_unknown_sizes, full_on, modes
from keras import ops
from overlap import CLASS_OF, CLOSE, NAMES, values

import multiloss
from multiloss import DiceCoefficient, DiceLoss, JaccardIndex, distribution, losses, oracles
from multiloss.losses import dice
from multiloss.overlap._engine import ratios

rng = np.random.default_rng(4)


def default_of(every, *some):
    """Return parameters of which some are in the default tier."""
    return [pytest.param(one, marks=() if one in some else pytest.mark.full) for one in every]


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


# --- weights of 0 ----------------------------------------------------------------------------------------------------

# The second sample, or its last pixel, is not a number, or beyond what the loss is made for.
BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def spoilt(x, bad, where):
    x = np.array(x, np.float32)
    x[where] = BAD[bad]
    return x


@pytest.mark.parametrize("name", default_of([*NAMES, "cldice"], "dice", "lovasz", "mcc", "unified_focal"))
@pytest.mark.parametrize(("from_logits", "batch"), [(False, False), pytest.param(True, True, marks=pytest.mark.full)])
def test_what_has_weight_0_may_be_anything(name, from_logits, batch):
    """Pixels and samples, in truth and in predictions, in values and in gradients."""
    options = {"from_logits": True} if from_logits else {}
    last = np.ones((3, 4), np.float32)
    last[1, -1] = 0
    rows = np.array([1, 0, 1], np.float32)
    loss = CLASS_OF[name](reduction="sum", batch=batch, **options)
    for weight, where in ((last, (1, -1)), (rows, 1)):
        weighted = functools.partial(loss, sample_weight=weight)  # one function, which is compiled once
        truth = HARD.astype(np.float32)
        expected, slope = evaluate(QUICK, weighted, truth, SOFT)
        for bad in BAD:
            value, gradient = evaluate(QUICK, weighted, spoilt(truth, bad, where), spoilt(SOFT, bad, where))
            np.testing.assert_allclose(value, expected, **CLOSE)
            np.testing.assert_allclose(gradient, slope, **CLOSE)
            assert np.isfinite(gradient).all()


def test_ignored_pixels_and_a_keras_mask_may_hide_anything():
    truth = np.where([[True] * 4 + [False]], CLASSES, 255)
    bad = spoilt(PARTS, "nan", (slice(None), -1))
    for name in ("cross_entropy", "dice", "lovasz"):
        for logits in (False, True):
            given = {"mode": "multiclass", "ignore_index": 255, "from_logits": logits}
            value, gradient = evaluate(QUICK, functools.partial(getattr(losses, name), **given), truth, bad)
            np.testing.assert_allclose(value, getattr(oracles, name)(truth, PARTS, **given), **CLOSE)
            assert np.isfinite(gradient).all()
            assert not gradient[:, -1].any()
    one = spoilt(SOFT, "nan", 1)
    assert np.isfinite(float(losses.dice_loss()(HARD, one, np.array([1.0, 0.0, 1.0]))))
    assert np.isfinite(float(losses.dice_loss()(one, SOFT, np.array([1.0, 0.0, 1.0]))))


@pytest.mark.parametrize("metric", [DiceCoefficient, JaccardIndex])
def test_metrics_leave_out_what_has_weight_0(metric):
    expected, found = metric(thresh=None), metric(thresh=None)
    expected.update_state(HARD[[0, 2]], SOFT[[0, 2]])
    found.update_state(HARD, spoilt(SOFT, "nan", 1), np.array([1.0, 0.0, 1.0], np.float32))
    assert float(found.result()) == pytest.approx(float(expected.result()), abs=1e-6)  # float32


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_labels_beyond_int32_do_not_wrap(dtype):
    """2^32 would be class 0 in 32 bits."""
    wide = CLASSES.astype(dtype)
    wide[0, 0] = 2**32 if "64" in dtype else 2**32 - 1
    for labels in (wide, wide.tolist()):
        with pytest.raises(ValueError, match="whole class indices from 0 to 2"):
            dice(labels, PARTS, mode="multiclass")
        found = values("dice", labels, PARTS, mode="multiclass", validate=False)
        assert found[0] != pytest.approx(values("dice", CLASSES, PARTS, mode="multiclass")[0])


# --- values out of range ---------------------------------------------------------------------------------------------

# What is wrong, the truth and the predictions of which only the second sample is wrong, and the message.
SECOND = np.arange(3) == 1
OUT_OF_RANGE = {
    "a mask of 0 and 255": (np.where(SECOND[:, None, None], HARD * 255, HARD), SOFT, "0 and 1, or soft labels between"),
    "soft labels": (np.where(SECOND[:, None, None], 1.01, SOFT), SOFT, "0 and 1, or soft labels between"),
    "negative labels": (np.where(SECOND[:, None, None], -0.01, HARD), SOFT, "0 and 1, or soft labels between"),
    "logits": (HARD, np.where(SECOND[:, None, None], -SOFT, SOFT), r"probabilities in \[0, 1\]"),
    "labels from 1": (
        np.where(SECOND[:, None], CLASSES + 1, CLASSES),
        PARTS,
        "class indices from 0 to 2.* from 0 to 3",
    ),
    "negative indices": (np.where(SECOND[:, None], -1, CLASSES), PARTS, "class indices from 0 to 2.* from -1 to 2"),
    "fractions": (np.where(SECOND[:, None], 0.5, CLASSES), PARTS, "whole class indices.* that are not whole"),
}


@pytest.mark.parametrize("wrong", default_of(OUT_OF_RANGE, "a mask of 0 and 255", "logits", "labels from 1"))
def test_values_out_of_range_are_refused_where_they_are_seen(wrong):
    y, x, message = OUT_OF_RANGE[wrong]
    y_tensor, x_tensor, good = ops.convert_to_tensor(y), ops.convert_to_tensor(x), np.clip(x, 0, 1)
    metric, once = DiceCoefficient(), DiceLoss()
    for call in (dice, DiceLoss(), DiceLoss().call, metric.update_state):
        with pytest.raises(ValueError, match=message):
            call(y, x)
    for call in (once, DiceCoefficient().update_state):
        for _ in range(2):  # it is not over before there were data that could be right
            with pytest.raises(ValueError, match=message):
                call(y_tensor, x_tensor)
    assert np.isfinite(values("dice", y, x, validate=False)).all()
    rows = np.where(SECOND, 0, 1).astype(np.float32)
    assert np.isfinite(float(once(y_tensor, x_tensor, rows)))  # what has weight 0 is not looked at
    pixels = np.broadcast_to(rows[:, None, None], y.shape) if y.ndim == 3 else np.broadcast_to(rows[:, None], y.shape)
    assert np.isfinite(values("dice", y, x, mask=pixels)).all()
    assert np.isfinite(float(once(y_tensor, ops.convert_to_tensor(good)))) == (wrong == "logits")


def test_class_indices_may_be_whole_floats():
    """Which Keras makes of the labels of a plain function."""
    for dtype in ("float16", "float32", "float64"):
        found = values("dice", CLASSES.astype(dtype), PARTS)
        np.testing.assert_allclose(found, oracles.dice(CLASSES, PARTS, mode="multiclass"), **CLOSE)


def unseen(loss, **options):
    """Return a function of tensors, whose values functions do not read."""
    return lambda y, x: loss(ops.convert_to_tensor(y), x, **options)


@pytest.mark.parametrize("name", default_of([*NAMES, "cldice"], "dice", "cross_entropy", "cldice"))
def test_values_out_of_range_are_nan_where_they_are_not_seen(name):
    """Tensors of a function, and everything that is compiled: the sample is NaN, and moves nothing."""
    loss = unseen(getattr(losses, name))
    expected, slope = evaluate(QUICK, loss, HARD.astype(np.float32), SOFT)
    for wrong in ("a mask of 0 and 255", "negative labels", "logits"):
        y, x, _ = OUT_OF_RANGE[wrong]
        value, gradient = evaluate(QUICK, loss, y.astype(np.float32), x)
        assert np.isnan(value).tolist() == SECOND.tolist()
        np.testing.assert_allclose(value[~SECOND], expected[~SECOND], **CLOSE)
        np.testing.assert_allclose(gradient[~SECOND], slope[~SECOND], **CLOSE)
        assert not gradient[1].any()


@pytest.mark.parametrize("wrong", default_of(["labels from 1", "negative indices", "fractions"], "fractions"))
@pytest.mark.parametrize("name", default_of(["dice", "cross_entropy"], "dice"))
def test_class_indices_out_of_range_are_nan_where_they_are_not_seen(name, wrong):
    y, x, _ = OUT_OF_RANGE[wrong]
    loss = getattr(losses, name)
    value, gradient = evaluate(QUICK, unseen(loss), y, x)
    assert np.isnan(value).tolist() == SECOND.tolist()
    np.testing.assert_allclose(value[::2], getattr(oracles, name)(CLASSES, PARTS, mode="multiclass")[::2], **CLOSE)
    assert not gradient[1].any()
    value, _ = evaluate(QUICK, unseen(loss, ignore_index=-1), y, x)
    assert np.isnan(value).tolist() == (SECOND & (wrong != "negative indices")).tolist()
    value, _ = evaluate(QUICK, unseen(loss, batch=True), y, x)
    assert np.isnan(value)


def test_metrics_of_values_out_of_range_are_not_a_number_where_they_are_not_seen():
    """Whether before or after the first batch with data, which is the only one that is looked at."""
    metric = JaccardIndex()
    metric.update_state(*map(ops.convert_to_tensor, (HARD, SOFT)))
    metric.update_state(*map(ops.convert_to_tensor, (HARD * 255, SOFT)))
    assert np.isnan(float(metric.result()))


def test_values_out_of_range_on_another_replica_show_on_this_one(monkeypatch):
    """All replicas take part, whatever their rows are: none to look at, or truth that cannot be out of range."""
    loss = DiceLoss(batch=True, across_replicas=True, from_logits=True)
    assert np.isfinite(float(loss(HARD > 0, SOFT)))
    assert np.isnan(float(loss(HARD * 255, SOFT)))  # raising would leave the others waiting
    monkeypatch.setattr(distribution, "added_up", lambda sums, across: [part + 1 for part in sums])
    for rows in (slice(None), slice(0)):
        assert np.isnan(float(loss(HARD[rows] > 0, SOFT[rows])))


@full_on("jax")
def test_classes_that_do_not_count_may_have_any_values():
    y, x = HARD.copy(), SOFT.copy()
    y[..., 0], x[..., 0] = 255, -1
    for options in ({"classes": [1, 2]}, {"include_background": False}, {"class_weight": [0, 1, 1]}):
        found = values("dice", y, x, mode="multilabel", **options)
        np.testing.assert_allclose(found, values("dice", HARD, SOFT, mode="multilabel", **options), **CLOSE)


def test_tensors_are_not_read_after_the_first_call_nor_for_nothing(monkeypatch):
    """On a GPU, a value that is read has to wait for all that was asked for before."""
    read = []
    to_numpy = ops.convert_to_numpy
    monkeypatch.setattr(ops, "convert_to_numpy", lambda x: read.append(x) or to_numpy(x))
    y, x = ops.convert_to_tensor(HARD), ops.convert_to_tensor(SOFT)
    loss = DiceLoss()
    for expected in (True, False, False):
        read.clear()
        loss(y, x)
        assert bool(read) == expected
    DiceLoss(mode="binary", validate=False)(y, x)
    dice(y, x)
    assert not read


def test_a_loss_reads_tensors_until_one_has_data():
    """Keras calls it with placeholders first, all of one number; what is read on a GPU has to wait for it."""
    loss, x, same = DiceLoss(), ops.convert_to_tensor(SOFT), ops.convert_to_tensor(SOFT * 0 + 0.5)
    bad = ops.convert_to_tensor(HARD * 255)
    loss(ops.convert_to_tensor(HARD), same)
    with pytest.raises(ValueError, match="from 0 to 255"):
        loss(bad, x)
    loss(ops.convert_to_tensor(HARD), x)
    assert np.isnan(float(loss(bad, x)))
    constant = DiceLoss()
    for _ in range(4):
        constant(ops.convert_to_tensor(HARD), same)
    assert np.isnan(float(constant(bad, same)))


def test_rounding_may_leave_the_range():
    """By the distance of two numbers of bfloat16, as in a mean of probabilities."""
    for end in (-(2.0**-7), 1 + 2.0**-7):
        assert np.isfinite(values("dice", HARD, np.full_like(SOFT, end))).all()


# --- an axis of one class --------------------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 3, 2)])
@pytest.mark.parametrize("name", ["dice", "cross_entropy", "dice_coef"])
def test_an_axis_of_one_class_may_be_missing(name, shape):
    y, x = rng.integers(0, 2, shape), rng.uniform(0.1, 0.9, shape).astype(np.float32)
    loss = multiloss.dice_coef if name == "dice_coef" else getattr(losses, name)
    expected = ops.convert_to_numpy(loss(y[..., None], x[..., None]))
    for truth, prediction in ((y[..., None], x), (y, x[..., None])):
        np.testing.assert_allclose(ops.convert_to_numpy(loss(truth, prediction)), expected, **CLOSE)
    if name == "dice" and len(shape) > 1:
        found = values(name, y, x[:, None], mode="multilabel", data_format="channels_first")
        np.testing.assert_allclose(found, values(name, y[..., None], x[..., None], mode="multilabel"), **CLOSE)


@full_on("jax")
def test_weights_may_have_an_axis_of_one_class():
    for shape in ((4,), (4, 6)):
        y, x = rng.integers(0, 2, shape), rng.uniform(0.1, 0.9, shape).astype(np.float32)
        w = rng.uniform(0.5, 2, shape).astype(np.float32)
        for loss in (DiceLoss(), DiceLoss(batch=True), losses.CrossEntropyLoss()):
            assert float(loss(y, x, w[..., None])) == pytest.approx(float(loss(y, x, w)), abs=1e-6)  # float32
        np.testing.assert_allclose(values("dice", y, x, mask=w[..., None]), values("dice", y, x, mask=w), **CLOSE)


def test_functions_refuse_a_keras_mask():
    """Which Keras would broadcast to their values, with an error that names none of this."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Embedding(3, 2, mask_zero=True), keras.layers.Dense(1)])
    x = model(np.array([[1, 2, 0, 0, 0]]))
    for function in (dice, multiloss.dice_coef):
        with pytest.raises(ValueError, match=r"has a Keras mask.*`DiceCoefficient\(\)`.* as a metric"):
            function(np.zeros((1, 5, 1)), x, validate=False)
    assert np.isfinite(values("dice", np.zeros((1, 5, 1)), x, validate=False, mask=[[1, 1, 0, 0, 0]])).all()


# --- images ----------------------------------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.full)])
def test_centrelines_of_volumes_may_have_a_last_axis_of_1(masked):
    """As of images, of which it is the third axis of pixels."""
    y, x = rng.integers(0, 2, (2, 3, 4, 5, 1)), rng.uniform(0, 1, (2, 3, 4, 5, 1)).astype(np.float32)
    arrays = [y, x, rng.integers(0, 2, y.shape)] if masked else [y, x]
    for y, x, *mask in (arrays, [array[..., 0] for array in arrays], [array[:, 0] for array in arrays]):
        mask = mask[0] if mask else None
        np.testing.assert_allclose(values("cldice", y, x, mask=mask), oracles.cldice(y, x, mask=mask), **CLOSE)
    with pytest.raises(ValueError, match=r"two or three axes of pixels\. Received: 4"):
        losses.cldice(np.ones((2, 3, 4, 5, 2)), np.ones((2, 3, 4, 5, 2), np.float32))


# --- sizes known only when running -----------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("name", default_of([*NAMES, "cldice"], "dice", "cldice", "lovasz", "mcc"))
def test_sizes_need_not_be_known(name):
    """1517 pixels are more than two blocks, and no multiple of one. TensorFlow traces once for all of them."""
    function = evaluate_unknown_sizes(getattr(losses, name))
    for sides in [(1, 37, 41), (2, 3, 5), (0, 3, 5)][: None if BACKEND == "tensorflow" else 1]:
        y, x = rng.integers(0, 2, sides), rng.uniform(0.02, 0.98, sides).astype(np.float32)
        value, gradient = function(y, x)
        np.testing.assert_allclose(value, getattr(oracles, name)(y, x), **CLOSE)
        assert gradient.shape == x.shape
        assert np.isfinite(gradient).all()


# --- gradients -------------------------------------------------------------------------------------------------------


# Of one sum, of a sum over classes, of logarithms, of roots and of several sums.
SEVERAL = ("dice", "generalized_dice", "cross_entropy", "focal", "mcc", "unified_focal")


@pytest.mark.parametrize(
    ("name", "batch", "mode"),
    [
        *(pytest.param(*one.values, False, QUICK, marks=one.marks) for one in default_of(NAMES, *SEVERAL)),
        *(pytest.param(name, True, QUICK, marks=pytest.mark.full) for name in NAMES),
        *(pytest.param("dice", False, mode, marks=pytest.mark.full) for mode in FAST if mode != QUICK),
    ],
)
def test_gradients_of_tiny_probabilities_are_finite(name, batch, mode):
    """Of 1e-22 and 1e-30, whose squares are 0 in float32, and with no smooth."""
    logits = np.zeros((2, 16, 3), np.float32)
    logits[0, :, 0], logits[1, :, 0] = 50, 70
    options = {"mode": "multiclass", "from_logits": True, "batch": batch}
    options |= {} if name in ("cross_entropy", "focal", "lovasz") else {"smooth": 0}
    loss = functools.partial(getattr(losses, name), **options)
    for truth in (np.zeros((2, 16), int), np.ones((2, 16), int)):
        value, gradient = evaluate(mode, loss, truth, logits)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST))
@pytest.mark.parametrize("smooth", [1e-20, 1e-37])
def test_gradients_are_finite_with_a_smooth_whose_square_is_0(mode, smooth):
    for loss in (dice, multiloss.dice_coef):
        options = {"smooth": smooth, **({"empty": "formula"} if loss is dice else {})}
        value, gradient = evaluate(
            mode, lambda y, x, f=loss, o=options: f(y, x, **o), np.zeros((2, 3)), np.zeros((2, 3), np.float32)
        )
        np.testing.assert_array_equal(value, np.zeros(2) if loss is dice else 1)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", default_of(NAMES, "dice", "focal_tversky", "lovasz", "mcc"))
def test_gradients_are_finite_everywhere(name):
    ends = [np.zeros((2, 6)), np.ones((2, 6)), np.tile([0, 1], (2, 3))]
    for smooth in [{}] if name in ("cross_entropy", "focal", "lovasz") else [{}, {"smooth": 0}]:
        loss = functools.partial(getattr(losses, name), **smooth)
        for truth, prediction in itertools.product(ends, ends):
            value, gradient = evaluate(QUICK, loss, truth, prediction.astype(np.float32))
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", default_of(NAMES, "dice", "cross_entropy", "generalized_dice", "lovasz", "mcc"))
def test_samples_without_a_pixel_that_counts_have_no_value_and_no_gradient(name):
    mask = np.array([1, 0, 1], np.float32)
    value, gradient = evaluate(QUICK, lambda y, x: getattr(losses, name)(y, x, mask=mask), HARD, SOFT)
    assert (value[1], np.abs(gradient[1]).max()) == (0, 0)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


def test_logits_of_any_size_cost_what_they_say():
    """Sums of 1e25, which float32 has, but not 2^64 times that: only small denominators are taken in another unit."""
    loss = values("cross_entropy", [[1, 0]], np.array([[-1e25, 1e25]], np.float32), from_logits=True)
    np.testing.assert_allclose(loss, [1e25], rtol=1e-6)  # float32


def test_ratios_of_small_numbers_are_rounded_once():
    """Another unit is a power of 2, which moves no digit."""
    above, below = np.random.default_rng(0).uniform(0.5, 1, (2, 100)).astype(np.float32)
    small = ratios.ratio(*(ops.convert_to_tensor(part * np.float32(2.0**-100)) for part in (above, below)))
    whole = ratios.ratio(*map(ops.convert_to_tensor, (above, below)))
    np.testing.assert_array_equal(ops.convert_to_numpy(small), ops.convert_to_numpy(whole))


@pytest.mark.parametrize("name", default_of(NAMES, "dice", "cross_entropy", "focal", "mcc", "unified_focal"))
def test_saturated_logits_have_finite_gradients(name):
    x = np.where(HARD, 1e4, -1e4).astype(np.float32) * (-1) ** np.arange(3)[:, None, None]
    loss = functools.partial(getattr(losses, name), from_logits=True)
    value, gradient = evaluate(QUICK, loss, HARD, x.astype(np.float32))
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
        pytest.param(dice, _dice_of, "bfloat16", marks=pytest.mark.full),
        pytest.param(multiloss.losses.focal, _focal_of, "float16", marks=pytest.mark.full),
        pytest.param(multiloss.losses.mcc, _mcc_of, "bfloat16", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("mode", modes(QUICK, of=[mode for mode in FAST if mode in ("eager", "jit", "xla")]))
def test_masks_of_4096_in_half_precision(loss, expected, dtype, mode):
    truth = np.zeros((1, 4096, 4096), bool)
    truth[:, :2000] = True
    half = np.where(truth, 0.9, 0.05).astype(np.float32)
    exact = ops.convert_to_numpy(ops.cast(ops.cast(ops.convert_to_tensor(half), dtype), "float32"))[0, [0, -1], 0]
    value, gradient = evaluate(mode, lambda y, x: loss(y, ops.cast(x, dtype)), truth, half)
    wanted = expected(*exact.astype(np.float64), 2000 * 4096, 2096 * 4096)
    assert value == pytest.approx([wanted], abs=1e-6)  # promised are 1e-3; the sums are float32, in blocks
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST))
@pytest.mark.parametrize(
    "shape", [(2, 1024, 1024), (1, 1024, 1024, 3), (2, 1000, 999), (1, 1009, 1013), (1, 1009, 1013, 3)]
)
def test_long_sums_are_exact(mode, shape):
    """XLA on a CPU, left to itself, adds floats one by one. The last two sizes are no multiples of any block."""
    rng = np.random.default_rng(1)
    options = {"batch": True} if len(shape) == 3 else {"mode": "multilabel", "batch": True, "average": "micro"}
    truth, x = rng.integers(0, 2, shape), rng.uniform(0, 1, shape).astype(np.float32)
    tp, size = np.sum(truth * x.astype(np.float64)), np.sum(truth) + np.sum(x, dtype=np.float64)
    value, _ = evaluate(mode, lambda y, x: dice(y, x, **options), truth, x)
    # 1e-6 and not 1e-5, by which a million terms one by one are off.
    assert float(value) == pytest.approx(1 - 2 * tp / size, abs=5e-7)
