"""What can be asked of every overlap loss, checked once and meaning the same everywhere."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from multiloss import checks

__all__ = ["OverlapOptions"]

MODES = ("binary", "multiclass", "multilabel")
OVER = ("sample", "batch", "class", "all")
WHOLE_BATCH = ("batch", "all")  # of which the value is one number for the whole batch
EMPTY = ("penalize", "formula", "one", "zero", "skip")
DATA_FORMATS = ("channels_last", "channels_first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlapOptions:
    """The keyword arguments that overlap losses share. Each loss says which of them it does not have.

    Args:
        mode: what the axes are. "binary": predictions `[B, ...]`, every axis but the first is of pixels, truth of the
            same shape. "multilabel": predictions `[B, ..., C]`, classes that may coincide, truth of the same shape.
            "multiclass": predictions `[B, ..., C]`, classes that exclude each other, truth one-hot (or soft) of that
            shape, or integers `[B, ...]` or `[B, ..., 1]`, where those outside 0..C-1 are of no class.
        from_logits: whether predictions are logits, to go through a sigmoid (a softmax over classes for "multiclass"),
            or probabilities. Values cannot be checked: logits passed as probabilities give a wrong loss, and
            probabilities passed as logits too, since a sigmoid makes 0.5 to 0.73 of them.
        over: what one ratio is computed of. "sample": of each sample and class, the mean over classes is the value of a
            sample. "batch": of each class in the whole batch. "class": of each sample, classes added up. "all": of the
            whole batch. "batch" and "all" give a scalar.
        classes: None for all, or the indices of those that count.
        include_background: False leaves class 0 out; not beside `classes`.
        class_weight: None, or C numbers >= 0, one for each class whether it counts or not. Means over classes are
            weighted means; where classes are added up (over "class" and "all"), so are their pixels weighted.
        ignore_index: None, or the integer that marks pixels that do not count; of one-hot truth, the class that does.
            Truth must be of integers or booleans: floats may be soft labels, for which there is `mask`.
        smooth: a number >= 0 in pixels, or one for the numerator and one for the denominator. It is added to twice the
            true positives, as in `(2 tp + smooth) / (2 tp + fp + fn + smooth)`, so half of it to formulas with a
            single `tp`, and identities among losses hold for any single `smooth`.
        squared: whether the sizes in the denominator are sums of squares (Milletari et al. 2016, V-Net,
            arXiv:1606.04797). For soft labels that makes the loss least, and 0, where the prediction equals the
            label, if both smooths are equal; plain sums do not. Tversky losses take it with equal weights only.
        empty: the index (1 minus the loss) of a ratio without any truth. "penalize": 1 minus the mean prediction over
            its pixels. "formula": what the formula gives. "one" or "zero". "skip": as "one", and it does not count in
            the mean over classes. The default is the only one of them that is 1 for an empty prediction, lower the more
            is predicted, and has a gradient that does not vanish: the formula, with a smooth of a millionth of the
            pixels, is 0 for the smallest prediction, with no slope to speak of.
        label_smoothing: a number in [0, 1): truth `t` becomes `t (1 - s) + s / C`, C = 2 for binary and multilabel.
            What is without truth is decided before.
        thresh: None, or a number in (0, 1): predictions count as 1 above it and else as 0, with the straight-through
            gradient of `dice_coef`.
        data_format: "channels_last" `[B, ..., C]` or "channels_first" `[B, C, ...]`; None for Keras's setting. The
            class axis of truth and mask is in the same place.

    Example:
        >>> from multiloss import OverlapOptions
        >>> OverlapOptions(mode="multilabel", smooth=1).smooth
        (1.0, 1.0)
    """

    mode: str = "binary"
    from_logits: bool = False
    over: str = "sample"
    classes: Sequence[int] | None = None
    include_background: bool = True
    class_weight: Sequence[float] | None = None
    ignore_index: int | None = None
    smooth: float | tuple[float, float] = 1e-5
    squared: bool = False
    empty: str = "penalize"
    label_smoothing: float = 0.0
    thresh: float | None = None
    data_format: str | None = None

    def __post_init__(self) -> None:
        """Check every option, and make them hashable."""
        for name, allowed in (("mode", MODES), ("over", OVER), ("empty", EMPTY)):
            checks.one_of(name, getattr(self, name), allowed)
        if self.data_format is not None:
            checks.one_of("data_format", self.data_format, DATA_FORMATS)
        for name in ("from_logits", "include_background", "squared"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False. Received: {getattr(self, name)!r}")
        if self.classes is not None:
            self._set("classes", _several("classes", self.classes, "None or a sequence of class indices >= 0", _index))
            if not self.classes or len(set(self.classes)) < len(self.classes):
                raise ValueError(f"`classes` must be one or more different indices. Received: {self.classes!r}")
            if not self.include_background:
                raise ValueError(
                    "`include_background=False` and `classes` exclude each other: leave 0 out of `classes`"
                )
        if self.class_weight is not None:
            weights = _several(
                "class_weight", self.class_weight, "None or a sequence of numbers >= 0", checks.non_negative
            )
            self._set("class_weight", weights)
            if not sum(weights):
                raise ValueError(f"`class_weight` must have one number > 0. Received: {self.class_weight!r}")
        if self.mode == "binary":
            for name, default in (("classes", None), ("include_background", True), ("class_weight", None)):
                if getattr(self, name) != default:
                    raise ValueError(
                        f'`{name}` needs a class axis: `mode` "multiclass" or "multilabel". Received: binary'
                    )
        ignored: Any = self.ignore_index
        if ignored is not None:
            if isinstance(ignored, bool) or not isinstance(ignored, numbers.Integral):
                raise TypeError(f"`ignore_index` must be None or an integer. Received: {ignored!r}")
            if not -(2**31) < int(ignored) < 2**31 - 1:  # labels beyond are set to the ends
                raise ValueError(f"`ignore_index` must be an int32 within its ends. Received: {ignored!r}")
            self._set("ignore_index", int(ignored))
        smooth = self.smooth if isinstance(self.smooth, (tuple, list)) else (self.smooth, self.smooth)
        if len(smooth) != 2:
            raise ValueError(f"`smooth` must be a number >= 0 or two of them. Received: {self.smooth!r}")
        self._set("smooth", tuple(checks.non_negative("smooth", part) for part in smooth))
        expected = "a number in [0, 1)"
        smoothing = checks.number("label_smoothing", self.label_smoothing, expected, lambda x: 0 <= x < 1)
        self._set("label_smoothing", smoothing)
        self._set("thresh", checks.threshold(self.thresh))

    @property
    def smoothing(self) -> tuple[float, float]:
        """What is added to numerator and denominator."""
        assert isinstance(self.smooth, tuple)
        return self.smooth

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def of(cls, function: str, given: dict[str, Any], without: Sequence[str] = ()) -> "OverlapOptions":
        """Return the options given to a function that has all of them but those in `without`."""
        names = [name for name in NAMES if name not in without]
        for name in given:
            if name not in names:
                raise TypeError(f"`{name}` is not an argument of {function}. Expected, of options: {', '.join(names)}")
        return cls(**given)

    @property
    def whole_batch(self) -> bool:
        """Whether the value is one number for the whole batch."""
        return self.over in WHOLE_BATCH


# Looked up once: `torch.compile` cannot trace the fields of a dataclass.
NAMES = tuple(field.name for field in dataclasses.fields(OverlapOptions))


def _several(name: str, value: Any, expected: str, check: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    try:
        parts = None if isinstance(value, (str, bytes, Mapping, Set)) else list(value)
    except TypeError:
        parts = None
    if parts is None or any(getattr(part, "shape", ()) != () for part in parts):
        raise TypeError(f"`{name}` must be {expected}. Received: {value!r}")
    return tuple(check(name, getattr(part, "item", lambda part=part: part)()) for part in parts)


def _index(name: str, value: Any) -> int:
    return int(checks.number(name, value, "class indices >= 0", lambda x: x >= 0 and x.is_integer()))
