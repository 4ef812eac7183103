"""Errors of results and their tolerances. Pure functions: arrays in, numbers out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# float32 rounds to 6e-8. Formulas of some hundred operations, and sums of some dozen terms, stay within these.
VALUE = 1e-5
GRADIENT = 1e-4
ROUNDING = 2.0**-24
# A correct formula may be off by this many times the effect of rounding its inputs to float32.
ROUNDINGS = 8.0
# Machine epsilon times 8, for formulas of some dozen operations.
HALF = {"float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
# Step of central differences in float64, relative to the spread of the inputs: the truncation error and the rounding
# error are 1e-10 of the result each.
STEP = 1e-5
# For inputs where the slope changes within such a step, as that of a logarithm does near 0.
CLOSE_STEP = 1e-8
# For losses that round to float32 inside, as Keras's `ops.mean` does on JAX and torch: the errors are 1e-5 and 2e-5.
COARSE_STEP = 3e-3
COARSE_GRADIENT = 2e-3


class Difference(NamedTuple):
    """The largest error relative to its tolerance, and that tolerance."""

    error: float
    tolerance: float

    @property
    def ratio(self) -> float:
        """The error divided by its tolerance; infinite if the error is NaN or the tolerance is 0."""
        if self.error == 0:
            return 0.0
        return self.error / self.tolerance if self.tolerance and not np.isnan(self.error) else float("inf")


def difference(got: Any, expected: Any, tolerance: Any) -> Difference:
    """Compare arrays of the same shape; the tolerance may be an array too. Expected infinities must match."""
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
    """Return the largest finite absolute value, or 0 if there is none."""
    array = np.abs(np.asarray(array, np.float64))
    array = array[np.isfinite(array)]
    return float(array.max()) if array.size else 0.0


def rounded(x: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return two float64 copies of x, each number moved by a float32 rounding: up in one copy, down in the other."""
    up = np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)
    return [x.astype(np.float64) * (1 + ROUNDING * sign) for sign in (up, -up)]


def points(x: np.ndarray, step_size: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """Return the points for one-sided differences, `[1 + 2 N, ...]` with x first, and the steps `[2 N]`."""
    exact = x.astype(np.float64)
    spread = float(np.std(exact)) or max(1.0, largest(exact))
    step = np.zeros((exact.size, exact.size))
    np.fill_diagonal(step, step_size * spread)
    step = step.reshape(exact.size, *exact.shape)
    everything = np.concatenate([exact[None], exact + step, exact - step])
    # The actual steps, after rounding.
    steps = (everything[1:] - exact).reshape(2 * exact.size, -1)
    return everything, np.abs(steps).max(axis=1)


class Slopes(NamedTuple):
    """One-sided derivatives in the shape of x: equal where the function is smooth; a subgradient lies between them."""

    lower: np.ndarray
    upper: np.ndarray
    rounding: float = 0.0  # error from rounding the function's values to float64


def slopes(sums: np.ndarray, steps: np.ndarray, shape: Sequence[int]) -> Slopes:
    """Return the one-sided derivatives, given the function's values at `points`."""
    count = (len(sums) - 1) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ahead = (sums[1 : 1 + count] - sums[0]) / steps[:count]
        behind = (sums[0] - sums[1 + count :]) / steps[count:]
    pair = np.stack([ahead, behind]).reshape(2, *shape)
    return Slopes(pair.min(axis=0), pair.max(axis=0), 2.0**-53 * largest(sums) / float(np.min(steps)))


def gradient_difference(got: Any, slopes: Sequence[Slopes], tolerance: Any) -> Difference:
    """Compare a gradient with the nearest of several slopes. Any value between the one-sided derivatives is correct."""
    if got is None or np.shape(got) != slopes[0].lower.shape:
        return Difference(float("inf"), largest(tolerance))
    got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return Difference(float("nan"), largest(tolerance))
    offs = []
    for lower, upper, _ in slopes:
        known = np.isfinite(lower) & np.isfinite(upper)  # outside the function's domain there is no slope
        with np.errstate(invalid="ignore"):
            offs.append(np.where(known, np.maximum(np.maximum(lower - got, got - upper), 0), 0))
    return _worst(np.min(offs, axis=0), tolerance)


def halved(x: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 inputs rounded to half precision, stored as float32."""
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
    """Return the value of an oracle, its slopes if `slope` is true, and how much rounding x changes both.

    "close" is a function that returns the slopes with `CLOSE_STEP`.
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
        # Skipped for many pixels or features: there rounding errors cancel, and oracles are slow.
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
    """Return the largest change of the known slopes in each row, since a single entry may be unchanged by luck.

    The result is at least the rounding error in float64.
    """
    with np.errstate(invalid="ignore"):
        off = np.abs([pair for other in after for pair in (before.lower - other.lower, before.upper - other.upper)])
    off = np.max(np.where(np.isfinite(off), off, 0), axis=0)
    most: np.ndarray = np.max(off, axis=tuple(range(1, off.ndim)), keepdims=True, initial=before.rounding)
    return most
