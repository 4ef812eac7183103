"""What layers receive and return while a model runs, and what makes them random: in a worker, Keras only."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check.models.stages import LOSS_OF, Call


class Returned(BaseException):
    """A call whose tensors were replaced has returned: the rest of the model is not needed."""

    def __init__(self, tensors: list[Any]):
        super().__init__()
        self.tensors = tensors


class Recording:
    """Calls in the order in which they returned, so that inner layers come before those around them."""

    def __init__(self, names: Mapping[int, str], replaced: Mapping[str, list[Any]] | None = None):
        self.names = names  # id of a weight -> its name, see `named`
        self.calls: list[Call] = []
        self.replaced = replaced or {}  # name of a call -> the tensors that it receives instead

    @contextlib.contextmanager
    def on(self) -> Iterator["Recording"]:
        """Record within."""
        stack: list[tuple[str, Any]] = []
        counts: dict[str, int] = {}

        def call(original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
            if any(isinstance(around, keras.layers.RNN) for _, around in stack):
                return original(layer, *args, **kwargs)  # a cell, which some backends trace
            stack.append((layer.name, layer))
            try:
                place = "/".join(name for name, _ in stack[1:]) or layer.name
                counts[place] = counts.get(place, 0) + 1
                place = place if counts[place] == 1 else f"{place}#{counts[place]}"
                if place in self.replaced:
                    args, kwargs = _with_tensors((args, kwargs), self.replaced[place])
                given = _arrays((args, kwargs))
                result = original(layer, *args, **kwargs)
                if place in self.replaced:
                    raise Returned(_floats(result))
                returned = _arrays(result)
                if given is not None and returned is not None:
                    weights = [self.names.get(id(weight), weight.path) for weight in layer.weights]
                    kind = type(layer).__name__
                    self.calls.append(Call(place, kind, given, returned, weights))
                    if losses := _arrays(layer.losses):
                        self.calls.append(Call(f"{LOSS_OF}{place}", kind, given, losses, weights))
                return result
            finally:
                stack.pop()

        with _calling(call):
            yield self


@contextlib.contextmanager
def _calling(call: Callable[..., Any]) -> Iterator[None]:
    """Let `call(original, layer, *arguments)` stand for what a layer does when it is called."""
    original = keras.layers.Layer.__call__

    def replaced(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return call(original, layer, *args, **kwargs)

    keras.layers.Layer.__call__ = replaced
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


@contextlib.contextmanager
def without_randomness() -> Iterator[dict[str, str]]:
    """Call layers that draw random numbers as in inference; yields name -> class of those called so."""
    found: dict[str, str] = {}

    def call(original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
        if draws(layer) and "training" in inspect.signature(layer.call).parameters:
            found[layer.name] = type(layer).__name__
            kwargs["training"] = False
        return original(layer, *args, **kwargs)

    with _calling(call):
        yield found


def named(variables: Iterable[Any]) -> dict[str, Any]:
    """Return variables by their paths, of which the second of the same path is "path#2"."""
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for variable in variables:
        counts[variable.path] = counts.get(variable.path, 0) + 1
        count = counts[variable.path]
        found[variable.path if count == 1 else f"{variable.path}#{count}"] = variable
    return found


def draws(layer: Any) -> bool:
    """Whether a layer holds a generator of seeds, as dropout, noise and augmentation do, and may use it."""
    if isinstance(layer, keras.Model):  # its layers are called in training all the same
        return False
    holds = any(isinstance(value, keras.random.SeedGenerator) for value in vars(layer).values())
    # Recurrent and attention layers hold one whether or not they drop.
    rates = [getattr(layer, name, None) for name in ("rate", "dropout", "recurrent_dropout")]
    return holds and not (rates != [None] * 3 and all(rate in (None, 0, 0.0) for rate in rates))


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) or ops.is_tensor(leaf)


def _arrays(tree: Any) -> list[np.ndarray] | None:
    """Return the tensors of a tree as arrays, or None where a backend traces: they have no numbers then."""
    try:
        arrays = [np.asarray(ops.convert_to_numpy(leaf)) for leaf in keras.tree.flatten(tree) if _is_tensor(leaf)]
    except Exception:  # each framework has its own error for what is traced; the call is then left out
        return None
    return [_real(array) for array in arrays]


def _real(array: np.ndarray) -> np.ndarray:
    """Return complex numbers as pairs, and those of bfloat16, which NumPy does not know, in float32."""
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], -1)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _floats(tree: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(tree) if _is_tensor(leaf) and "float" in str(leaf.dtype)]


def _with_tensors(tree: Any, tensors: list[Any]) -> Any:
    """Return a tree with other tensors of floats, which keep their Keras masks."""
    rest = iter(tensors)

    def other(leaf: Any) -> Any:
        if not _is_tensor(leaf) or "float" not in str(leaf.dtype):
            return leaf
        tensor, mask = next(rest), getattr(leaf, "_keras_mask", None)
        if mask is not None:
            with contextlib.suppress(AttributeError):
                tensor._keras_mask = mask
        return tensor

    return keras.tree.map_structure(other, tree)
