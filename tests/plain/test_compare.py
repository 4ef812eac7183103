"""How far results may be from what they should be."""

import numpy as np

from multiloss.check import compare


def test_half_precision_is_rounded_to_nearest_even():
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1.0, 3e38, 1e5], np.float32)
    np.testing.assert_array_equal(compare.halved(x[:3], "bfloat16"), np.float32([1, 1 + 2.0**-6, -1]))
    assert np.isinf(compare.halved(x[4:], "float16")).all()


def test_the_error_is_the_worst_relative_to_its_tolerance():
    off = compare.difference([1.0, 2.0, 3.0], [1.0, 2.5, 3.1], np.array([1.0, 1.0, 0.01]))
    assert off == (3.1 - 3.0, 0.01)
    assert off.ratio == (3.1 - 3.0) / 0.01
    assert compare.difference([2.0], [2.0], 0.0).ratio == 0  # what is exact needs no tolerance
    assert compare.difference([2.0], [2.5], 0.0).ratio == np.inf
    assert compare.difference(np.zeros((0, 3)), np.zeros((0, 3)), 0.5) == (0, 0.5)


def test_what_is_not_finite_must_match():
    special = np.array([np.nan, np.inf, -np.inf])
    assert compare.difference(special, special, 1.0).ratio == 0
    for got, wanted in ((np.nan, 1.0), (1.0, np.nan), (np.inf, -np.inf), (np.inf, 1.0), (1.0, np.inf)):
        assert compare.difference([got, 0.0], [wanted, 0.0], 1.0).ratio == np.inf, (got, wanted)
    assert compare.Difference(float("nan"), 1.0).ratio == np.inf


def test_another_shape_is_infinitely_far():
    assert compare.difference(np.zeros(3), np.zeros((3, 1)), [1.0, 2.0]) == (np.inf, 2.0)


def test_the_largest_number_is_a_finite_one():
    assert compare.largest([1.0, -3.0, np.inf, np.nan]) == 3
    assert compare.largest([np.nan]) == compare.largest([]) == 0
