"""What every pairwise loss inherits: references, weights of pairs, an ignored label, parameters that can be learned."""

import re
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from cases import gradient_of
from frameworks import (
    BACKEND,
    COMPILED,
    FAST,
    MODES,
    QUICK,
    compilations,
    evaluate,
    full_on,
    in_shares,
    modes,
    quick,
    ways,
)
from keras import ops

from multiloss import ContrastiveLoss, PairwiseUserLoss, SupConLoss, losses, oracles, pairwise_user_loss
from multiloss.losses import PairwiseLoss, contrastive, supcon

rng = np.random.default_rng(5)
LABELS, X = np.array([3, 1, 3, 2, 1, 2, 3, 2, 1]), rng.normal(size=(9, 3)).astype(np.float32)
REFERENCES, ROWS = slice(5, 9), slice(0, 5)  # of the nine, where four are what the other five are paired with
WEIGHTS = rng.integers(0, 3, (9, 9)) * rng.uniform(0.5, 1.5, (9, 9)).astype(np.float32)  # not symmetric, some of them 0
X[7] = X[1]  # a row and a reference that coincide
NAN = np.where(LABELS[:, None] == 2, np.float32(np.nan), X)
LOSSES = {
    "pairwise_user_loss": partial(PairwiseUserLoss, margin=1.5),
    "pairwise_user_loss pairs=mean": partial(PairwiseUserLoss, pairs="mean"),
    "contrastive": partial(ContrastiveLoss, pos_margin=0.5, neg_margin=2.5),
    "supcon": partial(SupConLoss, temperature=0.7),
}


def oracle_of(name):
    return partial(getattr(oracles, name.split()[0]), **LOSSES[name].keywords)


def against_references(rows, labels, x, weights=None, **options):
    """Rows of the first five against the other four, as a function of all nine."""
    weights = {} if weights is None else {"pair_weights": weights[ROWS, REFERENCES]}
    return rows(
        labels[ROWS], x[ROWS], ref_labels=labels[REFERENCES], ref_embeddings=x[REFERENCES], **weights, **options
    )


# name -> (function of (rows, labels, x), which may be the loss's or the oracle's; the points)
FORMS = {
    "references": (against_references, X),
    "weights": (partial(lambda rows, y, x: rows(y, x, pair_weights=WEIGHTS)), X),
    "ignored": (partial(lambda rows, y, x: rows(y, x, ignore_label=2)), X),
    "all three": (partial(against_references, weights=WEIGHTS, ignore_label=2), X),
    "weights, ignored": (partial(lambda rows, y, x: rows(y, x, pair_weights=WEIGHTS, ignore_label=2)), X),
}


# Loss and form; in the default tier one of each kind. In modes other than the quickest, two of them, in one way each.
SOME = [("supcon", "references"), ("pairwise_user_loss", "weights, ignored")]
MORE = [("supcon", "all three"), ("pairwise_user_loss", "all three"), ("contrastive", "references")]
MORE += [("supcon", "weights"), ("supcon", "ignored"), ("pairwise_user_loss pairs=mean", "weights, ignored")]
MORE += [("contrastive", "weights, ignored")]
OTHERS = [mode for mode in FAST if mode != QUICK]


def each_form():
    yield from ((*pair, QUICK, tile) for pair in SOME for tile in (2, "all"))
    others = [(*pair, QUICK, tile) for pair in MORE for tile in (2, "all")]
    others += [(*MORE[0], mode, 2) for mode in OTHERS]
    others += [(*MORE[6], mode, "all") for mode in OTHERS if "unknown" not in mode]
    yield from (pytest.param(*other, marks=pytest.mark.full) for other in others)


# Rows of a tile, and all pairs at once.
TILES = [4, pytest.param("all", marks=pytest.mark.full if BACKEND == "jax" else ())]


def in_full(names, *default):
    """Names, of which some are in the default tier."""
    return [pytest.param(name, marks=() if name in default else pytest.mark.full) for name in names]


def assert_close(value, expected):
    """As promised for values and gradients on random data: 1e-5 of the largest entry."""
    assert np.shape(value) == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * max(np.abs(expected).max(initial=0), 1e-2))


def assert_agrees(mode, function, oracle, y, x):
    rows = oracle(y, x)
    upstream = np.linspace(0.5, 1.5, len(rows)).astype(np.float32)
    for weights in (upstream, np.full(len(rows), 0.7, np.float32)):  # a second pass over the pairs, or none
        value, gradient = evaluate(mode, function, y, x, weights)
        assert_close(value, rows)
        assert_close(gradient, gradient_of(oracle, y, x, weights))


@pytest.mark.parametrize(("name", "form", "mode", "tile"), list(each_form()))
def test_references_weights_and_an_ignored_label(name, form, mode, tile):
    """Value, and gradient to both sides."""
    rows, (call, x) = LOSSES[name](tile=tile).rows, FORMS[form]
    assert_agrees(mode, partial(call, rows), partial(call, oracle_of(name)), LABELS, x)


def test_blocks_of_columns_change_nothing(monkeypatch):
    monkeypatch.setattr("multiloss.pairwise._engine.tiles.BLOCK", 3)
    rows, (call, x) = LOSSES["contrastive"](tile=2).rows, FORMS["all three"]
    assert_agrees(QUICK, partial(call, rows), partial(call, oracle_of("contrastive")), LABELS, x)


@pytest.mark.full
def test_references_of_numpy_take_no_gradient_and_change_no_other():
    def function(y, x):
        return contrastive(y, x, ref_labels=LABELS[REFERENCES], ref_embeddings=X[REFERENCES])

    oracle = partial(oracles.contrastive, ref_labels=LABELS[REFERENCES], ref_embeddings=X[REFERENCES])
    assert_agrees(QUICK, function, oracle, LABELS[ROWS], X[ROWS])


@pytest.mark.full
@pytest.mark.parametrize(("name", "tile"), [("supcon", 4), ("pairwise_user_loss", "all")])
def test_an_ignored_row_counts_nowhere(name, tile):
    """Whatever is in it; and the mean is that of the others."""
    loss, kept = LOSSES[name](ignore_label=2, tile=tile), LABELS != 2
    value, gradient = evaluate(QUICK, loss.rows, LABELS, NAN)
    alone, slope = evaluate(QUICK, LOSSES[name]().rows, LABELS[kept], X[kept])
    assert_close(value[kept], alone)
    assert_close(gradient[kept], slope)
    np.testing.assert_array_equal(value[~kept], 0)
    np.testing.assert_array_equal(gradient[~kept], 0)
    weights = np.arange(9, dtype=np.float32)
    mean = float(quick(LOSSES[name]())(LABELS[kept], X[kept], weights[kept]))
    assert float(quick(loss)(LABELS, NAN, weights)) == pytest.approx(mean, rel=1e-5)  # float32, partly cancelling
    assert float(quick(loss)(np.full(9, 2), NAN)) == 0


@pytest.mark.full
def test_labels_of_different_dtypes_compare_exactly():
    wide = np.array([2**40 + 1, 1, -1, 2**63 - 1])
    x = np.eye(4, dtype=np.float32)
    tensor = ops.convert_to_tensor(np.array([1, -1, 2, 1], np.int32))
    expected = oracles.contrastive([1, -1, 2, 1], x, ref_labels=wide, ref_embeddings=2 * x, pos_margin=3, neg_margin=9)
    for labels in (tensor, np.array([1, -1, 2, 1], np.int8), [1, -1, 2, 1]):
        rows = contrastive(labels, x, ref_labels=wide, ref_embeddings=2 * x, pos_margin=3, neg_margin=9)
        assert_close(ops.convert_to_numpy(rows), expected)
    if BACKEND != "jax":  # whose integers have 32 bits
        rows = contrastive(
            ops.convert_to_tensor(wide), 2 * x, ref_labels=tensor, ref_embeddings=x, pos_margin=3, neg_margin=9
        )
        expected = oracles.contrastive(
            wide, 2 * x, ref_labels=[1, -1, 2, 1], ref_embeddings=x, pos_margin=3, neg_margin=9
        )
        assert_close(ops.convert_to_numpy(rows), expected)


@pytest.mark.parametrize("tile", [None, "all"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_references_and_no_rows(name, tile):
    loss, none = LOSSES[name](tile=tile), np.zeros((0, 3), np.float32)
    rows = loss.rows(LABELS, X, ref_labels=LABELS[:0], ref_embeddings=none)
    np.testing.assert_array_equal(ops.convert_to_numpy(rows), np.zeros(9))
    assert tuple(loss.rows(LABELS[:0], none, ref_labels=LABELS, ref_embeddings=X).shape) == (0,)
    assert tuple(loss.rows(LABELS[:0], none, pair_weights=np.ones((0, 0)), ignore_label=1).shape) == (0,)


@pytest.mark.full
def test_no_rows_of_a_size_that_is_not_known():
    mode = "graph-unknown-batch" if BACKEND == "tensorflow" else QUICK
    value, gradient = evaluate(mode, partial(contrastive, ignore_label=2), LABELS[:0], X[:0])
    assert (value.shape, gradient.shape) == ((0,), (0, 3))


@pytest.mark.parametrize("scale", [1e100, 1e-100])
def test_references_of_float64_of_any_size(scale):
    if BACKEND == "jax":  # which has none
        return
    x = ops.convert_to_tensor(X * np.float64(scale), dtype="float64")
    pairs = {"ref_labels": LABELS[REFERENCES], "ref_embeddings": x[REFERENCES]}
    rows = ops.convert_to_numpy(pairwise_user_loss(LABELS[ROWS], x[ROWS], tile="all", **pairs))
    pairs["ref_embeddings"] = X[REFERENCES]
    assert_close(rows / scale, oracles.pairwise_user_loss(LABELS[ROWS], X[ROWS], **pairs))


@pytest.mark.full
def test_pairs_at_the_call_of_a_loss():
    value = SupConLoss(reduction="sum")(LABELS, X, ref_labels=[1, 2], ref_embeddings=X[:2], pair_weights=WEIGHTS[:, :2])
    rows = oracles.supcon(LABELS, X, ref_labels=[1, 2], ref_embeddings=X[:2], pair_weights=WEIGHTS[:, :2])
    assert float(value) == pytest.approx(rows.sum(), rel=1e-5)  # float32, logits over a temperature of 0.1


# --- parameters ------------------------------------------------------------------------------------------------------

PARAMETERS = {
    "temperature": (SupConLoss, 0.4),
    "neg_margin": (partial(ContrastiveLoss, pos_margin=0.5), 1.3),
    "pos_margin": (ContrastiveLoss, 0.6),
    "margin": (PairwiseUserLoss, 1.3),
}


def learning(name, tile=2):
    """The rows as a function of (y, z), where the last row of z starts with the parameter; and the same of the oracle.

    Of few pairs at the margin: at the kinks there, differences would be no derivative.
    """
    loss, value = PARAMETERS[name]
    kind = loss.func if isinstance(loss, partial) else loss
    function = {SupConLoss: "supcon", ContrastiveLoss: "contrastive", PairwiseUserLoss: "pairwise_user_loss"}[kind]
    given = loss.keywords if isinstance(loss, partial) else {}

    def ours(y, z):
        return loss(**{name: z[-1, 0]}, tile=tile).rows(y, z[:-1])

    def oracle(y, z):
        return getattr(oracles, function)(y, z[:-1], **given, **{name: z[-1, 0]})

    return ours, oracle, np.concatenate([X, np.full((1, 3), value, np.float32)])


def assert_learns(mode, name, ours=None, tile=2):
    function, oracle, z = learning(name, tile)
    upstream = np.linspace(0.5, 1.5, 9).astype(np.float32)
    for weights in (upstream, np.full(9, 0.7, np.float32)):
        value, gradient = evaluate(mode, ours or function, LABELS, z, weights)
        expected = gradient_of(oracle, LABELS, z, weights)
        assert_close(value, oracle(LABELS, z))
        assert_close(gradient[:-1], expected[:-1])
        assert gradient[-1, 0] == pytest.approx(expected[-1, 0], rel=1e-4)  # a sum over all pairs, partly cancelling
        assert expected[-1, 0] != 0


@pytest.mark.parametrize("tile", [2, "all"])
@pytest.mark.parametrize("name", in_full(PARAMETERS, "temperature"))
def test_gradient_by_a_parameter(name, tile):
    assert_learns(QUICK, name, tile=tile)


@pytest.mark.parametrize("mode", modes(of=[mode for mode in MODES if mode not in (QUICK, "aot_eager")]))
def test_gradient_by_a_parameter_in_every_mode(mode):
    # For a loop, torch takes a minute to generate code; `test_losses` has one.
    assert_learns(mode, "temperature", tile="all" if mode == "inductor" else 2)


@pytest.mark.full
@pytest.mark.parametrize("name", ["temperature", "margin"])
def test_gradient_by_a_parameter_in_shares(name):
    """Each replica has the part of its own rows; all of a batch, where pairs have weights."""
    loss, _ = PARAMETERS[name]
    assert_learns(QUICK, name, lambda y, z: in_shares(loss, **{name: z[-1, 0]})(y, z[:-1]))
    ones = np.ones((9, 9), np.float32)
    assert_learns(QUICK, name, lambda y, z: loss(**{name: z[-1, 0]}, tile=4).rows(y, z[:-1], pair_weights=ones))


@pytest.mark.parametrize("kind", ["variable", "tensor", "NumPy"])
def test_a_parameter_is_a_number_a_scalar_or_a_variable(kind):
    made = {"variable": keras.Variable, "tensor": ops.convert_to_tensor, "NumPy": np.float32}[kind]
    loss = SupConLoss(made(0.25))
    assert_close(ops.convert_to_numpy(loss.rows(LABELS, X)), oracles.supcon(LABELS, X, temperature=0.25))
    assert loss.get_config()["temperature"] == 0.25
    assert isinstance(loss.get_config()["temperature"], float)
    assert SupConLoss.from_config(loss.get_config()).temperature == 0.25
    # What has a value is checked, and so is its dtype.
    with pytest.raises(ValueError, match=r"`temperature` must be a finite number >= 1\.2e-38\. Received: -1\.0"):
        SupConLoss(made(-1.0))
    with pytest.raises(TypeError, match=r"`temperature` must be .*\. Received"):
        SupConLoss(np.array([0.5]))
    if kind == "tensor":
        with pytest.raises(TypeError, match=r"`temperature` must have a float dtype\. Received: int32"):
            SupConLoss(ops.convert_to_tensor(1, dtype="int32"))


def test_a_variable_is_read_at_each_call():
    temperature = keras.Variable(0.25, trainable=False)
    loss = SupConLoss(temperature)
    loss.rows(LABELS, X)
    temperature.assign(0.5)
    assert_close(ops.convert_to_numpy(loss.rows(LABELS, X)), oracles.supcon(LABELS, X, temperature=0.5))


@pytest.mark.full
def test_a_traced_parameter_is_not_checked():
    if BACKEND == "torch":  # which traces nothing that is not compiled
        return
    _, gradient = evaluate(
        COMPILED, lambda y, z: supcon(y, z[:-1], temperature=z[-1, 0]), LABELS, np.zeros((10, 3), np.float32)
    )
    assert np.shape(gradient) == (10, 3)


def test_another_value_compiles_nothing_anew():
    def run(value):
        SupConLoss(value, tile=4).rows(LABELS, X)
        SupConLoss(value, tile="all").rows(LABELS, X)

    run(0.11)
    assert compilations(run, 0.12) == 0
    assert compilations(run, 0.13) == 0


def test_a_traced_value_is_traced_once():
    traced = []

    def function(y, z):
        traced.append(z)
        return supcon(y, z[:-1], temperature=z[-1, 0], tile=4)

    counts = []
    for temperature in (0.3, 0.9):
        z = np.concatenate([X, np.full((1, 3), temperature, np.float32)])
        value, _ = evaluate({"torch": "eager"}.get(BACKEND, COMPILED), function, LABELS, z)
        assert_close(value, oracles.supcon(LABELS, X, temperature=temperature))
        counts.append(len(traced))
    assert BACKEND == "torch" or counts[0] == counts[1]


# --- losses of one's own ---------------------------------------------------------------------------------------------


class Hardest(PairwiseLoss):
    """The furthest positive, the nearest negative, and how many negatives are near: maximum, minimum and count."""

    reductions = ("max", "min", "count")

    def __init__(self, margin=1.0, near=2.0, **options):
        super().__init__(**options)
        self.margin, self.near = margin, near

    def values(self, distance, positive):
        return (
            (distance, positive),
            (distance * self.margin, ops.logical_not(positive)),
            (distance < self.near, ops.logical_not(positive)),
        )

    def row(self, reduced, count):
        furthest, nearest, near = reduced
        some = ops.logical_and(furthest > -1e29, nearest < 1e29)
        return ops.where(some, furthest - nearest, ops.zeros_like(furthest)) + near / count


def hardest(y, x, margin=1.0, near=2.0, weights=None):
    x = np.asarray(x, np.float64)
    weights = np.ones((len(x), len(x))) if weights is None else weights
    rows = np.zeros(len(x))
    for i in range(len(x)):
        distance = {j: np.sqrt(np.sum((x[i] - x[j]) ** 2)) for j in range(len(x)) if j != i}
        counted = [j for j in distance if weights[i, j] > 0]
        positives, negatives = ([distance[j] for j in counted if (y[i] == y[j]) == same] for same in (True, False))
        if positives and negatives:
            rows[i] = max(positives) - margin * min(negatives)
        near_ones = sum(weights[i, j] for j in distance if y[i] != y[j] and distance[j] < near)
        rows[i] += near_ones / (sum(weights[i, j] for j in distance) or 1)
    return rows


@pytest.mark.parametrize(("tile", "mode"), ways(2))
def test_maximum_minimum_and_count(tile, mode):
    assert_agrees(mode, Hardest(tile=tile).rows, hardest, LABELS, X)


def test_maximum_and_minimum_of_float64():
    """Of which Keras's `maximum` makes float32 on torch."""
    if BACKEND == "jax":  # which has none
        return
    x = ops.convert_to_tensor(X, dtype="float64")
    for tile in (2, "all"):
        rows = ops.convert_to_numpy(Hardest(tile=tile).rows(LABELS, x))
        # Some fifty times the rounding of float64; distances around 1.
        np.testing.assert_allclose(rows, hardest(LABELS, X), rtol=0, atol=1e-14)


@pytest.mark.parametrize("tile", TILES)
def test_what_becomes_of_a_distance_may_have_any_derivative_at_0(tile):
    """A row is no pair with itself, and pairs that coincide have none, so that it is never asked for."""

    class Root(PairwiseLoss):
        def values(self, distance, positive):
            return (ops.sqrt(distance),)

        def row(self, reduced, count):
            return reduced[0]

    def oracle(y, x):
        squares = [[np.sum((a - b) ** 2) for b in np.asarray(x, np.float64)] for a in np.asarray(x, np.float64)]
        return np.sum(np.array(squares) ** 0.25, axis=1)

    assert_agrees(QUICK, Root(tile=tile).rows, oracle, LABELS[:7], X[:7])
    _, gradient = evaluate(QUICK, Root(tile=tile).rows, np.array([1, 1, 2]), X[[0, 0, 1]])
    assert_close(gradient[:2], np.repeat(-gradient[2:] / 2, 2, axis=0))
    if BACKEND != "jax":  # which has no float64
        x = ops.convert_to_tensor(X[[0, 0, 1]], dtype="float64")
        assert np.isfinite(ops.convert_to_numpy(Root(tile=tile).rows(np.array([1, 1, 2]), x))).all()


def test_a_distance_that_float32_has_not_is_not_the_nearest():
    x = np.array([[0, 0], [1, 0], [3e38, 3e38], [0, 2]], np.float32)

    class Nearest(PairwiseLoss):
        reductions = ("min",)

        def values(self, distance, positive):
            return (distance,)

        def row(self, reduced, count):
            return reduced[0]

    value, gradient = evaluate(QUICK, Nearest(tile="all").rows, LABELS[:4], x)
    # Of points a 1e-38th of the largest apart, the distance may count as 0.
    assert (value[[0, 1, 3]] <= 2).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("tile", [3, "all"])
def test_gradients_by_references_and_a_margin_where_rows_fill_up_a_tile(tile):
    """Of four rows in tiles of two, by references and by a parameter."""
    x = X[:7] + np.float32(0.01) * np.arange(7)[:, None].astype(np.float32)  # none coincide

    def against(rows, y, z, margin):
        return rows(y[:4], z[:4], ref_labels=y[4:], ref_embeddings=z[4:], margin=margin)

    def ours(y, z):
        return against(
            lambda *data, margin, **pairs: Margin(margin, tile=tile).rows(*data, **pairs), y, z[:-1], z[-1, 0]
        )

    def oracle(y, z):
        return against(margin_rows, y, z[:-1], z[-1, 0])

    z = np.concatenate([x, np.full((1, 3), 1.3, np.float32)])
    assert_agrees(QUICK, ours, oracle, LABELS[:7], z)


class Margin(PairwiseLoss):
    """The nearest reference of another label against the furthest of the same, times a margin."""

    reductions = ("max", "min")

    def __init__(self, margin=1.0, **options):
        super().__init__(**options)
        self.margin = margin

    def values(self, distance, positive):
        return (distance * self.margin, positive), [distance, ops.logical_not(positive)]

    def row(self, reduced, count):
        # Of a row without one of them this is large, and finite.
        return ops.tanh((reduced[0] - reduced[1]) / 4)


def margin_rows(y, x, ref_labels, ref_embeddings, margin):
    rows = []
    for label, point in zip(y, np.asarray(x, np.float64), strict=True):
        distance = np.sqrt(np.sum((point - ref_embeddings) ** 2, axis=1))
        same = ref_labels == label
        furthest, nearest = np.max(margin * distance[same], initial=-1e30), np.min(distance[~same], initial=1e30)
        rows.append(np.tanh((furthest - nearest) / 4))
    return np.array(rows)


@pytest.mark.parametrize("tile", TILES)
def test_the_row_of_what_is_in_no_pair_may_be_anything(tile):
    """Its loss and gradient are 0, and those of the others, and of a parameter, are finite."""

    class Logarithm(PairwiseLoss):
        def __init__(self, scale=1.0, **options):
            super().__init__(**options)
            self.scale = scale

        def values(self, distance, positive):
            return (distance,)

        def row(self, reduced, count):
            return ops.log(reduced[0] * self.scale / count)

    def oracle(y, z):
        x, kept = np.asarray(z[:-1], np.float64), y != 2
        sums = [np.sqrt(np.sum((x[kept] - point) ** 2, axis=1)).sum() for point in x]
        return np.where(kept, np.log(np.array(sums) * z[-1, 0] / (kept.sum() - 1)), 0)

    z = np.concatenate([X, np.full((1, 3), 0.7, np.float32)])

    def ours(y, z):
        return Logarithm(z[-1, 0], ignore_label=2, tile=tile).rows(y, z[:-1])

    assert_agrees(QUICK, ours, oracle, LABELS, z)


@full_on("jax")
@pytest.mark.parametrize("tile", [4, "all"])
def test_the_weight_of_a_row_with_itself_takes_nothing_from_the_others(tile):
    weights = 1e-9 * WEIGHTS + np.eye(9, dtype=np.float32)
    rows = ops.convert_to_numpy(contrastive(LABELS, X, pair_weights=weights, tile=tile))
    np.testing.assert_allclose(rows, oracles.contrastive(LABELS, X, pair_weights=weights), rtol=1e-5)  # float32


@pytest.mark.parametrize("tile", [4, "all"])
def test_logits_may_be_as_small_as_float32_has_them(tile):
    rows = ops.convert_to_numpy(supcon(LABELS, X, temperature=1e-35, tile=tile))
    np.testing.assert_allclose(rows, oracles.supcon(LABELS, X, temperature=1e-35), rtol=1e-5)  # float32


@pytest.mark.parametrize("label", [2, np.int64(2), np.array(2), np.array([2])])
def test_a_label_to_ignore_may_be_of_numpy(label):
    assert SupConLoss(ignore_label=label).ignore_label == (2,)


@pytest.mark.parametrize("tile", TILES)
def test_booleans_are_values(tile):
    class Any(PairwiseLoss):
        reductions = ("max", "logsumexp", "sum")

        def values(self, distance, positive):
            return distance < 2, positive, positive

        def row(self, reduced, count):
            return reduced[0] + reduced[1] + reduced[2]

    def oracle(y, x):
        rows = []
        for i in range(len(x)):
            others = np.arange(len(x)) != i
            near, same = np.linalg.norm(x - x[i], axis=1)[others] < 2, (y == y[i])[others]
            rows.append(near.any() + np.log(np.exp(same.astype(float)).sum()) + same.sum())
        return np.array(rows)

    assert_close(evaluate(QUICK, Any(tile=tile).rows, LABELS, X)[0], oracle(LABELS, X))


@pytest.mark.full
def test_maximum_minimum_and_count_with_weights_and_in_shares():
    weighted = partial(hardest, weights=WEIGHTS)
    for tile in (2, "all"):
        loss = Hardest(tile=tile)
        assert_agrees(QUICK, partial(loss.rows, pair_weights=WEIGHTS), weighted, LABELS, X)
    assert_agrees(QUICK, in_shares(Hardest, tile=2), hardest, LABELS, X)


@pytest.mark.parametrize(
    ("tile", "mode"),
    [
        (5, QUICK),
        ("all", QUICK),
        *(pytest.param(*other, marks=pytest.mark.full) for other in [(1, QUICK), *((1, m) for m in OTHERS)]),
    ],
)
def test_ties_share_the_gradient_equally(tile, mode):
    """A centre with four positives around it, whose distances are one number but for their rounding."""
    angle = np.arange(4) * np.pi / 2 + 0.3
    x = np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angle), np.sin(angle)], axis=1)]).astype(np.float32)

    class Furthest(PairwiseLoss):
        reductions = ("max",)

        def values(self, distance, positive):
            return (distance,)

        def row(self, reduced, count):
            return reduced[0]

    upstream = np.array([1, 0, 0, 0, 0], np.float32)
    value, gradient = evaluate(mode, Furthest(tile=tile).rows, np.ones(5, int), x, upstream)
    assert value[0] == pytest.approx(1, rel=1e-6)  # float32
    np.testing.assert_allclose(gradient[1:], x[1:] / 4, rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradient[0], 0, rtol=0, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("tile", [4, "all"])
def test_a_count_alone_has_no_gradient(tile):
    class Near(PairwiseLoss):
        reductions = ("count",)

        def values(self, distance, positive):
            return (distance < 2,)

        def row(self, reduced, count):
            return reduced[0]

    value, gradient = evaluate(QUICK, Near(tile=tile).rows, LABELS, X)
    expected = [sum(np.linalg.norm(x - other) < 2 for other in X) - 1 for x in X]
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, 0 * X)


@pytest.mark.full
@pytest.mark.parametrize(("tile", "mode"), ways(4))
def test_a_maximum_of_nan_is_nan(tile, mode):
    """Nor does that of a compiler, which may be the maximum of the others, hide it."""
    x = X.copy()
    x[3, 1] = np.nan
    assert np.isnan(evaluate(mode, Hardest(tile=tile).rows, LABELS, x)[0]).all()


class WithSlopes(PairwiseLoss):
    """A contrastive loss whose author wrote the derivative: of half of it, to see that it is used."""

    def __init__(self, margin=2.0, **options):
        super().__init__(**options)
        self.margin = margin

    def values(self, distance, positive):
        missed = ops.where(positive, distance, ops.maximum(self.margin - distance, 0))
        return (0.5 * ops.square(missed),)

    def slopes(self, distance, positive):
        return (0.5 * ops.where(positive, distance, -ops.maximum(self.margin - distance, 0)),)

    def row(self, reduced, count):
        return reduced[0] / count


@pytest.mark.full
def test_slopes_of_the_author_are_taken_while_nothing_is_learned():
    oracle = partial(oracles.contrastive, neg_margin=2.0)
    value, gradient = evaluate(QUICK, WithSlopes(tile=4).rows, LABELS, X)
    assert_close(value, oracle(LABELS, X))
    assert_close(gradient, gradient_of(oracle, LABELS, X) / 2)
    z = np.concatenate([X, np.full((1, 3), 2, np.float32)])
    _, gradient = evaluate(QUICK, lambda y, z: WithSlopes(z[-1, 0], tile=4).rows(y, z[:-1]), LABELS, z)
    assert_close(gradient[:-1], gradient_of(oracle, LABELS, X))


@pytest.mark.full
def test_a_loss_of_ones_own_has_all_that_ours_have(tmp_path):
    kind = keras.saving.register_keras_serializable(package="tests")(
        type(
            "Own",
            (Hardest,),
            {"__init__": lambda self, margin=1.0, **options: Hardest.__init__(self, margin, **options)},
        )
    )
    loss = kind(2.0, reduction="sum", ignore_label=1, tile=3)
    assert (loss.name, loss.margin) == ("own", 2.0)
    expected = {"reduction": "sum", "name": "own", "dtype": "float32", "margin": 2.0}
    assert loss.get_config() == {**expected, "tile": 3, "ignore_label": (1,), "across_replicas": False}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", loss)
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()


def test_what_is_passed_on_to_the_class_before_is_in_the_config():
    class More(Hardest):
        def __init__(self, extra=1, **options):
            super().__init__(**options)
            self.extra = extra

    class Fixed(Hardest):
        def __init__(self, **options):
            super().__init__(near=2.0, reduction="sum", **options)

    config = More(extra=2, margin=3.0).get_config()
    assert (config["extra"], config["margin"], "near" in config) == (2, 3.0, False)
    assert More.from_config(config).margin == 3.0
    config = Fixed(margin=3.0).get_config()
    assert config.keys().isdisjoint({"near", "reduction"})
    assert Fixed.from_config(config).get_config() == config


def test_a_row_of_weight_0_may_be_nan_beside_references():
    """With references alone: within a batch, the pairs of other rows with it count."""
    bad, weights = X.copy(), np.ones(len(X), np.float32)
    bad[2], weights[2] = np.nan, 0
    references = {"ref_labels": LABELS[:4], "ref_embeddings": X[:4]}
    for loss in (ContrastiveLoss(reduction="sum"), SupConLoss(reduction="sum")):
        weighted = partial(loss, sample_weight=weights, **references)  # one function, which is compiled once
        expected, slope = evaluate(QUICK, weighted, LABELS, X)
        value, gradient = evaluate(QUICK, weighted, LABELS, bad)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)  # float32
        # Some roundings of float32 of the largest entry, 6e-8 each.
        np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-6 * np.abs(slope).max())
        assert np.isnan(float(quick(loss)(LABELS, bad, weights)))


def test_references_may_be_variables_of_a_layer():
    class Memory(keras.layers.Layer):
        def build(self, shapes):
            self.labels = self.add_weight(
                (4,), lambda shape, dtype: ops.cast(LABELS[:4], dtype), dtype="int32", trainable=False
            )
            self.points = self.add_weight((4, 3), lambda shape, dtype: ops.convert_to_tensor(X[:4]))

        def call(self, inputs):
            y, x = inputs
            self.add_loss(ops.mean(contrastive(y, x, ref_labels=self.labels, ref_embeddings=self.points)))
            return x

    inputs = [keras.Input((), dtype="int32"), keras.Input((3,))]
    model = keras.Model(inputs, Memory()(inputs))
    model.compile("sgd")
    expected = oracles.contrastive(LABELS, X, ref_labels=LABELS[:4], ref_embeddings=X[:4]).mean()
    history = model.fit([LABELS.astype(np.int32), X], batch_size=9, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)  # float32
    assert np.abs(ops.convert_to_numpy(model.layers[-1].points) - X[:4]).max() > 1e-3  # which have a gradient


def blocks_of(page):
    """The Python of a page of the documentation that is for every backend, or for this one."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    here = f'"KERAS_BACKEND"] = "{keras.backend.backend()}"'
    return [block for block in blocks if "KERAS_BACKEND" not in block or here in block]


def multi_similarity(y, x, alpha=2.0, beta=50.0, base=0.5):
    """Wang et al. 2019, of the cosines of all pairs, as the page has it."""
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    rows = np.zeros(len(z))
    for i in range(len(z)):
        positives = sum(np.exp(-alpha * (z[i] @ z[j] - base)) for j in range(len(z)) if j != i and y[i] == y[j])
        negatives = sum(np.exp(beta * (z[i] @ z[j] - base)) for j in range(len(z)) if y[i] != y[j])
        rows[i] = np.log(1 + positives) / alpha + np.log(1 + negatives) / beta
    return rows


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST))
def test_the_loss_of_the_page_is_its_formula(mode):
    names = {"__name__": "page"}
    exec(blocks_of("write_your_own.md")[0], names)
    assert_agrees(mode, names["MultiSimilarityLoss"](beta=5.0).rows, partial(multi_similarity, beta=5.0), LABELS, X)


@pytest.mark.full
@pytest.mark.parametrize("page", ["write_your_own.md", "concepts/pairs.md"])
def test_python_of_the_page_runs(page):
    names = {"__name__": "page"}
    for block in blocks_of(page):
        exec(block, names)
    assert names["rows"].shape == (64,)


# --- messages --------------------------------------------------------------------------------------------------------


def own(**members):
    return type(
        "Mine", (PairwiseLoss,), {"values": lambda self, d, p: (d,), "row": lambda self, r, count: r[0], **members}
    )


def with_argument(self, size=1, **options):
    PairwiseLoss.__init__(self, **options)
    self.size = size


MISTAKES = {
    "values": (lambda: type("Mine", (PairwiseLoss,), {})(), NotImplementedError, "Mine must define `values(distance"),
    "row": (
        lambda: type("Mine", (PairwiseLoss,), {"values": lambda self, d, p: (d,)})(),
        NotImplementedError,
        "Mine must define `row(reduced, count)`",
    ),
    "a reduction": (
        lambda: own(reductions=("mean",)),
        ValueError,
        "`Mine.reductions` must be one or more of 'sum', 'logsumexp', 'max', 'min', 'count'. Received: ('mean',)",
    ),
    "no tuple": (
        lambda: own(values=lambda self, d, p: d)(),
        ValueError,
        "`Mine.values` must return a tuple of 1, one for",
    ),
    "two values": (
        lambda: own(values=lambda self, d, p: (d, d))(),
        ValueError,
        "a value, and the pairs for which it counts. Received: 2",
    ),
    "a scalar": (lambda: own(values=lambda self, d, p: (ops.sum(d),))(), ValueError, "it counts. Received shape: ()"),
    "a row's shape": (
        lambda: own(row=lambda self, r, count: ops.sum(r[0]))(),
        ValueError,
        "`Mine.row` must return a tensor of shape [B], (9,). Received shape: ()",
    ),
    "not set": (
        lambda: own(__init__=lambda self, size=1, **options: PairwiseLoss.__init__(self, **options))(),
        AttributeError,
        "Mine has no attribute `size`. The constructor must call `super().__init__(**options)` and set one for each of",
    ),
    "not an argument": (
        lambda: own(values=lambda self, d, p: (d * self.scale,))(),
        AttributeError,
        "Mine has no attribute `scale`. The constructor must call `super().__init__(**options)` and set one for each "
        "of its arguments; `values` and `row` see only these: none",
    ),
    "a list": (
        lambda: own(__init__=with_argument)([1]),
        TypeError,
        "`size` of Mine must be a number, a scalar, or hashable, as a tuple is. Received: list",
    ),
    "a tensor": (
        lambda: own(__init__=with_argument)(ops.ones(1)),
        TypeError,
        "`size` of Mine must be a number, a scalar, or hashable, as a tuple is. Received",
    ),
    "three parts": (lambda: own(values=lambda self, d, p: ((d, p, p),))(), ValueError, "it counts. Received one of 3"),
    "nothing": (lambda: own(row=lambda self, r, count: None)(), ValueError, "of shape [B], (9,). Received NoneType"),
    "no options": (
        lambda: own(__init__=lambda self, size=1: PairwiseLoss.__init__(self)),
        TypeError,
        "`Mine.__init__` must take its arguments by name, and `**options` to pass to `super().__init__`. Received: (",
    ),
    "a property": (
        lambda: own(values=lambda self, d, p: (d * self.twice,), twice=property(lambda self: 2 * self.scale))(),
        AttributeError,
        "Mine has no attribute `scale`.",
    ),
    "no base": (lambda: own(__init__=lambda self, **options: None)(), AttributeError, "must call `super().__init__(**"),
}


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_an_author_may_get_wrong(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make().rows(LABELS, X)


@pytest.mark.parametrize("loss", [PairwiseUserLoss, ContrastiveLoss, SupConLoss])
def test_a_misspelt_option_names_the_loss(loss):
    own = {PairwiseUserLoss: "margin, pairs", ContrastiveLoss: "pos_margin, neg_margin", SupConLoss: "temperature"}[
        loss
    ]
    options = "tile, ignore_label, across_replicas, reduction, name, dtype"
    message = f"{loss.__name__} has no argument `temprature`. It takes: {own}, {options}"
    with pytest.raises(TypeError, match=re.escape(message)):
        loss(temprature=1)
    pairs = "ref_labels, ref_embeddings, pair_weights, ignore_label, tile"
    message = f"{loss.__name__} has no argument `weights` at a call. It takes: {pairs}"
    with pytest.raises(TypeError, match=re.escape(message)):
        loss()(LABELS, X, weights=1)


ERRORS = {
    "labels alone": (
        {"ref_labels": [1]},
        ValueError,
        "`ref_labels` must come with `ref_embeddings`. Received",
    ),
    "embeddings alone": ({"ref_embeddings": X}, ValueError, "`ref_embeddings` must come with `ref_labels`. Received"),
    "features": (
        {"ref_labels": [1], "ref_embeddings": X[:1, :2]},
        ValueError,
        "`ref_embeddings` must have as many columns as `embeddings`. Received: 2 and 3",
    ),
    "columns of labels": (
        {"ref_labels": [[1, 2]], "ref_embeddings": X[:1]},
        ValueError,
        "`ref_labels` must have as many columns as `labels`. Received: 2 and 1 (`encode_ids(ids, wide=True)` always "
        "gives two.)",
    ),
    "size of references": (
        {"ref_labels": [1, 2], "ref_embeddings": X[:1]},
        ValueError,
        "`ref_labels` and `ref_embeddings` must have the same batch size. Received shapes: (2,) and (1, 3)",
    ),
    "weights": (
        {"pair_weights": np.ones((9, 8))},
        ValueError,
        "`pair_weights` must have shape [B, B'], (9, 9). Received shape: (9, 8)",
    ),
    "weights of rows": ({"pair_weights": np.ones(9)}, ValueError, "`pair_weights` must have shape [B, B'], (9, 9)."),
    "weights of text": ({"pair_weights": "all"}, TypeError, "`pair_weights` must be an array of numbers. Received"),
    "a label": (
        {"ignore_label": 1.0},
        TypeError,
        "`ignore_label` must be None, an integer or a tuple of them",
    ),
    "a large label": (
        {"ignore_label": 2**64},
        ValueError,
        "a tuple of them, in [-2**63, 2**64)",
    ),
    "labels": ({"ignore_label": (1, 2)}, ValueError, "`ignore_label` must have one integer for each of the 1 columns"),
}


@pytest.mark.parametrize(("options", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_errors(options, error, message):
    for form in (contrastive, ContrastiveLoss()):
        with pytest.raises(error, match=re.escape(message)):
            form(LABELS, X, **options)


def test_pairs_across_replicas_are_those_of_one_batch():
    loss = ContrastiveLoss(across_replicas=True)
    for options in ({"pair_weights": WEIGHTS}, {"ref_labels": LABELS, "ref_embeddings": X}):
        message = f"`{next(iter(options))}` must be None with `across_replicas=True`"
        with pytest.raises(ValueError, match=re.escape(message)):
            loss(LABELS, X, **options)


@pytest.mark.full
def test_an_ignored_label_in_shares():
    """Each replica knows which rows the others ignore."""
    ignoring = in_shares(ContrastiveLoss, ignore_label=2)
    assert_agrees(QUICK, ignoring, partial(oracles.contrastive, ignore_label=2), LABELS, X)


def test_other_names_of_pairs():
    with pytest.raises(ValueError, match=r"`pairs` must be one of 'sum', 'mean'\. Received: 'max'"):
        pairwise_user_loss(LABELS, X, pairs="max")


SYMBOL = "must be an array of numbers. Received: a KerasTensor, a symbol of a functional model"


@pytest.mark.parametrize("name", ["pairwise_user_loss", "contrastive", "supcon", "dice", "dice_coef", "cross_entropy"])
def test_symbols_outside_of_a_layer_are_refused(name):
    with pytest.raises(TypeError, match=re.escape(SYMBOL)):
        getattr(losses, name)(keras.Input((), dtype="int32"), keras.Input((3,)))
    with pytest.raises(TypeError, match=re.escape(SYMBOL)):
        getattr(losses, name)(LABELS, keras.Input((3,)))
