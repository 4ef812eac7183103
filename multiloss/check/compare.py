"""How far results are from what they should be, and how far they may be. Pure: arrays in, numbers out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# float32 rounds to 6e-8; formulas of some hundred operations, and sums of some dozen terms, stay within this.
VALUE = 1e-5
GRADIENT = 1e-4
ROUNDING = 2.0**-24
# What a rounding of the inputs to float32 does to a result, a correct formula may do some times over.
ROUNDINGS = 8.0
# Machine epsilon, and what a formula of some dozen operations may make of it.
HALF = {"float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
# Step of central differences in float64, as a share of the spread of the inputs: the error of the formula, and that of
# rounding, are 1e-10 of the result each.
STEP = 1e-5
# For where the slope changes within such a step, as that of a logarithm does near 0.
CLOSE_STEP = 1e-8
# The same where something rounds to float32 on the way, as Keras's `ops.mean` does on JAX and torch: 1e-5 and 2e-5.
COARSE_STEP = 3e-3
COARSE_GRADIENT = 2e-3


class Difference(NamedTuple):
    """Largest error, in the unit of the largest it may be."""

    error: float
    tolerance: float

    @property
    def ratio(self) -> float:
        """The error as a multiple of its tolerance; infinite if it is no number."""
        if self.error == 0:
            return 0.0
        return self.error / self.tolerance if self.tolerance and not np.isnan(self.error) else float("inf")


def difference(got: Any, expected: Any, tolerance: Any) -> Difference:
    """Compare arrays of the same shape; the tolerance may be one too. Where infinities are expected, they must come."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        return Difference(float("inf"), largest(tolerance))
    with np.errstate(invalid="ignore"):
        off = np.abs(got - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    return _worst(np.where(same, 0, np.where(np.isfinite(off), off, np.inf)), tolerance)


def _worst(off: np.ndarray, tolerance: Any) -> Difference:
    if not off.size:
        return Difference(0.0, largest(tolerance))
    tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), off.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(off == 0, 0, off / tolerance)
    place = np.unravel_index(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)), off.shape)
    return Difference(float(off[place]), float(tolerance[place]))


def largest(array: Any) -> float:
    """Return the largest finite absolute value, 0 if there is none."""
    array = np.abs(np.asarray(array, np.float64))
    array = array[np.isfinite(array)]
    return float(array.max()) if array.size else 0.0


def rounded(x: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return x as other roundings to float32 might have left it, in float64: every number once up and once down."""
    up = np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)
    return [x.astype(np.float64) * (1 + ROUNDING * sign) for sign in (up, -up)]


def points(x: np.ndarray, step_size: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that one-sided differences need, `[1 + 2 N, ...]`, x itself first, and the steps `[N]`."""
    exact = x.astype(np.float64)
    spread = float(np.std(exact)) or max(1.0, largest(exact))
    step = np.zeros((exact.size, exact.size))
    np.fill_diagonal(step, step_size * spread)
    step = step.reshape(exact.size, *exact.shape)
    everything = np.concatenate([exact[None], exact + step, exact - step])
    # What was added once x and the step are rounded:
    taken = (everything[1:] - exact).reshape(2 * exact.size, -1)
    return everything, np.abs(taken).max(axis=1)


class Slopes(NamedTuple):
    """One-sided derivatives, `[...]` as x: equal where the function is smooth, and a subgradient lies between them."""

    lower: np.ndarray
    upper: np.ndarray
    rounding: float = 0.0  # what rounding the function's values to float64 may change in them


def slopes(sums: np.ndarray, steps: np.ndarray, shape: Sequence[int]) -> Slopes:
    """Return the derivatives from the function's values at `points`."""
    count = (len(sums) - 1) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ahead = (sums[1 : 1 + count] - sums[0]) / steps[:count]
        behind = (sums[0] - sums[1 + count :]) / steps[count:]
    pair = np.stack([ahead, behind]).reshape(2, *shape)
    return Slopes(pair.min(axis=0), pair.max(axis=0), 2.0**-53 * largest(sums) / float(np.min(steps)))


def gradient_difference(got: Any, slopes: Sequence[Slopes], tolerance: Any) -> Difference:
    """Compare a gradient with slopes, of which the nearest counts. Whatever lies between the two sides is right."""
    if got is None or np.shape(got) != slopes[0].lower.shape:
        return Difference(float("inf"), largest(tolerance))
    got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return Difference(float("nan"), largest(tolerance))
    offs = []
    for lower, upper, _ in slopes:
        known = np.isfinite(lower) & np.isfinite(upper)  # beyond the domain of the function, none is known
        with np.errstate(invalid="ignore"):
            offs.append(np.where(known, np.maximum(np.maximum(lower - got, got - upper), 0), 0))
    return _worst(np.min(offs, axis=0), tolerance)


def halved(x: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 inputs rounded to half precision, as float32."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float32)
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)  # to the nearest, ties to even
    return (bits.astype(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def oracle_results(
    oracle: Callable[[Any, Any], Any],
    y: np.ndarray,
    x: np.ndarray,
    upstream: Callable[..., Any],
    seed: int,
    slope: bool,
) -> dict[str, Any]:
    """Return the value of an oracle and, if `slope`, its slopes, and what roundings of x change in either.

    "close" is a function that returns the slopes of `CLOSE_STEP`.
    """

    def total(point: np.ndarray) -> float:
        value = np.asarray(oracle(y, point), np.float64)
        return float(np.sum(value * upstream(value.shape)))

    def slopes_at(x: np.ndarray, step_size: float) -> Slopes:
        where, steps = points(x, step_size)
        with np.errstate(all="ignore"):
            return slopes(np.array([total(point) for point in where]), steps, x.shape)

    with np.errstate(all="ignore"):
        value = oracle(y, x.astype(np.float64))
        if np.asarray(value).dtype.kind not in "biuf":  # None would become nan
            raise TypeError(f"it must return numbers. Received: {type(value).__name__}")
        value = np.asarray(value, np.float64)
        # Of many pixels or features roundings cancel, and oracles are slow.
        others = [np.asarray(oracle(y, other), np.float64) for other in (rounded(x, seed) if slope else [])]
        sensitivity = np.max([np.abs(v - value) for v in others], axis=0, initial=0)
        result: dict[str, Any] = {"value": value, "sensitivity": sensitivity}
        if slope and x.size:
            result["slopes"] = slopes_at(x, STEP)
            after = [slopes_at(other, STEP) for other in rounded(x, seed)]
            result["slope sensitivity"] = moved(result["slopes"], *after)
            result["close"] = lambda: slopes_at(x, CLOSE_STEP)
    return result


def moved(before: Slopes, *after: Slopes) -> np.ndarray:
    """Return by how much slopes differ in each row, where they are known: the most, since one entry may be lucky.

    Rounding in float64, which has its share in this, is the least that it may be.
    """
    with np.errstate(invalid="ignore"):
        off = np.abs([pair for other in after for pair in (before.lower - other.lower, before.upper - other.upper)])
    off = np.max(np.where(np.isfinite(off), off, 0), axis=0)
    most: np.ndarray = np.max(off, axis=tuple(range(1, off.ndim)), keepdims=True, initial=before.rounding)
    return most
