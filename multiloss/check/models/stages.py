"""What parts first: the stages of a training step, and how far rounding explains differences. NumPy only.

Each stage holds items, such as the output of a layer or the gradient of a weight. Their rounding is measured: every
backend computes them again from weights and inputs that are moved by a unit in the last place. The truth is the value
in float64 with which most backends agree; what follows a layer that computes in float32 anyway counts as float32.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from multiloss.check import slopes

ROUNDING = slopes.ROUNDING  # of float32
# What adds up in another order may be off by this many times what a unit in the last place of the inputs does.
ROUNDINGS = 32.0
# float64 has 29 bits more than float32, of which 6 are left to functions that a backend approximates less closely.
_FINER = 2.0**-23
# What float64 does not confirm may be off by so many times that: float32 is approximated less closely, too.
_IMPRECISE = 8.0
# What a layer adds to the loss is recorded as a call of this name and the layer's.
LOSS_OF = "loss of "
# A gradient that float64 has this many times smaller than float32 has is 0.
_NOTHING = 1e-4


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        name: names of the layer and of those around it, joined by "/", and "#2" at its second call.
        kind: the class of the layer.
        inputs: the arrays that it received.
        outputs: the arrays that it returned.
        weights: the paths of the weights that are its own and those of layers inside.
    """

    name: str
    kind: str
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    weights: list[str]


@dataclasses.dataclass
class Item:
    """One array, as each backend has it.

    Attributes:
        name: of the layer, weight, loss or metric.
        values: backend -> the array in float32.
        moved: backend -> the same for moved inputs.
        wide: backend -> the array in float64.
        kind: the class of the layer, if it is one.
        shapes: of a layer's inputs and outputs, as text.
    """

    name: str
    values: dict[str, np.ndarray]
    moved: dict[str, list[np.ndarray]]
    wide: dict[str, np.ndarray]
    kind: str = ""
    shapes: str = ""


@dataclasses.dataclass
class Found:
    """What was found of an item.

    Attributes:
        item: the item.
        errors: backend -> the largest error of float32.
        units: backend -> the same, in the effect of a unit in the last place.
        tolerance: the largest error that rounding explains.
        rounding: the effect of a unit in the last place.
        off: the backends whose numbers rounding does not explain.
        by_wide: whether it is off in float64 too: the error is no matter of precision.
        imprecise: whether all agree in float64, so that it is float32 that is less precise than it should be.
        nothing: whether the true value is 0, and what float32 has is rounding alone.
        shape: what differs in shape, or "".
    """

    item: Item
    errors: dict[str, float]
    units: dict[str, float]
    tolerance: float
    rounding: float
    off: list[str]
    by_wide: bool = False
    imprecise: bool = False
    nothing: bool = False
    shape: str = ""


def largest(array: Any) -> float:
    """Return the largest absolute value: NaN counts as infinite, and an empty array as 0."""
    array = np.abs(np.asarray(array, np.float64))
    return float(np.nan_to_num(array, nan=np.inf, posinf=np.inf).max(initial=0.0))


def holds_float32(array: np.ndarray) -> bool:
    """Whether numbers of float64 have the digits of float32, and more digits than whole numbers and halves do."""
    some = array[np.isfinite(array) & (array != np.round(array * 2.0**12) / 2.0**12)]
    return bool(some.size) and bool(np.array_equal(some, some.astype(np.float32)))


def apart(one: Any, other: Any) -> float:
    """Return the largest difference. Infinities and NaN of both are equal."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        return largest(np.where(same, 0.0, one - other))


def judged(item: Item, narrow: set[str], unit: float = ROUNDING) -> Found:
    """Return what is found of an item; backends whose float64 has turned to float32 are added to `narrow`.

    `unit` is the relative rounding of the precision that the model computes in.
    """
    values = item.values
    shapes = {backend: value.shape for backend, value in values.items()}
    if len(set(shapes.values())) > 1:
        off = [backend for backend, shape in shapes.items() if shape != usual(shapes)]
        text = ", ".join(f"{list(shape)} on {backend}" for backend, shape in shapes.items())
        return Found(item, dict.fromkeys(off, np.inf), dict.fromkeys(off, np.inf), 0.0, 0.0, off, shape=text)
    # What is the same in both, as a table of sines is, says nothing of what is computed from it.
    computed = any(apart(value, values[b]) for b, value in item.wide.items() if value.shape == shapes[b])
    narrow |= {backend for backend, value in item.wide.items() if computed and holds_float32(value)}
    size = float(np.median([largest(value[np.isfinite(value)]) for value in values.values()]))
    effects = [apart(other, values[backend]) for backend, others in item.moved.items() for other in others]
    # The median, since one that is wrong may be as wrong in this, too.
    effect = float(np.median([effect for effect in effects if np.isfinite(effect)] or [0.0]))
    rounding = max(effect, unit * size, float(np.finfo(np.float32).tiny))
    tolerance = ROUNDINGS * rounding
    wide = {backend: value for backend, value in item.wide.items() if value.shape == shapes[backend]}
    # A float64 value of one backend alone is that of what may be wrong.
    truth = _truth(wide, narrow, tolerance) if len(wide) > 1 or (wide and len(values) == 1) else None
    by_wide = truth is not None
    if truth is None:
        truth = _truth(values, set(values), tolerance)
    if truth is None:  # each has its own
        far_apart = max(apart(one, other) for one in values.values() for other in values.values())
        errors = dict.fromkeys(values, far_apart)
        return Found(item, errors, _units(errors, rounding), tolerance, rounding, list(values))
    errors = {backend: apart(value, truth) for backend, value in values.items()}
    far = [backend for backend, value in wide.items() if not apart(value, truth) <= tolerance]
    # Where float64 agrees everywhere, float32 has less precision than rounding explains: if by much, it is off.
    imprecise = by_wide and wide.keys() == values.keys() and not far
    tolerance *= _IMPRECISE if imprecise else 1
    off = [backend for backend in values if backend in far or not errors[backend] <= tolerance]
    nothing = by_wide and size > 0 and largest(truth) <= _NOTHING * size
    common = _truth(values, set(values), tolerance) if len(off) == len(values) > 2 else None
    if common is not None:  # what most have in float32 is another number in float64, as of a clip at an end
        errors = {backend: apart(value, common) for backend, value in values.items()}
        off = [backend for backend in values if not errors[backend] <= tolerance]
        far, imprecise, nothing = [], False, False
    units = _units(errors, rounding)
    return Found(item, errors, units, tolerance, rounding, off, bool(far), imprecise, nothing)


def _units(errors: Mapping[str, float], rounding: float) -> dict[str, float]:
    return {backend: error / rounding for backend, error in errors.items()}


def usual(things: Mapping[str, Any]) -> Any:
    """Return what most backends have, the first of those that are as frequent."""
    values = list(things.values())
    return max(values, key=values.count)


def _truth(values: Mapping[str, np.ndarray], narrow: set[str], tolerance: float) -> np.ndarray | None:
    """Return the value with which most backends agree, in the precision that they have.

    Where no two agree, it is the median of values that float32 cannot tell apart; None if it can.
    """
    agreeing = {
        backend: [
            other
            for other in values
            if apart(value, values[other]) <= tolerance * (1 if {backend, other} & narrow else _FINER)
        ]
        for backend, value in values.items()
    }
    best = max(values, key=lambda backend: (len(agreeing[backend]), backend not in narrow))
    if len(agreeing[best]) > 1 or len(values) == 1:
        return values[best]
    middle = np.asarray(np.median(np.stack(list(values.values())), axis=0))
    return middle if all(apart(value, middle) <= tolerance for value in values.values()) else None


# --- the items of each stage -----------------------------------------------------------------------------------------


def of_calls(replies: Mapping[str, Any], wides: Mapping[str, Any], way: str) -> Iterator[Item]:
    """Return the outputs of layers, in their order on the first backend, of calls that every backend recorded."""
    calls = {b: {call.name: call for call in reply[way]["calls"]} for b, reply in replies.items()}
    moved = {
        b: [dict(zip(calls[b], outputs, strict=False)) for outputs in reply[way]["moved"]]
        for b, reply in replies.items()
    }
    wide = {b: {call.name: call for call in reply[way]["calls"]} for b, reply in wides.items()}
    first = next(iter(calls.values()))
    for name, call in first.items():
        if any(name not in of for of in calls.values()):
            continue
        for k in range(len(call.outputs)):
            if any(len(of[name].outputs) <= k for of in calls.values()):
                continue
            yield Item(
                name if len(call.outputs) == 1 else f"{name} [{k}]",
                {b: of[name].outputs[k] for b, of in calls.items()},
                {b: [one[name][k] for one in of if name in one] for b, of in moved.items()},
                {b: of[name].outputs[k] for b, of in wide.items() if name in of and len(of[name].outputs) > k},
                call.kind,
                shapes_of(call),
            )


def shapes_of(call: Call) -> str:
    """Return the shapes of a call's inputs and outputs."""
    return f"{_shapes(call.inputs)} -> {_shapes(call.outputs)}"


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return ", ".join(str(list(array.shape)) for array in arrays) or "nothing"


def of_training(
    replies: Mapping[str, Any], wides: Mapping[str, Any], get: Callable[[Any], Mapping[str, Any]]
) -> Iterator[Item]:
    """Return items of what `get` returns of a run of training: name -> number or array."""
    runs = {b: get(reply["run"]) for b, reply in replies.items()}
    moved = {b: [get(one) for one in reply["moved"]] for b, reply in replies.items()}
    wide = {b: get(reply["run"]) for b, reply in wides.items()}
    for name in next(iter(runs.values())):
        if all(name in run for run in runs.values()):
            yield Item(
                name,
                {b: np.asarray(run[name]) for b, run in runs.items()},
                {b: [np.asarray(one[name]) for one in some] for b, some in moved.items()},
                {b: np.asarray(run[name]) for b, run in wide.items() if name in run},
            )


def is_loss(name: str) -> bool:
    """Whether a name of a log is that of a loss, or of a part of one."""
    return name == "loss" or name.endswith("_loss")
