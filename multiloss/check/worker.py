"""One backend, in a process of its own, that does what it is asked: the one file that names a framework's own API.

`MODES` lists the ways in which the backend at hand can run a function. `evaluate` runs one in one of them. As a
program, `python -m multiloss.check.worker` reads pickled requests `(name, arguments)` from standard input, and writes a
pickled reply to each, `("done", result)` or `("error", message, traceback)`, to what was standard output; whatever the
checked loss prints goes to standard error.
"""

import contextlib
import importlib
import inspect
import os
import pickle
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check import targets

BACKEND: str = keras.backend.backend()
# Those of shapes that are known come first, those with an unknown batch size last.
MODES: list[str] = {
    "jax": ["eager", "jit"],
    "tensorflow": ["eager", "graph", "xla", "graph-unknown-batch", "xla-unknown-batch"],
    # The default of torch.compile, and the one that traces and differentiates alike but generates no code.
    "torch": ["eager", "inductor", "aot_eager"],
}.get(BACKEND, ["eager"])


# --- a function in one mode ------------------------------------------------------------------------------------------


def evaluate(mode: str, function: Callable[[Any, Any], Any], y: Any, x: Any, upstream: Any = 1.0) -> tuple[Any, Any]:
    """Value of `function(y, x)` and gradient of `sum(upstream * value)` with respect to x, in one of `MODES`.

    y and x are NumPy arrays, x of floats. Where the backend computes no gradients, they are None.
    """
    run = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}.get(BACKEND)
    if run is None:
        return ops.convert_to_numpy(function(y, ops.convert_to_tensor(x))), None
    value, gradient = run(mode, function, y, x, upstream)
    return ops.convert_to_numpy(value), None if gradient is None else ops.convert_to_numpy(gradient)


def _jax(mode: str, function: Any, y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
    import jax

    def weighted(x: Any, y: Any) -> tuple[Any, Any]:
        value = function(y, x)
        return (value * upstream).sum(), value

    step = jax.value_and_grad(weighted, has_aux=True)
    if mode == "jit":
        step = jax.jit(step)
    (_, value), gradient = step(ops.convert_to_tensor(x), y if mode == "eager" else ops.convert_to_tensor(y))
    return value, gradient


def _tensorflow(mode: str, function: Any, y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    def step(y: Any, x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(y, x)
            weighted = tf.reduce_sum(value * tf.cast(upstream, value.dtype))
        return value, tape.gradient(weighted, x)

    y, x = (y if mode == "eager" else tf.convert_to_tensor(y)), tf.convert_to_tensor(x)
    if mode != "eager":
        signature = None
        if mode.endswith("unknown-batch"):
            signature = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in (y, x)]
        step = tf.function(step, input_signature=signature, jit_compile=mode.startswith("xla"))
    return step(y, x)


def _torch(mode: str, function: Any, y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
    import torch

    x = torch.as_tensor(x).clone().requires_grad_()
    with warnings.catch_warnings():
        if mode != "eager":
            # Tracing trips over warnings of torch's own; those of the losses are errors in the eager mode of our tests.
            warnings.simplefilter("ignore")
            torch.compiler.reset()
            y, function = torch.as_tensor(y), torch.compile(function, backend=mode)
        value = function(y, x)
    weighted = (value * torch.as_tensor(upstream, dtype=value.dtype)).sum()
    if weighted.requires_grad:
        weighted.backward()
    return value.detach(), x.grad


# --- a loss, as it was asked for -------------------------------------------------------------------------------------


def build(target: str, **settings: Any) -> tuple[Any, bool]:
    """Return a new loss, with other settings than its own if given, and whether it is a `keras.losses.Loss`."""
    loss = targets.resolve(target)
    if inspect.isclass(loss):
        loss = loss(**settings)
    elif settings:
        loss = type(loss).from_config({**loss.get_config(), **settings})
    if not callable(loss):
        raise targets.TargetError(f"{target!r} is not callable. Received: {type(loss).__name__}")
    return loss, isinstance(loss, keras.losses.Loss)


class _WithMask(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Attach a Keras mask to what passes."""

    def __init__(self, mask: Any):
        super().__init__(name="with_mask")
        self.mask = mask

    def call(self, x: Any) -> Any:
        return x + 0 * x  # a tensor of its own, to which no other mask is attached

    def compute_mask(self, x: Any, previous: Any) -> Any:
        return ops.convert_to_tensor(self.mask)


def _function(loss: Any, reduction: str | None, weight: Any, mask: Any, cast: str | None) -> Callable[[Any, Any], Any]:
    if reduction is not None:
        loss.reduction = None if reduction == "none" else reduction

    masked = None if mask is None else _WithMask(mask)

    def function(y: Any, x: Any) -> Any:
        x = x if cast is None else ops.cast(x, cast)
        x = x if masked is None else masked(x)
        return loss(y, x) if weight is None else loss(y, x, weight)

    return function


def upstream_of(shape: tuple[int, ...]) -> np.ndarray:
    """Return factors of the values, each another, so that a gradient that mixes them up shows."""
    return (1 + 0.5 * np.cos(np.arange(int(np.prod(shape))))).reshape(shape).astype(np.float32)


def run(
    target: str,
    y: np.ndarray,
    x: np.ndarray,
    mode: str = "eager",
    reduction: str | None = "none",
    weight: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    cast: str | None = None,
    dtype: str | None = None,
    gradient: bool = True,
) -> dict[str, Any]:
    """Value and gradient of a new loss. `reduction` "own" is what the target says."""
    loss, is_loss = build(target, **({} if dtype is None else {"dtype": dtype}))
    reduction = reduction if is_loss and reduction != "own" else None
    function = _function(loss, reduction, weight, mask, cast)
    value = ops.convert_to_numpy(ops.cast(first := function(y, ops.convert_to_tensor(x)), "float32"))
    result = {"value": value, "gradient": None, "dtype": keras.backend.standardize_dtype(first.dtype)}
    if gradient or mode != "eager":
        # Values of half precision are added up in float32.
        def raised(y: Any, x: Any) -> Any:
            return ops.cast(function(y, x), "float32")

        result["value"], result["gradient"] = evaluate(mode, raised, y, x, upstream_of(value.shape))
    return result


def exact(target: str, y: np.ndarray, xs: np.ndarray, reduction: str) -> dict[str, Any]:
    """Sums `upstream * value` at several x, in float64 if the loss has it."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        with _float64():
            loss, is_loss = build(target)
            function = _function(loss, reduction if is_loss and reduction != "own" else None, None, None, None)
            compiled = _compiled(function)
            sums = []
            for x in xs:
                value = compiled(ops.convert_to_tensor(y), ops.convert_to_tensor(x, dtype="float64"))
                array = ops.convert_to_numpy(value).astype(np.float64)
                sums.append(float(np.sum(array * upstream_of(array.shape))))
    finally:
        keras.config.set_floatx(before)
    return {"sums": np.array(sums)}


def _compiled(function: Any) -> Any:
    """Return the function, compiled where that is quick."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def _float64() -> Any:
    if BACKEND != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


# --- what a loss is, and what becomes of it --------------------------------------------------------------------------


def describe(target: str) -> dict[str, Any]:
    """Return what the target is, and the versions of what runs it."""
    loss, is_loss = build(target)
    name = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}.get(BACKEND, BACKEND)
    version = getattr(sys.modules.get(name) or importlib.import_module(name), "__version__", "")
    config = loss.get_config() if is_loss else {}
    return {
        "loss": is_loss,
        "modes": MODES,
        "versions": f"{name} {version}, keras {keras.__version__}",
        "from_logits": bool(config.get("from_logits", False)),
        "reduction": config.get("reduction") if is_loss else None,
        "takes_dtype": is_loss and "dtype" in inspect.signature(type(loss).__init__).parameters,
    }


def config(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Take the loss to its config and back, with another dtype than the default."""
    loss, _ = build(target)
    kept = loss.get_config()
    parameters = inspect.signature(type(loss).__init__).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    lost = [name for name in named if name not in kept]
    again = type(loss).from_config(kept)
    return {
        "lost": lost,
        "before": ops.convert_to_numpy(loss(y, x)),
        "after": ops.convert_to_numpy(again(y, x)),
        "dtypes": (loss.dtype, again.dtype),
    }


def _model(target: str, x: np.ndarray) -> tuple[Any, Any]:
    """Return a model of a single dense layer that nearly lets x through, and the loss it is compiled with."""
    loss, _ = build(target)
    size = x.shape[-1]
    layer = keras.layers.Dense(size)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    layer.set_weights([0.9 * np.eye(size, dtype=np.float32), np.full(size, 0.05, np.float32)])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
    return model, loss


def save(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Save a compiled model, load it, and compare what the two lose."""
    model, loss = _model(target, x)
    before = model.evaluate(x, y, batch_size=len(x), verbose=0)
    name = getattr(loss, "__name__", type(loss).__name__)
    mine = {name: type(loss) if isinstance(loss, keras.losses.Loss) else loss}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path, custom_objects=mine)
    after = loaded.evaluate(x, y, batch_size=len(x), verbose=0)
    dtypes = [getattr(kept, "dtype", None) for kept in (loss, loaded.loss)]
    return {"before": before, "after": after, "dtypes": dtypes}


def fit(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """One step of `fit` on one batch: the loss, and how far each weight moved."""
    model, _ = _model(target, x)
    start = model.get_weights()
    history = model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    moved = [after - before for before, after in zip(start, model.get_weights(), strict=True)]
    return {"loss": float(history.history["loss"][0]), "moved": moved}


def repeat(target: str, y: np.ndarray, x: np.ndarray, other_y: np.ndarray, other_x: np.ndarray) -> dict[str, Any]:
    """Values of one loss on a batch, on another, and on the first again; and what is traced anew for a second batch."""
    loss, is_loss = build(target)
    function = _function(loss, "none" if is_loss else None, None, None, None)
    first, other = ((a, ops.convert_to_tensor(b)) for a, b in ((y, x), (other_y, other_x)))
    values = [ops.convert_to_numpy(function(*batch)) for batch in (first, other, first)]
    traces = _traces(function, first, other)
    return {"first": values[0], "again": values[2], "traces": traces}


def _traces(function: Any, first: Any, other: Any) -> int | None:
    """How often a second batch of the same shape is traced or compiled, or None if this backend does neither."""
    counted = 0

    def counting(y: Any, x: Any) -> Any:
        nonlocal counted
        counted += 1
        return function(y, x)

    if BACKEND == "jax":
        import jax

        def compiled(event: str, *_: Any, **__: Any) -> None:
            nonlocal counted
            counted += event == "/jax/core/compile/backend_compile_duration"

        step = jax.jit(counting)
        step(*first)
        jax.monitoring.register_event_duration_secs_listener(compiled)
        counted = 0
        step(*other)
        function(*other)  # outside jit, where operations are compiled one by one, and loops whole
        return counted
    if BACKEND == "tensorflow":
        import tensorflow as tf

        step = tf.function(counting)
        step(*map(tf.convert_to_tensor, first))
        counted = 0
        step(*map(tf.convert_to_tensor, other))
        return counted
    if BACKEND == "torch":
        import torch

        def backend(graph: Any, _: Any) -> Any:
            nonlocal counted
            counted += 1
            return graph.forward

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compiler.reset()
            step = torch.compile(function, backend=backend)
            step(torch.as_tensor(first[0]), first[1])
            counted = 0
            step(torch.as_tensor(other[0]), other[1])
        return counted
    return None


# --- as a program ----------------------------------------------------------------------------------------------------

_TASKS = {task.__name__: task for task in (describe, run, exact, config, save, fit, repeat)}


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    pickle.dump(("done", {"backend": BACKEND}), replies)
    replies.flush()
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            reply: tuple[Any, ...] = ("done", _TASKS[name](**arguments))
        except BaseException as error:  # whatever a loss raises is an answer
            reply = ("error", f"{type(error).__name__}: {error}".strip(), traceback.format_exc())
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    main()
