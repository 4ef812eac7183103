"""The options that the engine reads, as attributes of a loss or a metric: what they may be, checked once."""

import numbers
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal, get_args

from multiloss import _arguments

Mode = Literal["binary", "multiclass", "multilabel"]
Average = Literal["macro", "micro"]
Empty = Literal["penalize", "formula", "perfect", "worst", "skip"]
DataFormat = Literal["channels_last", "channels_first"]


class Options:
    """What losses and metrics have in common. `OverlapLoss` says what each option means."""

    mode: Mode | None = None
    from_logits: bool = False
    batch: bool = False
    average: str | None = "macro"
    classes: Sequence[int] | None = None
    include_background: bool = True
    class_weight: Sequence[float] | None = None
    ignore_index: int | None = None
    smooth: float | tuple[float, float] = 1e-5
    squared: bool = False
    soft_label: bool = False
    empty: str = "penalize"
    label_smoothing: float = 0.0
    thresh: float | None = None
    data_format: DataFormat | None = None
    validate: bool = True
    across_replicas: bool | str = False
    # Of metrics only:
    sparse_y_pred: bool = False
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    _classes: int | None = None  # how many there must be
    _binary_only = False  # whether there is no argument `mode`
    _calls = 0  # how many calls have read values

    @classmethod
    def _checks(cls) -> dict[str, Callable[[str, Any], Any]]:
        """Return the check of each option."""
        return _CHECKS

    def _set_options(self, **given: Any) -> None:
        """Check options, and make attributes of them."""
        for name, value in given.items():
            setattr(self, name, self._checks()[name](name, value))
        if self.classes is not None and not self.include_background:
            raise ValueError("`include_background=False` and `classes` exclude each other: leave 0 out of `classes`")
        if self.mode == "binary":
            self._refuse_classes("`mode` 'binary'")
        if self.squared and self.soft_label:
            raise ValueError("`squared=True` and `soft_label=True` exclude each other")

    def _refuse_classes(self, received: str) -> None:
        """Raise if an option was given that needs a class axis."""
        for name in ("classes", "include_background", "class_weight"):
            if getattr(self, name) != getattr(Options, name):
                raise ValueError(
                    f"`{name}` needs a class axis: `mode` 'multiclass' or 'multilabel'. Received: {received}"
                )
        if (self._classes or 1) > 1:
            name = "class_names" if self.num_classes is None else "num_classes"
            raise ValueError(
                f"`{name}` of {self._classes} classes needs `mode` 'multiclass' or 'multilabel', or "
                f"`sparse_y_pred=True` if predictions are class indices. Received: {received}"
            )

    def _counted(self, classes: int) -> list[int]:
        """Return the indices of the classes that count, of so many."""
        return list(range(0 if self.include_background else 1, classes) if self.classes is None else self.classes)

    @property
    def smoothing(self) -> tuple[float, float]:
        """What is added to numerator and denominator."""
        return self.smooth if isinstance(self.smooth, tuple) else (self.smooth, self.smooth)


def _word(words: Any, *, none: bool = False) -> Callable[[str, Any], Any]:
    allowed = ((None,) if none else ()) + get_args(words)
    return lambda name, value: _arguments.one_of(name, value, allowed)


def _classes(name: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    result = _several(name, value, "None or a sequence of class indices >= 0", _index)
    if not result or len(set(result)) < len(result):
        raise ValueError(f"`classes` must be one or more different indices. Received: {result!r}")
    return result


def _class_weight(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    result = _several(name, value, "None or a sequence of numbers >= 0", _arguments.non_negative)
    if not sum(result):
        raise ValueError(f"`class_weight` must have one number > 0. Received: {result!r}")
    return result


def _ignore_index(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`ignore_index` must be None or an integer. Received: {value!r}")
    if not -(2**31) < int(value) < 2**31 - 1:  # labels beyond are set to the ends
        raise ValueError(f"`ignore_index` must be an int32 within its ends. Received: {value!r}")
    return int(value)


def _smooth(name: str, value: Any) -> float | tuple[float, float]:
    if not isinstance(value, (tuple, list)):
        return _arguments.non_negative(name, value)
    if len(value) != 2:
        raise ValueError(f"`smooth` must be a number >= 0 or two of them. Received: {value!r}")
    above, below = (_arguments.non_negative(name, part) for part in value)
    return above, below


def _label_smoothing(name: str, value: Any) -> float:
    return _arguments.number(name, value, "a number in [0, 1)", lambda x: 0 <= x < 1)


def _num_classes(name: str, value: Any) -> int | None:
    if value is None:
        return None
    return int(_arguments.number(name, value, "None or an integer >= 1", lambda x: x >= 1 and x.is_integer()))


def _class_names(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = None if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)
    if not names or not all(isinstance(part, str) and part for part in names):
        raise TypeError(f"`{name}` must be None or a sequence of strings, one a class. Received: {value!r}")
    if len({*names}) < len(names):
        raise ValueError(f"`{name}` must be different. Received: {value!r}")
    return names


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "mode": _word(Mode, none=True),
    "from_logits": _arguments.boolean,
    "batch": _arguments.boolean,
    "average": _word(Average, none=True),
    "classes": _classes,
    "include_background": _arguments.boolean,
    "class_weight": _class_weight,
    "ignore_index": _ignore_index,
    "smooth": _smooth,
    "squared": _arguments.boolean,
    "soft_label": _arguments.boolean,
    "empty": _word(Empty),
    "label_smoothing": _label_smoothing,
    "thresh": lambda _, value: _arguments.threshold(value),
    "data_format": _word(DataFormat, none=True),
    "validate": _arguments.boolean,
    "across_replicas": _arguments.replicas,
    "sparse_y_pred": _arguments.boolean,
    "samplewise": _arguments.boolean,
    "num_classes": _num_classes,
    "class_names": _class_names,
}


def non_negatives(name: str, value: Any) -> float | tuple[float, ...] | None:
    """Return None, a number >= 0, or several, checked."""
    if value is None or isinstance(value, numbers.Real):
        return None if value is None else _arguments.non_negative(name, value)
    return _several(name, value, "None, a number >= 0 or a sequence of them", _arguments.non_negative)


def _several(name: str, value: Any, expected: str, check: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    try:
        parts = None if isinstance(value, (str, bytes, Mapping, Set)) else list(value)
    except TypeError:
        parts = None
    if parts is None or any(getattr(part, "shape", ()) != () for part in parts):
        raise TypeError(f"`{name}` must be {expected}. Received: {value!r}")
    return tuple(check(name, getattr(part, "item", lambda part=part: part)()) for part in parts)


def _index(name: str, value: Any) -> int:
    return int(_arguments.number(name, value, "class indices >= 0", lambda x: x >= 0 and x.is_integer()))
