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
    """Cosines of 1, 0 and 0; of a row of zeros, 1/2; a row without positives costs nothing."""
    both = np.log(np.exp(1 / 2) + 1) - 1 / 2
    np.testing.assert_allclose(
        oracles.supcon([7, 7, 9], [[1, 0], [2, 0], [0, 3]], temperature=2), [both, both, 0], rtol=1e-14
    )
    np.testing.assert_allclose(
        oracles.supcon([7, 7, 7], [[1, 0], [0, 0], [0, 0]], temperature=1),
        [np.log(2), np.log(np.exp(0.5) + np.e) - 0.75, np.log(np.exp(0.5) + np.e) - 0.75],
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
    """As `oracles._skeleton`, pixel by pixel: neighbours are looked for one by one."""

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
                oracles._skeleton(x, there, iterations), skeleton_by_a_loop(x, there, iterations)
            )
