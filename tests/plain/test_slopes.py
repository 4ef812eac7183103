"""Numerical derivatives, held to those worked out by hand, and what they say of their own error.

Tolerances of 1e-9 are what four steps of 2% and less leave of smooth functions, which is 1e-12, with room; of 1e-8 the
same beside a kink, where quotients are one-sided; of 1e-5 and 1e-6 no more than numbers with such digits have.
"""

import numpy as np
import pytest

from multiloss.check import compare, slopes

EVERYWHERE = (-np.inf, np.inf)


def truth_of(function, *leaves, gradients=(), bounds=(EVERYWHERE,), **options):
    leaves = [np.asarray(leaf, np.float64) for leaf in leaves]
    return slopes.truth(
        lambda x: function(*x),
        leaves,
        bounds=bounds,
        seed=0,
        gradients=[np.asarray(gradient, np.float64) for gradient in gradients],
        **options,
    )


def slopes_of(function, *leaves, **options):
    return truth_of(function, *leaves, **options).slopes


def total(function):
    """The sum of a function's values: a scalar, of which the upstream gradient is 1.5."""
    return lambda *x: np.sum(function(*x)) / 1.5


def within_its_error(found, wanted):
    """Each side is as far from the derivative as it says, at most: the checker trusts it to 4 times that."""
    off = np.maximum(np.abs(found.lower - wanted), np.abs(found.upper - wanted))
    return (off <= compare.ERRORS * found.error).all()


SMOOTH = {
    # function, derivative, points
    "sine": (np.sin, np.cos, [0.0, 0.5, -1.25, 3.0]),
    "cube, flat at 0": (lambda x: x**3, lambda x: 3 * x**2, [0.0, 1.0, -2.0]),
    "logarithm, steep near 0": (np.log, lambda x: 1 / x, [1e-6, 1e-3, 0.5]),
    "1 / smooth at the end": (lambda x: x / (x + 1e-7), lambda x: 1e-7 / (x + 1e-7) ** 2, [0.0, 1.0]),
    "squares of an offset": (lambda x: (x - 1e4) ** 2, lambda x: 2 * (x - 1e4), [1e4 + 0.5, 1e4 - 1.25]),
    "cancellation": (lambda x: x**2 - 2e4 * x + 1e8, lambda x: 2 * (x - 1e4), [1e4 + 0.5, 1e4 - 1.25]),
    "of size 1e12": (lambda x: 1e12 * np.exp(x), lambda x: 1e12 * np.exp(x), [0.0, 1.0]),
    "of size 1e-12": (lambda x: 1e-12 * np.exp(x), lambda x: 1e-12 * np.exp(x), [0.0, 1.0]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_of_smooth_functions(name):
    function, derivative, x = SMOOTH[name]
    found = slopes_of(function, x)
    wanted = derivative(np.array(x)) * slopes.upstream_of((len(x),))
    assert within_its_error(found, wanted)
    assert (found.error <= slopes.CLOSE * found.size).all()  # as close as asked for
    np.testing.assert_array_equal(found.lower, found.upper)
    assert not found.open.any()


def test_a_slope_of_1_over_smooth_is_told_from_half_of_it():
    """Of Dice for empty masks, predicted as empty, at the end of the range: 1 / 1e-7, within steps of 1e-7."""

    def dice(x):
        return 1 - 1e-7 / (x.sum() + 1e-7)

    wrong = np.full(4, 0.75e7)  # times the upstream gradient of 1.5, it should be 1.5e7
    found = slopes_of(dice, np.zeros(4), bounds=[(0.0, 1.0)], gradients=[wrong])
    assert within_its_error(found, 1.5e7)
    assert (found.error < 1).all()
    np.testing.assert_allclose(found.off(wrong), 0.75e7, rtol=1e-6)  # the slope is known that well
    assert not found.open.any()


@pytest.mark.parametrize(
    ("function", "sides"),
    [
        (np.abs, (-1, 1)),
        (lambda x: np.maximum(x, 0), (0, 1)),  # as in a hinge: a slope of 0 is a side, too
        (lambda x: -np.maximum(x, 0), (-1, 0)),
        (lambda x: np.where(x < 0, 1e6 * x, 1e-3 * x), (1e-3, 1e6)),
    ],
)
def test_kinks_allow_any_slope_between_the_sides(function, sides):
    # Where a gradient differs, finer steps change nothing.
    for gradients in ([], [[sides[1] + 1.0]]):
        found = slopes_of(total(function), [0.0], gradients=gradients)
        # 1e-9: the sides are straight, so that only rounding remains.
        np.testing.assert_allclose([found.lower[0], found.upper[0]], sides, rtol=1e-9, atol=1e-9)
        assert not found.open
        middle = np.array([np.mean(sides)])
        assert found.off(middle) == 0
        assert found.off(np.array([sides[1] + 0.1])) == pytest.approx(0.1, rel=1e-5)
        assert found.off(np.array([sides[0] - 0.1])) == pytest.approx(0.1, rel=1e-5)
        assert np.isnan(found.off(np.array([np.nan])))


def test_equal_numbers_may_share_a_slope_otherwise_where_operations_pick_one_of_them():
    """The slopes are (2, 1) in one order and (1, 2) in the other. To pick the same twice is (3, 0), or (0, 3)."""

    def picked(x):
        return 2 * np.maximum(x[0], x[1]) + np.minimum(x[0], x[1]) + x[2]

    def opened(gradient, function=picked):
        found = slopes_of(total(function), [0.25, 0.25, 0.5], gradients=[gradient])
        return found.open.tolist()

    assert opened([3, 0, 1]) == opened([0, 3, 1]) == [True, True, False]
    assert opened([2, 1, 1]) == opened([1.5, 1.5, 1]) == [False] * 3  # right as they are
    assert opened([3.01, 0, 1]) == [False] * 3  # a wrong sum
    assert opened([3, 0, 1.01]) == [True, True, False]  # what has no equal
    for slope in (0, 1):  # nothing is picked: the first two are 0
        assert opened([1, -1, slope], lambda x, slope=slope: (x[0] - x[1]) ** 2 + slope * x[2]) == [False] * 3


def test_a_clip_at_1e_minus_12_has_both_its_sides():
    """The value there is constant to one side, and steeper than 1e12 to the other."""

    def clipped(x):
        return -np.log(np.clip(x, 1e-12, 1))

    x, factors = [1e-12, 0.5, 1.0], slopes.upstream_of((3,))
    for right in ([-1e12, -2, -1], [0, -2, 0], [-5e11, -2, -0.5]):
        found = slopes_of(clipped, x, bounds=[(0.0, 1.0)], gradients=[right * factors])
        assert not slopes.disagreeing(found, [right * factors]).any()
    assert found.lower[0] == pytest.approx(-1.5e12)
    assert found.upper[0] == 0
    found = slopes_of(clipped, [0.0, 0.5], bounds=[(0.0, 1.0)], gradients=[[0, -2 * factors[1]]])
    assert (found.lower[0], found.upper[0]) == (0, 0)  # below the clip


def test_a_wrong_gradient_beside_a_steep_one_is_seen_at_the_finest_steps():
    """To find that the first slope is 0 takes steps of 1e-13 and less. They must not confuse the others.

    At 0.5, a step up is rounded to 0 before a step down is.
    """
    wanted = np.array([0.0, -2.0, -1.0]) * slopes.upstream_of((3,))
    for factor in (0.5, 1.01):
        found = slopes_of(
            lambda x: -np.log(np.clip(x, 1e-12, 1)), [0.0, 0.5, 1.0], bounds=[(0.0, 1.0)], gradients=[factor * wanted]
        )
        np.testing.assert_allclose([found.lower[1], found.upper[1]], wanted[1], rtol=1e-8)
        assert slopes.disagreeing(found, [factor * wanted])[1]


def test_a_feature_finer_than_the_first_steps_is_seen_where_a_gradient_differs():
    """The first steps give 1 and are sure of it. The slope at 0 is 2, and a gradient of 2 is right."""

    def fine(x):
        return x + 1e-9 * np.tanh(x * 1e9)

    coarse = slopes_of(total(fine), [0.0])
    assert coarse.lower == pytest.approx(1, abs=slopes.CLOSE)
    found = slopes_of(total(fine), [0.0], gradients=[[2.0]])
    assert within_its_error(found, 2)
    assert not slopes.disagreeing(found, [np.array([2.0])]).any()


def test_the_size_is_that_of_slopes_that_are_known():
    found = slopes.Slopes(*np.array([[1, -3, 900], [1, 2, 950], [0, 0.1, 480]], float), np.zeros(3), np.zeros(3))
    assert found.size == 3
    assert found.off(np.array([2, -2, 0])).tolist() == [1, 0, 900]


@pytest.mark.parametrize("function", [lambda x: (x >= 0) + x, np.floor, np.sqrt], ids=["step", "rounding", "vertical"])
def test_where_there_is_no_slope_the_error_says_so(function):
    """It would be decided if four times the error were below a tenth of how far a gradient is off, see `Gradient`."""
    for gradient in (0.0, 1.0, 7.0):
        found = slopes_of(total(function), [0.0], gradients=[[gradient]])
        off = found.off(np.array([gradient]))
        assert found.open or not compare.ERRORS * found.error <= 0.1 * off


def test_beside_nan_a_slope_is_that_of_the_other_side():
    def half(x):
        return np.where(x >= 0, x * (x + 2), np.nan)

    at_the_end = slopes_of(total(half), [0.0, 0.5], bounds=[(0.0, 1.0)])
    np.testing.assert_allclose(at_the_end.lower, [2, 3], rtol=1e-9)  # by rounding only
    np.testing.assert_array_equal(at_the_end.lower, at_the_end.upper)
    assert not at_the_end.open.any()
    inside = slopes_of(total(half), [0.0, 0.5], bounds=[(-1.0, 1.0)])
    np.testing.assert_allclose(inside.lower, [2, 3], rtol=1e-9)
    assert inside.open.tolist() == [True, False]  # another gradient might be that of the other side


def test_what_is_raised_outside_the_domain_is_as_nan():
    def half(x):
        if x.min() < 0:
            raise ValueError("negative")
        return x.sum() * 2 / 3

    found = slopes_of(half, [0.0, 0.5], bounds=[(0.0, 1.0)])
    np.testing.assert_allclose(found.lower, 1, rtol=1e-9)
    with pytest.raises(ValueError, match="negative"):  # but at x itself, the function has to have a value
        slopes_of(half, [-1.0])


def test_a_shape_that_changes_outside_the_domain_is_as_nan():
    found = slopes_of(lambda x: x[x >= 0] if x[0] < 0 else x, [0.0, 0.5], bounds=[(0.0, 1.0)])
    np.testing.assert_allclose(found.lower, slopes.upstream_of((2,)), rtol=1e-9)


def test_functions_that_round_to_float32_are_seen_and_differentiated():
    """With larger steps, so that the error is about 1e-5 instead of 1e-2, which `CLOSE` would not do."""
    found = truth_of(lambda x: np.sin(x).astype(np.float32), [0.1, 1.3, -0.7])
    assert found.single
    wanted = np.cos([0.1, 1.3, -0.7]) * slopes.upstream_of((3,))
    assert within_its_error(found.slopes, wanted)
    assert (found.slopes.error < slopes.CLOSE).all()
    assert not truth_of(np.sin, [0.1, 1.3]).single


def test_a_feature_as_fine_as_float32_is_unknown_to_functions_that_round_to_it():
    """The slope at 4 is 1e7, within 1e-7, but no two numbers of float32 there are that close."""

    def fine(x):
        return np.arctan((x.astype(np.float32) - np.float32(4)) * np.float32(1e7)) + x.astype(np.float32)

    found = truth_of(fine, [4.0, 0.5])
    assert found.single
    assert not found.slopes.error[0] < np.inf
    assert within_its_error(slopes_of(lambda x: np.arctan((x - 4) * 1e7), [4.0], gradients=[[1.5e7]]), 1.5e7)


def test_whole_numbers_are_no_sign_of_float32():
    """Nor are such fractions as those of counts: float32 has them exactly."""
    assert not truth_of(lambda x: np.round(x), [1.2, 7.6]).single
    assert not truth_of(lambda x: np.round(x) / 4, [1.2, 7.6]).single
    assert not truth_of(lambda x: np.zeros(0), [1.2, 7.6]).single


def test_rounding_moves_the_slopes_that_a_gradient_missed():
    """At an offset of 1e4, half of a float32's last bit is 5e-4, so that 2 (x - y) may be off by twice as much."""
    x, y = 1e4 + np.array([0.125, -0.25]), 1e4
    factors = slopes.upstream_of((2,))
    right = 2 * (x - y) * factors
    off = np.array([1e-3, 0])
    exact = slopes_of(lambda x: (x - y) ** 2, x, gradients=[right])
    np.testing.assert_array_equal(exact.moved, 0)  # not asked for
    missed = slopes_of(lambda x: (x - y) ** 2, x, gradients=[right + off])
    rounding = slopes.ROUNDINGS * 2 * x[0] * slopes.ROUNDING * factors[0]
    # 1e-4: the slopes themselves are that exact, and the other number has a smaller factor.
    np.testing.assert_allclose(missed.moved, [rounding, 0], rtol=1e-4)
    # No rounding moves this one: its gradient is that of the values there, whatever the values are.
    assert slopes_of(lambda x: (x - y) * 2, x, gradients=[right]).moved.max() < 1e-6


def test_rounding_off_a_kink_moves_no_slope():
    """One of the sides remains, which was right before."""
    found = slopes_of(total(np.abs), [1.0, 2.0], gradients=[[5.0, 5.0]])
    assert found.moved.max() < 1e-9
    kink = slopes_of(total(lambda x: np.abs(x - 1)), [1.0, 2.0], gradients=[[5.0, 5.0]])
    assert (kink.lower[0], kink.upper[0]) == pytest.approx((-1, 1))
    assert kink.moved.max() < 1e-8  # of slopes of about 1, whose error is counted eight times


def test_rounding_finds_what_rounding_to_float32_would_do():
    found = truth_of(lambda x: 3 * x, [1.0, -8.0])
    up, down = slopes.rounded(np.array([1.0, -8.0]), 0)
    np.testing.assert_array_equal(np.abs(up - down), [2 * slopes.ROUNDING, 16 * slopes.ROUNDING])
    np.testing.assert_allclose(found.moved, slopes.ROUNDINGS * np.array([3, 24]) * slopes.ROUNDING)
    # Beyond the end of a clip, which eight roundings pass and one does not.
    clipped = truth_of(lambda x: np.minimum(x, 1 - 4 * slopes.ROUNDING), [1.0, 1.0])
    assert clipped.moved.max() == pytest.approx(4 * slopes.ROUNDING, rel=1e-6)  # of float64
    # No sum of them is unchanged in both directions, as long as its terms differ.
    near, far = (slopes.rounded(np.ones(20), 0, times)[0] > 1 for times in (1.0, slopes.ROUNDINGS))
    assert not np.array_equal(near, far)


def test_a_gradient_wrong_by_5e_minus_4_disagrees():
    x = np.linspace(-1, 2, 6)
    right = np.cos(x) * slopes.upstream_of((6,))
    for factor, wrong in ((1 + 5e-4, True), (1 - 5e-4, True), (1 + 5e-6, False)):
        found = slopes_of(np.sin, x, gradients=[factor * right])
        assert slopes.disagreeing(found, [factor * right]).any() == wrong
    assert slopes.disagreeing(found, [np.full(6, np.nan)]).tolist() == [False] * 6  # told elsewhere


def test_several_arrays_are_one_after_the_other():
    found = truth_of(
        lambda a, b: a.sum() * b[0] / 1.5,
        np.ones((2, 3)),
        np.array([5.0, 7.0]),
        bounds=[(0.0, 1.0), EVERYWHERE],
    )
    np.testing.assert_allclose(found.slopes.lower, [*[5] * 6, 6, 0], rtol=1e-9, atol=1e-9)
    assert found.value == 20

    def roots(a, b):
        return np.concatenate([np.where(a < 0, np.nan, a * (a + 1)), np.where(b < 0, np.nan, b * (b + 1))])

    found = slopes_of(roots, np.zeros(2), np.zeros(1), bounds=[(0.0, 1.0), EVERYWHERE])
    assert found.open.tolist() == [False, False, True]  # each array has a range of its own


def test_what_is_not_asked_for_is_not_computed():
    calls = []

    def counted(x):
        calls.append(x)
        return np.sin(x)

    found = truth_of(counted, np.zeros(3), differentiate=False)
    assert (found.slopes, len(calls)) == (None, 5)  # itself, and rounded up and down by one and by eight
    assert truth_of(counted, np.zeros((0, 3))).slopes is None
    calls.clear()
    slopes_of(counted, np.full(3, 0.5))
    assert len(calls) == 7 + 1 + 3 * 8  # 4 steps to each side, and no finer ones
    calls.clear()
    slopes_of(counted, np.full(3, 0.5), gradients=[np.cos([0.5] * 3) * slopes.upstream_of((3,)) * [1, 1, 2]])
    # For the third only: 4 to each side at four points around, which do not explain it, finer ones down to where
    # 0.5 + step is 0.5, the points around again, and four steps that tell whether it is tied with another.
    assert len(calls) == 7 + (1 + 3 * 8) + 4 * (1 + 8) + (1 + 25 + 25) + 4 * (1 + 8) + 4


def test_upstream_gradients_are_distinct_and_positive():
    some = slopes.upstream_of((2, 3))
    assert some.dtype == np.float32
    assert len({*some.ravel()}) == 6
    assert some.min() >= 0.5
    assert slopes.upstream_of(()) == 1.5


def test_rounding_counts_for_batches_of_some_thousand_numbers():
    few, many = (truth_of(np.sum, np.ones(size), differentiate=False) for size in (3000, 2**16 + 1))
    assert few.moved > 0
    assert many.moved == 0  # not measured


def test_where_a_function_has_no_value_there_are_no_derivatives():
    """And the search for finer ones ends."""
    found = slopes_of(lambda x: -np.log(x), np.array([0, 0.5]), bounds=[(0.0, 1.0)], gradients=[np.array([1.0, 2.0])])
    assert not np.isfinite(found.error[0])
