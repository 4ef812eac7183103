"""The direct way through few pairs: when it is gone, that it agrees with the loop, and derivatives of any kind."""

import re
from functools import partial

import numpy as np
import pytest
from cases import gradient_of
from frameworks import BACKEND, COMPILED, QUICK, evaluate, further_derivatives, gradients_of_a_stack
from keras import ops

from multiloss import PairwiseUserLoss, _frameworks, oracles, pairwise_user_loss
from multiloss.losses import contrastive, supcon
from multiloss.pairwise._engine import loop

# A warning of torch 2.13 about its own code, which the first use of `torch.func` in a process imports.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
rng = np.random.default_rng(3)
FULL = pytest.mark.full


class LoopError(Exception):
    pass


def goes_direct(monkeypatch, batch, features, mode=QUICK, **options):
    def refuse(*arguments):
        raise LoopError

    monkeypatch.setattr(loop, "reduced", refuse)
    function = partial(pairwise_user_loss, **options)
    try:
        evaluate(mode, function, np.arange(batch) % 5, np.ones((batch, features), np.float32))
    except Exception as error:  # TensorFlow raises, of what is raised in a graph, another kind with the name in it
        if isinstance(error, LoopError) or "LoopError" in str(error):
            return False
        raise
    return True


@pytest.mark.parametrize(
    ("batch", "features", "options", "direct"),
    [
        (128, 64, {}, True),
        (32, 512, {}, True),
        (32, 513, {}, False),  # a compiler may add up features one by one
        (2048, 64, {}, False),
        (32, 64, {"tile": 32}, False),
        (48, 513, {"tile": "all"}, True),
    ],
)
def test_few_pairs_or_whoever_asks_for_it(monkeypatch, batch, features, options, direct):
    assert goes_direct(monkeypatch, batch, features, **options) is direct


def test_where_operations_run_one_by_one_and_slowly_for_more_pairs(monkeypatch):
    accelerated = _frameworks.has_accelerator(ops.ones(1))  # for more pairs anyway
    # On JAX, too: `grad` alone traces nothing that has no value.
    assert goes_direct(monkeypatch, 256, 64, mode="eager") is (accelerated or BACKEND != "torch")
    if BACKEND != "torch":  # which takes seconds to compile
        assert goes_direct(monkeypatch, 256, 64, mode=COMPILED) is accelerated


def test_a_size_that_is_not_known_goes_through_the_loop(monkeypatch):
    if BACKEND == "tensorflow":
        assert not goes_direct(monkeypatch, 8, 3, mode="graph-unknown-batch")
        assert not goes_direct(monkeypatch, 8, 3, mode="graph-unknown-batch", tile="all")


def test_replicas_have_their_own_rows_alone():
    with pytest.raises(ValueError, match=re.escape("`tile` must be None or a positive integer with")):
        PairwiseUserLoss(tile="all", across_replicas=True)([1, 2], np.eye(2, dtype=np.float32))


# The oracle's gradient of 128 rows takes too long; the two ways are held to it in `test_engine` and the table.
@pytest.mark.parametrize("loss", [supcon, *(pytest.param(f, marks=FULL) for f in (pairwise_user_loss, contrastive))])
def test_where_one_way_hands_over_to_the_other_they_agree(loss):
    ids, x = rng.integers(0, 16, 128), rng.normal(size=(128, 64)).astype(np.float32)
    upstream = np.linspace(0.5, 1.5, 128).astype(np.float32)
    (value, gradient), (other, slope) = (
        evaluate(QUICK, partial(loss, tile=tile), ids, x, upstream) for tile in ("all", 64)
    )
    # float32 rounds to 6e-8: of 127 terms of random data, added up in two orders, ten times that is left.
    np.testing.assert_allclose(value, other, rtol=0, atol=1e-6 * np.abs(other).max())
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-6 * np.abs(slope).max())


# --- derivatives of other kinds than the gradient --------------------------------------------------------------------

IDS, X = np.array([1, 2, 1, 2, 1]), rng.normal(size=(5, 2)).astype(np.float32)
DIRECTION, UPSTREAM = rng.normal(size=(5, 2)).astype(np.float32), np.linspace(0.5, 1.5, 5).astype(np.float32)
LOSSES = {
    "pairwise_user_loss": {},
    "contrastive": {"pos_margin": 0.2, "neg_margin": 9.0},
    "supcon": {"temperature": 0.7},
}


def scalar(name, tile):
    """The weighted sum of the rows, as a function of the embeddings."""
    loss = {"pairwise_user_loss": pairwise_user_loss, "contrastive": contrastive, "supcon": supcon}[name]
    return lambda x: ops.sum(ops.multiply(loss(IDS, x, tile=tile, **LOSSES[name]), UPSTREAM))


def hessian_of(oracle, x):
    """By central differences of fourth order, of the gradient by such."""
    x = np.asarray(x, np.float64)
    hessian, h = np.zeros(x.shape * 2), 1e-3
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = h
        slope = {k: gradient_of(oracle, IDS, x + k * step, UPSTREAM) for k in (-2, -1, 1, 2)}
        hessian[index] = (8 * (slope[1] - slope[-1]) - (slope[2] - slope[-2])) / (12 * h)
    return hessian


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "supcon" else FULL) for name in LOSSES])
def test_derivatives_of_every_kind(name):
    function, oracle = scalar(name, "all"), partial(getattr(oracles, name), **LOSSES[name])
    expected, slope = hessian_of(oracle, X), gradient_of(oracle, IDS, X, UPSTREAM)
    second, forward = further_derivatives(function, X, DIRECTION)
    for kind, hessian in second.items():
        # 1e-5 as promised of gradients; the differences are of gradients known to 1e-9, in steps of 1e-3.
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(ops.convert_to_numpy(hessian()), expected, rtol=0, atol=tolerance, err_msg=kind)
    for kind, derivative in forward.items():
        # As promised, of the sum of the terms by size: they cancel in part.
        tolerance = 1e-5 * np.abs(slope * DIRECTION).sum()
        np.testing.assert_allclose(float(derivative()), np.sum(slope * DIRECTION), rtol=0, atol=tolerance, err_msg=kind)
    stack = np.stack([X, X[::-1].copy()])
    expected = np.stack([slope, gradient_of(oracle, IDS, stack[1], UPSTREAM)])
    tolerance = 1e-5 * np.abs(expected).max()  # as promised
    np.testing.assert_allclose(gradients_of_a_stack(function, stack), expected, rtol=0, atol=tolerance)


def test_second_derivatives_of_points_that_coincide_are_0():
    def function(x):
        return ops.sum(pairwise_user_loss([1, 1], x))

    second, forward = further_derivatives(function, np.full((2, 2), 0.3, np.float32), DIRECTION[:2])
    for kind, derivative in (second | forward).items():
        np.testing.assert_array_equal(ops.convert_to_numpy(derivative()), 0, err_msg=kind)


def test_the_loop_says_what_they_need():
    second, forward = further_derivatives(scalar("pairwise_user_loss", 2), X, DIRECTION)
    for derivative in (*list(second.values())[:1], *forward.values()):
        with pytest.raises(NotImplementedError, match='forward mode and second derivatives need `tile="all"`'):
            derivative()
