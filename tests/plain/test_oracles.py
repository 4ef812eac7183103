"""The oracles on hand-worked numbers and pandas objects, and their messages: they are what everything is held to."""

import numpy as np
import pandas as pd
import pytest

from multiloss import oracles


def test_pairwise_is_the_double_loop_of_its_users():
    """The loop as it was handed over, on one sum instead of rows."""
    rng = np.random.default_rng(3)
    user_id, encodings = rng.integers(0, 4, 15), rng.normal(size=(15, 3))
    total = 0.0
    for i in range(len(user_id)):
        for j in range(i + 1, len(user_id)):
            distance = np.linalg.norm(encodings[i] - encodings[j])
            total += distance if user_id[i] == user_id[j] else -distance
    assert oracles.pairwise_user_loss(user_id, encodings).sum() == pytest.approx(total, rel=1e-14)  # float64


def test_pairwise_worked_by_hand():
    points = [[0, 0], [3, 4], [0, 1]]
    np.testing.assert_allclose(
        oracles.pairwise_user_loss([7, 7, 9], points), [2, 2.5 - 18**0.5 / 2, -0.5 - 18**0.5 / 2]
    )
    np.testing.assert_array_equal(oracles.pairwise_user_loss([7, 7, 9], points, margin=2), [2, 1.5, -1.5])


@pytest.mark.parametrize(
    "ids",
    [
        ["ann", "ann", "bob"],
        [[1, 2], [1, 2], [1, 3]],
        np.array([[5], [5], [6]]),
        [2.0**53, 2.0**53, 5.0],
        pd.Series(["ann", "ann", "bob"], index=[7, 8, 9]),
        pd.DataFrame({"a": [1, 1, 1], "b": [2, 2, 3]}),
        np.array([2**64 - 1, 2**64 - 1, 2**64 - 2], dtype=np.uint64),
        [2**63, 2**63, 2**63 + 1],
        pd.DataFrame({"a": np.array([2**62, 2**62, 2**62 + 1]), "b": np.array([1, 1, 1], np.uint64)}),
    ],
)
def test_pairwise_takes_ids_of_any_kind(ids):
    points = [[0.0, 0], [3, 4], [0, 1]]
    expected = oracles.pairwise_user_loss([7, 7, 9], points)
    for given in (points, np.array(points, np.float16), pd.DataFrame(points, index=[3, 1, 2])):
        np.testing.assert_array_equal(oracles.pairwise_user_loss(ids, given), expected)


def test_contrastive_worked_by_hand():
    points = [[0, 0], [3, 4], [0, 1]]  # distances: 5, 1 and sqrt(18)
    far = (5 - 18**0.5) ** 2
    np.testing.assert_allclose(
        oracles.contrastive([7, 7, 9], points, pos_margin=1, neg_margin=5),
        [(16 + 16) / 4, (16 + far) / 4, (16 + far) / 4],
    )
    np.testing.assert_array_equal(oracles.contrastive([7, 7, 9], points), [25 / 4, 25 / 4, 0])
    np.testing.assert_array_equal(oracles.contrastive([7], points[:1]), [0])


def test_supcon_worked_by_hand():
    """Cosines of 1, 0 and 0; of a row of zeros, 0; a row without positives costs nothing."""
    both = np.log(np.exp(1 / 2) + 1) - 1 / 2
    np.testing.assert_allclose(
        oracles.supcon([7, 7, 9], [[1, 0], [2, 0], [0, 3]], temperature=2), [both, both, 0], rtol=1e-14
    )
    np.testing.assert_allclose(
        oracles.supcon([7, 7, 7, 7], [[1, 0], [1, 0], [0, 0], [0, 0]], temperature=1),
        [np.log(np.e + 2) - 1 / 3, np.log(np.e + 2) - 1 / 3, np.log(3), np.log(3)],
    )
    np.testing.assert_array_equal(oracles.supcon([7], [[1, 0]]), [0])


def test_dice_worked_by_hand():
    truth, soft = [[1, 1, 0], [1, 0, 0]], [[0.75, 0.25, 0.5], [1.0, 0.0, 0.5]]
    assert oracles.dice_coef(truth, soft, smooth=0) == 2 * 2 / (3 + 3)
    assert oracles.dice_coef(truth, soft, smooth=1) == 5 / 7
    assert oracles.dice_coef(truth, soft, smooth=0, thresh=0.3) == 2 * 2 / (3 + 4)
    assert oracles.dice_coef(pd.DataFrame(truth), pd.DataFrame(soft), smooth=1) == 5 / 7
    assert oracles.dice_coef([0], [0], smooth=0) == 1
    assert oracles.dice_loss(1, 0.3)(truth, soft) == -oracles.dice_coef(truth, soft, 1, 0.3)


X = np.zeros((3, 2))
ERRORS = [
    ("pairwise_user_loss", ([[[1]]], X), "`labels` must have shape [B] or [B, K]. Received shape: (1, 1, 1)"),
    ("pairwise_user_loss", (1, X), "`labels` must have shape [B] or [B, K]. Received shape: ()"),
    ("pairwise_user_loss", ([1, 2, 3], X[0]), "`embeddings` must have shape [B, D]. Received shape: (2,)"),
    (
        "pairwise_user_loss",
        ([1, 2], X),
        "`labels` and `embeddings` must have the same batch size. Received shapes: (2,) and (3, 2)",
    ),
    (
        "pairwise_user_loss",
        ([1, 2.5, 3], X),
        "`labels` must not be missing, and whole where it is a float. Received others",
    ),
    (
        "pairwise_user_loss",
        ([1, None, 3], X),
        "`labels` must not be missing, and whole where it is a float. Received others",
    ),
    (
        "pairwise_user_loss",
        ([1, np.nan, 3], X),
        "`labels` must not be missing, and whole where it is a float. Received others",
    ),
    ("pairwise_user_loss", ([1, 2, 3], X, {"margin": -1}), "`margin` must be None or >= 0. Received: -1"),
    (
        "contrastive",
        ([1, 2], X),
        "`labels` and `embeddings` must have the same batch size. Received shapes: (2,) and (3, 2)",
    ),
    (
        "contrastive",
        ([1, 2, 3], X, {"neg_margin": -1}),
        "`pos_margin` and `neg_margin` must be >= 0. Received: 0.0 and -1",
    ),
    (
        "contrastive",
        ([1, 2, 3], X, {"pos_margin": np.nan}),
        "`pos_margin` and `neg_margin` must be >= 0. Received: nan and 1.0",
    ),
    ("supcon", (1, X), "`labels` must have shape [B] or [B, K]. Received shape: ()"),
    ("supcon", ([1, 2, 3], X, {"temperature": 0}), "`temperature` must be > 0. Received: 0"),
    ("dice_coef", ([1, 0], [1]), "`y_true` and `y_pred` must have the same shape. Received shapes: (2,) and (1,)"),
    ("dice_coef", ([1], [1], {"smooth": -1}), "`smooth` must be >= 0. Received: -1"),
    ("dice_coef", ([1], [1], {"thresh": 1}), "`thresh` must be None or in (0, 1). Received: 1"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), ERRORS)
def test_errors(name, arguments, message):
    y, x, *parameters = arguments
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        getattr(oracles, name)(y, x, **dict(*parameters))
    assert str(caught.value) == message


def skeleton_by_a_loop(x, there, iterations):
    """As `oracles.overlap._skeleton`, pixel by pixel: neighbours are looked for one by one."""

    def over(x, best, cross):
        result = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            near = [tuple(np.add(i, step) - 1) for step in np.ndindex((3,) * x.ndim)]
            near = [j for j in near if all(0 <= k < n for k, n in zip(j, x.shape, strict=True)) and there[j]]
            values = [x[j] for j in near if not cross or np.sum(np.abs(np.subtract(i, j))) <= 1]
            result[i] = best(values) if values else 0.0
        return result

    def removed(x):
        return np.maximum(x - over(over(x, min, cross=True), max, cross=False), 0)

    result = removed(x)
    for _ in range(iterations):
        x = over(x, min, cross=True)
        result = result + np.maximum(removed(x) - result * removed(x), 0)
    return result


@pytest.mark.parametrize("shape", [(6, 7), (1, 5), (4, 3, 5)])
@pytest.mark.parametrize("kept", [1.0, 0.6, 0.0])
def test_skeletons_are_those_of_a_loop_over_pixels(shape, kept):
    rng = np.random.default_rng(0)
    there = rng.uniform(size=shape) < kept
    for x in (rng.uniform(size=shape), rng.integers(0, 2, shape).astype(float)):
        for iterations in (0, 2):
            np.testing.assert_array_equal(
                oracles.overlap._skeleton(x, there, iterations), skeleton_by_a_loop(x, there, iterations)
            )


# --- options of the overlap losses -----------------------------------------------------------------------------------

# Of two samples, four pixels and two classes, with true positives 1.5, 0.5 and 1, 2 and sizes 4, 2 and 2, 6.
TRUTH = np.moveaxis([[[1, 1, 0, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 1, 1]]], 1, -1)
PREDICTION = np.moveaxis([[[1, 0.5, 0.5, 0], [0.5, 0, 0, 0.5]], [[1, 0, 0, 0], [0.5] * 4]], 1, -1)
BOTH = {"mode": "multilabel", "smooth": 0}
OVERLAPS = sorted(set(oracles.overlap.__all__) - {"dice_coef", "dice_loss"})
PIXELWISE = {"cross_entropy", "focal"}
COMBINED = {"dice_cross_entropy", "dice_focal"}
WITHOUT_AVERAGE = {*PIXELWISE, "generalized_dice", "unified_focal"}
WITHOUT_SOFT_LABEL = {*PIXELWISE, "unified_focal", "lovasz", "mcc", "cldice"}

rng = np.random.default_rng(5)
IMAGES = rng.integers(0, 2, (2, 3, 4, 3))
SOFT = rng.uniform(0.1, 0.9, IMAGES.shape)
CLASSES = rng.integers(0, 3, IMAGES.shape[:-1])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1 / 4 + 1 / 2) / 2, (0 + 1 / 3) / 2]),
        ({"class_weight": [1, 3]}, [(1 / 4 + 3 / 2) / 4, (0 + 1) / 4]),
        ({"average": "micro"}, [1 - 4 / 6, 1 - 6 / 8]),
        ({"average": "micro", "class_weight": [1, 3]}, [1 - 6 / 10, 1 - 14 / 20]),
        ({"average": None}, [[1 / 4, 1 / 2], [0, 1 / 3]]),
        ({"average": None, "class_weight": [1, 0]}, [[1 / 4, 1 / 2], [0, 1 / 3]]),
        ({"average": None, "classes": [1]}, [[1 / 2], [1 / 3]]),
        ({"batch": True}, (1 / 6 + 3 / 8) / 2),
        ({"batch": True, "class_weight": [1, 3]}, (1 / 6 + 9 / 8) / 4),
        ({"batch": True, "average": "micro"}, 1 - 10 / 14),
        ({"batch": True, "average": "micro", "class_weight": [1, 3]}, 1 - 20 / 30),
        ({"batch": True, "average": None, "class_weight": [1, 3]}, [1 / 6, 3 / 8]),
    ],
)
def test_batch_and_average_worked_by_hand(options, expected):
    value = oracles.dice(TRUTH, PREDICTION, **BOTH, **options)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-15)
    assert isinstance(value, float if np.ndim(expected) == 0 else np.ndarray)
    if not options.get("batch"):
        assert oracles.dice(TRUTH[:0], PREDICTION[:0], **BOTH, **options).shape == (0, *np.shape(expected)[1:])


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("name", sorted(set(OVERLAPS) - WITHOUT_AVERAGE - COMBINED))
def test_values_of_classes_are_those_of_each_class_alone(name, batch):
    loss = getattr(oracles, name)
    each = loss(IMAGES, SOFT, mode="multilabel", average=None, batch=batch, class_weight=[0, 2, 3])
    alone = [loss(IMAGES[..., c], SOFT[..., c], batch=batch) for c in range(3)]
    np.testing.assert_allclose(each, np.stack(alone, axis=-1))
    assert loss(IMAGES, SOFT, mode="binary", average=None, batch=batch).shape == ((1,) if batch else (2, 1))


def test_pixels_of_combined_losses_have_no_average():
    for name, other in (("dice_cross_entropy", "cross_entropy"), ("dice_focal", "focal")):
        options = {**BOTH, "class_weight": [1, 3]}
        pixels = getattr(oracles, other)(TRUTH, PREDICTION, **options)
        for average, expected in (("macro", [1.75 / 4, 1 / 4]), ("micro", [0.4, 0.3])):
            value = getattr(oracles, name)(TRUTH, PREDICTION, average=average, **options)
            np.testing.assert_allclose(value, expected + pixels)


@pytest.mark.parametrize(
    ("empty", "expected"),
    [("penalize", 1 / 4), ("formula", 1 / 3), ("perfect", 0), ("worst", 1), ("skip", 0)],
)
def test_what_empty_says_of_a_class_without_truth(empty, expected):
    """Beside a class of the value 1 - (3 + 2) / (4 + 2) = 1/6."""
    y, x = np.array([[[1, 0], [1, 0], [0, 0], [0, 0]]]), [[[1, 1], [0.5, 0], [0.5, 0], [0, 0]]]
    options = {"mode": "multilabel", "smooth": 2, "empty": empty}
    np.testing.assert_allclose(oracles.dice(y, x, average=None, **options), [[1 / 6, expected]], atol=1e-15)
    mean = 1 / 6 if empty == "skip" else (1 / 6 + expected) / 2
    np.testing.assert_allclose(oracles.dice(y, x, **options), [mean])
    assert oracles.dice(y[..., 1], np.array(x)[..., 1], smooth=2, empty=empty) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "prediction", "options", "mode"),
    [
        (CLASSES, SOFT, {}, "multiclass"),
        (CLASSES > 0, SOFT, {}, "multiclass"),
        (CLASSES[..., None].astype(np.uint8), SOFT, {}, "multiclass"),
        (CLASSES[:, 0, 0], SOFT[:, 0, 0], {}, "multiclass"),
        (CLASSES[:, 0, :1], SOFT[:, 0, 0], {}, "multiclass"),
        (CLASSES, np.moveaxis(SOFT, -1, 1), {"data_format": "channels_first"}, "multiclass"),
        (CLASSES[:, None], np.moveaxis(SOFT, -1, 1), {"data_format": "channels_first"}, "multiclass"),
        (IMAGES, SOFT, {}, "binary"),
        (np.eye(3, dtype=int)[CLASSES], SOFT, {}, "binary"),
        (IMAGES * 1.0, SOFT, {}, "binary"),
        (IMAGES[..., :1], SOFT[..., :1], {}, "binary"),
        (IMAGES[:, 0, 0, 0], SOFT[:, 0, 0, 0], {}, "binary"),
    ],
)
def test_modes_that_are_inferred(truth, prediction, options, mode):
    for name in ("dice", "cross_entropy", "unified_focal", "dice_focal"):
        loss = getattr(oracles, name)
        expected = loss(truth, prediction, mode=mode, **options)
        np.testing.assert_array_equal(loss(truth, prediction, **options), expected)


def test_a_mode_that_is_inferred_worked_by_hand():
    expected = -np.log([0.5, 0.75]).mean()
    np.testing.assert_allclose(oracles.cross_entropy([[0, 1]], [[[0.5, 0.5], [0.25, 0.75]]]), [expected])


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize(
    ("truth", "prediction", "options"),
    [
        (CLASSES * 1.0, SOFT, {}),  # floats may be soft labels
        (CLASSES, SOFT[..., :1], {}),
        (IMAGES, SOFT, {"classes": [0]}),
        (IMAGES, SOFT, {"include_background": False}),
        (IMAGES, SOFT, {"class_weight": [1, 1, 1]}),
        (IMAGES, SOFT, {"mode": "binary", "class_weight": [1, 1, 1]}),
        (IMAGES, SOFT, {"mode": "multi"}),
        (IMAGES, SOFT, {"empty": "one"}),
    ],
)
def test_options_refused_by_all(name, truth, prediction, options):
    with pytest.raises(ValueError, match="must have the same shape" if not options else next(iter(options))):
        getattr(oracles, name)(truth, prediction, **options)


@pytest.mark.parametrize("name", OVERLAPS)
def test_options_refused_by_some(name):
    loss = getattr(oracles, name)
    refused = [{"over": "batch"}]
    refused += [{"average": "macro"}, {"average": None}] if name in WITHOUT_AVERAGE else []
    refused += [{"soft_label": False}] if name in WITHOUT_SOFT_LABEL else []
    for options in refused:
        with pytest.raises(TypeError, match="unknown options"):
            loss(IMAGES, SOFT, **options)
    wrong = [{"average": "mean"}] if name not in WITHOUT_AVERAGE else []
    wrong += [{"average": None}] if name in COMBINED else []
    wrong += [{"soft_label": True, "squared": True}] if name not in WITHOUT_SOFT_LABEL else []
    for options in wrong:
        with pytest.raises(ValueError, match=r"average|exclude each other"):
            loss(IMAGES, SOFT, **options)


def test_indices_of_no_class_worked_by_hand():
    y, x = [[0, 5, -1, 1]], np.full((1, 4, 2), 0.5)
    np.testing.assert_allclose(oracles.dice(y, x, smooth=0), [1 - 1 / 3])
    np.testing.assert_allclose(oracles.cross_entropy(y, x), [2 * np.log(2) / 4])
    np.testing.assert_allclose(oracles.dice(y, x, smooth=0, ignore_index=5), [1 - 1 / 2.5])
    np.testing.assert_allclose(oracles.cross_entropy(y, x, ignore_index=5), [2 * np.log(2) / 3])


NOTHING = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("nothing", NOTHING)
def test_what_has_no_weight_may_be_anything_worked_by_hand(nothing):
    y, x = [[1, 1, nothing]], [[1, 0.5, nothing]]
    np.testing.assert_allclose(oracles.dice(y, x, mask=[[1, 1, 0]], smooth=0), [1 - 3 / 3.5])
    y, x = [[0, 255]], [[[0, 0], [nothing, 1]]]
    np.testing.assert_allclose(oracles.cross_entropy(y, x, ignore_index=255, from_logits=True), [np.log(2)])


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("name", OVERLAPS)
def test_what_has_no_weight_may_be_anything(name, from_logits, nothing):
    loss, options = getattr(oracles, name), {"from_logits": from_logits}
    options |= {"hinge": True} if name == "lovasz" else {}
    gone = rng.uniform(size=CLASSES.shape) < 0.4
    x, y = np.where(gone[..., None], nothing, SOFT), np.where(gone[..., None], nothing, IMAGES)
    for mode in ("multiclass", "multilabel"):
        for truth, finite in ((y, IMAGES), *[(CLASSES, CLASSES)] * (mode == "multiclass")):
            expected = loss(finite, SOFT, mode=mode, mask=~gone, **options)
            np.testing.assert_array_equal(loss(truth, x, mode=mode, mask=~gone, **options), expected)
    marked = np.where(gone, 255, CLASSES)
    expected = loss(marked, SOFT, ignore_index=255, **options)
    np.testing.assert_array_equal(loss(marked, x, ignore_index=255, **options), expected)
    one = np.where(gone, nothing, SOFT[..., 0])
    expected = loss(IMAGES[..., 0], SOFT[..., 0], mask=~gone, **options)
    np.testing.assert_array_equal(loss(y[..., 0], one, mask=~gone, **options), expected)
    # Of pixels and classes.
    mask = np.array([1, 0, 2]) * np.ones(SOFT.shape)
    expected = loss(IMAGES, SOFT, mode="multilabel", mask=mask, **options)
    only = [np.where(mask == 0, nothing, part) for part in (IMAGES, SOFT)]
    np.testing.assert_array_equal(loss(*only, mode="multilabel", mask=mask, **options), expected)


def test_logits_of_a_class_without_weight_are_part_of_the_softmax():
    y, x, mask = [[0]], np.log([[[0.2, 0.3, 0.5]]]), [[[1, 1, 0]]]
    np.testing.assert_allclose(oracles.cross_entropy(y, x, mask=mask, from_logits=True), [-np.log(0.2)])
    x[0, 0, 2] = -np.inf
    np.testing.assert_allclose(oracles.cross_entropy(y, x, mask=mask, from_logits=True), [-np.log(0.4)])
    hinge = oracles.lovasz(y, x, mask=mask, from_logits=True, hinge=True)
    np.testing.assert_allclose(hinge, oracles.lovasz(y, x, classes=[0, 1], from_logits=True, hinge=True) * 2 / 3)
    # Its own value is that of the pixels where it counts.
    y, x, mask = [[0, 2]], np.zeros((1, 2, 3)), [[[1, 1, 0], [1, 1, 1]]]
    x[0, 0, 2] = np.nan
    options = {"mask": mask, "average": None, "from_logits": True}
    np.testing.assert_allclose(oracles.dice(y, x, smooth=0, **options), [[np.nan, np.nan, 1 - (2 / 3) / (4 / 3)]])
    np.testing.assert_allclose(oracles.lovasz(y, x, hinge=True, **options)[:, 2], [1])


def test_soft_labels_worked_by_hand():
    """Of which 1 is shared, of sizes of 1.5; in products it is 0.75. Of a second class, all."""
    y, x, soft = [[0.5, 1, 0]], [[0.5, 0.5, 0.5]], {"soft_label": True, "smooth": 0}
    np.testing.assert_allclose(oracles.dice(y, x, smooth=0), [1 - 1.5 / 3])
    np.testing.assert_allclose(oracles.dice(y, x, **soft), [1 - 2 / 3])
    np.testing.assert_allclose(oracles.dice(y, x, **soft, mask=[[2, 0, 1]]), [1 - 2 / 2.5])
    np.testing.assert_allclose(oracles.jaccard(y, x, **soft), [1 - 1 / 2])
    np.testing.assert_allclose(oracles.tversky(y, x, alpha=1, beta=3, **soft), [1 - 1 / 3])
    np.testing.assert_allclose(oracles.tversky(y, x, alpha=3, beta=0, **soft), [1 - 1 / 2.5])
    np.testing.assert_allclose(oracles.focal_tversky(y, x, alpha=1, beta=3, gamma=2, **soft), [4 / 9])
    np.testing.assert_allclose(oracles.log_cosh_dice(y, x, **soft), [np.log(np.cosh(1 / 3))])
    pixels = {"cross_entropy": oracles.cross_entropy(y, x), "focal": oracles.focal(y, x)}
    for name, value in pixels.items():
        np.testing.assert_allclose(getattr(oracles, f"dice_{name}")(y, x, **soft), 1 / 3 + value)
    y, x = np.array([[[0.5, 0.5], [1, 0], [0, 0]]]), np.array([[[0.5, 0.5], [0.5, 0], [0.5, 0]]])
    for weighting, expected in (("uniform", 1 - 3 / 4), ("simple", 1 - (2 / 3 + 1) / (3 / 3 + 1))):
        value = oracles.generalized_dice(y, x, weighting=weighting, mode="multilabel", **soft)
        np.testing.assert_allclose(value, [expected])
    for name in sorted(set(OVERLAPS) - WITHOUT_SOFT_LABEL - COMBINED):  # a label is its own best prediction
        parameters = {"mode": "multilabel", **soft}
        np.testing.assert_allclose(getattr(oracles, name)(SOFT, SOFT, **parameters), [0, 0], atol=1e-12)


def test_positive_weights_worked_by_hand():
    y, x = [[1, 0], [0.5, 0]], [[0.5, 0.25], [0.25, 0.5]]
    positive, negative = -np.log([[0.5, 1], [0.25, 1]]) * [[1, 0], [0.5, 0]], -np.log([[1, 0.75], [0.75**0.5, 0.5]])
    for weight in (0, 3):
        expected = np.mean(weight * positive + negative, axis=1)
        np.testing.assert_allclose(oracles.cross_entropy(y, x, pos_weight=weight), expected)
    y, x = [[[1, 1], [1, 0]]], [[[0.5, 0.25], [0.5, 0.5]]]
    losses = np.log(2) * np.array([(3 + 3) / 2, (5 * 2 + 1) / 2])  # of classes, weighted by 3 and 5
    options = {"mode": "multilabel", "pos_weight": [3, 5]}
    np.testing.assert_allclose(oracles.cross_entropy(y, x, **options), [losses.mean()])
    np.testing.assert_allclose(oracles.cross_entropy(y, x, classes=[1], **options), [losses[1]])
    np.testing.assert_allclose(oracles.cross_entropy(y, x, class_weight=[1, 3], **options), [losses @ [1, 3] / 4])
    smoothed = oracles.cross_entropy([[1]], [[0.5]], pos_weight=3, label_smoothing=0.5)
    np.testing.assert_allclose(smoothed, [(3 * 0.75 + 0.25) * np.log(2)])
    # Both by 2.
    np.testing.assert_allclose(
        oracles.cross_entropy(y, x, mode="multilabel", pos_weight=2), [np.log(2) * np.mean([2, (2 * 2 + 1) / 2])]
    )


def test_weighted_means_worked_by_hand():
    """Two pixels of class 0, of weight 1, and one of class 1, of weight 3; then the second sample, of class 1 alone."""
    y, x = [[0, 0, 1], [1, 1, 1]], [[[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]], [[0.75, 0.25]] * 3]
    options = {"class_weight": [1, 3], "weighted_mean": True}
    ln2 = np.log(2)
    np.testing.assert_allclose(oracles.cross_entropy(y, x, **options), [(1 + 2 + 3) * ln2 / 5, 2 * ln2])
    np.testing.assert_allclose(oracles.cross_entropy(y, x, batch=True, **options), (6 + 18) * ln2 / (5 + 9))
    mask = [[0, 1, 2], [0, 0, 0]]
    np.testing.assert_allclose(oracles.cross_entropy(y, x, mask=mask, **options), [(2 + 6) * ln2 / 7, 0])
    np.testing.assert_allclose(oracles.cross_entropy(y, x, class_weight=[1, 3]), [6 * ln2 / 3, 6 * ln2])
    # What labels weigh does not depend on their smoothing.
    smoothed = [(0.75 + 0.25 * 3) * ln2 for _ in range(2)]
    value = oracles.cross_entropy([[0, 0]], np.full((1, 2, 2), 0.5), label_smoothing=0.5, **options)
    np.testing.assert_allclose(value, [np.sum(smoothed) / 2])


def test_alpha_worked_by_hand():
    y, x = [[1, 0.25]], [[0.5, 0.25]]
    positive, negative = -np.log([0.5, 0.25]) * [0.5**2, 0.25 * 0.75**2], -np.log(0.75) * 0.75 * 0.25**2
    for alpha in (0, 0.25, 1):
        expected = (alpha * positive.sum() + (1 - alpha) * negative) / 2
        np.testing.assert_allclose(oracles.focal(y, x, alpha=alpha), [expected])
        both = [np.moveaxis([part, part], 0, -1) for part in (y, x)]
        np.testing.assert_allclose(oracles.focal(*both, mode="multilabel", alpha=alpha), [expected])
    np.testing.assert_allclose(oracles.focal(y, x), [(positive.sum() + negative) / 2])


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("cross_entropy", "binary", {"pos_weight": -1}),
        ("cross_entropy", "binary", {"pos_weight": np.nan}),
        ("cross_entropy", "binary", {"pos_weight": [1]}),
        ("cross_entropy", "multilabel", {"pos_weight": [1, 1]}),
        ("cross_entropy", "multilabel", {"pos_weight": [1, 1, -1]}),
        ("cross_entropy", "multiclass", {"pos_weight": 1}),
        ("cross_entropy", None, {"pos_weight": [1, 1, 1]}),
        ("cross_entropy", "binary", {"weighted_mean": True}),
        ("cross_entropy", "multilabel", {"weighted_mean": True, "class_weight": [1, 1, 1]}),
        ("cross_entropy", "multiclass", {"weighted_mean": True}),
        ("focal", "binary", {"alpha": 1.5}),
        ("focal", "multilabel", {"alpha": -0.5}),
        ("focal", "multiclass", {"alpha": 0.5}),
        ("focal", None, {"alpha": 0.5}),
    ],
)
def test_weights_refused(name, mode, options):
    y = CLASSES if mode in ("multiclass", None) else IMAGES
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        getattr(oracles, name)(y, SOFT, mode=mode, **options)
