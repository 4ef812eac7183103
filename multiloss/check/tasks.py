"""What a worker does on request: run a loss in one mode, evaluate it in float64, save it, train with it.

Each task takes the target and NumPy arrays, or trees of them, and returns numbers and arrays. A `Loss` is called as
Keras calls it. So is a plain function: `compile` casts labels and predictions to floatx and aligns their ranks, unless
the function has the attribute `exact_labels`.
"""

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check import backends, loop, slopes, targets, tree
from multiloss.check.slopes import upstream_of
from multiloss.check.tree import Tree

# --- the requested loss ----------------------------------------------------------------------------------------------


class AsCompiled(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """What `compile(loss=function)` makes of a plain function."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        super().__init__(name=getattr(function, "__name__", None), reduction=None)
        self.function = function

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Leave labels as they are, if the function says so."""
        if not said(self.function, "exact_labels"):
            return super().__call__(y_true, y_pred, sample_weight)
        cast = [ops.convert_to_tensor(leaf, dtype=self.dtype) for leaf in tree.leaves(y_pred)]
        return _numbers(self.function(y_true, tree.like(y_pred, cast)))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Align ranks and call the function."""
        if not tree.bare(y_true) or not tree.bare(y_pred):
            return _numbers(self.function(y_true, y_pred))
        return _numbers(self.function(*_aligned(y_true, y_pred)))


def _numbers(value: Any) -> Any:
    """Return the value of a loss, and raise for that of a factory, which Keras would try to reduce."""
    if callable(value):
        raise targets.TargetError("returned a function")
    return value


def said(loss: Any, attribute: str) -> bool:
    """Return what a loss says of itself. A `functools.partial` has none of its function's attributes."""
    while isinstance(loss, functools.partial) and not hasattr(loss, attribute):
        loss = loss.func
    return bool(getattr(loss, attribute, False))


def _aligned(y: Any, x: Any) -> tuple[Any, Any]:
    """Return tensors of the same rank where one has a last axis of size 1 that the other lacks, as Keras does."""
    ranks = len(y.shape), len(x.shape)
    if ranks[0] == ranks[1] + 1 and y.shape[-1] == 1:
        return (y, ops.expand_dims(x, -1)) if ranks[1] == 1 else (ops.squeeze(y, -1), x)
    if ranks[1] == ranks[0] + 1 and x.shape[-1] == 1:
        return (ops.expand_dims(y, -1), x) if ranks[0] == 1 else (y, ops.squeeze(x, -1))
    return y, x


def build(target: str, **settings: Any) -> tuple[Any, bool]:
    """Return a new loss, with settings replaced by those given, and whether it is a `keras.losses.Loss`."""
    loss = targets.resolve(target)
    if inspect.isclass(loss):
        loss = loss(**settings)
    elif settings:
        loss = type(loss).from_config({**loss.get_config(), **settings})
    if not callable(loss):
        raise targets.TargetError(f"{target!r} is not callable. Received: {type(loss).__name__}")
    if isinstance(loss, keras.losses.Loss):
        return loss, True
    return AsCompiled(loss), False


class _WithMask(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Attach a Keras mask to a tensor."""

    def __init__(self, mask: Any):
        super().__init__(name="with_mask")
        self.mask = mask

    def call(self, x: Any) -> Any:
        return x + 0 * x  # a new tensor without another mask

    def compute_mask(self, x: Any, previous: Any) -> Any:
        return ops.convert_to_tensor(self.mask)


def function_of(
    loss: Any,
    y: Tree,
    x: Tree,
    reduction: str | None = None,
    weight: Any = None,
    mask: Any = None,
    cast: str | None = None,
) -> Callable[[list[Any], list[Any]], Any]:
    """Return a function of the leaves of y and x."""
    if reduction is not None:
        loss.reduction = None if reduction == "none" else reduction
    masked = None if mask is None else _WithMask(mask)

    def function(y_leaves: list[Any], x_leaves: list[Any]) -> Any:
        x_leaves = x_leaves if cast is None else [ops.cast(leaf, cast) for leaf in x_leaves]
        x_leaves = x_leaves if masked is None else [masked(leaf) for leaf in x_leaves]
        given = (tree.like(y, y_leaves), tree.like(x, x_leaves))
        return loss(*given) if weight is None else loss(*given, weight)

    return function


def _reduction(reduction: str | None, is_loss: bool) -> str | None:
    return reduction if is_loss and reduction != "own" else None


def run(
    target: str,
    y: Tree,
    x: Tree,
    mode: str = "eager",
    reduction: str | None = "none",
    weight: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    cast: str | None = None,
    dtype: str | None = None,
    gradient: bool = True,
) -> dict[str, Any]:
    """Return the value and gradients of a new loss. The `reduction` "own" is that of the target."""
    loss, is_loss = build(target, **({} if dtype is None else {"dtype": dtype}))
    function = function_of(loss, y, x, _reduction(reduction, is_loss), weight, mask, cast)
    leaves = tree.leaves(y), tree.leaves(x)
    first = ops.convert_to_tensor(function(leaves[0], [ops.convert_to_tensor(leaf) for leaf in leaves[1]]))
    value = ops.convert_to_numpy(ops.cast(first, "float32"))
    result = {"value": value, "gradient": None, "dtype": keras.backend.standardize_dtype(first.dtype)}
    if gradient:
        # Half-precision values are summed in float32.
        def raised(y: Any, x: Any) -> Any:
            return ops.cast(function(y, x), "float32")

        backends.forget(target)
        result["value"], result["gradient"] = backends.prepare(mode, raised)(*leaves, upstream_of(value.shape))
    return result


def run_all(target: str, batches: dict[str, tuple[Tree, Tree]], mode: str) -> dict[str, Any]:
    """Return value and gradients of one loss on several batches, compiled once: by name, replies as those of a worker.

    "traces" is the number of traces or compilations when the same batches come again with their rows reversed.
    """
    loss, is_loss = build(target)
    function = function_of(loss, *next(iter(batches.values())), "none" if is_loss else None)
    backends.forget(target)
    step = backends.prepare(mode, lambda y, x: ops.cast(function(y, x), "float32"))
    factors = {}

    def one(name: str, order: int) -> dict[str, Any]:
        y, x = ([leaf[::order].copy() for leaf in tree.leaves(part)] for part in batches[name])
        if name not in factors:
            shape = run(target, *batches[name], gradient=False)["value"].shape
            factors[name] = upstream_of(shape)
        value, gradient = step(y, x, factors[name])
        return {"value": value, "gradient": gradient}

    replies = {name: loop.reply_of(one, {"name": name, "order": 1}) for name in batches}
    before = backends.compilations()
    for name, (status, *_) in replies.items():
        if status == "done":
            one(name, -1)
    return {"replies": replies, "traces": backends.compilations() - before}


def exact(
    target: str,
    y: Tree,
    x: Tree,
    reduction: str,
    bounds: list[tuple[float, float]],
    seed: int,
    gradients: list[np.ndarray],
    differentiate: bool,
) -> slopes.Truth:
    """Return the value of the loss in float64 and its derivatives, see `slopes.truth`."""
    with backends.in_float64():
        loss, is_loss = build(target)
        labels = tree.leaves(y)
        compiled = backends.quick(function_of(loss, y, x, _reduction(reduction, is_loss)))

        def value(leaves: list[np.ndarray]) -> Any:
            tensors = [ops.convert_to_tensor(leaf, dtype="float64") for leaf in leaves]
            return ops.convert_to_numpy(compiled([ops.convert_to_tensor(leaf) for leaf in labels], tensors))

        return slopes.truth(
            value,
            tree.leaves(x),
            bounds=bounds,
            seed=seed,
            gradients=gradients,
            differentiate=differentiate,
        )


# --- description, config, saving and training ------------------------------------------------------------------------


def describe(target: str) -> dict[str, Any]:
    """Return properties of the target, and the versions of the backend and Keras.

    "metric" is whether it is a `keras.metrics.Metric`, which `metric_tasks` is for.
    """
    backends.forget()  # what another check compiled of this target would not be compiled again
    loss, is_loss = build(target)
    config = loss.get_config() if is_loss else {}
    parameters = inspect.signature(type(loss).__init__).parameters if is_loss else {}
    return {
        "loss": is_loss,
        "metric": isinstance(_given(loss), keras.metrics.Metric),
        "modes": backends.MODES,
        "versions": backends.version(),
        "rounding": backends.rounding(),
        "from_logits": bool(config.get("from_logits", False)),
        "reduction": config.get("reduction") if is_loss else None,
        "takes_dtype": "dtype" in config or "dtype" in parameters,
        "takes_reduction": "reduction" in config or "reduction" in parameters,
        "straight_through": said(_given(loss), "straight_through"),
    }


def config(target: str, y: Tree, x: Tree) -> dict[str, Any]:
    """Recreate the loss from its config, also with a dtype other than the default."""
    loss, _ = build(target)
    kept = loss.get_config()
    parameters = inspect.signature(type(loss).__init__).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    again, other = type(loss).from_config(kept), _in_float64(target)
    return {
        "lost": [name for name in named if name not in kept and name != "dtype"],
        "before": ops.convert_to_numpy(loss(y, x)),
        "after": ops.convert_to_numpy(again(y, x)),
        "dtypes": None if other is None else (other.dtype, type(other).from_config(other.get_config()).dtype),
        "dtype named": other is not None and "dtype" in other.get_config(),
    }


def _in_float64(target: str) -> Any:
    """Return the loss with a dtype other than the default, or None if it takes no dtype."""
    loss, is_loss = build(target)
    if not is_loss:
        return None
    parameters = inspect.signature(type(loss).__init__).parameters
    if "dtype" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    try:
        other, _ = build(target, dtype="float64")
    except Exception:  # `**kwargs` may have another purpose
        return None
    return other if other.dtype == "float64" else None


def _model(loss: Any, x: np.ndarray) -> Any:
    """Return a model with a single dense layer close to the identity, compiled with the loss."""
    size = x.shape[-1]
    layer = keras.layers.Dense(size)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    layer.set_weights([0.9 * np.eye(size, dtype=np.float32), np.full(size, 0.05, np.float32)])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
    return model


def _given(loss: Any) -> Any:
    """Return what a user hands to `compile`."""
    return loss.function if isinstance(loss, AsCompiled) else loss


def save(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Save a compiled model, load it, and return the losses of its predictions before and after."""
    loss, is_loss = build(target)
    given = _given(loss)
    name = getattr(given, "__name__", type(given).__name__)
    model = _model(given, x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = keras.models.load_model(path, custom_objects={name: type(given) if is_loss else given}).loss
    predicted = model(x)
    again = again if isinstance(again, keras.losses.Loss) else AsCompiled(again)
    return {"before": ops.convert_to_numpy(loss(y, predicted)), "after": ops.convert_to_numpy(again(y, predicted))}


def fit(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Run one step of `fit` on one batch; return the loss and the change of each weight."""
    model = _model(_given(build(target)[0]), x)
    start = model.get_weights()
    history = model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    moved = [after - before for before, after in zip(start, model.get_weights(), strict=True)]
    return {"loss": float(history.history["loss"][0]), "moved": moved}


def repeat(target: str, y: Tree, x: Tree, other_y: Tree, other_x: Tree) -> dict[str, Any]:
    """Return values of one loss on two alternating batches, and the number of compilations after the first call.

    "fresh" is the value of a new loss on the other batch.
    """

    def made() -> Any:
        loss, is_loss = build(target)
        return function_of(loss, y, x, "none" if is_loss else None)

    function, new = made(), made()
    first, other = (
        (tree.leaves(a), [ops.convert_to_tensor(leaf) for leaf in tree.leaves(b)])
        for a, b in ((y, x), (other_y, other_x))
    )
    values = [ops.convert_to_numpy(function(*first))]
    before = backends.compilations()
    values += [ops.convert_to_numpy(function(*batch)) for batch in (other, first, other, first)]
    traces = backends.compilations() - before
    fresh = ops.convert_to_numpy(new(*other))
    return {
        "first": values[0],
        "again": np.stack([values[2], values[4]]),
        "other": np.stack([values[1], values[3]]),
        "fresh": fresh,
        "traces": traces,
    }


TASKS = {task.__name__: task for task in (describe, run, run_all, exact, config, save, fit, repeat)}
