"""What options of metrics exclude, label maps as predictions, and pictures of confusion matrices."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from multiloss import DiceLoss
from multiloss.metrics import ConfusionMatrix, DiceCoefficient, JaccardIndex, MatthewsCorrelation, Recall

rng = np.random.default_rng(0)
TRUTH = rng.integers(0, 3, (4, 5, 6))
FOUND = rng.integers(0, 3, (4, 5, 6))
ONE_HOT = np.eye(3, dtype=int)[FOUND]


# Quotients of float32 round to some 6e-8.
CLOSE = {"rel": 0, "abs": 1e-6}


def iou(truth, found):
    return np.mean([np.sum((truth == c) & (found == c)) / np.sum((truth == c) | (found == c)) for c in range(3)])


def updated(metric, *batch):
    metric.update_state(*batch)
    return metric


LABEL_MAPS = {
    "lists": (TRUTH.tolist(), FOUND.tolist()),
    "whole floats": (TRUTH.astype(np.float32), FOUND.astype(np.float32)),
    "bytes": (TRUTH.astype(np.uint8), FOUND.astype(np.uint8)),
    "an axis of one class": (TRUTH[..., None], FOUND[..., None]),
    "an axis of one class in predictions": (TRUTH, FOUND[..., None]),
    "one-hot truth": (np.eye(3, dtype=int)[TRUTH], FOUND),
    "one-hot truth, an axis of one class in predictions": (np.eye(3, dtype=int)[TRUTH], FOUND[..., None]),
}


@pytest.mark.parametrize("form", LABEL_MAPS)
def test_label_maps_in_every_form(form):
    for kind in (JaccardIndex, ConfusionMatrix):
        result = updated(kind(sparse_y_pred=True, num_classes=3), *LABEL_MAPS[form]).result()
        alone = updated(kind(mode="multiclass"), TRUTH, ONE_HOT.astype(np.float32)).result()
        np.testing.assert_array_equal(ops.convert_to_numpy(result), ops.convert_to_numpy(alone))
    metric = updated(JaccardIndex(sparse_y_pred=True, num_classes=3), *LABEL_MAPS[form])
    assert float(metric.result()) == pytest.approx(iou(TRUTH, FOUND), **CLOSE)


def test_label_maps_channels_first():
    for truth in (TRUTH, np.moveaxis(np.eye(3, dtype=int)[TRUTH], -1, 1)):
        for found in (FOUND, FOUND[:, None]):
            metric = JaccardIndex(sparse_y_pred=True, num_classes=3, data_format="channels_first")
            assert float(updated(metric, truth, found).result()) == pytest.approx(iou(TRUTH, FOUND), **CLOSE)


def test_integers_one_hot_are_predictions():
    for truth in (TRUTH, np.eye(3, dtype=int)[TRUTH]):
        value = float(updated(JaccardIndex(mode="multiclass"), truth, ONE_HOT).result())
        assert value == pytest.approx(iou(TRUTH, FOUND), **CLOSE)
    DiceLoss(mode="multiclass")(TRUTH, ONE_HOT)


@pytest.mark.parametrize(
    "call",
    [
        JaccardIndex(mode="multiclass").update_state,
        JaccardIndex(mode="multiclass", ignore_index=255).update_state,
        DiceLoss(mode="multiclass"),
    ],
)
@pytest.mark.parametrize("most", [2, 3])
def test_label_maps_that_were_not_said_to_be_are_refused(call, most):
    """Of two classes, too, whose indices are 0 and 1."""
    message = (
        "`y_pred` must have probabilities of classes along axis -1 in multiclass mode. Received integers of the shape "
        "of `y_true`, (4, 5, 6), that are not one-hot there (in a model, where nothing is known of values at first, "
        "make one-hot ones floats). Metrics take class indices as predictions with `sparse_y_pred=True` and "
        "`num_classes`; a loss cannot be trained with them"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        call(TRUTH % most, FOUND % most)


def test_integers_in_a_model_are_refused_with_what_to_do():
    """There they have no values, on torch neither, as Keras calls metrics with placeholders first."""
    model = keras.Sequential([keras.Input((5, 6, 3), dtype="uint8"), keras.layers.Identity()])
    model.compile(loss=lambda y, x: ops.zeros(ops.shape(x)[:1]), metrics=[JaccardIndex(mode="multiclass")])
    bits = ONE_HOT.astype("uint8")
    with pytest.raises(ValueError, match=r"in a model, .*, make one-hot ones floats"):
        model.evaluate(bits, bits, verbose=0)


def test_results_beyond_their_range_are_nan():
    """Masks of 255 that nobody checked."""
    for kind in (DiceCoefficient, JaccardIndex, Recall, MatthewsCorrelation):
        for options in ({}, {"average": "micro"}, {"samplewise": True}):
            metric = kind(mode="multilabel", validate=False, **options)
            metric.update_state(255 * np.eye(3)[TRUTH], np.eye(3)[TRUTH])
            value = float(metric.result())
            assert np.isnan(value) or -1 <= value <= 1
            assert np.isnan(value) or kind in (Recall, MatthewsCorrelation)
    metric = JaccardIndex(sparse_y_pred=True, num_classes=3, validate=False)
    metric.update_state(TRUTH, np.where(FOUND == 0, 9, FOUND))  # which is no class
    each = [np.sum((c == TRUTH) & (c == FOUND)) / np.sum((c == TRUTH) | (c == FOUND)) for c in (1, 2)]
    value = np.mean([0, *each])
    assert float(metric.result()) == pytest.approx(value, **CLOSE)
    matrix = ConfusionMatrix(sparse_y_pred=True, num_classes=3, validate=False)
    matrix.update_state(TRUTH, np.where(FOUND == 0, 9, FOUND))
    columns = [np.sum(c == FOUND) * (c > 0) for c in range(3)]
    np.testing.assert_array_equal(ops.convert_to_numpy(matrix.result()).sum(axis=0), columns)


def test_counts_of_masks_of_255_are_not_empty():
    """Soft counts of them are below 0."""
    for kind in (DiceCoefficient, JaccardIndex):
        for options in ({}, {"average": "micro"}, {"samplewise": True}):
            metric = kind(mode="multilabel", validate=False, thresh=None, **options)
            metric.update_state(255 * np.eye(3)[TRUTH], 255 * np.eye(3)[FOUND])
            assert np.isnan(float(metric.result()))


@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
def test_values_out_of_range_that_are_not_read_make_a_confusion_matrix_nan(mode):
    """Tensors are read until a call had data."""
    truth, found = (ops.convert_to_tensor(np.eye(3)[each].astype("float32")) for each in (TRUTH, FOUND))
    matrix = updated(ConfusionMatrix(mode=mode), truth, found)
    assert np.isfinite(ops.convert_to_numpy(matrix.result())).all()
    assert np.isnan(ops.convert_to_numpy(updated(matrix, truth, 9 * found).result())).all()


def test_rounding_that_is_let_through_does_not_leave_the_range():
    """Probabilities may be the number of bfloat16 above 1."""
    for kind in (DiceCoefficient, JaccardIndex, Recall):
        metric = kind(mode="multilabel", thresh=None)
        metric.update_state(np.ones((2, 3, 2)), np.full((2, 3, 2), 1 + 2**-7, np.float32))
        assert float(metric.result()) == 1


def test_a_label_of_a_mask_is_no_class():
    """What is ignored are zeros, or ones, and not class 0 or class 1."""
    mask, found = TRUTH % 2, FOUND % 2 * 1.0
    for options in ({}, {"mode": "binary"}, {"mode": "multilabel", "samplewise": True}):
        metric = Recall(ignore_index=0, **options)
        value = [np.sum(t * p) / np.sum(t) for t, p in zip(mask, found, strict=True)]
        value = np.mean(value) if metric.samplewise else np.sum(mask * found) / np.sum(mask)
        axis = (Ellipsis, None) if metric.mode == "multilabel" else Ellipsis
        assert float(updated(metric, mask[axis], found[axis]).result()) == pytest.approx(value, **CLOSE)
    for ignored, value in ((0, [np.mean(found[mask == 1] == 1)] * 3), (1, [0] * 3)):
        metric = JaccardIndex(mode="multilabel", ignore_index=ignored, average=None)
        each = updated(metric, np.stack([mask] * 3, -1), np.stack([found] * 3, -1)).result()
        np.testing.assert_allclose(ops.convert_to_numpy(each), value, rtol=0, atol=CLOSE["abs"])


def test_nan_beside_probabilities_has_no_class():
    """The most probable one would be another on each backend."""
    found = np.eye(3, dtype=np.float32)[FOUND]
    found[0, 0, 0] = 0.25, np.nan, 0.75
    for logits in (False, True):
        options = {"mode": "multiclass", "from_logits": logits}
        assert np.isnan(float(updated(JaccardIndex(classes=(2,), **options), TRUTH, found).result()))
        assert np.isnan(ops.convert_to_numpy(updated(ConfusionMatrix(**options), TRUTH, found).result())).sum() == 1


@pytest.mark.parametrize(
    ("metric", "state", "received"),
    [
        (JaccardIndex(), JaccardIndex(), "JaccardIndex"),
        (JaccardIndex(), [[[1.0], [0.0], [0.0], [0.0]]], "shape (1, 4, 1)"),
        (JaccardIndex(samplewise=True, average=None), np.zeros((4, 2)), "shape (4, 2)"),
        (ConfusionMatrix(), np.zeros((4, 2)), "shape (4, 2)"),
    ],
)
def test_what_is_no_state_is_refused(metric, state, received):
    with pytest.raises(
        TypeError, match=re.escape(f"`states` must be arrays that `state()` returned. Received: {received}")
    ):
        metric.merge_state(state)


MISTAKES = {
    "average": (
        {"average": "binary"},
        "`average` must be one of 'macro', 'micro', 'weighted', None. Received: 'binary'",
    ),
    "empty": (
        {"empty": "penalize"},
        "`empty` must be one of 'skip_unseen', 'skip', 'formula', 'worst'. Received: 'pen",
    ),
    "thresh": (
        {"mode": "multiclass", "thresh": 0.3},
        "`thresh` must be left at its default, or be None for soft counts, for classes that exclude each other: the "
        "most probable one is the label. Received: 0.3",
    ),
    "num_classes of no number": ({"num_classes": 1.5}, "`num_classes` must be None or an integer >= 1. Received: 1.5"),
    "several numbers of classes": (
        {"num_classes": 3, "class_names": ["a", "b"]},
        "`num_classes` must be as many as are named or weighted. Received: 3 of `num_classes`, 2 of `class_names`",
    ),
    "classes of a mask": (
        {"num_classes": 3, "mode": "binary"},
        "`num_classes` of 3 classes needs a class axis. Received: 'binary'",
    ),
    "equal names": ({"class_names": ["a", "a"]}, "`class_names` must be different. Received: ['a', 'a']"),
    "sparse": ({"sparse_y_pred": True}, "`num_classes` must be given for `sparse_y_pred=True`. Received: None"),
    "sparse logits": (
        {"sparse_y_pred": True, "num_classes": 3, "from_logits": True},
        "`sparse_y_pred=True` is for class indices, of mode='multiclass'. Received: from_logits=True",
    ),
    "sparse labels": (
        {"sparse_y_pred": True, "num_classes": 3, "mode": "multilabel"},
        "`sparse_y_pred=True` is for class indices, of mode='multiclass'. Received: mode='multilabel'",
    ),
    "weights of weights": (
        {"average": "weighted", "class_weight": [1, 2]},
        "`class_weight` must be None for average='weighted' of JaccardIndex",
    ),
    "classes beyond": (
        {"num_classes": 2, "classes": (0, 2)},
        "`classes` must be less than 2 classes. Received: (0, 2)",
    ),
    "background alone": (
        {"num_classes": 1, "mode": "multilabel", "include_background": False},
        "`include_background=False` leaves no class of 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_options_that_exclude_each_other(mistake):
    options, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex(**options)


def test_options_of_one_metric():
    with pytest.raises(ValueError, match="`class_weight` must be None for average='micro' of MatthewsCorrelation"):
        MatthewsCorrelation(average="micro", class_weight=[1, 2])
    with pytest.raises(ValueError, match="`normalize` must be one of 'true', 'pred', 'all', None"):
        ConfusionMatrix(normalize="rows")
    with pytest.raises(TypeError, match=r"`thresh` must be a number in \(0, 1\)\. Received: None"):
        ConfusionMatrix(thresh=None)
    for names in ("abc", [], [1, 2]):
        with pytest.raises(TypeError, match="`class_names` must be None or a sequence of strings, one a class"):
            JaccardIndex(class_names=names)
    for kind, options in ((JaccardIndex, {"average": None}), (ConfusionMatrix, {})):
        with pytest.raises(ValueError, match="`num_classes` must be given for a result before the first update"):
            kind(**options).result()


def test_batches_that_do_not_fit_the_options():
    found = ONE_HOT.astype(np.float32)
    with pytest.raises(ValueError, match=re.escape("Received: 0.3")):
        JaccardIndex(thresh=0.3).update_state(TRUTH, found)
    message = "`y_pred` must have 4 classes, as many as `num_classes`, `class_names` or `class_weight` has. Received: 3"
    with pytest.raises(ValueError, match=message):
        JaccardIndex(num_classes=4).update_state(TRUTH, found)
    message = (
        "`class_names` of 2 classes needs `mode` 'multiclass' or 'multilabel', or `sparse_y_pred=True` if predictions "
        "are class indices. Received: 'binary', inferred from the shapes of `y_true` and `y_pred`"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex(class_names=["a", "b"]).update_state(TRUTH % 2, FOUND % 2)
    message = "`y_pred` must have whole class indices from 0 to 2. Received values from 0 to 255. "
    message += "`num_classes` is the number of all classes. `validate=False` takes any values"
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex(sparse_y_pred=True, num_classes=3).update_state(TRUTH, np.where(FOUND == 1, 255, FOUND))
    message = "`y_pred` must have whole class indices from 0 to 2. Received values from 0 to 3"
    with pytest.raises(ValueError, match=re.escape(message)):  # indices from 1 on
        JaccardIndex(sparse_y_pred=True, num_classes=3).update_state(TRUTH, FOUND + 1)
    message = (
        "`y_pred` must have whole class indices from 0 to 2. Received values that are not whole numbers of 32 bits. "
        "Probabilities need `sparse_y_pred=False`. `validate=False` takes any values"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex(sparse_y_pred=True, num_classes=3).update_state(TRUTH, FOUND + 0.5)
    message = (
        "`y_pred` must be class indices of the shape of `y_true`, (4, 5, 6), for `sparse_y_pred=True`. Received shape: "
        "(4, 5, 6, 3). Probabilities need `sparse_y_pred=False`"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex(sparse_y_pred=True, num_classes=3).update_state(TRUTH, found)
    message = (
        "`y_true` must have 0 and 1, or soft labels between. Received values from 0 to 2. Class indices need "
        "predictions `[B, ..., C]`, and truth without their last axis, or, in metrics, `sparse_y_pred=True`"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex().update_state(TRUTH, FOUND)
    message = "Logits need `from_logits=True`, or a sigmoid or softmax in the model"
    with pytest.raises(ValueError, match=re.escape(message)):
        JaccardIndex().update_state(TRUTH, 9 * found - 4)
    metric = updated(JaccardIndex(), TRUTH, found)
    message = "`y_pred` must have the classes of the batches before, for sums of shape (4, 3). Received: 4 classes"
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.update_state(TRUTH, np.eye(4, dtype=np.float32)[FOUND])
    with pytest.raises(ValueError, match=r"`y_pred` must have 2 classes, as many as `class_names`\. Received: 3"):
        ConfusionMatrix(class_names=["a", "b"]).update_state(TRUTH, found)
    message = "`sample_weight` must be of pixels for a confusion matrix. Received one of classes"
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(mode="multiclass").update_state(TRUTH, found, np.ones_like(found))


# --- pictures --------------------------------------------------------------------------------------------------------


def texts(axes):
    return [text.get_text() for text in axes.texts], [tick.get_text() for tick in axes.get_xticklabels()]


@pytest.mark.full
def test_a_picture_has_the_numbers_and_the_names():
    from matplotlib import pyplot

    names = ["background", "liver", "tumour"]
    matrix = updated(ConfusionMatrix(class_names=names), TRUTH, ONE_HOT.astype(np.float32))
    numbers = [str(int(number)) for number in ops.convert_to_numpy(matrix.result()).ravel()]
    assert texts(matrix.plot()) == (numbers, names)
    _, own = pyplot.subplots()
    assert matrix.plot(own) is own
    shares = updated(ConfusionMatrix(normalize="all", mode="multiclass"), TRUTH, ONE_HOT.astype(np.float32))
    numbers = [f"{number:.2f}" for number in ops.convert_to_numpy(shares.result()).ravel()]
    assert texts(shares.plot()) == (numbers, ["0", "1", "2"])
    one = updated(ConfusionMatrix(class_names=["cell"]), TRUTH % 2, FOUND % 2 * 1.0)
    assert texts(one.plot())[1] == ["not cell", "cell"]
    for mode in ("binary", None):
        two = updated(ConfusionMatrix(class_names=["cell", "none"], mode=mode), TRUTH % 2, FOUND % 2 * 1.0)
        assert texts(two.plot())[1] == ["cell", "none"]
    each = updated(ConfusionMatrix(mode="multilabel"), np.eye(3)[TRUTH], ONE_HOT.astype(np.float32))
    assert [texts(axes)[1] for axes in each.plot()] == [[f"not {c}", str(c)] for c in range(3)]
    many = updated(ConfusionMatrix(sparse_y_pred=True, num_classes=30), TRUTH, FOUND)
    assert texts(many.plot())[0] == []  # they would not be legible
    unknown = ConfusionMatrix(num_classes=2)
    unknown.merge_state([[np.nan, 1], [2.5, 0]])
    assert texts(unknown.plot())[0] == ["nan", "1", "2.5", "0"]
    pyplot.close("all")


def test_a_picture_needs_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from multiloss.metrics import ConfusionMatrix\n"
        "matrix = ConfusionMatrix(num_classes=2)\n"
        "try: matrix.plot()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "`ConfusionMatrix.plot` needs matplotlib: pip install matplotlib"
