"""Metrics of overlap: a table of cases, held to loops over the definition in every way that Keras calls a metric."""

import functools
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from frameworks import BACKEND, full_on
from keras import ops

from multiloss import losses, metrics
from multiloss.metrics import ConfusionMatrix, DiceCoefficient, JaccardIndex, MatthewsCorrelation

rng = np.random.default_rng(0)
B, N, C = 7, 12, 4
# Class 3 is never true, and sample 5 is of class 0 alone, in truth and prediction. Eighths have ties.
TRUTH = rng.integers(0, 3, (B, N))
TRUTH[5] = 0
PROBABILITIES = np.round(rng.dirichlet(np.ones(C), (B, N)) * 8) / 8
PROBABILITIES[5] = [1, 0, 0, 0]
PROBABILITIES = PROBABILITIES.astype(np.float32)
MASKS = (rng.uniform(size=(B, N, 1)) < 0.4).astype(np.float32)
SCORES = rng.integers(0, 9, (B, N, 1)).astype(np.float32) / 8
MASKS[2], SCORES[2] = 0, 0.125
MASKS[3] = 0
WEIGHTS = np.array([1, 0, 2, 1, 3, 1, 0.5], np.float32)

# name -> the two kinds of labels that it needs. Truth and hard predictions, `[B, N, C]`.
ONE_HOT = TRUTH[..., None] == np.arange(C), PROBABILITIES.argmax(-1)[..., None] == np.arange(C)
BINARY = MASKS > 0, SCORES > 0.5
LABELS = ONE_HOT[0] | (np.arange(C) == 3) * (np.arange(N)[:, None] < 4), PROBABILITIES > 0.25

FORMULAS = {
    "DiceCoefficient": lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn),
    "JaccardIndex": lambda tp, fp, fn, tn: (tp, tp + fp + fn),
    "Precision": lambda tp, fp, fn, tn: (tp, tp + fp),
    "Recall": lambda tp, fp, fn, tn: (tp, tp + fn),
    "Specificity": lambda tp, fp, fn, tn: (tn, tn + fp),
    "MatthewsCorrelation": lambda tp, fp, fn, tn: (
        tp * tn - fp * fn,
        ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5,
    ),
}


def index(name, counts):
    above, below = FORMULAS[name](*counts)
    return above / below if below else 0.0


def of_pixels(name, truth, found, weight, *, average, empty, chosen, class_weight, ignored, exclusive=True):
    """What a metric is of pixels `[N, C]` with weights `[N]`, NaN where it is left out; a list for each class."""
    counts, values = [], []
    for c in chosen:
        t, p = truth[:, c], found[:, c]
        counts.append([np.sum(weight * cell) for cell in (t & p, ~t & p, t & ~p, ~t & ~p)])
        values.append(one(name, counts[-1], empty) if c != ignored else np.nan)
    if average is None:
        return values
    kept = [k for k, value in enumerate(values) if not np.isnan(value)]
    if average == "micro":
        if name == "MatthewsCorrelation" and exclusive:  # R_K, of the counts as they are
            above = sum(tp * tn - fp * fn for tp, fp, fn, tn in counts)
            products = [((tp + fp) * (tn + fn), (tp + fn) * (tn + fp)) for tp, fp, fn, tn in counts]
            return above / np.prod(np.sum(products, axis=0)) ** 0.5
        weights = [class_weight[c] * (c != ignored) for c in chosen]
        return one(name, np.sum([w * np.array(count) for w, count in zip(weights, counts, strict=True)], axis=0), empty)
    weights = [counts[k][0] + counts[k][2] if average == "weighted" else class_weight[chosen[k]] for k in kept]
    return np.average([values[k] for k in kept], weights=weights) if kept else np.nan


def one(name, counts, empty):
    tp, fp, fn, _ = counts
    if not sum(counts):
        return np.nan
    if not tp + fn:
        if empty == "worst":
            return 0.0
        if empty == "skip" or (empty == "skip_unseen" and not fp):
            return np.nan
        if not fp:
            return 0.0 if name == "MatthewsCorrelation" else 1.0
    return index(name, counts)


def expected(metric, truth, found, weights=None):
    """The result of an index by the definition. `weights` are of samples."""
    classes = truth.shape[-1]
    chosen = metric.classes or range(0 if metric.include_background else 1, classes)
    weights = np.ones(len(truth)) if weights is None else weights
    pixels = np.ones(truth.shape[:2])
    if metric.ignore_index is not None:
        pixels = (TRUTH if metric.ignore_index < C else IGNORED) != metric.ignore_index
    given = {
        "average": metric.average,
        "empty": metric.empty,
        "chosen": list(chosen),
        "class_weight": metric.class_weight or [1.0] * classes,
        "ignored": metric.ignore_index,
        "exclusive": metric.mode != "multilabel",
    }
    call = functools.partial(of_pixels, type(metric).__name__)
    if not metric.samplewise:
        by_pixel = pixels * weights[:, None]
        value = call(truth.reshape(-1, classes), found.reshape(-1, classes), by_pixel.reshape(-1), **given)
        if metric.average is not None and metric.empty == "skip_unseen" and np.isnan(value):
            return 0.0 if isinstance(metric, MatthewsCorrelation) else 1.0
        return np.array(value)
    rows = [call(t, p, w, **given) for t, p, w in zip(truth, found, pixels, strict=True)]
    total = np.nansum(np.array(rows).T * weights, axis=-1)
    number = np.sum(~np.isnan(np.array(rows)).T * weights, axis=-1)
    with np.errstate(invalid="ignore"):
        return total / number


IGNORED = np.where(np.arange(N) % 5 == 0, 255, TRUTH)
multiclass = TRUTH, PROBABILITIES, ONE_HOT
binary = MASKS, SCORES, BINARY
multilabel = LABELS[0].astype(np.float32), PROBABILITIES, LABELS
with np.errstate(divide="ignore"):
    LOGITS = np.maximum(np.log(PROBABILITIES), -20)

# A constructor's class and arguments, and truth, predictions and labels.
CASES = {}
for kind in FORMULAS:
    CASES[f"{kind} of classes"] = kind, {}, multiclass
    CASES[f"{kind}, micro"] = kind, {"average": "micro"}, multiclass
    CASES[f"{kind} of a mask"] = kind, {"mode": "binary"}, binary
for average in ("weighted", None):
    CASES[f"JaccardIndex, {average}"] = "JaccardIndex", {"average": average}, multiclass
for empty in ("skip_unseen", "skip", "formula", "worst"):
    for average in ("macro", "micro", None):
        given = {"samplewise": True, "empty": empty, "average": average, "num_classes": C}
        CASES[f"DiceCoefficient of samples, {empty}, {average}"] = "DiceCoefficient", given, multiclass
    CASES[f"DiceCoefficient, {empty}"] = "DiceCoefficient", {"empty": empty}, multiclass
    CASES[f"JaccardIndex of samples of a mask, {empty}"] = "JaccardIndex", {"samplewise": True, "empty": empty}, binary
given = {"mode": "multilabel", "thresh": 0.25, "average": "micro"}
CASES["MatthewsCorrelation, multilabel, micro"] = "MatthewsCorrelation", given, multilabel
CASES["MatthewsCorrelation, worst"] = "MatthewsCorrelation", {"empty": "worst"}, multiclass
CASES |= {
    "multilabel": ("JaccardIndex", {"mode": "multilabel", "thresh": 0.25}, multilabel),
    "multilabel, micro": ("Precision", {"mode": "multilabel", "thresh": 0.25, "average": "micro"}, multilabel),
    "logits": ("JaccardIndex", {"from_logits": True}, (TRUTH, LOGITS, ONE_HOT)),
    "one-hot truth": ("DiceCoefficient", {"mode": "multiclass"}, (ONE_HOT[0].astype(int), PROBABILITIES, ONE_HOT)),
    "channels first": (
        "JaccardIndex",
        {"data_format": "channels_first"},
        (TRUTH, np.moveaxis(PROBABILITIES, -1, 1), ONE_HOT),
    ),
    "classes": ("DiceCoefficient", {"classes": (2, 0), "average": None}, multiclass),
    "no background": ("DiceCoefficient", {"include_background": False}, multiclass),
    "class weights": ("JaccardIndex", {"class_weight": (1, 2, 0, 5)}, multiclass),
    "class weights, micro": ("JaccardIndex", {"class_weight": (1, 2, 0, 5), "average": "micro"}, multiclass),
    "ignored label": ("JaccardIndex", {"ignore_index": 255}, (IGNORED, PROBABILITIES, ONE_HOT)),
    "ignored class": ("JaccardIndex", {"ignore_index": 1}, multiclass),
    "ignored class, micro": ("JaccardIndex", {"ignore_index": 1, "average": "micro"}, multiclass),
    "ignored class of each": ("JaccardIndex", {"ignore_index": 1, "average": None}, multiclass),
    "ignored class, R_K": ("MatthewsCorrelation", {"ignore_index": 1, "average": "micro"}, multiclass),
    "label maps": (
        "JaccardIndex",
        {"sparse_y_pred": True, "num_classes": C},
        (TRUTH, PROBABILITIES.argmax(-1), ONE_HOT),
    ),
    "label maps with ignored pixels": (
        "JaccardIndex",
        {"sparse_y_pred": True, "num_classes": C, "ignore_index": 255},
        (IGNORED, np.where(IGNORED == 255, 255, PROBABILITIES.argmax(-1)), ONE_HOT),
    ),
}
# A case of each kind. JAX compiles each operation of the others too, which takes it a minute.
FEW = [f"{kind} of classes" for kind in FORMULAS]
FEW += ["JaccardIndex, micro", "JaccardIndex, None", "ignored class"]
FEW += ["DiceCoefficient of a mask", "multilabel", "label maps with ignored pixels", "MatthewsCorrelation, micro"]
assert {*FEW} < CASES.keys()
EACH = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.full] * (BACKEND == "jax" and case not in FEW)) for case in CASES],
)
PARTS = slice(0, 4), slice(4, 5), slice(5, 7)
# Counts are exact; quotients, roots and means of float32 round to some 1e-7.
CLOSE = {"rtol": 0, "atol": 1e-6}


def made(case):
    kind, options, data = CASES[case]
    return getattr(metrics, kind)(**options), *data


def numbers(result):
    return np.asarray(ops.convert_to_numpy(result))


@EACH
def test_value_of_uneven_updates(case):
    metric, truth, predicted, labels = made(case)
    for weights in (WEIGHTS, np.ones(B, np.float32)):
        for part in PARTS:
            metric.update_state(truth[part], predicted[part], weights[part])
        np.testing.assert_allclose(numbers(metric.result()), expected(metric, *labels, weights), **CLOSE)
        shape = metric.result().shape
        metric.reset_state()
        assert metric.result().shape == shape
        assert not numbers(metric.result()).any()  # as Keras's own, and as before the first update


@EACH
def test_states_of_processes_add_up(case):
    """As `state()` of each process is sent to one, which had no update."""
    parts = [made(case) for _ in range(3)]
    for number, rows in enumerate(PARTS):
        metric, truth, predicted, _ = parts[number % 2]
        metric.update_state(truth[rows], predicted[rows], WEIGHTS[rows])
    whole, *_, labels = made(case)
    whole.merge_state(*(metric.state() for metric, *_ in parts))
    whole.merge_state()
    np.testing.assert_allclose(numbers(whole.result()), expected(whole, *labels, WEIGHTS), **CLOSE)
    assert type(whole).from_config(whole.get_config()).get_config() == whole.get_config()


@full_on("jax")
def test_states_of_more_than_float32_counts_add_up():
    metric = JaccardIndex(mode="binary")
    metric.merge_state(np.array([[2.0**40], [0], [1], [0]]), np.array([[1.0], [0], [0], [0]]))
    np.testing.assert_array_equal(metric.state(), [[2.0**40 + 1], [0], [1], [0]])
    metric.update_state(np.ones((1, 1)), np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(metric.state(), [[2.0**40 + 2], [0], [1], [0]])
    if BACKEND != "jax":  # which has no float64, unless asked
        matrix = ConfusionMatrix(num_classes=2, dtype="float64")
        matrix.merge_state(np.array([[2.0**24 + 1, 0], [0, 0]]))
        assert float(matrix.result()[0, 0]) == 2**24 + 1
    with pytest.raises(ValueError, match=r"`states` must be of the same options and classes\. Received shapes: \["):
        metric.merge_state(np.zeros((4, 2)))


@full_on("jax")
@pytest.mark.parametrize("average", [None, "macro"])
def test_small_indices_are_not_lost(average):
    metric = JaccardIndex(thresh=None, average=average)
    metric.update_state(np.array([[1, 0]]), np.array([[1e-9, 1.0]], np.float32))
    assert np.squeeze(ops.convert_to_numpy(metric.result())) == pytest.approx(5e-10, rel=1e-6)  # float32


@full_on("jax")
def test_classes_never_seen():
    metric = DiceCoefficient(mode="multilabel", average=None)
    metric.update_state(np.array([[[1, 0]]]), np.array([[[0.9, 0.1]]], np.float32))
    np.testing.assert_array_equal(ops.convert_to_numpy(metric.result()), [1, np.nan])
    macro = DiceCoefficient(mode="multilabel", class_weight=[1, 3])
    macro.update_state(np.array([[[1, 0]]]), np.array([[[0.1, 0.1]]], np.float32))
    assert float(macro.result()) == 0
    assert float(DiceCoefficient().result()) == 0


@full_on("jax")
@pytest.mark.parametrize("options", [{}, {"average": "micro"}, {"samplewise": True}])
def test_where_nothing_is_true_or_predicted(options):
    """As they were before there was `empty`: a mask that is empty and predicted so is predicted perfectly."""
    masks = np.zeros((2, 3, 1)), np.zeros((2, 3, 1), np.float32)
    for kind in FORMULAS:
        for empty, value in (
            ("skip_unseen", float(kind != "MatthewsCorrelation")),
            ("formula", float(kind != "MatthewsCorrelation")),
            ("skip", np.nan),
            ("worst", 0),
        ):
            metric = getattr(metrics, kind)(empty=empty, **options)
            metric.update_state(*masks)
            np.testing.assert_array_equal(numbers(metric.result()), value, err_msg=f"{kind}, {empty}")
    weighted = JaccardIndex(mode="multilabel", class_weight=[0, 1], **options)
    weighted.update_state(np.tile([1, 0], (2, 3, 1)), np.zeros((2, 3, 2), np.float32))
    assert float(weighted.result()) == 1  # since the class that was seen has no weight


@full_on("jax")
def test_single_pixels_among_many_are_counted():
    """float32 alone stays at 2^24."""
    metric = JaccardIndex(thresh=None)
    metric.update_state(np.ones((1, 1)), np.full((1, 1), 1, np.float32), np.array([2.0**24], np.float32))
    for _ in range(64):
        metric.update_state(np.ones((1, 1)), np.ones((1, 1), np.float32))
        metric.update_state(np.ones((1, 1)), np.zeros((1, 1), np.float32))
    tp = 2**24 + 64
    # The index rounds to 6e-8, which is 1.6 % of this difference from 1, 4e-6.
    assert 1 - float(metric.result()) == pytest.approx(64 / (tp + 64), rel=0.02)


# --- as Keras calls metrics ------------------------------------------------------------------------------------------

GROUPS = {
    "classes": (TRUTH, PROBABILITIES, [case for case, given in CASES.items() if given[2] is multiclass]),
    "mask": (MASKS, SCORES, [case for case, given in CASES.items() if given[2] is binary]),
    "label maps": (TRUTH, PROBABILITIES.argmax(-1).astype("int32"), ["label maps"]),
}
STEPS = 1 if BACKEND == "torch" else 2  # Keras takes no other number there
# (whether compiled, whether all of the group). Without `jit`, JAX compiles each operation.
WAYS = {
    "jax": [(True, False), pytest.param(False, True, marks=pytest.mark.full)],
    "tensorflow": [(False, False), pytest.param(True, True, marks=pytest.mark.full)],
    "torch": [(False, True)],
}[BACKEND]


def of_group(group, every=True):
    truth, predicted, cases = GROUPS[group]
    built = [made(case) for case in cases if every or case in FEW or group == "label maps"]
    renamed = [
        type(metric).from_config({**metric.get_config(), "name": f"m{number}"})
        for number, (metric, *_) in enumerate(built)
    ]
    return truth, predicted, renamed, [labels for *_, labels in built]


def none(y, x):
    """A loss, without which there are no logs."""
    return ops.zeros((ops.shape(x)[0],))


def model_of(predicted, given, **options):
    model = keras.Sequential([keras.Input(predicted.shape[1:], dtype=predicted.dtype), keras.layers.Identity()])
    model.compile(loss=none, **given, **options)
    return model


# On JAX, that of classes takes as long as all others.
ALL_GROUPS = [pytest.param(g, marks=[pytest.mark.full] * (BACKEND == "jax" and g == "classes")) for g in GROUPS]


@pytest.mark.parametrize("group", ALL_GROUPS)
@pytest.mark.parametrize(("jit", "every"), WAYS)
def test_in_evaluate(group, jit, every, tmp_path):
    """As `metrics` without weights, as `weighted_metrics` with them, several steps in one, saved and loaded."""
    truth, predicted, found, labels = of_group(group, every)
    model = model_of(predicted, {"metrics": found}, jit_compile=jit, steps_per_execution=STEPS)
    logs = model.evaluate(predicted, truth, batch_size=2, verbose=0, return_dict=True)
    for number, metric in enumerate(found):
        np.testing.assert_allclose(numbers(logs[f"m{number}"]), expected(metric, *labels[number]), **CLOSE)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", {"none": none})
    again = loaded.evaluate(predicted, truth, batch_size=2, verbose=0, return_dict=True)
    for number in range(len(found)):
        np.testing.assert_array_equal(numbers(again[f"m{number}"]), numbers(logs[f"m{number}"]))
    *_, found, _ = of_group(group, every)
    model = model_of(predicted, {"weighted_metrics": found}, jit_compile=jit)
    logs = model.evaluate(predicted, truth, batch_size=3, sample_weight=WEIGHTS, verbose=0, return_dict=True)
    for number, metric in enumerate(found):
        value = expected(metric, *labels[number], WEIGHTS)
        np.testing.assert_allclose(numbers(logs[f"m{number}"]), value, **CLOSE)


class Scale(keras.layers.Layer):
    """Predictions as they are, by a weight that the first step does not see changed."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_fit_with_mixed_precision(policy):
    """Eighths are exact in both; sums of more than 2048, and 256, would not be."""
    truth, predicted = np.tile(TRUTH, (1, 64)), np.tile(PROBABILITIES, (1, 64, 1))
    found = [metrics.JaccardIndex(average="micro"), ConfusionMatrix(num_classes=C)]
    inputs = keras.Input(predicted.shape[1:])
    outputs = Scale(dtype=policy)(inputs)
    model = keras.Model(inputs, outputs)
    assert model.output.dtype in policy
    model.compile(loss=losses.DiceLoss(), metrics=found)
    logs = model.fit(predicted, truth, batch_size=B, epochs=1, verbose=0).history
    given = [labels.reshape(-1, C) for labels in ONE_HOT]
    matrix = 64 * (given[0].astype(int).T @ given[1])
    np.testing.assert_array_equal(numbers(logs["confusion_matrix"][0]), matrix)
    right, pixels = np.trace(matrix), matrix.sum()
    assert logs["jaccard_index"][0] == pytest.approx(right / (2 * pixels - right), abs=1e-6)  # as above


@full_on("jax")
def test_stateless_updates():
    truth, predicted, found, labels = of_group("classes")
    for metric in found:
        if not metric.variables:
            metric.update_state(truth, predicted)
            metric.reset_state()

    def step(states, y, x):
        return [metric.stateless_update_state(s, y, x) for metric, s in zip(found, states, strict=True)]

    if BACKEND == "jax":
        import jax

        step = jax.jit(step)
    states = [metric.stateless_reset_state() for metric in found]
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):
        states = step(states, ops.convert_to_tensor(truth[part]), ops.convert_to_tensor(predicted[part]))
    for metric, state, known in zip(found, states, labels, strict=True):
        np.testing.assert_allclose(numbers(metric.stateless_result(state)), expected(metric, *known), **CLOSE)


EASY = {"empty": "skip_unseen", "chosen": range(C), "class_weight": [1.0] * C, "ignored": None}


@full_on("jax")
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
    model.compile(loss=losses.DiceLoss(batch=True, average="micro"), **{kind: metrics})
    x, y = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32)[..., None], np.array([[1, 1, 1, 1], [1, 0, 1, 1]])
    for rows, dice_of_rows in (([0], 1), ([0, 1], 6 / 7)):
        result = model.evaluate(x[rows], y[rows][..., None], verbose=0, return_dict=True)
        # Quotients of float32.
        assert result["dice_coefficient"] == pytest.approx(dice_of_rows, abs=1e-6)
        assert result["jaccard_index"] == pytest.approx(dice_of_rows / (2 - dice_of_rows), abs=1e-6)
        assert result["loss"] == pytest.approx(1 - dice_of_rows, abs=1e-5)  # smooth
    weighted = model.evaluate(x, y[..., None], verbose=0, return_dict=True, sample_weight=np.array([1.0, 0.0]))
    expected = 1 if kind == "weighted_metrics" else 6 / 7
    assert weighted["dice_coefficient"] == pytest.approx(expected, abs=1e-6)  # as above


# --- names of classes ------------------------------------------------------------------------------------------------


@full_on("jax")
def test_a_scalar_a_class_for_callbacks(tmp_path):
    names = ["background", "liver", "tumour", "none"]
    inputs = keras.Input((N, C))
    model = keras.Model(inputs, keras.layers.Dense(C, activation="softmax")(inputs))
    found = [
        DiceCoefficient(class_names=names, average=None, include_background=False),
        JaccardIndex(class_names=names, samplewise=True, name="iou"),
    ]
    model.compile(loss=losses.DiceLoss(), metrics=found)
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_dice_coefficient_liver", mode="max", patience=5),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="val_iou", mode="max", save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    model.fit(PROBABILITIES, TRUTH, validation_data=(PROBABILITIES, TRUTH), callbacks=callbacks, epochs=2, verbose=2)
    columns = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert {f"dice_coefficient_{name}" for name in names[1:]} | {f"iou_{name}" for name in names} | {"iou"} < {*columns}
    assert "dice_coefficient" not in columns
    assert (tmp_path / "1.keras").exists()
    labels = ONE_HOT[0], numbers(model(PROBABILITIES)).argmax(-1)[..., None] == np.arange(C)
    logs = model.evaluate(PROBABILITIES, TRUTH, verbose=0, return_dict=True)
    for metric, average in ((found[0], None), (found[1], "macro"), (found[1], None)):
        alike = type(metric).from_config({**metric.get_config(), "average": average})
        value = np.array(expected(alike, *labels))
        kept = names[1:] if metric is found[0] else names
        got = logs[metric.name] if average else [logs[f"{metric.name}_{name}"] for name in kept]
        np.testing.assert_allclose(got, value, **CLOSE)
    each = metrics.Recall(class_names=names, average=None)
    before = each.result()
    assert [*before] == [f"recall_{name}" for name in names]
    each.update_state(TRUTH, PROBABILITIES)
    value = of_pixels("Recall", *(x.reshape(-1, C) for x in ONE_HOT), np.ones(B * N), average=None, **EASY)
    np.testing.assert_allclose([float(number) for number in each.result().values()], value, **CLOSE)


# --- confusion matrix ------------------------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_matrix(normalize):
    matrix = ConfusionMatrix(normalize=normalize, num_classes=C)
    assert not numbers(matrix.result()).any()
    for part in (slice(0, 5), slice(5, 7)):
        matrix.update_state(TRUTH[part], PROBABILITIES[part], WEIGHTS[part])
    counts = np.zeros((C, C))
    for row, t, p in zip(WEIGHTS, TRUTH, PROBABILITIES.argmax(-1), strict=True):
        for pixel in range(N):
            counts[t[pixel], p[pixel]] += row
    divisors = {
        None: 1,
        "true": counts.sum(1, keepdims=True),
        "pred": counts.sum(0, keepdims=True),
        "all": counts.sum(),
    }
    with np.errstate(invalid="ignore"):
        value = np.nan_to_num(counts / divisors[normalize])
    np.testing.assert_allclose(numbers(matrix.result()), value, **CLOSE)
    for truth, given, options in (
        (ONE_HOT[0].astype(int), PROBABILITIES, {"mode": "multiclass"}),
        (TRUTH, PROBABILITIES.argmax(-1), {"sparse_y_pred": True, "num_classes": C}),
    ):
        alike = ConfusionMatrix(normalize=normalize, **options)
        alike.update_state(truth, given, WEIGHTS)
        np.testing.assert_allclose(numbers(alike.result()), value, **CLOSE)


@full_on("jax")
def test_confusion_matrix_of_masks_and_of_labels():
    one, each = ConfusionMatrix(), ConfusionMatrix(thresh=0.25, mode="multilabel")
    one.update_state(MASKS, SCORES, WEIGHTS)
    each.update_state(*multilabel[:2], WEIGHTS)
    for matrix, (truth, found) in ((one, BINARY), (each, LABELS)):
        rows = [
            [[np.sum(WEIGHTS[:, None] * (t == a) * (p == b)) for b in (0, 1)] for a in (0, 1)]
            for t, p in zip(np.moveaxis(truth, -1, 0), np.moveaxis(found, -1, 0), strict=True)
        ]
        np.testing.assert_allclose(numbers(matrix.result()), rows if matrix is each else rows[0], **CLOSE)


@full_on("jax")
def test_long_counts_of_a_confusion_matrix_are_exact():
    """XLA on a CPU adds one by one, which of a million weights of a third is off by 1e-4."""
    truth, found = rng.integers(0, 2, (1, 2**20)), rng.integers(0, 2, (1, 2**20))
    weights = np.full((1, 2**20), 1 / 3, np.float32)
    matrix = ConfusionMatrix(sparse_y_pred=True, num_classes=2)
    matrix.update_state(truth, found, weights)
    counts = np.histogram2d(truth[0], found[0], bins=2)[0]
    # Within blocks there are some hundred of them: 2e-6.
    np.testing.assert_allclose(numbers(matrix.result()), counts * np.float64(weights[0, 0]), rtol=4e-6)


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.mark.full
def test_python_of_the_page_runs():
    """But for the picture, which needs matplotlib."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(re.sub(r"axes = matrix\.plot\(\).*", "", block), names)
    assert names["shares"].shape == (3, 3)
