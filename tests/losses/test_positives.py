"""Labels that are not what a pairwise loss needs: flags of ready-made pairs, and batches without positives."""

import re
import warnings

import keras
import numpy as np
import pytest
from frameworks import BACKEND, full_on
from keras import ops

from multiloss import ContrastiveLoss, RowsWithoutPositives, SupConLoss, encode_ids
from multiloss.losses import contrastive, supcon

X = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)
FLAGS = np.array([0, 1, 1, 0, 1, 0])
FLAGGED = "`labels` are classes of rows for ContrastiveLoss, which forms all pairs of a batch itself"
ALONE = "(No two rows of a batch have the same label|No reference has the label of a row): SupConLoss is 0, without"


def model_of(features, **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(features)])
    model.compile(optimizer="sgd", **options)
    return model


def warnings_of(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


# --- flags of pairs --------------------------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("labels", [FLAGS, FLAGS[:, None].astype(np.uint8), FLAGS == 1], ids=["[B]", "[B, 1]", "bool"])
def test_flags_of_pairs_warn_once(labels):
    loss = ContrastiveLoss()
    with pytest.warns(UserWarning, match=re.escape(FLAGGED)):
        loss(labels, X[:, :1])
    loss(labels, X[:, :1])  # a warning would be an error here
    with pytest.warns(UserWarning, match=re.escape(FLAGGED)):  # split into halves
        ContrastiveLoss(ignore_label=9)(labels, X[:, :1])


@full_on("jax")
def test_classes_and_embeddings_do_not_warn():
    ContrastiveLoss()(FLAGS, X)
    ContrastiveLoss()(FLAGS + 1, X[:, :1])
    ContrastiveLoss()(FLAGS + 2**32, X[:, :1], ref_labels=FLAGS, ref_embeddings=X[:, :1])
    ContrastiveLoss()(np.stack([FLAGS, FLAGS], axis=1), X[:, :1])
    contrastive(FLAGS, X[:, :1])  # has no object that could warn once only


def test_flags_of_pairs_warn_once_in_fit():
    """Compiled, only shapes can tell; on torch, which is not, the values."""
    model, labels = model_of(1, loss=ContrastiveLoss()), FLAGS + 5 * (BACKEND != "torch")
    given = warnings_of(lambda: model.fit(X, labels, epochs=2, batch_size=4, verbose=0))
    assert [FLAGGED in message for message in given] == [True]


def test_flags_as_floats_are_told_what_labels_are():
    with pytest.raises(TypeError, match=re.escape("Labels are classes of rows, not flags of pairs. ")):
        ContrastiveLoss()(FLAGS.astype(np.float32), X[:, :1])


# --- no positives ----------------------------------------------------------------------------------------------------


@full_on("jax")
@pytest.mark.parametrize("labels", [np.arange(6), encode_ids([f"user {k}" for k in range(6)])], ids=["[B]", "[B, 2]"])
def test_a_batch_without_positives_warns_once(labels):
    loss = SupConLoss()
    with pytest.warns(UserWarning, match=ALONE):
        assert float(loss(labels, X)) == 0
    loss(labels, X)  # a warning would be an error here
    with pytest.warns(UserWarning, match=ALONE):
        SupConLoss()(labels, X, ref_labels=labels[:0], ref_embeddings=X[:0])


@full_on("jax")
def test_what_has_positives_does_not_warn():
    labels = np.array([1, 2, 3, 4, 5, 1])
    SupConLoss()(labels, X)
    SupConLoss()(np.arange(6), X, ref_labels=labels + 4, ref_embeddings=X)
    SupConLoss()(labels[:1], X[:1])
    supcon(np.arange(6), X)  # has no object that could warn once only
    with pytest.warns(UserWarning, match=ALONE):
        SupConLoss()(labels, X, ignore_label=1)


def test_only_the_first_batches_are_looked_at():
    """Reading labels waits for an accelerator."""
    loss = SupConLoss()
    for _ in range(4):
        loss(FLAGS, X)
    loss(np.arange(6), X)


# --- the share of rows without positives -----------------------------------------------------------------------------


def share_alone(batches):
    """The definition: over all rows, by their weights, those whose label no other row of their batch has."""
    alone = total = 0.0
    for labels, weights in batches:
        for i, (label, weight) in enumerate(zip(labels, weights, strict=True)):
            others = [tuple(np.ravel(other)) for j, other in enumerate(labels) if j != i]
            alone += weight * (tuple(np.ravel(label)) not in others)
            total += weight
    return alone / total


rng = np.random.default_rng(6)
BATCHES = {
    "[B]": rng.integers(0, 8, (3, 6)),
    "[B, 1]": rng.integers(-4, 4, (3, 6, 1)),
    "[B, 3]": rng.integers(0, 2, (3, 6, 3)),
    "above 2**24": 2**24 + rng.integers(0, 6, (3, 6)),
    "above 2**32": 2**32 * rng.integers(0, 4, (3, 6)) + rng.integers(0, 2, (3, 6)),
    "ends of int64": rng.choice([-(2**63), 2**63 - 1, -1, 0, 2**31, -(2**31)], (3, 6)),
    "uint64": 2**63 + rng.integers(0, 8, (3, 6), dtype=np.uint64),
    "bool": np.array([[True, False, False, False, False, False]]),
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_share_of_rows_without_positives(batches):
    ones = np.ones(6)
    metric = RowsWithoutPositives()
    assert float(metric.result()) == 0
    for labels in batches:
        metric.update_state(labels, X)
    expected = share_alone([(labels, ones) for labels in batches])
    assert 0 < expected < 1
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)  # float32
    weights = np.array([1, 0, 2, 0.5, 1, 3])
    metric.reset_state()
    for labels in batches:
        metric.update_state(labels, X, weights[:, None])
    expected = share_alone([(labels, weights) for labels in batches])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)  # as above


def test_no_rows_change_nothing():
    metric = RowsWithoutPositives()
    metric.update_state([1, 2, 2], X[:3])
    metric.update_state(np.zeros(0, int), X[:0])
    assert float(metric.result()) == pytest.approx(1 / 3, rel=1e-6)  # float32


def test_rows_of_an_ignored_label_are_not_counted():
    metric = RowsWithoutPositives(ignore_label=0)
    metric.update_state([0, 0, 1, 1, 2, 0], X)
    assert float(metric.result()) == pytest.approx(1 / 3, rel=1e-6)  # float32
    assert RowsWithoutPositives.from_config(metric.get_config()).get_config() == metric.get_config()


def test_share_in_fit_with_weights_a_mask_and_saving(tmp_path):
    """The mask leaves out the first row of each batch, except in `fit` on JAX, where Keras hands metrics no mask.

    float32 would merge the ids.
    """
    x = np.concatenate([X, X, X[:2]])
    x[[0, 7], 0] = 0
    ids, weights = 2**24 + np.array([0, 1, 0, 2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 7]), np.arange(14) % 3
    model = keras.Sequential([keras.Input((3,)), Masked(), keras.layers.Dense(2)])
    model.compile(
        optimizer="sgd",
        loss=SupConLoss(),
        metrics=[RowsWithoutPositives(name="plain")],
        weighted_metrics=[RowsWithoutPositives()],
    )

    def check(values, kept):
        halves = (ids[:7], kept * 1.0), (ids[7:], kept * 1.0)
        assert values["plain"] == pytest.approx(share_alone(halves), rel=1e-6)  # float32
        halves = (ids[:7], kept * weights[:7]), (ids[7:], kept * weights[7:])
        assert values["rows_without_positives"] == pytest.approx(share_alone(halves), rel=1e-6)  # float32

    history = model.fit(x, ids, sample_weight=weights, batch_size=7, shuffle=False, verbose=0).history
    kept = np.arange(7) > 0
    check({name: epochs[0] for name, epochs in history.items()}, kept | (BACKEND == "jax"))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check(loaded.evaluate(x, ids, sample_weight=weights, batch_size=7, verbose=0, return_dict=True), kept)


@keras.saving.register_keras_serializable("tests")
class Masked(keras.layers.Layer):
    """Masks rows whose first feature is 0."""

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, previous_mask):
        return ops.not_equal(inputs[:, 0], 0)


def test_errors_of_the_metric():
    with pytest.raises(TypeError, match="`labels` must be integers"):
        RowsWithoutPositives().update_state([1.0, 2.0], X[:2])
    with pytest.raises(ValueError, match="`labels` and `embeddings` must have the same batch size"):
        RowsWithoutPositives().update_state([1, 2], X)
    with pytest.raises(ValueError, match="`sample_weight` must be a scalar or fit the leading axes of `embeddings`"):
        RowsWithoutPositives().update_state([1, 2], X[:2], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="`ignore_label` must be None, an integer or a tuple of them"):
        RowsWithoutPositives(ignore_label=0.5)
