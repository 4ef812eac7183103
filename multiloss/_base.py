"""The one Keras loss that both families stand on: a constructor whose arguments are the config, and exact labels."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import backend, ops

from multiloss import _arguments
from multiloss._arguments import Tensor


class _Signature:
    """The constructor's arguments with those that it passes on, for `help()` and editors. An instance has none."""

    def __get__(self, instance: Any, owner: type["Loss"]) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return inspect.Signature(list(owner._constructor.values()))


class Loss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A loss whose labels stay as they come, and whose config is the arguments of its constructor.

    Every argument of the constructor is an attribute of the same name. A derived class names its own arguments, and
    takes those of its base as `**options`, for `super().__init__`; `_without` lists the ones that it does not take.

    Keras casts labels to the dtype of the loss, which merges integers above 2^24. Everything else is Keras's own:
    predictions cast to `dtype`, masks, `sample_weight`, reduction. Three differences: half precision is raised to
    float32; weights or masks that are not one a row are refused, where Keras would broadcast them; and an empty batch
    reduces to 0 whether or not its size is known in advance.
    """

    __signature__ = _Signature()
    _constructor: ClassVar[Mapping[str, inspect.Parameter]] = {}
    _own: ClassVar[tuple[str, ...]] = ()  # the arguments that the class itself names
    _shared: ClassVar[frozenset[str]] = frozenset()  # the options of its family
    _without: ClassVar[tuple[str, ...]] = ()
    _passed: frozenset[str] = frozenset()

    def __init_subclass__(cls, **keywords: Any):
        """Look at the arguments of the constructor once: no compiler can trace that."""
        super().__init_subclass__(**keywords)
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        base = next(base for base in cls.__mro__[1:] if issubclass(base, Loss))
        inherited = base._constructor
        if cls.__init__ is base.__init__:
            cls._constructor = {name: p for name, p in inherited.items() if name not in cls._without}
            return
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        own = {p.name: p for p in parameters if p.kind in named}
        passes_on = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)
        rest = inherited if passes_on else {}
        rest = {name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in rest.items() if name not in own}
        cls._own = tuple(own)
        cls._shared = frozenset(own) if Loss in cls.__bases__ else cls._shared
        cls._constructor = {name: p for name, p in {**own, **rest}.items() if name not in cls._without}

    def __new__(cls, *args: Any, **keywords: Any) -> "Loss":
        """Refuse what the constructor does not take, and note what was given."""
        for name in keywords:
            if name not in cls._constructor:
                raise TypeError(f"{cls.__name__} has no argument `{name}`. It takes: {', '.join(cls._constructor)}")
        self: Loss = super().__new__(cls)
        self._passed = frozenset(keywords)
        return self

    def __init__(self, *, reduction: str | None, name: str | None, dtype: Any):
        super().__init__(reduction=reduction, name=name or snake_case(type(self).__name__), dtype=dtype)
        self._chosen_here = {option for option, value in (("name", name), ("dtype", dtype)) if value is None}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, parameters as numbers."""
        # What a derived class has fixed is left out, since it would be given twice.
        names = [
            name
            for name, parameter in self._constructor.items()
            if name in self._own
            or name in self._passed
            or name in self._chosen_here
            or (name in self._shared and getattr(self, name) == parameter.default)
        ]
        return {name: _arguments.as_number(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Loss":
        """Make the loss of a config."""
        # An option at its default may be one that a derived class has fixed there.
        at_default = [n for n in cls._shared - {*cls._own} if n in config and config[n] == cls._constructor[n].default]
        return cls(**{name: value for name, value in config.items() if name not in at_default})

    def _cast(self, name: str, y_pred: Any, sample_weight: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return predictions in the dtype to compute in, and the weights and the mask, where given, as floats."""
        y_pred = _as_tensor(name, y_pred)
        given = {"sample_weight": sample_weight, "mask": keras_mask(y_pred)}
        weights = {name: _arguments.floats(name, weight) for name, weight in given.items() if weight is not None}
        for name, weight in weights.items():
            _arguments.rank(name, weight)
        return ops.cast(y_pred, _arguments.at_least_float32(self.dtype)), weights

    def _reduced(self, values: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Weight and reduce values as Keras does; weights and mask are scalars, one a row, or one a value."""
        dtype = _arguments.at_least_float32(self.dtype)
        fitted = {name: ops.cast(_fitted(weight, values), dtype) for name, weight in weights.items()}
        weight, mask = fitted.get("sample_weight"), fitted.get("mask")
        if mask is not None and self.means:  # over what the mask leaves
            mask = mask * _quotient(ops.cast(ops.size(mask), mask.dtype), ops.sum(mask))
        if mask is not None:
            weight = mask if weight is None else weight * mask
        if dtype == "float64" and self.averaged and len(values.shape):
            return self._mean(values, weight)
        value = _Precomputed(values, self.name, self.reduction, dtype)(values, values, weight)
        return ops.sum(value) if self.reduction not in (None, "none") and 0 in tuple(value.shape) else value

    def _mean(self, values: Tensor, weight: Tensor | None) -> Tensor:
        """Weight and average values in float64, of which Keras's own mean makes float32 on torch."""
        by_weights = self.reduction == "mean_with_sample_weight" and weight is not None
        values = ops.cast(values, "float64")
        total = ops.sum(values if weight is None else values * ops.cast(weight, values.dtype))
        divisor = ops.sum(weight) if by_weights else ops.size(values)
        return divided_by_replicas(_quotient(total, ops.cast(divisor, values.dtype)))

    @property
    def averaged(self) -> bool:
        """Whether the reduction divides, by the number of values or by their weights."""
        return self.reduction not in ("sum", "none", None)

    @property
    def means(self) -> bool:
        """Whether the reduction divides by the number of values."""
        return self.reduction in ("sum_over_batch_size", "mean")


def divided_by_replicas(value: Tensor) -> Tensor:
    """Return a loss divided by the number of TensorFlow's replicas, whose losses are added up."""
    if backend.backend() != "tensorflow":
        return value
    one = ops.ones((1,))  # which Keras, in its mean, divides by that number
    return value * ops.cast(_Precomputed(one, "one", "mean", "float32")(one, one), value.dtype)


def keras_mask(y_pred: Any) -> Tensor | None:
    """Return the mask that Keras attached to predictions, as floats, or None."""
    # Keras has no public function for this. Its loss without reduction gives the mask times whatever `call` returns,
    # or, where there is no mask, that very tensor.
    y_pred = _as_tensor("y_pred", y_pred)
    one = ops.ones((), dtype="float32")  # whatever `floatx` is: to convert it would make another tensor
    mask = _Precomputed(one, name="mask", reduction=None, dtype="float32")(y_pred, y_pred)
    return None if mask is one else mask


def _fitted(weight: Tensor, values: Tensor) -> Tensor:
    """Return weights in the shape of values `[B]` or `[B, C]`, of which they may be one a row, or a scalar."""
    rank = len(values.shape)
    if rank < 2:
        return ops.reshape(weight, (-1,)[: len(weight.shape)])
    if not (len(weight.shape) == rank and weight.shape[1] == values.shape[1]):
        weight = ops.reshape(weight, (-1, 1))
    return ops.broadcast_to(weight, ops.shape(values))


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Return `a / b`, and 0 where b is 0, in their own dtype."""
    zero = ops.equal(b, 0)
    return ops.where(zero, ops.zeros_like(a), a / ops.where(zero, ops.ones_like(b), b))


def _as_tensor(name: str, y_pred: Any) -> Tensor:
    result = _arguments.numeric(name, y_pred)
    return y_pred if ops.is_tensor(y_pred) else result  # the very object: a mask hangs on it


def snake_case(name: str) -> str:
    """Return the name of a class as Keras names its objects."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class _Precomputed(keras.losses.Loss):  # type: ignore[misc]  # as above
    """Wraps precomputed values so that Keras weights and reduces them without casting labels."""

    def __init__(self, values: Tensor, name: str, reduction: str | None, dtype: str):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._values = values

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self._values
