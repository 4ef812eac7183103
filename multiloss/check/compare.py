"""Errors of results and their tolerances. Pure functions: arrays in, numbers out."""

from typing import Any, NamedTuple

import numpy as np

# float32 rounds to 6e-8. Formulas of some hundred operations, and sums of some dozen terms, stay within these; so does
# `100 * (1 - ratio)`, which loses two digits and depends on how a backend adds up.
VALUE = 2e-5
GRADIENT = 1e-4
# What is left where terms of a gradient cancel, relative to the typical gradient: of terms that are larger than that,
# as p / sum(p^2) is for a Dice loss of few pixels, half a dozen roundings of float32.
CANCELLED = 32 * 2.0**-24
# Machine epsilon times 8, for formulas of some dozen operations.
HALF = {"float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
# Numerical derivatives are trusted to this many times the estimate of their error.
ERRORS = 4.0


def relative(rounding: float, of: float = VALUE) -> float:
    """Return the relative tolerance of a precision: `of`, or 16 roundings of it if they are more, as of TF32."""
    return max(of, 16 * rounding)


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
    return worst(np.where(same, 0, np.where(np.isfinite(off), off, np.inf)), tolerance)


def worst(off: np.ndarray, tolerance: Any) -> Difference:
    """Return the error that is largest relative to its tolerance."""
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


def halved(x: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 inputs rounded to half precision, stored as float32."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float32)
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)  # to the nearest, ties to even
    return (bits.astype(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
