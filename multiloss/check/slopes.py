"""Numerical derivatives of a function in float64, with an estimate of their own error. NumPy only.

One-sided difference quotients of several steps, each a quarter of the last, are extrapolated to a step of 0 (Neville's
algorithm; Ridders 1982, "Accurate computation of F'(x) and F'(x)F''(x)", and "Numerical Recipes", section 5.7). The
difference between neighbouring extrapolations is the estimate of the error. Finer steps follow only where they are
needed: where the error is too large, or where a gradient that is to be judged differs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

ROUNDING = 2.0**-24  # of float32
RATIO = 4.0
# The first step relative to the spread of the inputs. For functions that round to float32 inside, whose difference
# quotients need larger steps, the other one.
STEP, COARSE_STEP = 2e-2, 0.32
# For functions of ordered numbers, as a minimum is, where rounding has put equal numbers into an order: far smaller.
TINY_STEP = 2.0**-30
_STEPS = 4  # at once
_LEVELS = 8  # the last step is 1e-21 of the first, for logarithms and quotients near 0
# A gradient that is as close as this, relative to the largest entry, needs no finer steps.
CLOSE = 2e-5


class Slopes(NamedTuple):
    """One-sided derivatives for each number of x, flat, equal where the function is smooth.

    Attributes:
        lower, upper: any number between them is a correct gradient, where the function has a kink.
        error: estimate of their error; infinite where the quotients do not converge.
        open: whether one of the two sides is unknown, or numbers of x are tied, so that a gradient that differs may be
            right.
        moved: how much rounding x to float32 changes them, for the numbers where it matters, else 0.
    """

    lower: np.ndarray
    upper: np.ndarray
    error: np.ndarray
    open: np.ndarray
    moved: np.ndarray

    @property
    def size(self) -> float:
        """The largest derivative that is known."""
        both = np.fmax(np.abs(self.lower), np.abs(self.upper))
        return float(both[self.error <= 0.1 * both].max(initial=0.0))

    def off(self, gradient: np.ndarray) -> np.ndarray:
        """Return by how much a gradient is outside the sides."""
        with np.errstate(invalid="ignore"):
            off: np.ndarray = np.maximum(np.maximum(self.lower - gradient, gradient - self.upper), 0.0)
        return off


class Truth(NamedTuple):
    """A function's value at x in float64, and its derivatives.

    Attributes:
        value: the function's value.
        moved: how much rounding x to float32 changes the value, in its shape.
        slopes: derivatives of `sum(upstream_of(value.shape) * value)`, or None.
        single: whether the value has no more than the 24 bits of float32, although computed from float64.
    """

    value: np.ndarray
    moved: np.ndarray
    slopes: Slopes | None
    single: bool


def upstream_of(shape: Sequence[int]) -> np.ndarray:
    """Return an upstream gradient with distinct entries, so that mixed-up entries are detected."""
    return (1 + 0.5 * np.cos(np.arange(int(np.prod(shape))))).reshape(shape).astype(np.float32)


def rounded(x: np.ndarray, seed: int, pairs: int = 1) -> list[np.ndarray]:
    """Return pairs of copies of x, each number moved by a float32 rounding: up in one copy, down in the other."""
    ups = np.random.default_rng(seed).choice([-1.0, 1.0], (pairs, *x.shape))
    return [x * (1 + ROUNDING * sign * up) for up in ups for sign in (1, -1)]


def truth(
    function: Callable[[list[np.ndarray]], Any],
    leaves: Sequence[np.ndarray],
    *,
    bounds: Sequence[tuple[float, float]],
    seed: int,
    gradients: Sequence[np.ndarray] = (),
    differentiate: bool = True,
) -> Truth:
    """Evaluate a function and its derivatives.

    Args:
        function: takes the arrays of x in float64 and returns numbers of any shape.
        leaves: the arrays of x.
        bounds: the range of each array. At its ends, a derivative from inside is enough.
        seed: for the direction in which x is rounded.
        gradients: flat gradients that are to be judged.
        differentiate: whether to return derivatives.
    """
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64)
    sizes = [leaf.size for leaf in leaves]
    cuts, (low, high) = np.cumsum(sizes)[:-1], np.repeat(np.reshape(bounds, (-1, 2)), sizes, axis=0).T

    def at(point: np.ndarray) -> np.ndarray:
        parts = np.split(point, cuts)
        value = function([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])
        return np.asarray(value, np.float64)

    def total(point: np.ndarray) -> float:
        try:
            value = at(point)
        except Exception:  # outside the function's domain; at x itself it has a value
            return float("nan")
        return float(np.sum(value * factors)) if value.shape == factors.shape else float("nan")

    with np.errstate(all="ignore"):
        value = at(flat)
        factors = upstream_of(value.shape).astype(np.float64)
        others = [at(point) for point in rounded(flat, seed)]
        moved = np.max([np.abs(other - value) for other in others], axis=0, initial=0.0)
        seen = np.array([value, *others])
        single = bool(seen.size) and np.array_equal(seen, seen.astype(np.float32), equal_nan=True)
        # Values that float32 holds exactly, as whole numbers, are no sign of rounding to it.
        single = single and bool(np.any(seen != np.round(seen * 2.0**12) / 2.0**12))
        found = None
        if differentiate and flat.size:
            change = np.max([abs(float(np.sum(np.nan_to_num(other - value) * factors))) for other in others])
            size = float(np.sum(np.abs(np.nan_to_num(value * factors))))
            # How much the sum may be off by rounding: its own, and that of x, as far as it matters.
            noise = ROUNDING * size if single else 2.0**-51 * size + 2.0**-28 * change
            first = COARSE_STEP if single else STEP
            found = derivatives(total, flat, noise, low, high, (), first)
            wrong = disagreeing(found, gradients)
            if wrong.any():
                found = found._replace(moved=_moved(total, flat, noise, low, high, found, wrong, seed, first))
                # Finer steps are for those that rounding does not explain; then, finer ones than rounding, for ties.
                left = disagreeing(found, gradients)
                if left.any():
                    finer = derivatives(total, flat, noise, low, high, gradients, first, left)
                    finer = finer._replace(moved=found.moved)
                    found = Slopes(*(np.where(left, a, b) for a, b in zip(finer, found, strict=True)))
                    for step in (first,) if single else (first, TINY_STEP):
                        moved_by = _moved(total, flat, noise, low, high, found, left, seed, step)
                        found = found._replace(moved=np.maximum(found.moved, moved_by))
                    # Derivatives depend on the order of equal numbers, and what a framework picks in each operation
                    # need not be the order of any point near x.
                    if not single and moved_by.max() > 1e-3 * found.size:
                        found = found._replace(open=found.open | left)
    return Truth(value, moved, found, single)


def derivatives(
    total: Callable[[np.ndarray], float],
    x: np.ndarray,
    noise: float,
    low: np.ndarray,
    high: np.ndarray,
    gradients: Sequence[np.ndarray] = (),
    first: float = STEP,
    only: np.ndarray | None = None,
) -> Slopes:
    """Return the one-sided derivatives of `total` at flat x.

    Args:
        total: a function of a point.
        x: the point.
        noise: how much `total` may be off by rounding.
        low: the lower end of the range of each number.
        high: the upper end.
        gradients: as in `truth`: finer steps are taken where one of them differs.
        first: the first step, relative to the spread of x.
        only: which numbers to move; None for all.
    """
    spread = float(np.std(x)) or max(1.0, float(np.abs(x).max(initial=0.0)))
    count = x.size
    here = total(x)
    sides = {+1: _Side(count), -1: _Side(count)}
    middle = _Side(count, power=2)
    left = np.ones(count, bool) if only is None else only.copy()
    found = _combine(sides[1], sides[-1], middle, x, low, high)
    for level in range(_LEVELS):
        for entry in map(int, np.flatnonzero(left)):
            for k in range(level * _STEPS, (level + 1) * _STEPS):
                step = first * spread * RATIO**-k
                ahead, behind = (_quotient(total, x, entry, sign * step, here) for sign in (+1, -1))
                actual = abs((x[entry] + step) - x[entry]) or np.inf
                for side, quotient in ((sides[1], ahead), (sides[-1], behind), (middle, (ahead + behind) / 2)):
                    side.add(entry, quotient, noise / actual)
        found = _combine(sides[1], sides[-1], middle, x, low, high)
        # A slope that would change the value by less than 1e-3 of itself over the spread is as good as 0.
        size = max(found.size, 1e-3 * abs(here) / spread)
        left &= ~(found.error <= CLOSE * size) | disagreeing(found, gradients)
        if not left.any():
            break
    return found


def disagreeing(slopes: Slopes, gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Return where one of the gradients is finite and differs from the derivatives by more than rounding does."""
    wrong = np.zeros(slopes.lower.shape, bool)
    for gradient in gradients:
        off = slopes.off(gradient)
        wrong |= np.isfinite(gradient) & ~(off <= CLOSE * slopes.size + slopes.moved)
    return wrong


def _quotient(total: Callable[[np.ndarray], float], x: np.ndarray, entry: int, step: float, here: float) -> float:
    point = x.copy()
    point[entry] += step
    actual = point[entry] - x[entry]
    return (total(point) - here) / actual if actual else float("nan")


class _Side:
    """Difference quotients of each number, for ever smaller steps, and the best extrapolation so far."""

    def __init__(self, count: int, power: int = 1):
        self.power = power  # the error of a quotient is a series in step ** power
        self.rows: list[list[float]] = [[] for _ in range(count)]
        self.value, self.error = np.full(count, np.nan), np.full(count, np.inf)

    def add(self, entry: int, quotient: float, noise: float) -> None:
        last, row = self.rows[entry], [quotient]
        for m, before in enumerate(last[: _STEPS - 1], start=1):
            better = row[-1] + (row[-1] - before) / (RATIO ** (self.power * m) - 1)
            off = max(abs(better - row[-1]), abs(better - before)) + noise
            value, error = self.value[entry], self.error[entry]
            # A finer estimate that contradicts a coarser one is right: the function has a feature of that size.
            if off < error or abs(better - value) > 10 * (off + error):
                self.value[entry], self.error[entry] = better, off
            row.append(better)
        self.rows[entry] = row


def _combine(ahead: _Side, behind: _Side, middle: _Side, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Slopes:
    lower, upper = np.fmin(ahead.value, behind.value), np.fmax(ahead.value, behind.value)
    errors = ahead.error + behind.error
    error = np.maximum(ahead.error, behind.error)
    smooth = (np.abs(ahead.value - behind.value) <= 4 * errors) & (middle.error <= error)
    smooth &= np.abs(middle.value - (ahead.value + behind.value) / 2) <= 4 * (errors + middle.error)
    lower, upper = np.where(smooth, middle.value, lower), np.where(smooth, middle.value, upper)
    error = np.where(smooth, middle.error, error)
    opened = np.zeros(x.shape, bool)
    for side, other, end in ((ahead, behind, low), (behind, ahead, high)):
        # The other side does not converge: it is outside the range, or the function jumps or is vertical there.
        # (A slope of 0 has an error that is larger than 0, and is known all the same.)
        both = np.fmax(np.abs(other.value), np.abs(side.value))
        lone = (other.error > 0.1 * both) | np.isnan(other.value)
        lone &= (side.error <= 0.01 * np.abs(side.value)) | (side.error <= 1e-6 * other.error)
        lone &= ~smooth
        lower, upper = np.where(lone, side.value, lower), np.where(lone, side.value, upper)
        error = np.where(lone, side.error, error)
        opened |= lone & (x != end)
    return Slopes(lower, upper, error, opened, np.zeros(x.shape))


def _moved(
    total: Callable[[np.ndarray], float],
    x: np.ndarray,
    noise: float,
    low: np.ndarray,
    high: np.ndarray,
    slopes: Slopes,
    where: np.ndarray,
    seed: int,
    first: float,
) -> np.ndarray:
    """Return how much rounding x changes the derivatives where a gradient differs, at most, for each of these alike.

    A single one of them may be unchanged by luck.
    """
    change = 0.0
    others = rounded(x, seed, pairs=2)
    if first == TINY_STEP:  # which puts equal numbers into an order, and those of one sign stay equal
        ups = np.random.default_rng(seed).uniform(-1, 1, (4, *x.shape))
        others = [x * (1 + ROUNDING * up) for up in ups]
    for other in others:
        there = derivatives(total, other, noise, low, high, (), first, where)
        off = np.maximum(np.abs(there.lower - slopes.lower), np.abs(there.upper - slopes.upper)) - there.error
        known = where & np.isfinite(off)
        change = max(change, float(off[known].max(initial=0.0)))
    return np.where(where, change, 0.0)
