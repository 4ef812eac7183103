"""The worker process of one backend: the only file of the checks that uses a framework's own API.

`MODES` lists the modes in which the current backend can run a function, and `prepare` compiles a function for one of
them. `python -m multiloss.check.worker` runs the tasks below, see `loop`.
"""

import contextlib
import functools
import importlib
import inspect
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check import loop, targets

BACKEND: str = keras.backend.backend()
# Modes with known shapes come first, those with an unknown batch size last.
MODES: list[str] = {
    "jax": ["eager", "jit"],
    "tensorflow": ["eager", "graph", "xla", "graph-unknown-batch", "xla-unknown-batch"],
    # The default of torch.compile, and its backend that traces and differentiates the same but generates no code.
    "torch": ["eager", "inductor", "aot_eager"],
}.get(BACKEND, ["eager"])


# --- a function in one mode ------------------------------------------------------------------------------------------


def prepare(mode: str, function: Callable[[Any, Any], Any]) -> Callable[..., tuple[Any, Any]]:
    """Return a function of NumPy arrays `(y, x, upstream)`, compiled once for all batches of one shape.

    It returns the value of `function(y, x)` and the gradient of `sum(upstream * value)` with respect to x, which has
    floats; the gradient is None if the backend computes none.
    """
    step = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}.get(BACKEND, _forward)(mode, function)

    def numpy_step(y: Any, x: Any, upstream: Any = 1.0) -> tuple[Any, Any]:
        value, gradient = step(y, x, upstream)
        return ops.convert_to_numpy(value), None if gradient is None else ops.convert_to_numpy(gradient)

    return numpy_step


_compiled_for = ""
_targets = 0


def forget(target: str = "") -> None:
    """Drop the compiled functions of other targets.

    torch silently stops compiling after too many variants. JAX keeps all compiled functions, including operations that
    targets share, so its caches are cleared only after every eighth target.
    """
    global _compiled_for, _targets
    if target and target == _compiled_for:
        return
    _compiled_for, _targets = target, _targets + bool(target)
    if BACKEND == "torch":
        import torch

        torch.compiler.reset()
    if BACKEND == "jax" and target and _targets % 8 == 0:
        import jax

        jax.clear_caches()


def _forward(_: str, function: Any) -> Callable[..., tuple[Any, Any]]:
    return lambda y, x, upstream: (function(y, ops.convert_to_tensor(x)), None)


def _jax(mode: str, function: Any) -> Callable[..., tuple[Any, Any]]:
    import jax

    def weighted(x: Any, y: Any, upstream: Any) -> tuple[Any, Any]:
        value = function(y, x)
        return (value * upstream).sum(), value

    run = jax.value_and_grad(weighted, has_aux=True)
    if mode == "jit":
        run = jax.jit(run)

    def step(y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
        y = y if mode == "eager" else ops.convert_to_tensor(y)
        (_, value), gradient = run(ops.convert_to_tensor(x), y, upstream)
        return value, gradient

    return step


def _tensorflow(mode: str, function: Any) -> Callable[..., tuple[Any, Any]]:
    import tensorflow as tf

    def run(y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(y, x)
            weighted = tf.reduce_sum(value * tf.cast(upstream, value.dtype))
        return value, tape.gradient(weighted, x)

    compiled = None

    def step(y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
        nonlocal compiled
        if mode == "eager":
            return run(y, tf.convert_to_tensor(x), upstream)
        batch = [tf.convert_to_tensor(array) for array in (y, x, upstream)]
        if compiled is None:
            signature = None
            if mode.endswith("unknown-batch"):
                signature = [tf.TensorSpec([None, *t.shape[1:]] if len(t.shape) else [], t.dtype) for t in batch]
            compiled = tf.function(run, input_signature=signature, jit_compile=mode.startswith("xla"))
        result: tuple[Any, Any] = compiled(*batch)
        return result

    return step


def _torch(mode: str, function: Any) -> Callable[..., tuple[Any, Any]]:
    import torch

    @contextlib.contextmanager
    def quiet() -> Any:
        with warnings.catch_warnings():
            if mode != "eager":
                # torch's own warnings during compilation disturb tracing. Warnings from the losses are errors in the
                # eager mode of our tests.
                warnings.simplefilter("ignore")
            yield

    with quiet():
        compiled = function if mode == "eager" else torch.compile(function, backend=mode)

    device = ops.convert_to_tensor(0).device  # where Keras puts tensors made from arrays

    def step(y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
        x = torch.as_tensor(x, device=device).clone().requires_grad_()
        with quiet():
            value = compiled(y if mode == "eager" else torch.as_tensor(y, device=device), x)
        weighted = (value * torch.as_tensor(upstream, dtype=value.dtype, device=value.device)).sum()
        if weighted.requires_grad:
            weighted.backward()
        return value.detach(), x.grad

    return step


# --- the requested loss ----------------------------------------------------------------------------------------------


def build(target: str, **settings: Any) -> tuple[Any, bool]:
    """Return a new loss, with settings replaced by those given, and whether it is a `keras.losses.Loss`."""
    loss = targets.resolve(target)
    if inspect.isclass(loss):
        loss = loss(**settings)
    elif settings:
        loss = type(loss).from_config({**loss.get_config(), **settings})
    if not callable(loss):
        raise targets.TargetError(f"{target!r} is not callable. Received: {type(loss).__name__}")
    return loss, isinstance(loss, keras.losses.Loss)


class _WithMask(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Attach a Keras mask to a tensor."""

    def __init__(self, mask: Any):
        super().__init__(name="with_mask")
        self.mask = mask

    def call(self, x: Any) -> Any:
        return x + 0 * x  # a new tensor without another mask

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
    """Return an upstream gradient with distinct entries, so that mixed-up entries are detected."""
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
    """Return the value and gradient of a new loss. The `reduction` "own" is that of the target."""
    loss, is_loss = build(target, **({} if dtype is None else {"dtype": dtype}))
    reduction = reduction if is_loss and reduction != "own" else None
    function = _function(loss, reduction, weight, mask, cast)
    value = ops.convert_to_numpy(ops.cast(first := function(y, ops.convert_to_tensor(x)), "float32"))
    result = {"value": value, "gradient": None, "dtype": keras.backend.standardize_dtype(first.dtype)}
    if gradient:
        # Half-precision values are summed in float32.
        def raised(y: Any, x: Any) -> Any:
            return ops.cast(function(y, x), "float32")

        forget(target)
        result["value"], result["gradient"] = prepare(mode, raised)(y, x, upstream_of(value.shape))
    return result


def run_all(target: str, batches: dict[str, tuple[np.ndarray, np.ndarray]], mode: str) -> dict[str, Any]:
    """Return value and gradient of one loss on several batches, compiled once: by name, replies as those of `main`.

    "traces" is the number of traces or compilations when the same batches come again with their rows reversed.
    """
    loss, is_loss = build(target)
    function = _function(loss, "none" if is_loss else None, None, None, None)
    forget(target)
    step = prepare(mode, lambda y, x: ops.cast(function(y, x), "float32"))
    factors = {}

    def one(name: str, order: int) -> dict[str, Any]:
        y, x = (part[::order].copy() for part in batches[name])
        if name not in factors:
            factors[name] = upstream_of(run(target, y, x, gradient=False)["value"].shape)
        value, gradient = step(y, x, factors[name])
        return {"value": value, "gradient": gradient}

    replies = {name: loop.reply_of(one, {"name": name, "order": 1}) for name in batches}
    before = _compilations()
    for name, (status, *_) in replies.items():
        if status == "done":
            one(name, -1)
    return {"replies": replies, "traces": _compilations() - before}


def exact(target: str, y: np.ndarray, xs: np.ndarray, reduction: str) -> dict[str, Any]:
    """Return sums of `upstream * value` at several x, in float64 if possible; "single" if all values are float32."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        with _float64():
            loss, is_loss = build(target)
            function = _function(loss, reduction if is_loss and reduction != "own" else None, None, None, None)
            compiled = _compiled(function)
            sums, single = [], True
            for x in xs:
                value = compiled(ops.convert_to_tensor(y), ops.convert_to_tensor(x, dtype="float64"))
                array = ops.convert_to_numpy(value).astype(np.float64)
                sums.append(float(np.sum(array * upstream_of(array.shape))))
                single = single and np.array_equal(array, array.astype(np.float32), equal_nan=True)
    finally:
        keras.config.set_floatx(before)
    return {"sums": np.array(sums), "single": single}


def _compiled(function: Any) -> Any:
    """Return the function, compiled on backends that compile quickly."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


@contextlib.contextmanager
def _float64() -> Any:
    if BACKEND != "jax":
        yield
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)  # JAX before 0.8 has no `jax.enable_x64`
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


# --- description, config, saving and training ------------------------------------------------------------------------


def describe(target: str) -> dict[str, Any]:
    """Return properties of the target, and the versions of the backend and Keras."""
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
        "takes_dtype": is_loss and ("dtype" in inspect.signature(type(loss).__init__).parameters or "dtype" in config),
    }


def config(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Recreate the loss from its config, also with a dtype other than the default."""
    loss, _ = build(target)
    kept = loss.get_config()
    parameters = inspect.signature(type(loss).__init__).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    lost = [name for name in named if name not in kept]
    again = type(loss).from_config(kept)
    other = _in_float64(target)
    return {
        "lost": lost,
        "before": ops.convert_to_numpy(loss(y, x)),
        "after": ops.convert_to_numpy(again(y, x)),
        "dtypes": None if other is None else (other.dtype, type(other).from_config(other.get_config()).dtype),
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


def _model(loss: Any, x: np.ndarray, **options: Any) -> Any:
    """Return a model with a single dense layer close to the identity, compiled with the loss."""
    size = x.shape[-1]
    layer = keras.layers.Dense(size)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    layer.set_weights([0.9 * np.eye(size, dtype=np.float32), np.full(size, 0.05, np.float32)])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss, **options)
    return model


def save(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Save a compiled model, load it, and return the losses before and after."""
    loss, is_loss = build(target)
    name = getattr(loss, "__name__", type(loss).__name__)
    mine = {name: type(loss) if is_loss else loss}

    def through_a_file(model: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            return keras.models.load_model(path, custom_objects=mine)

    model = _model(loss, x, run_eagerly=True)  # as the loaded one does: compiling both takes JAX seconds
    before = model.evaluate(x, y, batch_size=len(x), verbose=0)
    after = through_a_file(model).evaluate(x, y, batch_size=len(x), verbose=0)
    other = _in_float64(target)
    dtypes = None if other is None else (other.dtype, through_a_file(_model(other, x)).loss.dtype)
    return {"before": before, "after": after, "dtypes": dtypes}


def fit(target: str, y: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Run one step of `fit` on one batch; return the loss and the change of each weight."""
    model = _model(build(target)[0], x)
    start = model.get_weights()
    history = model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    moved = [after - before for before, after in zip(start, model.get_weights(), strict=True)]
    return {"loss": float(history.history["loss"][0]), "moved": moved}


def repeat(target: str, y: np.ndarray, x: np.ndarray, other_y: np.ndarray, other_x: np.ndarray) -> dict[str, Any]:
    """Return values of one loss on two alternating batches, and the number of compilations after the first call."""
    loss, is_loss = build(target)
    function = _function(loss, "none" if is_loss else None, None, None, None)
    first, other = ((a, ops.convert_to_tensor(b)) for a, b in ((y, x), (other_y, other_x)))
    values = [ops.convert_to_numpy(function(*first))]
    before = _compilations()
    values += [ops.convert_to_numpy(function(*batch)) for batch in (other, first, other, first)]
    return {"first": values[0], "again": np.stack([values[2], values[4]]), "traces": _compilations() - before}


def _compilations() -> int:
    """Return the number of compilations of this backend so far, or of TensorFlow's traces."""
    if BACKEND == "jax":
        return len(_jax_compilations())
    if BACKEND == "torch":
        import torch._dynamo.utils

        return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    return len(_tensorflow_graphs()) if BACKEND == "tensorflow" else 0


@functools.cache  # cannot be undone, as below
def _tensorflow_graphs() -> list[None]:
    """Return a list that grows with every graph, since every trace of TensorFlow creates one."""
    import tensorflow as tf

    made: list[None] = []
    before = tf.Graph.__init__

    def counted(self: Any, *arguments: Any, **named: Any) -> None:
        made.append(None)
        before(self, *arguments, **named)

    tf.Graph.__init__ = counted
    return made


@functools.cache  # a listener of JAX stays registered
def _jax_compilations() -> list[str]:
    """Return a list that grows with every compilation of JAX, of a jitted function or a single operation."""
    import jax

    events: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return events


# --- the process -----------------------------------------------------------------------------------------------------

_TASKS = {task.__name__: task for task in (describe, run, run_all, exact, config, save, fit, repeat)}


def main() -> None:
    """Reply to requests until there are no more."""
    loop.serve(_TASKS)


if __name__ == "__main__":
    main()
