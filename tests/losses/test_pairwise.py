"""The pairwise user loss beyond the table: worked by hand, exact ids, coincident points, edges, cost, messages."""

import functools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from frameworks import BACKEND, FAST, QUICK, evaluate, full_on, modes, quick, ways
from keras import ops

from multiloss import ContrastiveLoss, PairwiseUserLoss, SupConLoss, _arguments, encode_ids, oracles, pairwise_user_loss

# A 3-4-5 triangle and a point one above its corner: distances 5, 1 and sqrt(18).
POINTS = np.array([[0, 0], [3, 4], [0, 1]], dtype=np.float32)


LOOP = functools.partial(pairwise_user_loss, tile=16)


def as_numpy(x):
    return ops.convert_to_numpy(x)


def test_worked_by_hand():
    root = 18**0.5
    rows = as_numpy(pairwise_user_loss([7, 7, 9], POINTS))
    np.testing.assert_allclose(rows, [(5 - 1) / 2, (5 - root) / 2, (-1 - root) / 2], rtol=1e-6)  # float32
    rows = as_numpy(pairwise_user_loss([7, 7, 9], POINTS, margin=2))
    np.testing.assert_allclose(rows, [(5 - 1) / 2, (5 - 2) / 2, (-1 - 2) / 2], rtol=1e-6)


def test_reductions_are_those_of_keras():
    rows = as_numpy(pairwise_user_loss([7, 7, 9], POINTS))
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    for reduction, expected, weighted in [
        (None, rows, rows * weights),
        ("sum", rows.sum(), (rows * weights).sum()),
        ("sum_over_batch_size", rows.mean(), (rows * weights).mean()),
        ("mean", rows.mean(), (rows * weights).mean()),
        ("mean_with_sample_weight", rows.mean(), (rows * weights).sum() / weights.sum()),
    ]:
        for dtype in ("float32", "float64")[: 1 + (BACKEND != "jax")]:  # of which JAX warns that it has none
            loss = PairwiseUserLoss(reduction=reduction, dtype=dtype)
            np.testing.assert_allclose(as_numpy(loss([7, 7, 9], POINTS)), expected, rtol=1e-6)  # float32
            np.testing.assert_allclose(as_numpy(loss([7, 7, 9], POINTS, weights)), weighted, rtol=1e-6)
            assert as_numpy(loss([7, 7, 9], POINTS, weights)).dtype == dtype
            assert as_numpy(loss(np.zeros(0, int), POINTS[:0])).dtype == dtype
    assert PairwiseUserLoss().reduction == keras.losses.MeanSquaredError().reduction


@full_on("jax")
def test_moving_turning_or_mirroring_all_points_changes_nothing():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 3))
    ids = rng.integers(0, 4, 20)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    before = as_numpy(pairwise_user_loss(ids, x.astype(np.float32)))
    after = as_numpy(pairwise_user_loss(ids, (x @ turn + 5).astype(np.float32)))
    # The moved points are rounded to 5e-7, and each row adds up 20 distances.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST[:2]))
def test_equal_terms_are_not_all_rounded_the_same_way(mode):
    """Whole numbers and constants: plain summation was off by 1e-5 of the sum at 4096 features."""
    features = 4096
    rng = np.random.default_rng(features)
    ids = np.arange(32) % 4
    counts = rng.integers(0, 2, (32, features)).astype(np.float32)
    counts[0, 0] = 3
    for x in (counts, np.repeat(rng.normal(size=(32, 1)), features, axis=1).astype(np.float32)):
        expected = oracles.pairwise_user_loss(ids, x)
        rows, _ = evaluate(mode, LOOP, ids, x)
        assert (np.abs(rows - expected) <= 1e-6 * oracles.pairwise_user_loss(np.zeros(32), x)).all()


@pytest.mark.parametrize(("tile", "mode"), ways(2))
def test_gradient_of_close_points_does_not_overflow(mode, tile):
    """A weight of 1000 over a distance of 1e-36 is beyond float32; the gradient, 1000, is not."""
    x = np.array([[0, 0], [1e-36, 0]], np.float32)
    loss = functools.partial(pairwise_user_loss, tile=tile)
    _, gradient = evaluate(mode, loss, np.array([1, 1]), x, np.float32(1000))
    np.testing.assert_allclose(gradient, [[-1000, 0], [1000, 0]], rtol=1e-6)  # float32


@pytest.mark.parametrize("floatx", ["float16", pytest.param("bfloat16", marks=pytest.mark.full)])
def test_fit_under_another_floatx(floatx):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model.compile(loss=PairwiseUserLoss(margin=1.0), optimizer=keras.optimizers.SGD(0.1))
        history = model.fit(X4, np.array(PATTERN), verbose=0)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(float(history.history["loss"][0]))


@pytest.mark.parametrize(
    ("margin", "tile", "mode"),
    [(None, 2, QUICK), (None, "all", QUICK), *(pytest.param(0.5, *way.values, marks=way.marks) for way in ways(2))],
)
def test_coincident_rows_contribute_exactly_nothing(margin, tile, mode):
    # 0.1 and 1/3 have no exact float32 form; a product formula would see two different roundings of them.
    x = np.repeat(np.array([[0.1, 1 / 3, 1e6, -7.7]], np.float32), 5, axis=0)
    loss = functools.partial(pairwise_user_loss, margin=margin, tile=tile)
    value, gradient = evaluate(mode, loss, np.array([1, 1, 2, 2, 3]), x)
    np.testing.assert_array_equal(value, np.zeros(5))
    np.testing.assert_array_equal(gradient, np.zeros((5, 4)))


@pytest.mark.parametrize(("tile", "mode"), ways(2))
def test_no_gradient_beyond_the_margin(mode, tile):
    x = np.array([[0.0], [1.0], [10.0]], np.float32)
    value, gradient = evaluate(mode, functools.partial(pairwise_user_loss, margin=2, tile=tile), np.array([1, 2, 3]), x)
    np.testing.assert_array_equal(value, [-1.5, -1.5, -2])  # distances 1, 10 and 9
    np.testing.assert_array_equal(gradient, [[1], [-1], [0]])


@pytest.mark.parametrize("margin", [None, 0.5])
@pytest.mark.parametrize("tile", [2, "all"])
def test_a_nan_or_infinity_shows_in_the_loss(margin, tile):
    rows = functools.partial(pairwise_user_loss, margin=margin, tile=tile)
    for bad in (np.nan, np.inf):
        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        x[1, 0] = bad
        for ids in ([1, 1, 2, 2], [1, 2, 3, 4], [1, 1, 1, 1]):  # each row has the bad one in a pair
            assert np.isnan(evaluate(QUICK, rows, np.array(ids), x)[0]).all()
    loss = quick(PairwiseUserLoss(margin=margin, tile=tile))
    assert np.isnan(as_numpy(loss(np.array([1, 1, 2, 2]), x)))


# --- ids: exact from the caller to the comparison ------------------------------------------------------------------

PATTERN = [1, 2, 1, 2]
BIG = {
    "above 2**24": np.array([2**24, 2**24 + 1, 2**24, 2**24 + 1]),
    "above 2**32": np.array([5, 2**32 + 5, 5, 2**32 + 5]),
    "above 2**53": np.array([2**53, 2**53 + 1, 2**53, 2**53 + 1]),
    "uint64": np.array([2**63, 2**63 + 1, 2**63, 2**63 + 1], dtype=np.uint64),
    "negative": np.array([-(2**40), -(2**40) + 1, -(2**40), -(2**40) + 1]),
}
X4 = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
EACH_BIG = pytest.mark.parametrize("ids", BIG.values(), ids=BIG)


@EACH_BIG
def test_arrays_and_lists_of_ids_are_compared_exactly(ids):
    expected = oracles.pairwise_user_loss(PATTERN, X4)
    for given in (ids, ids[:, None], ids.tolist(), np.stack([ids, ids], axis=1), encode_ids(ids)):
        # float32 against four distances that partly cancel
        np.testing.assert_allclose(as_numpy(pairwise_user_loss(given, X4)), expected, rtol=1e-5)
        assert float(PairwiseUserLoss(reduction="sum")(given, X4)) == pytest.approx(expected.sum(), rel=1e-5)


@pytest.mark.parametrize(
    "ids",
    [pytest.param(ids, id=name, marks=() if name == "above 2**24" else pytest.mark.full) for name, ids in BIG.items()],
)
def test_ids_are_exact_through_fit_evaluate_and_train_on_batch(ids):
    # JAX narrows 64-bit integers, and torch refuses uint64, before any loss is asked: what `encode_ids` is for.
    raw = {"tensorflow": True, "torch": ids.dtype != np.uint64, "jax": ids.max() <= 2**24 + 1 and ids.min() >= 0}[
        BACKEND
    ]
    expected = oracles.pairwise_user_loss(PATTERN, X4).sum()
    for given in [encode_ids(ids), *([ids] if raw else [])]:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "linear", False, "identity")])
        model.compile(loss=PairwiseUserLoss(reduction="sum"), optimizer=keras.optimizers.SGD(0.0))
        for loss in (
            model.fit(X4, given, epochs=1, verbose=0).history["loss"][0],
            model.evaluate(X4, given, verbose=0),
            model.train_on_batch(X4, given),
        ):
            assert float(loss) == pytest.approx(expected, rel=1e-5)  # as above


@pytest.mark.parametrize(
    "ids",
    [
        [7, 8, 7, 8],
        *(pytest.param(ids, marks=pytest.mark.full) for ids in ([-7, 2**31 - 1, -7, 2**31 - 1], [[7], [8], [7], [8]])),
    ],
)
def test_class_weight_weighs_encoded_ids_by_themselves(ids):
    """Keras takes a last axis of any size but 1 for one-hot classes, and its largest column for the class."""
    first, second = np.ravel(ids)[:2].tolist()
    labels = np.array(ids) if np.ndim(ids) == 2 else encode_ids(ids)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "linear", False, "identity")])
    model.compile(loss=PairwiseUserLoss(reduction="sum"), optimizer=keras.optimizers.SGD(0.0))
    loss = model.fit(X4, labels, class_weight={first: 1.0, second: 3.0}, verbose=0).history["loss"][0]
    weights = np.array([1.0, 3.0, 1.0, 3.0])
    expected = np.sum(weights * oracles.pairwise_user_loss(PATTERN, X4))
    assert loss == pytest.approx(expected, rel=1e-5)  # float32 against four distances that partly cancel
    assert model.evaluate(X4, labels, sample_weight=weights, verbose=0) == pytest.approx(expected, rel=1e-5)  # as above


def test_text_ids_through_fit():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "linear", False, "identity")])
    model.compile(loss=PairwiseUserLoss(reduction="sum"), optimizer=keras.optimizers.SGD(0.0))
    loss = model.evaluate(X4, encode_ids(["ann", "bob", "ann", "bob"]), verbose=0)
    assert loss == pytest.approx(oracles.pairwise_user_loss(PATTERN, X4).sum(), rel=1e-5)


# --- edges, cost and messages ----------------------------------------------------------------------------------------


def test_an_empty_batch_reduces_to_zero():
    assert pairwise_user_loss([], np.zeros((0, 3), np.float32)).shape == (0,)
    for reduction in ("sum", "sum_over_batch_size", "mean"):
        loss = PairwiseUserLoss(reduction=reduction)(np.zeros(0, int), np.zeros((0, 3), np.float32))
        assert loss.shape == ()
        assert float(loss) == 0
    assert PairwiseUserLoss(reduction=None)(np.zeros(0, int), np.zeros((0, 3), np.float32)).shape == (0,)


# Of ours where the sizes are known; of TensorFlow, or of XLA, where they are not.
MISMATCH = re.compile("batch size|must be equal|concatenate|Concat")


@pytest.mark.parametrize("mode", modes(QUICK))
def test_batch_sizes_that_differ_never_broadcast_known_or_not(mode):
    for labels in (np.array([1]), np.array([[1, 2]])):
        with pytest.raises(Exception, match=MISMATCH):
            evaluate(mode, pairwise_user_loss, labels, X4)


def test_sizes_that_differ_are_named_known_or_not():
    def checked(y, x):
        labels = _arguments.labels("labels", y[:, 0], "embeddings", x)
        weights = _arguments.weights("sample_weight", ops.cast(y[:, 1:], "float32"), x, 1, "embeddings")
        return ops.sum(x) + ops.sum(weights) + ops.cast(ops.sum(labels), x.dtype)

    mode = "graph-unknown-batch" if BACKEND == "tensorflow" else QUICK
    with pytest.raises(Exception, match=r"(labels|sample_weight).*embeddings"):
        evaluate(mode, checked, np.ones((1, 2), np.int32), X4)


@pytest.mark.full
@pytest.mark.parametrize("mode", {"jax": ["jit"], "tensorflow": ["graph", "xla"], "torch": ["eager"]}[BACKEND])
def test_memory_stays_below_one_number_a_pair(mode):
    program = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
import numpy as np
from frameworks import evaluate
from multiloss import PairwiseUserLoss
def step(rows):
    x = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    evaluate({mode!r}, PairwiseUserLoss(), np.arange(rows) % 10, x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = step(512)
print(step(12288) - before)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    # Measured at 8192 rows: 40 MiB (JAX), 82 (torch), 159 (graph) and 246 (XLA). A matrix [12288, 12288] is 576 MiB.
    assert int(output) < 576 * 2**20


X = np.zeros((3, 2), np.float32)
ERRORS = [
    (([1, 2, 3], X), {"margin": -1.0}, ValueError, "`margin` must be None or a finite number >= 0. Received: -1.0"),
    (([1, 2, 3], X), {"margin": np.nan}, ValueError, "`margin` must be None or a finite number >= 0. Received: nan"),
    (([1, 2, 3], X), {"margin": np.inf}, ValueError, "`margin` must be None or a finite number >= 0. Received: inf"),
    (
        ([1, 2, 3], X),
        {"margin": "1"},
        TypeError,
        "`margin` must be None or a finite number >= 0. Received: '1' of type str",
    ),
    (
        ([1, 2, 3], X),
        {"margin": True},
        TypeError,
        "`margin` must be None or a finite number >= 0. Received: True of type bool",
    ),
    (([1, 2, 3], X), {"tile": 0}, ValueError, '`tile` must be None, "all" or a positive integer. Received: 0'),
    (([1, 2, 3], X), {"tile": 2.5}, ValueError, '`tile` must be None, "all" or a positive integer. Received: 2.5'),
    (
        ([1, 2, 3], X),
        {"tile": "8"},
        TypeError,
        "`tile` must be None, \"all\" or a positive integer. Received: '8' of type str",
    ),
    (([1, 2, 3], X[0]), {}, ValueError, "`embeddings` must have shape [B, D], D >= 1 and known. Received shape: (2,)"),
    (
        ([1, 2, 3], X[None]),
        {},
        ValueError,
        "`embeddings` must have shape [B, D], D >= 1 and known. Received shape: (1, 3, 2)",
    ),
    (
        ([1, 2, 3], X[:, :0]),
        {},
        ValueError,
        "`embeddings` must have shape [B, D], D >= 1 and known. Received shape: (3, 0)",
    ),
    (([1, 2, 3], "abc"), {}, TypeError, "must be an array of numbers. Received"),
    (([1, 2, 3], X.astype(complex)), {}, TypeError, "must be an array of numbers. Received"),
    (
        ([1, 2], X),
        {},
        ValueError,
        "`labels` and `embeddings` must have the same batch size. Received shapes: (2,) and (3, 2)",
    ),
    ((7, X), {}, ValueError, "`labels` must have shape [B] or [B, K], K >= 1. Received shape: ()"),
    (
        (np.zeros((3, 0), int), X),
        {},
        ValueError,
        "`labels` must have shape [B] or [B, K], K >= 1. Received shape: (3, 0)",
    ),
    (
        (np.zeros((3, 1, 1), int), X),
        {},
        ValueError,
        "`labels` must have shape [B] or [B, K], K >= 1. Received shape: (3, 1, 1)",
    ),
    (
        ([[1], [1, 2], [3]], X),
        {},
        ValueError,
        "`labels` must have shape [B] or [B, K]. Received rows of different lengths",
    ),
    (([1.0, 2.0, 3.0], X), {}, TypeError, "`labels` must be integers: floats merge ids above 2**24"),
    ((["a", "b", "c"], X), {}, TypeError, "`labels` must be integers: floats merge ids above 2**24, and strings need"),
]


@pytest.mark.parametrize(("arguments", "parameters", "error", "message"), ERRORS)
def test_errors(arguments, parameters, error, message):
    with pytest.raises(error, match=re.escape(message)):
        pairwise_user_loss(*arguments, **parameters)
    with pytest.raises(error, match=re.escape(message)):
        PairwiseUserLoss(**parameters)(*arguments)


def test_float_labels_are_refused_as_tensors_too():
    with pytest.raises(TypeError, match=re.escape("`labels` must be integers") + ".* Received dtype: float32"):
        PairwiseUserLoss()(ops.convert_to_tensor([1.0, 2.0, 3.0]), X)


def test_a_plain_function_in_compile_is_told_what_to_use():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile(loss=pairwise_user_loss, optimizer="sgd")
    with pytest.raises(TypeError, match="Keras casts the labels of a plain function to float: pass an object, such as"):
        model.train_on_batch(X, np.array([1, 2, 3]))


def test_unknown_reduction():
    with pytest.raises(ValueError, match=r"`reduction`. Expected one of .*Received: reduction=median"):
        PairwiseUserLoss(reduction="median")


@pytest.mark.parametrize("weight", [np.ones(2), np.ones((3, 2)), np.ones(1), np.ones((1, 3)), np.ones((3, 1, 1))])
def test_weights_that_are_not_one_a_row(weight):
    message = "`sample_weight` must be a scalar or fit the leading axes of `embeddings`, (3,). Received shape: "
    message += str(weight.shape)
    with pytest.raises(ValueError, match=re.escape(message)):
        PairwiseUserLoss()([1, 2, 3], X, weight)


def test_a_mask_that_is_not_one_a_row():
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.ones((3, 2), dtype="bool")

    message = "`mask` must be a scalar or fit the leading axes of `embeddings`, (3,). Received shape: (3, 2)"
    with pytest.raises(ValueError, match=re.escape(message)):
        PairwiseUserLoss()([1, 2, 3], Mask()(X))


def test_unknown_rank_is_named():
    class UnknownShape:  # as TensorFlow's in a graph
        def __len__(self):
            raise ValueError

    unknown = type("Tensor", (), {"shape": UnknownShape()})
    with pytest.raises(ValueError, match=r"`embeddings` must have a known rank.*compile the model again"):
        _arguments.rank("embeddings", unknown)


def test_a_scalar_weight_weighs_every_row():
    assert float(PairwiseUserLoss()(PATTERN, X4, 2.0)) == 2 * float(PairwiseUserLoss()(PATTERN, X4))


@pytest.mark.parametrize("loss", [PairwiseUserLoss, ContrastiveLoss, SupConLoss])
def test_across_replicas_of_which_there_is_one(loss):
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    for reduction in ("sum_over_batch_size", "sum", None):
        across = loss(reduction=reduction, across_replicas=True)
        assert across.get_config()["across_replicas"] is True
        alone = as_numpy(loss(reduction=reduction)([7, 7, 9], POINTS, weights))
        np.testing.assert_array_equal(as_numpy(across([7, 7, 9], POINTS, weights)), alone)
    with pytest.raises(TypeError, match="`across_replicas` must be True, False or the name of an axis"):
        loss(across_replicas=1)
    along = loss(across_replicas="batch")
    assert along.get_config()["across_replicas"] == "batch"
    message = {"jax": "an axis of the `jax.shard_map` or"}.get(BACKEND, "the name of an axis only on JAX")
    with pytest.raises(ValueError, match=message):
        along([7, 7, 9], POINTS)
