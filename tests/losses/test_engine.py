"""The pairwise engine: the loop and the direct way, hard data, reduced precision; and the losses that share it."""

import functools
import gc
import re
import weakref

import keras
import numpy as np
import pytest
from cases import gradient_of
from frameworks import (
    BACKEND,
    FAST,
    QUICK,
    evaluate,
    full_on,
    gradients_under_transformations,
    in_shares,
    modes,
    rounded_products,
    ways,
)
from keras import ops

from multiloss import ContrastiveLoss, PairwiseUserLoss, SupConLoss, oracles, pairwise_user_loss
from multiloss.losses import contrastive, supcon
from multiloss.pairwise._engine import distances, loop, products, tiles

# To compile takes seconds a function, so most of what is compiled is one case; torch compiles in `test_losses` alone.
OTHERS = [mode for mode in FAST if mode != QUICK]
# One object each, so that what is compiled for one set of data serves the next.
USER, USER_IN_SHARES = functools.partial(pairwise_user_loss, tile=256), in_shares(PairwiseUserLoss)
DIRECT = functools.partial(pairwise_user_loss, tile="all")


def sizes(*default, full=()):
    """Modes and numbers of features, of which the former are in the default tier; the others have one size."""
    yield from ((QUICK, features) for features in default)
    others = [*((QUICK, features) for features in full), *((mode, 32) for mode in OTHERS)]
    yield from (pytest.param(*other, marks=pytest.mark.full) for other in others)


def reference(ids, x):
    """Rows and gradient of the sum of the pairwise user loss, and the sums of distances, in float64, from differences.

    The oracle, which is slow, is held to this one below.
    """
    x = x.astype(np.float64)
    rows, gradient, distances = np.zeros(len(x)), np.zeros_like(x), np.zeros(len(x))
    for i in range(len(x)):
        difference = x[i] - x
        distance = np.sqrt(np.sum(difference**2, axis=1))
        sign = np.where(ids == ids[i], 1.0, -1.0)
        rows[i], distances[i] = np.sum(sign * distance) / 2, np.sum(distance) / 2
        gradient[i] = (sign / np.where(distance > 0, distance, np.inf)) @ difference
    return rows, gradient, distances


def hard_data(features):
    """What training leads to, and what it starts from, for 512 rows of 32 users."""
    rng = np.random.default_rng(features)
    ids, noise = rng.integers(0, 32, 512), rng.normal(size=(512, features))
    clusters = rng.normal(size=(32, features))[ids]
    data = {
        "random": noise,
        "clusters of width 1e-2": clusters + 1e-2 * noise,
        "clusters of width 1e-4": clusters + 1e-4 * noise,
        "clusters of width 1e-2 at 100": clusters + 1e-2 * noise + 100,
        "all within 1e-3 of one point": clusters[:1] + 1e-3 * noise,
        "half of them identical": np.where(np.arange(512)[:, None] % 2, noise, noise[:1]),
        "all features equal": np.repeat(noise[:, :1], features, axis=1)[np.arange(512) // 2],
    }
    return ids, {name: x.astype(np.float32) for name, x in data.items()}


def assert_exact(mode, ids, x, name, loss=USER):
    rows, gradient, distances = reference(ids, x)
    value, slope = evaluate(mode, loss, ids, x)
    # Promised: 1e-6 of the sum of all distances; 1e-3 of the gradient's largest entry, and 1e-5 on random data. Points
    # on a line come 1e-6 of its length close to each other, where the direction is that of the rounding.
    assert abs(value.astype(np.float64).sum() - rows.sum()) <= 1e-6 * distances.sum(), name
    # Differences are exact: there, all that is rounded are unit vectors and their sum.
    tolerance = 1e-5 if loss is DIRECT else {"random": 1e-5, "all features equal": 1e-2}.get(name, 1e-3)
    tolerance *= np.abs(gradient).max()
    np.testing.assert_allclose(slope, gradient, rtol=0, atol=tolerance, err_msg=name)


def test_the_reference_is_the_oracle():
    ids, data = hard_data(3)
    x = data["clusters of width 1e-2"][:12]
    rows, gradient, _ = reference(ids[:12], x)
    np.testing.assert_allclose(rows, oracles.pairwise_user_loss(ids[:12], x), rtol=1e-12)  # float64
    expected = gradient_of(oracles.pairwise_user_loss, ids[:12], x)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)  # of differences with a step of 1e-7


@pytest.mark.parametrize(("mode", "features"), list(sizes(2, 128, full=[2048])))
def test_exact_on_hard_data(mode, features):
    ids, data = hard_data(features)
    for name in data:
        assert_exact(mode, ids, data[name], name)


@pytest.mark.parametrize(
    ("mode", "features"),
    [(QUICK, 2), (QUICK, 128), *(pytest.param(m, 32, marks=pytest.mark.full) for m in OTHERS if "unknown" not in m)],
)
def test_the_direct_way_is_more_exact(mode, features):
    ids, data = hard_data(features)
    for name in data:
        assert_exact(mode, ids[:256], data[name][:256], name, DIRECT)


@pytest.mark.parametrize(("mode", "features"), list(sizes(3, full=[128])))
def test_exact_on_hard_data_in_shares(mode, features):
    ids, data = hard_data(features)
    for name in data:
        assert_exact(mode, ids, data[name], name, USER_IN_SHARES)


@pytest.mark.parametrize(
    ("features", "loss"),
    [
        (8, functools.partial(pairwise_user_loss, margin=0)),
        pytest.param(512, functools.partial(pairwise_user_loss, margin=0), marks=pytest.mark.full),
        pytest.param(8, in_shares(PairwiseUserLoss, margin=0), marks=pytest.mark.full),
    ],
)
def test_pairs_at_the_limit_of_float32_pull_no_more_than_others(features, loss):
    """Where all that is left of a distance is rounding, to divide by it would give gradients of any length."""
    rng, ids = np.random.default_rng(features), np.arange(2048) // 2
    x = rng.normal(size=(2048, features))[ids] + 3e-7 * rng.normal(size=(2048, features))
    _, gradient = evaluate(QUICK, loss, ids, x.astype(np.float32))
    # Of one pair each, so unit vectors or 0; distances rounded by up to half.
    assert np.linalg.norm(gradient, axis=1).max() <= 2


def to_8_bits(a):
    shifted = a * (2.0**16 + 1)
    return shifted - (shifted - a)


@pytest.mark.parametrize(("mode", "features"), list(sizes(3, full=[128])))
def test_exact_where_products_round_their_inputs_to_8_bits(mode, features, monkeypatch):
    """As on accelerators: inputs in bfloat16, sums in float32."""
    exact = products.product
    monkeypatch.setattr("multiloss._frameworks.may_round_products", lambda: True)
    monkeypatch.setattr(products, "product", lambda a, b: exact(to_8_bits(a), to_8_bits(b)))
    loop._halves_of_a_tile.cache_clear()
    try:
        ids, data = hard_data(features)
        loss = functools.partial(pairwise_user_loss, tile=256)  # not one that was compiled before
        for name in data:
            assert_exact(mode, ids, data[name], name, loss)
        # And it is seen: without the emulation, hard data are off by far more.
        monkeypatch.setattr(products, "emulated", products.product)
        loop._halves_of_a_tile.cache_clear()
        loss, name = functools.partial(pairwise_user_loss, tile=256), "clusters of width 1e-2"
        with pytest.raises(AssertionError):
            assert_exact(mode, ids, data[name], name, loss)
    finally:
        loop._halves_of_a_tile.cache_clear()


def test_no_product_is_rounded_where_the_framework_can_be_told():
    """On a GPU, JAX rounds those of some shapes and not others, which no single product finds out."""
    assert rounded_products(lambda x: pairwise_user_loss(TILE_IDS, x, tile=5), TILE_X) == 0


@pytest.mark.parametrize("features", [1, 3, 64])
def test_the_grid_takes_all_the_digits_of_float32(features):
    """A coarser one would be as exact, and leave more to the products that are rounded."""
    assert distances._epsilon(ops.ones(1)) == np.finfo(np.float32).eps / 2  # half the spacing: of rounding to nearest
    x = ops.convert_to_tensor(np.random.default_rng(features).uniform(-1, 1, (64, features)).astype(np.float32))
    x = x / ops.max(ops.abs(x))
    exact = ops.ones((), dtype="bool")  # as if the hardware were: on accelerators h0 has 8 bits
    unit, ratio = distances._scales(x, exact)
    points = distances.points((x * unit, x, x, x[:, 0]), distances.Scale(unit, unit, ratio, exact))
    norms = np.sqrt(ops.convert_to_numpy(points.norms)[:, [0, 2]].max(axis=0))
    assert abs(norms[0] - 2**11) <= features**0.5 / 2  # h0 is rounded by half at most in each feature
    assert 2**10 <= norms[1] <= 2**11 * 3**0.5  # h1 in a unit that is a power of 2, and at worst sqrt(3) as long


TILE_IDS, TILE_X = (data[:13] for data in (np.random.default_rng(1).integers(0, 3, (13, 2)), hard_data(3)[1]["random"]))
UPSTREAM = {"weights": np.linspace(0.1, 2, 13, dtype=np.float32), "equal": np.full(13, 0.3, np.float32)}
ORACLES = {pairwise_user_loss: oracles.pairwise_user_loss, supcon: oracles.supcon}
EXPECTED = {
    (loss, name): (oracle(TILE_IDS, TILE_X), gradient_of(oracle, TILE_IDS, TILE_X, upstream))
    for loss, oracle in ORACLES.items()
    for name, upstream in UPSTREAM.items()
}


@pytest.mark.parametrize(
    ("loss", "mode", "tile"),
    [
        *((loss, QUICK, tile) for loss in ORACLES for tile in (5, "all")),
        *(pytest.param(loss, QUICK, tile, marks=pytest.mark.full) for loss in ORACLES for tile in (1, 13, 50)),
        *(pytest.param(supcon, mode, 4, marks=pytest.mark.full) for mode in OTHERS),
    ],
)
def test_tiles_change_nothing(loss, mode, tile):
    """Of 13 rows, with labels [B, 2]. Weights take a second pass over the pairs, equal ones do not."""
    tiled = functools.partial(loss, tile=tile)
    for name in UPSTREAM:
        value, gradient = evaluate(mode, tiled, TILE_IDS, TILE_X, UPSTREAM[name])
        rows, expected = EXPECTED[loss, name]
        # Sums of 12 distances, or cosines over a temperature of 0.1, rounded to 6e-8; of gradients, as promised.
        np.testing.assert_allclose(value, rows, rtol=0, atol=2e-5)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 2, 13, 64, 257])
@pytest.mark.parametrize("tile", [None, 1, 4, 12, 13, 100])
def test_tiles_hold_the_batch_and_hardly_more(batch, tile):
    """Of the whole batch, an odd number of tiles; of a share's rows, none with more rows than asked for."""
    count, size = tiles.in_halves(batch, tile)
    assert count % 2 == 1
    assert batch <= count * size < batch + count
    for parts in (1, 4):
        blocks, width = tiles.in_blocks(batch, parts)
        assert batch <= blocks * width < batch + width
        assert width == -(-batch // parts)
    count, size = tiles.in_rows(batch, 3 * batch, tile)
    assert batch <= count * size < batch + count
    assert size <= (tile or 256)


@pytest.mark.full
@pytest.mark.parametrize(("loss", "tile"), [(pairwise_user_loss, "all"), (supcon, 5)])
def test_transformations_of_the_framework_change_nothing(loss, tile):
    upstream = UPSTREAM["weights"]
    gradients = gradients_under_transformations(
        lambda x: ops.sum(ops.multiply(loss(TILE_IDS, x, tile=tile), upstream)), TILE_X
    )
    _, expected = EXPECTED[loss, "weights"]
    for name, gradient in gradients.items():
        tolerance = 1e-5 * np.abs(expected).max()  # as promised
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST[:2]))
@pytest.mark.parametrize("scale", [1e37, 1e-34])
@pytest.mark.parametrize("way", [USER, DIRECT])
def test_scales_near_the_ends_of_float32(mode, scale, way):
    """The reciprocal of the one is nothing in float32, and so are 2^-13 parts of the other."""
    x = TILE_X * np.float32(scale)
    value, gradient = evaluate(mode, way, TILE_IDS, x)
    rows, expected = oracles.pairwise_user_loss(TILE_IDS, x), EXPECTED[pairwise_user_loss, "equal"][1] / 0.3
    # As promised: 1e-6 of the value, 1e-5 of the gradient's largest entry.
    np.testing.assert_allclose(value, rows, rtol=0, atol=1e-6 * np.abs(rows).max())
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("tile", [5, "all"])
@pytest.mark.parametrize("backend", [pytest.param(BACKEND, marks=() if BACKEND == "torch" else pytest.mark.full)])
def test_embeddings_are_freed_at_once(backend, tile):
    """On torch, a result that is held by its own gradient, and holds them, waits for the garbage collector.

    So does, with Keras 3.12 to 3.14, whatever was given to any operation of Keras, whose `tree` leaves cycles there.
    """
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    freed = backend != "torch" or not (3, 12) <= version < (3, 15)
    embeddings = []

    def loss(y, x):
        embeddings.append(weakref.ref(x))
        return pairwise_user_loss(y, x, tile=tile)

    gc.collect()
    gc.disable()
    try:
        evaluate("eager", loss, TILE_IDS, TILE_X)
        assert [x() is None for x in embeddings] == [freed]
    finally:
        gc.enable()
    gc.collect()
    assert [x() for x in embeddings] == [None]


def test_losses_of_one_set_of_parameters_share_their_loop():
    """JAX compiles a loop again for every new function."""
    before = loop._halves_of_a_tile.cache_info().misses
    for _ in range(3):
        pairwise_user_loss([1, 1, 2], np.eye(3, dtype=np.float32), margin=0.123, tile=2)
    # Two where products may be rounded, and are then computed another way.
    assert before < loop._halves_of_a_tile.cache_info().misses <= before + 2


# --- contrastive and supcon, beyond the table ------------------------------------------------------------------------

POINTS = np.array([[0, 0], [3, 4], [0, 1]], dtype=np.float32)  # distances 5, 1 and sqrt(18)


@full_on("jax")
def test_contrastive_worked_by_hand():
    rows = ops.convert_to_numpy(contrastive([7, 7, 9], POINTS, pos_margin=1, neg_margin=4))
    np.testing.assert_allclose(rows, [(16 / 2 + 9 / 2) / 2, 16 / 2 / 2, 9 / 2 / 2], rtol=1e-6)  # float32
    mean = float(ContrastiveLoss(1, 4)([7, 7, 9], POINTS))
    assert mean == pytest.approx((16 / 2 + 9 / 2 + 0) / 3, rel=1e-6)  # over three pairs, in float32
    np.testing.assert_array_equal(ops.convert_to_numpy(contrastive([1, 2], POINTS[:2])), [0, 0])


@full_on("jax")
def test_ntxent_is_supcon_of_two_views():
    """Chen et al. 2020, equation 1, written down as there: the positive of i is its other view, and no other."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, 6, 3))
    z = views.reshape(12, 3) / np.linalg.norm(views.reshape(12, 3), axis=1, keepdims=True)
    similarity = np.exp(z @ z.T / 0.5)
    expected = [
        -np.log(similarity[i, (i + 6) % 12] / sum(similarity[i, k] for k in range(12) if k != i)) for i in range(12)
    ]
    rows = supcon(np.tile(np.arange(6), 2), views.reshape(12, 3).astype(np.float32), temperature=0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(rows), expected, rtol=1e-5)  # float32, cosines over 0.5


@full_on("jax")
def test_supcon_worked_by_hand():
    x = np.array([[1, 0], [2, 0], [0, 3]], np.float32)
    rows = ops.convert_to_numpy(supcon([7, 7, 9], x, temperature=1))
    np.testing.assert_allclose(rows, [np.log(1 + np.exp(-1)), np.log(1 + np.exp(-1)), 0], rtol=1e-6)  # float32
    np.testing.assert_array_equal(ops.convert_to_numpy(supcon([1, 2, 3], x)), [0, 0, 0])  # no positives
    # At a temperature of 1e-3, exp(-1000) is 0; the loss is not infinite.
    rows = ops.convert_to_numpy(supcon([7, 9, 7], x, temperature=1e-3))
    np.testing.assert_allclose(rows, oracles.supcon([7, 9, 7], x, temperature=1e-3), atol=2e-4)  # 6e-8 of 1000


@full_on("jax")
def test_supcon_depends_on_directions_alone():
    rng = np.random.default_rng(0)
    ids, x = rng.integers(0, 3, 9), rng.normal(size=(9, 4)).astype(np.float32)
    scales = np.float32(10.0) ** rng.integers(-25, 25, (9, 1))
    before, after = (ops.convert_to_numpy(supcon(ids, points)) for points in (x, x * scales))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)  # rounded to 6e-8, over a temperature of 0.1


@pytest.mark.parametrize(("tile", "mode"), ways(3))
@pytest.mark.parametrize("loss", [contrastive, supcon])
def test_coincident_rows_and_rows_of_zeros_have_finite_gradients(mode, loss, tile):
    ids, x = np.array([1, 1, 2, 2, 3]), np.array([[1, 2], [1, 2], [1, 2], [0, 0], [0, 0]], np.float32)
    function = functools.partial(loss, tile=tile)
    for points, zeros in ((x, slice(3, None)), (0 * x, slice(None))):
        value, gradient = evaluate(mode, function, ids, points)
        np.testing.assert_allclose(value, getattr(oracles, loss.__name__)(ids, points), rtol=1e-5)  # as promised
        assert np.isfinite(gradient).all()
        if loss is supcon:  # a row of zeros has no direction
            np.testing.assert_array_equal(gradient[zeros], 0)


SOME = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0])[:, None] > 0


@pytest.mark.parametrize(
    ("form", "tile", "mode"),
    [
        *(pytest.param("batch", *way.values, marks=way.marks) for way in ways(2)),
        *(pytest.param("references", *way.values, marks=pytest.mark.full) for way in ways(2, of=[QUICK])),
        pytest.param("shares", None, QUICK, marks=pytest.mark.full),
    ],
)
def test_rows_of_zeros_have_a_cosine_of_0_with_every_other(form, tile, mode):
    """Of the batch or the references, also among each other; they get no gradient, and give none."""
    rng = np.random.default_rng(4)
    ids, x = rng.integers(0, 3, 9), rng.normal(size=(9, 4)).astype(np.float32)

    def rows(loss, y, x, **options):
        if form == "shares" and loss is supcon:
            return in_shares(SupConLoss, temperature=0.7)(y, x)
        if form != "references":
            return loss(y, x, temperature=0.7, **options)
        return loss(y[:5], x[:5], ref_labels=y[4:], ref_embeddings=x[4:], temperature=0.7, **options)

    def oracle(y, x):
        return rows(oracles.supcon, y, np.where(SOME, x, 0))

    value, gradient = evaluate(mode, functools.partial(rows, supcon, tile=tile), ids, np.where(SOME, x, np.float32(0)))
    np.testing.assert_allclose(value, oracle(ids, x), rtol=1e-5)  # as promised
    expected = gradient_of(oracle, ids, x)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())  # as promised
    np.testing.assert_array_equal(gradient[~SOME[:, 0]], 0)


@pytest.mark.parametrize(("tile", "mode"), ways(2))
@pytest.mark.parametrize("loss", [contrastive, supcon])
def test_a_nan_or_infinity_shows_in_the_loss(loss, tile, mode):
    """Compiled too: there, a maximum may be of the others, and a product with what is not above 0 may be 0."""
    function = functools.partial(loss, tile=tile)
    for bad in (np.nan, np.inf):
        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        x[1, 0] = bad
        for ids in ([1, 1, 2, 2], [1, 2, 3, 4]):
            assert np.isnan(evaluate(mode, function, np.array(ids), x)[0]).all()


FINITE = "must be a finite number >= 0. Received"


@pytest.mark.parametrize(
    ("function", "loss", "parameters", "error", "message"),
    [
        (contrastive, ContrastiveLoss, {"pos_margin": -1.0}, ValueError, f"`pos_margin` {FINITE}: -1.0"),
        (contrastive, ContrastiveLoss, {"neg_margin": np.inf}, ValueError, f"`neg_margin` {FINITE}: inf"),
        (contrastive, ContrastiveLoss, {"neg_margin": "1"}, TypeError, f"`neg_margin` {FINITE}: '1' of type str"),
        (contrastive, ContrastiveLoss, {"tile": -1}, ValueError, '`tile` must be None, "all" or a positive integer.'),
        (
            supcon,
            SupConLoss,
            {"temperature": 0},
            ValueError,
            "`temperature` must be a finite number >= 1.2e-38. Received: 0",
        ),
        (supcon, SupConLoss, {"temperature": np.nan}, ValueError, "`temperature` must be a finite number >= 1.2e-38."),
        (supcon, SupConLoss, {"temperature": None}, TypeError, "`temperature` must be a finite number >= 1.2e-38."),
        (supcon, SupConLoss, {"temperature": 1e-40}, ValueError, "`temperature` must be a finite number >= 1.2e-38."),
        (supcon, SupConLoss, {"tile": np.inf}, ValueError, '`tile` must be None, "all" or a positive integer.'),
        (supcon, SupConLoss, {"tile": True}, TypeError, '`tile` must be None, "all" or a positive integer.'),
    ],
)
def test_errors(function, loss, parameters, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function([7, 7, 9], POINTS, **parameters)
    with pytest.raises(error, match=re.escape(message)):
        loss(**parameters)
    for form in (function, loss()):
        with pytest.raises(ValueError, match=re.escape("`embeddings` must have shape [B, D], D >= 1 and known.")):
            form([7, 7, 9], POINTS[0])
        with pytest.raises(ValueError, match=r"`labels` and `embeddings` must have the same batch size\."):
            form([7, 7], POINTS)
