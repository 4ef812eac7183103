"""What options of the overlap losses mean: masks, identities, empty truth, messages. The same on each backend: once."""

import re

import keras
import numpy as np
import pytest
from cases import CLASSES, FIRST_EMPTY, HARD, LOGITS, ONE_HOT, PARTS, SOFT
from frameworks import evaluate
from keras import ops
from overlap import CLASS_OF, CLOSE, EACH, NAMES, values

import multiloss
from multiloss import DiceCoefficient, DiceLoss, JaccardIndex, losses, oracles
from multiloss.losses import dice, jaccard, tversky

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
@pytest.mark.parametrize("batch", [False, True])
def test_masks_weight_pixels(name, mask, batch):
    options = {"mode": "multiclass", "mask": MASKS[mask], "batch": batch}
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
    loss = CLASS_OF[name](reduction="sum")
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


def test_means_over_what_a_mask_leaves_are_float64():
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return 1 * inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.convert_to_tensor(np.arange(7) < 3)

    y, x = rng.integers(0, 2, (7, 5)), rng.uniform(size=(7, 5))
    loss = DiceLoss(dtype="float64")(y, Mask(dtype="float64")(x))
    assert float(loss) == pytest.approx(oracles.dice(y, x)[:3].mean(), rel=1e-14)  # float64


# --- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"smooth": 1.0}, {"smooth": 2.0, "squared": True}, {"batch": True, "average": "micro"}]
)
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


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_the_order_of_classes_that_count_changes_nothing(batch, average):
    for name in ("dice", "cross_entropy", "lovasz"):
        options = {"mode": "multiclass", "class_weight": (1.0, 5.0, 20.0), "batch": batch}
        options |= {} if name == "cross_entropy" else {"average": average}
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
    loss = getattr(losses, name)
    value, gradient = evaluate("eager", lambda y, x: loss(y, x, **options), SOFT, SOFT)
    if best:
        # What float32 leaves of sums that cancel; elsewhere the gradient is a thousand times as much.
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
        pixels = name in ("cross_entropy", "dice_cross_entropy", "dice_focal", "focal")
        assert pixels or np.abs(value).max() < 1e-6
    else:
        assert np.abs(gradient).max() > 1e-3
    assert "soft labels, p = t is" in " ".join(CLASS_OF[name].__doc__.split())


def test_options_may_be_numbers_of_numpy():
    options = {"classes": np.array([2, 0]), "class_weight": np.array([1, 2, 3]), "ignore_index": np.int64(1)}
    plain = {"classes": (2, 0), "class_weight": (1.0, 2.0, 3.0), "ignore_index": 1}
    results = [values("dice", CLASSES, PARTS, mode="multiclass", **given) for given in (options, plain)]
    np.testing.assert_array_equal(*results)


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
    expected = {"penalize": 1 / 8, "formula": 1 / 2, "perfect": 0, "worst": 1 / 2, "skip": 0}
    for empty, value in expected.items():
        loss = dice(truth, prediction, mode="multilabel", smooth=0, empty=empty)
        # All sums are whole numbers, so that one division is rounded, to 6e-8.
        np.testing.assert_allclose(ops.convert_to_numpy(loss), [value], atol=1e-7)
    nothing = dice(truth * 0, prediction, mode="multilabel", smooth=0, empty="skip")
    np.testing.assert_array_equal(ops.convert_to_numpy(nothing), [0])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("cross_entropy", "focal")])  # of no ratios
@pytest.mark.parametrize("empty", ["penalize", "formula", "perfect", "worst", "skip"])
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
    options = {"label_smoothing": 0.1, "from_logits": True, "empty": "perfect"}
    np.testing.assert_allclose(
        values(name, FIRST_EMPTY, LOGITS, **options), getattr(oracles, name)(FIRST_EMPTY, LOGITS, **options), **CLOSE
    )


# --- classes and samples that do not count ---------------------------------------------------------------------------


def test_one_value_a_class():
    """`[B, C]`, or `[C]` of a whole batch; means are over all of them, and a weight of a sample is that of its row."""
    weights = np.array([1.0, 0.5, 2.0], np.float32)
    for name in ("dice", "lovasz", "focal_tversky", "mcc"):
        rows = getattr(oracles, name)(CLASSES, PARTS, average=None)
        assert rows.shape == (3, 3)
        np.testing.assert_allclose(values(name, CLASSES, PARTS, average=None), rows, **CLOSE)
        whole = values(name, CLASSES, PARTS, average=None, batch=True)
        np.testing.assert_allclose(whole, getattr(oracles, name)(CLASSES, PARTS, average=None, batch=True), **CLOSE)
        loss = CLASS_OF[name]
        assert float(loss(average=None)(CLASSES, PARTS)) == pytest.approx(rows.mean(), abs=CLOSE["atol"])
        weighted = float(loss(average=None)(CLASSES, PARTS, weights))
        assert weighted == pytest.approx((rows * weights[:, None]).mean(), abs=CLOSE["atol"])
        each = loss(average=None, reduction=None)(CLASSES, PARTS, weights)
        np.testing.assert_allclose(ops.convert_to_numpy(each), rows * weights[:, None], **CLOSE)
        whole_mean = float(loss(average=None, batch=True)(CLASSES, PARTS))
        assert whole_mean == pytest.approx(ops.convert_to_numpy(whole).mean(), abs=CLOSE["atol"])
        by_weight = loss(average=None, reduction="mean_with_sample_weight")(CLASSES, PARTS, weights)
        expected = (rows * weights[:, None]).sum() / (3 * weights.sum())
        assert float(by_weight) == pytest.approx(expected, abs=CLOSE["atol"])


def test_a_sample_without_truth_may_be_skipped():
    """The first of three has none, whatever is predicted of it: it is left out of the mean over samples, too."""
    rows, weights = oracles.dice(FIRST_EMPTY, SOFT), np.array([5.0, 1.0, 3.0], np.float32)
    np.testing.assert_allclose(values("dice", FIRST_EMPTY, SOFT, empty="skip"), [0, *rows[1:]], **CLOSE)
    skip = DiceLoss(empty="skip")
    assert float(skip(FIRST_EMPTY, SOFT)) == pytest.approx(rows[1:].mean(), abs=CLOSE["atol"])
    weighted = float(skip(FIRST_EMPTY, SOFT, weights))
    assert weighted == pytest.approx((rows * weights)[1:].sum() / 2, abs=CLOSE["atol"])
    assert float(DiceLoss(empty="skip", reduction="sum")(FIRST_EMPTY, SOFT)) == pytest.approx(
        rows[1:].sum(), abs=5e-6
    )  # some sums
    assert float(skip(0 * FIRST_EMPTY, SOFT)) == 0
    multi = DiceLoss(mode="multilabel", empty="skip", average=None)
    there = np.any(FIRST_EMPTY, axis=1)
    each = oracles.dice(FIRST_EMPTY, SOFT, mode="multilabel", average=None)
    assert float(multi(FIRST_EMPTY, SOFT)) == pytest.approx(each[there].mean(), abs=CLOSE["atol"])
    masked = np.array([True, True, False])

    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return 1 * inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.convert_to_tensor(masked)

    assert float(skip(FIRST_EMPTY, Mask()(SOFT))) == pytest.approx(rows[1], abs=CLOSE["atol"])
    # A sample of weight 0 is one of those that the sum is divided by, as everywhere in Keras.
    hidden = np.array([1.0, 0.0, 3.0], np.float32)
    assert float(skip(FIRST_EMPTY, SOFT, hidden)) == pytest.approx(3 * rows[2] / 2, abs=CLOSE["atol"])
    # Background alone, which has no weight, is no class.
    for given in ({"class_weight": (0, 1, 1)}, {"classes": (1, 2)}):
        value = float(DiceLoss(empty="skip", **given)(np.where(np.arange(3)[:, None], CLASSES, 0), PARTS))
        left = oracles.dice(CLASSES[1:], PARTS[1:], empty="skip", classes=(1, 2))
        assert value == pytest.approx(left.mean(), abs=CLOSE["atol"])


# --- the mode that is inferred ---------------------------------------------------------------------------------------


def test_integer_truth_beside_classes_is_multiclass():
    expected = oracles.dice(CLASSES, PARTS, mode="multiclass")
    for truth in (CLASSES, CLASSES[..., None], CLASSES.astype(np.uint8), CLASSES.tolist()):
        np.testing.assert_allclose(values("dice", truth, PARTS), expected, **CLOSE)
    np.testing.assert_allclose(values("dice", CLASSES, PARTS, class_weight=(1, 2, 3)).shape, (3,))
    first = np.moveaxis(PARTS, -1, 1)
    np.testing.assert_allclose(values("dice", CLASSES, first, data_format="channels_first"), expected, **CLOSE)
    images = np.random.default_rng(0).integers(0, 2, (2, 4, 4, 1))
    x = np.random.default_rng(1).uniform(size=images.shape).astype(np.float32)
    np.testing.assert_allclose(values("dice", images, x), oracles.dice(images, x, mode="binary"), **CLOSE)
    metric = DiceCoefficient(average=None)
    metric.update_state(CLASSES, PARTS)
    assert metric.result().shape == (3,)


def test_one_hot_truth_without_a_mode_warns_once():
    message = "`y_true` is one-hot along axis -1, and counts as a mask of one class, since `mode` is None"
    loss, truth = DiceLoss(), ops.convert_to_tensor(ONE_HOT)
    with pytest.warns(UserWarning, match=message):
        loss(truth, PARTS)
    loss(truth, PARTS)  # is not looked at again: a warning would be an error here
    loss(ONE_HOT, PARTS)
    with pytest.warns(UserWarning, match=message):
        dice(ONE_HOT, PARTS)
    with pytest.warns(UserWarning, match=message):
        DiceCoefficient().update_state(truth, PARTS)
    for mode in ("binary", "multiclass", "multilabel"):
        DiceLoss(mode=mode)(truth, PARTS)
    dice(ONE_HOT[0], PARTS[0])  # rows of a batch, not pixels
    dice(ONE_HOT * 0, PARTS)
    images, x = np.zeros((2, 3, 4, 4), int), np.full((2, 3, 4, 4), 0.5, np.float32)
    images[:, :, :, 0] = 1  # one-hot along its last axis, which is not that of classes
    dice(images, x, data_format="channels_first")
    with pytest.warns(UserWarning, match="one-hot along axis 1"):
        dice(images.swapaxes(1, 3), x.swapaxes(1, 3), data_format="channels_first")


def test_one_hot_truth_without_a_mode_warns_in_fit_where_values_are_seen():
    """On torch, which runs eagerly; Keras calls the loss with placeholders first."""
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(3, activation="softmax")])
    model.compile(loss=DiceLoss(), optimizer="sgd", run_eagerly=True)
    with pytest.warns(UserWarning, match="`y_true` is one-hot along axis -1"):
        model.fit(PARTS, ONE_HOT, verbose=0)
    model.fit(PARTS, ONE_HOT, verbose=0)


def test_tensors_without_values_are_not_looked_at():
    """torch traces with fake tensors, which have shapes alone."""
    from torch.fx.experimental.proxy_tensor import make_fx

    truth, x = ops.convert_to_tensor(ONE_HOT), ops.convert_to_tensor(PARTS)
    traced = make_fx(DiceLoss(), tracing_mode="fake")(truth, x)
    assert float(traced(truth, x)) == pytest.approx(float(DiceLoss(mode="binary")(truth, x)), abs=1e-7)  # the same


def test_a_mask_of_classes_of_logits_leaves_the_softmax_as_it_is():
    mask = np.ones(PARTS.shape, np.float32)
    mask[..., 2] = 0
    given = {"mode": "multiclass", "from_logits": True, "mask": mask}
    for name in ("dice", "cross_entropy"):
        expected = getattr(oracles, name)(ONE_HOT, np.log(PARTS), **given)
        np.testing.assert_allclose(values(name, ONE_HOT, np.log(PARTS), **given), expected, **CLOSE)


# --- messages --------------------------------------------------------------------------------------------------------

MULTI = {"mode": "multiclass"}
ERRORS = [
    (
        HARD,
        SOFT,
        {"mode": "multi"},
        ValueError,
        "`mode` must be one of None, 'binary', 'multiclass', 'multilabel'. Rec",
    ),
    (HARD, SOFT, {"batch": "yes"}, TypeError, "`batch` must be True or False. Received: 'yes'"),
    (HARD, SOFT, {"average": "weighted"}, ValueError, "`average` must be one of None, 'macro', 'micro'. Received"),
    (HARD, SOFT, {"squared": True, "soft_label": True}, ValueError, "`squared=True` and `soft_label=True` exclude"),
    (1, 0.5, {}, ValueError, "`y_pred` must have shape [B, ...]."),
    (CLASSES[:, :-1], PARTS, MULTI, ValueError, "`y_true` and `y_pred` must have the same shape."),
    (CLASSES, PARTS, {**MULTI, "class_weight": {0: 1, 1: 1, 2: 1}}, TypeError, "`class_weight` must be None or a seq"),
    (CLASSES, PARTS, {**MULTI, "class_weight": np.ones((3, 3))}, TypeError, "`class_weight` must be None or a seq"),
    (CLASSES, PARTS, {**MULTI, "class_weight": np.ones(())}, TypeError, "`class_weight` must be None or a sequence"),
    (CLASSES, PARTS, {**MULTI, "classes": [float("inf")]}, ValueError, "`classes` must be class indices >= 0."),
    (CLASSES, PARTS, {**MULTI, "ignore_index": 2**31 - 1}, ValueError, "`ignore_index` must be an int32"),
    (HARD, SOFT, {"mode": np.array(["binary"])}, ValueError, "`mode` must be one of None, 'binary',"),
    (HARD, SOFT, {"empty": 1}, ValueError, "`empty` must be one of 'penalize', 'formula', 'perfect', 'worst', 'skip'."),
    (
        HARD,
        SOFT,
        {"data_format": "NCHW"},
        ValueError,
        "`data_format` must be one of None, 'channels_last', 'channels_first'.",
    ),
    (HARD, SOFT, {"squared": 1}, TypeError, "`squared` must be True or False. Received: 1"),
    (
        HARD,
        SOFT,
        {"alpha": 1},
        TypeError,
        "DiceLoss has no argument `alpha`. It takes: mode, from_logits, batch, average, classes,",
    ),
    (HARD, SOFT, {"classes": [0]}, ValueError, "`classes` needs a class axis"),
    (
        HARD,
        SOFT,
        {"mode": "binary", "include_background": False},
        ValueError,
        "`include_background` needs a class axis: `mode` 'multiclass' or 'multilabel'. Received: `mode` 'binary'",
    ),
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
    (
        CLASSES,
        np.moveaxis(PARTS, -1, 1),
        MULTI,
        ValueError,
        "`y_true` and `y_pred` must have the same shape. Received shapes: (3, 5) and (3, 3, 5). The axis of classes is "
        "-1, by `data_format`: pass data_format='channels_first' for the other order",
    ),
    (
        CLASSES,
        PARTS,
        {"mode": "multilabel"},
        ValueError,
        "`y_true` and `y_pred` must have the same shape. Received shapes: (3, 5) and (3, 5, 3). Class indices need "
        "mode='multiclass'",
    ),
    (
        HARD,
        SOFT,
        {"class_weight": [1, 1, 1]},
        ValueError,
        "`class_weight` needs a class axis: `mode` 'multiclass' or 'multilabel'. Received: 'binary', inferred from the",
    ),
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
    (
        CLASSES * 0.5,
        PARTS,
        MULTI,
        ValueError,
        "`y_true` must have whole class indices from 0 to 2, the classes of `y_pred`, but for `ignore_index`. Received "
        "values that are not whole numbers of 32 bits. Soft labels need the shape of `y_pred`.",
    ),
    (
        CLASSES[..., None] * 1.0,
        PARTS,
        {},
        ValueError,
        "`mode` must be 'multiclass' for class indices of floats with an axis of 1. Received: None, for shapes",
    ),
    (
        ONE_HOT,
        np.moveaxis(PARTS, -1, 1),
        MULTI,
        ValueError,
        "Received shapes: (3, 5, 3) and (3, 3, 5). Their axes are in another order: `data_format` tells that of the",
    ),
    (2 * HARD - 1, SOFT, {}, ValueError, "from -1 to 1. Labels of -1 and 1 are 0 and 1 as `(y_true + 1) / 2`."),
    (CLASSES + 1, PARTS, {}, ValueError, "from 1 to 3. Subtract 1 from labels 1 to 3. `ignore_index` names a label"),
    (CLASSES * 200, PARTS, {}, ValueError, "from 0 to 400. `ignore_index` names a label that does not count. Divide"),
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
        ("focal_tversky", {"gamma": 0}, ValueError, "`gamma` must be a finite number >= 1.2e-38. Received: 0"),
        ("focal", {"gamma": -1}, ValueError, "`gamma` must be a finite number >= 0. Received: -1"),
        ("focal", {"smooth": 1}, TypeError, "FocalLoss has no argument `smooth`. It takes: gamma, alpha, mode,"),
        ("focal", {"alpha": 2}, ValueError, "`alpha` must be None or a number in [0, 1]. Received: 2"),
        (
            "cross_entropy",
            {"pos_weight": [1, -1]},
            ValueError,
            "`pos_weight` must be a finite number >= 0. Received: -1",
        ),
        ("cross_entropy", {"pos_weight": "2"}, TypeError, "`pos_weight` must be None, a number >= 0 or a sequence of"),
        ("cross_entropy", {"weighted_mean": 1}, TypeError, "`weighted_mean` must be True or False. Received: 1"),
        ("mcc", {"smooth": (1, 2)}, ValueError, "`smooth` must be one number for"),
        (
            "generalized_dice",
            {"weighting": "cube"},
            ValueError,
            "`weighting` must be one of 'square', 'simple', 'uniform'.",
        ),
        (
            "generalized_dice",
            {"average": "micro"},
            TypeError,
            "GeneralizedDiceLoss has no argument `average`. It takes",
        ),
        ("lovasz", {"hinge": True}, ValueError, "`hinge=True` takes `from_logits=True` and `mode` 'binary' or"),
        ("lovasz", {"hinge": 1}, TypeError, "`hinge` must be True or False. Received: 1"),
        ("cldice", {"iterations": 0.5}, ValueError, "`iterations` must be an integer >= 0. Received: 0.5"),
        ("unified_focal", {"weight": 2}, ValueError, "`weight` must be a number in [0, 1]. Received: 2"),
        ("unified_focal", {"gamma": 1}, ValueError, "`gamma` must be a number in [0, 1). Received: 1"),
        ("unified_focal", {"symmetric": 1}, TypeError, "`symmetric` must be True or False. Received: 1"),
        ("unified_focal", {"average": "micro"}, TypeError, "UnifiedFocalLoss has no argument `average`. It takes"),
        ("dice_focal", {"average": None}, ValueError, "`average` must be 'macro' or 'micro' in a sum with a loss of"),
        ("dice_focal", {"dice_weight": -1}, ValueError, "`dice_weight` must be a finite number >= 0. Received: -1"),
    ],
)
def test_errors_of_parameters(name, parameters, error, message):
    with pytest.raises(error, match=re.escape(message)):
        getattr(losses, name)(HARD, SOFT, **parameters)
    with pytest.raises(error, match=re.escape(message)):
        CLASS_OF[name](**parameters)


def test_oracles_too_refuse_squares_with_unequal_weights():
    with pytest.raises(ValueError, match=re.escape(f"{UNEQUAL}alpha=0.3, beta=0.7")):
        oracles.focal_tversky(HARD, SOFT, squared=True)


ANOTHER_MODE = {
    "`pos_weight` is for `mode` 'binary' and 'multilabel'. Received: 'multiclass'": (
        "cross_entropy",
        {"pos_weight": 2},
    ),
    "`alpha` is for `mode` 'binary' and 'multilabel'. Received: 'multiclass'": ("focal", {"alpha": 0.2}),
    "`weighted_mean` is for `mode` 'multiclass'. Received: 'multilabel'": (
        "cross_entropy",
        {"mode": "multilabel", "weighted_mean": True, "class_weight": (1, 2, 3)},
    ),
    "`weighted_mean=True` needs `class_weight`. Received: None": ("cross_entropy", {"weighted_mean": True}),
    "`pos_weight` must be one number, or one for each of 3 classes. Received: 2": (
        "cross_entropy",
        {"mode": "multilabel", "pos_weight": (1, 2)},
    ),
    "`hinge=True` takes `mode` 'binary' or 'multilabel'. Received: 'multiclass', inferred": (
        "lovasz",
        {"hinge": True, "from_logits": True},
    ),
}


@pytest.mark.parametrize("message", ANOTHER_MODE)
def test_arguments_of_a_mode_are_refused_in_others(message):
    name, options = ANOTHER_MODE[message]
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(losses, name)(ONE_HOT if options.get("mode") == "multilabel" else CLASSES, PARTS, **options)


@pytest.mark.parametrize("name", ["reduction", "name", "dtype", "across_replicas"])
def test_functions_do_not_take_what_is_made_of_their_values(name):
    with pytest.raises(
        TypeError, match=re.escape(f"`{name}` is an argument of the class: the function returns values")
    ):
        dice(HARD, SOFT, **{name: None})


def test_sums_take_any_loss_of_keras(tmp_path):
    bce, tversky = keras.losses.BinaryCrossentropy(label_smoothing=0.1), keras.losses.Tversky()
    loss = multiloss.CombinedLoss([bce, DiceLoss(), multiloss.dice_loss(), tversky], weights=[0.5, 1, 2, 1])
    weights = np.array([1.0, 0.5, 2.0], np.float32)
    y, x = HARD[..., 0].astype(np.float32), SOFT[..., 0]
    for given in (None, weights):
        parts = [float(part(y, x, given)) for part in (bce, DiceLoss(), multiloss.dice_loss(), tversky)]
        assert float(loss(y, x, given)) == pytest.approx(np.dot([0.5, 1, 2, 1], parts), abs=5e-6)  # float32
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear")])
    model.compile(loss=loss)
    before = model.evaluate(x, y, verbose=0)
    assert before == pytest.approx(float(loss(y, x)), abs=5e-6)  # float32, as above
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").evaluate(x, y, verbose=0) == before


def test_errors_of_the_others():
    with pytest.raises(ValueError, match=re.escape("`y_pred` must have two or three axes of pixels. Received: 1")):
        multiloss.losses.cldice(HARD[..., 0], SOFT[..., 0])
    with pytest.raises(
        TypeError, match=re.escape("`losses` must be instances of keras.losses.Loss. Received: function")
    ):
        multiloss.CombinedLoss([keras.losses.dice])
    with pytest.raises(TypeError, match=re.escape("`losses` must be a sequence. Received: DiceLoss")):
        multiloss.CombinedLoss(DiceLoss())
    with pytest.raises(ValueError, match=re.escape("`losses` must be one or more. Received: none")):
        multiloss.CombinedLoss([])
    with pytest.raises(ValueError, match=re.escape("`losses` must have values of one shape")):
        multiloss.CombinedLoss([DiceLoss(), DiceLoss(reduction=None)])(HARD, SOFT)
    with pytest.raises(ValueError, match=re.escape("`weights` must be one for each of 1 losses. Received: 2")):
        multiloss.CombinedLoss([DiceLoss()], [1, 2])
    message = "`average` must be one of 'macro', 'micro', 'weighted', None. Received: 'all'"
    with pytest.raises(ValueError, match=re.escape(message)):
        DiceCoefficient(average="all")
    with pytest.raises(TypeError, match=re.escape("got an unexpected keyword argument 'smooth'")):
        JaccardIndex(smooth=1)


def test_logits_are_what_they_say():
    probabilities = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    for name in NAMES:
        expected = getattr(oracles, name)(HARD, probabilities)
        # Sigmoids and logarithms of float32, then sums over some dozen pixels.
        np.testing.assert_allclose(values(name, HARD, LOGITS, from_logits=True), expected, rtol=1e-5, atol=1e-6)
