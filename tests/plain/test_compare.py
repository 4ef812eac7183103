"""How far results may be from what they should be."""

import numpy as np

from multiloss.check import compare


def test_half_precision_is_rounded_to_nearest_even():
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1.0, 3e38, 1e5], np.float32)
    np.testing.assert_array_equal(compare.halved(x[:3], "bfloat16"), np.float32([1, 1 + 2.0**-6, -1]))
    assert np.isinf(compare.halved(x[4:], "float16")).all()


def test_kinks_allow_any_slope_between_the_sides():
    x = np.zeros((1, 1), np.float32)
    points, steps = compare.points(x)
    slopes = compare.slopes(np.abs(points).sum(axis=(1, 2)), steps, x.shape)
    assert (slopes.lower, slopes.upper) == (-1, 1)
    assert compare.gradient_difference(np.array([[0.5]]), [slopes], 1e-4).ratio == 0
    assert compare.gradient_difference(np.array([[1.1]]), [slopes], 1e-4).ratio > 100
    assert compare.gradient_difference(np.array([[np.nan]]), [slopes], 1e-4).ratio == np.inf
