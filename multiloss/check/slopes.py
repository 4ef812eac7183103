"""Numerical derivatives of a function in float64, with an estimate of their own error. NumPy only.

One-sided difference quotients of several steps, each a quarter of the last, are extrapolated to a step of 0 (Neville's
algorithm; Ridders 1982, "Accurate computation of F'(x) and F'(x)F''(x)", and "Numerical Recipes", section 5.7). The
difference between neighbouring extrapolations is the estimate of the error. Finer steps follow only where they are
needed: where the error is too large, or where a gradient that is to be judged differs.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

ROUNDING = 2.0**-24  # of float32
# A correct formula may be off by this many times the effect of rounding its inputs to float32.
ROUNDINGS = 8.0
RATIO = 4.0
# The first step relative to the spread of the inputs. For functions that round to float32 inside, whose difference
# quotients need larger steps, the other one.
STEP, COARSE_STEP = 2e-2, 0.32
# By how much equal numbers are told apart, relative to the spread, and the step within which their order is the same.
TIES, TINY_STEP = 2.0**-30, 2.0**-36
_STEPS = 4  # at once
_AT_ONCE = 4  # numbers whose gradient differs
# A gradient that differs by so much of the largest entry is wrong: twice what a check allows.
_WRONG = 2e-4
_LEVELS = 8  # the last step is 1e-21 of the first, for logarithms and quotients near 0
# Metrics of more numbers are evaluated a few times only, and losses of more than the others (the batches that overflow
# float16) once.
_FEW, _MANY = 1000, 2**16
# A gradient that is as close as this, relative to the largest entry, needs no finer steps.
CLOSE = 2e-5


class Slopes(NamedTuple):
    """One-sided derivatives for each number of x, flat, equal where the function is smooth.

    Attributes:
        lower, upper: any number between them is a correct gradient, where the function has a kink.
        error: estimate of their error; infinite where the quotients do not converge.
        open: whether one of the two sides is unknown, or numbers of x are tied, so that a gradient that differs may be
            right.
        moved: how much rounding may change them, for the numbers where it matters, else 0.
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
        moved: how much rounding may change the value, in its shape.
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


def spread_of(x: np.ndarray) -> float:
    """Return the typical distance of numbers, or the largest of them where all are equal."""
    return float(np.std(x)) or max(1.0, float(np.abs(x).max(initial=0.0)))


def rounded(x: np.ndarray, seed: int, roundings: float = 1.0) -> list[np.ndarray]:
    """Return two copies of x, each number moved by so many float32 roundings: up in one copy, down in the other."""
    up = np.random.default_rng([seed, int(roundings)]).choice([-1.0, 1.0], x.shape)  # the terms of a sum may cancel
    return [x * (1 + roundings * ROUNDING * sign * up) for sign in (1, -1)]


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
        # Of many numbers rounding errors cancel, and oracles are slow.
        few = flat.size <= _MANY
        others = [at(point) for point in (rounded(flat, seed) if few else [])]
        further = [at(point) for point in (rounded(flat, seed, ROUNDINGS) if few else [])]
        changes = [ROUNDINGS * (other - value) for other in others] + [other - value for other in further]
        changes += _clipped(at, flat, high) if few else []
        moved = np.max(np.abs(changes), axis=0, initial=0.0) if changes else np.zeros(value.shape)
        single = _single([value, *others])
        found = None
        if differentiate and flat.size:
            change = max([abs(float(np.sum(np.nan_to_num(other - value) * factors))) for other in others], default=0.0)
            size = float(np.sum(np.abs(np.nan_to_num(value * factors))))
            first = COARSE_STEP if single else STEP
            # A value of 0 may be a difference of numbers as large as those around it.
            near = first * spread_of(flat)
            around = [total(np.clip(flat + sign * near, low, high)) for sign in (1, -1)]
            size = max(size, *np.abs(np.nan_to_num(around, posinf=0.0, neginf=0.0)))
            # How much the sum may be off by rounding: its own, and that of x, as far as it matters.
            noise = ROUNDING * size if single else 2.0**-51 * size + 2.0**-28 * change
            found = derivatives(total, flat, noise, low, high, (), first)
            wrong = disagreeing(found, gradients)
            if wrong.any():
                found = found._replace(moved=_moved(total, flat, noise, low, high, found, wrong, seed, first))
                # Finer steps are for those that rounding does not explain, of which one that stays wrong is enough.
                left = disagreeing(found, gradients)
                while left.any():
                    off = np.max([np.nan_to_num(found.off(gradient), nan=np.inf) for gradient in gradients], axis=0)
                    some = np.zeros(flat.shape, bool)
                    some[np.argsort(np.where(left, -off, 1.0))[:_AT_ONCE]] = True
                    some &= left
                    left &= ~some
                    finer = derivatives(total, flat, noise, low, high, gradients, first, some)
                    finer = finer._replace(moved=found.moved)
                    found = Slopes(*(np.where(some, a, b) for a, b in zip(finer, found, strict=True)))
                    again = _moved(total, flat, noise, low, high, found, some, seed, first)
                    found = found._replace(moved=np.maximum(found.moved, again))
                    some &= disagreeing(found, gradients)
                    if some.any() and not single:
                        size = max(float(np.abs(g[some & np.isfinite(g)]).max(initial=0.0)) for g in gradients)
                        picked = some & (found.upper - found.lower > 4 * found.error + 1e-9 * size)
                        if (rest := some & ~picked).any():
                            picked |= _ordered(total, flat, noise, low, high, found, rest, seed, size)
                        shared = _shared(total, flat, noise, low, high, found, picked, gradients, first)
                        found = found._replace(open=found.open | shared)
                    if (some & ~found.open & (found.error <= _WRONG * found.size) & _wrong(found, gradients)).any():
                        break
    return Truth(value, moved, found, single)


def _clipped(at: Callable[[np.ndarray], np.ndarray], x: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Return changes of a function at the end of what it clips, for predictions of 1.

    The end is a constant that float32 rounds: 1 - 1e-7 is 1 - 1.2e-7, of whose difference from 1 a logarithm is off by
    1%. It is unknown, so that two roundings are tried at each of its magnitudes.
    """
    ends = (x == 1) & ((high == 1) | ((x >= 0) & (x <= 1)).all())
    steps = 2.0 ** -np.arange(6, 24)
    return [at(np.where(ends, 1 - s, x)) - at(np.where(ends, 1 - s - 2 * ROUNDING, x)) for s in steps if ends.any()]


class Plain(NamedTuple):
    """A function's value at x in float64, of a function without derivatives, as metrics are.

    Attributes:
        value: the function's value.
        moved: how much rounding may change the value, in its shape.
        smooth: the same without jumps. A jump where x is a tie, as at a threshold, is no matter of rounding.
        single: as in `Truth`.
        slopes: None, as in `Truth`.
    """

    value: np.ndarray
    moved: np.ndarray
    smooth: np.ndarray
    single: bool
    slopes: Slopes | None = None


def plain(
    function: Callable[[list[np.ndarray]], Any],
    leaves: Sequence[np.ndarray],
    bounds: Sequence[tuple[float, float]],
    seed: int,
) -> Plain:
    """Evaluate a function that need not be smooth.

    Args:
        function: takes the arrays of x, in float64 where they are floats, and returns numbers of any shape.
        leaves: the arrays of x.
        bounds: the range of each array, inside which it is rounded.
        seed: for the direction in which x is rounded.
    """
    floats = [leaf for leaf in leaves if leaf.dtype.kind == "f"]
    sizes = [leaf.size for leaf in floats]
    ends = [ends for leaf, ends in zip(leaves, bounds, strict=True) if leaf.dtype.kind == "f"]
    low, high = np.repeat(np.reshape(ends, (-1, 2)), sizes, axis=0).T
    flat = np.concatenate([np.zeros(0), *map(np.ravel, floats)])

    def at(point: np.ndarray) -> np.ndarray:
        parts = iter(np.split(np.clip(point, low, high), np.cumsum(sizes)[:-1]))
        moved = [next(parts).reshape(leaf.shape) if leaf.dtype.kind == "f" else leaf for leaf in leaves]
        return np.asarray(function(moved), np.float64)

    def changes(roundings: float) -> np.ndarray:
        others = [at(point) for point in rounded(flat, seed, roundings)] if flat.size else []
        seen.extend(others)
        return np.asarray(np.abs(np.array([*others, value]) - value).max(axis=0))

    with np.errstate(all="ignore"):
        value = at(flat)
        seen = [value]
        moved = changes(ROUNDINGS)
        less = changes(ROUNDINGS / 256) if moved.any() else moved
        clipped = np.max(np.abs(_clipped(at, flat, high)), axis=0, initial=0.0) if flat.size <= _FEW else 0.0
    return Plain(value, moved + clipped, np.where(less > moved / 2, 0.0, moved) + clipped, _single(seen))


def _single(values: Sequence[np.ndarray]) -> bool:
    """Return whether values have no more than the bits of float32."""
    some = all(np.array_equal(value, value.astype(np.float32), equal_nan=True) for value in values if value.size)
    # Values that float32 holds exactly, as whole numbers, are no sign of rounding to it.
    return some and any(bool(np.any(value != np.round(value * 2.0**12) / 2.0**12)) for value in values)


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
    spread, count = spread_of(x), x.size
    here = total(x)
    sides = {+1: _Side(count), -1: _Side(count)}
    middle = _Side(count, power=2)
    left = np.ones(count, bool) if only is None else only.copy()
    found = _combine(sides[1], sides[-1], middle, x, low, high)
    for level in range(_LEVELS):
        for entry in map(int, np.flatnonzero(left)):
            for k in range(level * _STEPS, (level + 1) * _STEPS):
                step = first * spread * RATIO**-k
                if first >= COARSE_STEP and step < 4 * ROUNDING * abs(x[entry]):
                    break  # float32 would round it off
                (ahead, up), (behind, down) = (_quotient(total, x, entry, sign * step, here) for sign in (+1, -1))
                sides[1].add(entry, ahead, noise / up)
                sides[-1].add(entry, behind, noise / down)
                if first >= COARSE_STEP:
                    sides[1].doubt(entry, noise / up)
                    sides[-1].doubt(entry, noise / down)
                middle.add(entry, (ahead + behind) / 2, noise / min(up, down))
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


def _wrong(slopes: Slopes, gradients: Sequence[np.ndarray]) -> np.ndarray:
    wrong = [slopes.off(g) > _WRONG * slopes.size + slopes.moved + 4 * slopes.error for g in gradients]
    return np.any(wrong, axis=0) if wrong else np.zeros(slopes.lower.shape, bool)


def _quotient(
    total: Callable[[np.ndarray], float], x: np.ndarray, entry: int, step: float, here: float
) -> tuple[float, float]:
    """Return a difference quotient and the length of its step, as rounded: NaN and infinity if that is 0."""
    point = x.copy()
    point[entry] += step
    actual = float(point[entry] - x[entry])
    return ((total(point) - here) / actual, abs(actual)) if actual else (float("nan"), float("inf"))


class _Side:
    """Difference quotients of each number, for ever smaller steps, and the best extrapolation so far."""

    def __init__(self, count: int, power: int = 1):
        self.power = power  # the error of a quotient is a series in step ** power
        self.rows: list[list[float]] = [[] for _ in range(count)]
        self.value, self.error = np.full(count, np.nan), np.full(count, np.inf)
        self.previous: list[float] = []  # the row before the last, of the number added last
        self.doubted = np.zeros(count, bool)

    def add(self, entry: int, quotient: float, noise: float) -> None:
        last, row = self.rows[entry], [quotient]
        for m, before in enumerate(last[: _STEPS - 1], start=1):
            better = row[-1] + (row[-1] - before) / (RATIO ** (self.power * m) - 1)
            off = max(abs(better - row[-1]), abs(better - before)) + noise
            value, error = self.value[entry], self.error[entry]
            # A finer estimate that contradicts a coarser one is right: the function has a feature of that size.
            if not self.doubted[entry] and (off < error or abs(better - value) > 10 * (off + error)):
                self.value[entry], self.error[entry] = better, off
            row.append(better)
        self.previous, self.rows[entry] = last, row

    def doubt(self, entry: int, noise: float) -> None:
        """Drop the estimate where quotients move away from it as steps become finer, beyond their noise.

        The function has a feature that is as fine as float32, to which it rounds inside: its slope remains unknown.
        """
        if self.previous and np.isfinite(self.value[entry]):
            before, now = (abs(row[0] - self.value[entry]) for row in (self.previous, self.rows[entry]))
            if now > 2 * before + 100 * noise + 10 * self.error[entry]:
                self.error[entry], self.doubted[entry] = np.inf, True


def _combine(ahead: _Side, behind: _Side, middle: _Side, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Slopes:
    lower, upper = np.fmin(ahead.value, behind.value), np.fmax(ahead.value, behind.value)
    errors = ahead.error + behind.error
    error = np.maximum(ahead.error, behind.error)
    smooth = (np.abs(ahead.value - behind.value) <= 4 * errors) & (middle.error <= error) & np.isfinite(errors)
    smooth &= np.abs(middle.value - (ahead.value + behind.value) / 2) <= 4 * (errors + middle.error)
    lower, upper = np.where(smooth, middle.value, lower), np.where(smooth, middle.value, upper)
    error = np.where(smooth, middle.error, error)
    opened = np.zeros(x.shape, bool)
    for side, other, end in ((ahead, behind, low), (behind, ahead, high)):
        # The other side does not converge: it is outside the range, or the function jumps or is vertical there.
        # A slope of 0 beside another one, as at the end of a hinge, is a kink.
        lone = (other.error > 0.1 * np.fmax(np.abs(other.value), np.abs(side.value))) | np.isnan(other.value)
        lone &= (side.error <= 0.01 * np.abs(side.value)) | (
            np.isfinite(side.error) & (side.error <= 1e-6 * other.error)
        )
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
    for roundings, times in ((1.0, ROUNDINGS), (ROUNDINGS, 1.0)):
        for other in rounded(x, seed, roundings):
            there = derivatives(total, other, noise, low, high, (), first, where)
            # How far beyond the sides here: where x was at a kink and no longer is, one of them remains.
            off = times * np.maximum(np.maximum(slopes.lower - there.lower, there.upper - slopes.upper), 0.0)
            known = where & np.isfinite(off)
            change = max(change, float(off[known].max(initial=0.0)))
    return np.where(where, change, 0.0)


def _ordered(
    total: Callable[[np.ndarray], float],
    x: np.ndarray,
    noise: float,
    low: np.ndarray,
    high: np.ndarray,
    slopes: Slopes,
    where: np.ndarray,
    seed: int,
    size: float,
) -> np.ndarray:
    """Return where derivatives depend on the order of equal numbers, beyond the two sides; `size` is of gradients."""
    ordered, spread, size = np.zeros(x.shape, bool), spread_of(x), max(size, slopes.size)
    for ups in TIES * spread * np.random.default_rng(seed).uniform(-1, 1, (4, *x.shape)):
        inside = np.where(x <= low, np.abs(ups), np.where(x >= high, -np.abs(ups), ups))
        there = derivatives(total, x + inside, noise, low, high, (), TINY_STEP, where)
        off = np.maximum(slopes.lower - there.lower, there.upper - slopes.upper) - there.error - slopes.error
        known = np.maximum(slopes.error, there.error) <= 1e-3 * size
        ordered |= where & known & (off > 1e-3 * size)  # not by curvature, but by another order
    return ordered


def _along(total: Callable[[np.ndarray], float], x: np.ndarray, where: np.ndarray, by: np.ndarray) -> float:
    return total(x + by * where)


def _shared(
    total: Callable[[np.ndarray], float],
    x: np.ndarray,
    noise: float,
    low: np.ndarray,
    high: np.ndarray,
    slopes: Slopes,
    where: np.ndarray,
    gradients: Sequence[np.ndarray],
    first: float,
) -> np.ndarray:
    """Return where gradients that differ have the right sum over equal numbers.

    Of equal numbers, each minimum or maximum of a formula picks one, and what is picked in several of them need not be
    the slope of any order of the numbers. Along the direction that moves equal numbers alike, nothing is picked. These
    are all in the batch: a gradient that gives the share of one row to another is undecided, too.
    """
    shared, spread = np.zeros(x.shape, bool), spread_of(x)
    differing = [gradient for gradient in gradients if (disagreeing(slopes, [gradient]) & where).any()]
    for number in np.unique(x[where]):
        equal = x == number
        ends = np.max(low[equal], keepdims=True) - number, np.min(high[equal], keepdims=True) - number
        moved_along = functools.partial(_along, total, x, equal)
        along = derivatives(moved_along, np.zeros(1), noise, *ends, (), first * spread)
        allowed = _WRONG * slopes.size * np.sqrt(equal.sum()) + slopes.moved.max() + 4 * along.error
        right = [along.off(gradient[equal].sum()) <= allowed for gradient in differing]
        if equal.sum() > 1 and along.error <= _WRONG * slopes.size and np.all(right):
            shared |= equal & where
    return shared
