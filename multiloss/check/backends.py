"""The modes in which each framework runs a function: the only file of the checks that uses a framework's own API.

`MODES` lists the modes of the current backend, and `prepare` compiles a function for one of them. The predictions are a
list of arrays, of which there is one unless a loss takes several.
"""

import contextlib
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check.slopes import ROUNDING
from multiloss.check.targets import TargetError

BACKEND: str = keras.backend.backend()
# Modes with known shapes come first, those with an unknown batch size last.
MODES: list[str] = {
    "jax": ["eager", "jit"],
    "tensorflow": ["eager", "graph", "xla", "graph-unknown-batch", "xla-unknown-batch"],
    # The default of torch.compile, and its backend that traces and differentiates the same but generates no code.
    "torch": ["eager", "inductor", "aot_eager"],
}.get(BACKEND, ["eager"])

# The compiled modes of metrics: on torch, `fit` updates them in eager mode.
METRIC_MODES: list[str] = {"jax": ["jit"], "tensorflow": ["graph", "graph-unknown-batch"]}.get(BACKEND, [])

_OF_TF32 = 2.0**-11  # relative rounding: TF32 has 11 bits

Step = Callable[[Any, list[Any], Any], tuple[Any, list[Any] | None]]


def prepare(mode: str, function: Callable[[Any, list[Any]], Any]) -> Step:
    """Return a function of NumPy arrays `(y, x, upstream)`, compiled once for all batches of one shape.

    It returns the value of `function(y, x)`, and the gradients of `sum(upstream * value)` with respect to each array of
    x, which have floats, or None if there are none. y is a list of arrays, too.
    """
    step = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}.get(BACKEND, _forward)(mode, function)

    def numpy_step(y: Any, x: list[Any], upstream: Any = 1.0) -> tuple[Any, list[Any] | None]:
        value, gradients = step(y, x, upstream)
        if gradients is None or all(gradient is None for gradient in gradients):
            return ops.convert_to_numpy(value), None
        some = [np.zeros_like(a) if g is None else ops.convert_to_numpy(g) for a, g in zip(x, gradients, strict=True)]
        return ops.convert_to_numpy(value), some

    return numpy_step


def prepare_metric(mode: str, metric: Any) -> tuple[Callable[..., None], Callable[[], Any]]:
    """Return `update(y_true, y_pred)`, of tensors, with `sample_weight=` or without, and `result()`.

    Each is compiled once for all batches of one shape. The metric's variables must exist.
    """
    if mode == "eager":
        return metric.update_state, metric.result
    if BACKEND == "jax":
        return _jax_metric(metric)[:2]
    import tensorflow as tf

    compiled = None

    def update(*batch: Any, **weight: Any) -> None:
        nonlocal compiled
        if compiled is None:
            signature = None
            if mode.endswith("unknown-batch"):
                signature = tf.nest.map_structure(
                    lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), [batch, weight]
                )
            compiled = tf.function(
                lambda batch, weight: metric.update_state(*batch, **weight), input_signature=signature
            )
        compiled(batch, weight)

    return update, tf.function(metric.result)


def quick_metric(metric: Any) -> tuple[Callable[..., None], Callable[[], Any], Callable[[], None]] | None:
    """Return `update`, `result` and `start`, which makes the metric as new, of a backend that is slow in eager mode.

    JAX compiles each operation for each shape there. None for other backends.
    """
    return _jax_metric(metric) if BACKEND == "jax" else None


def _jax_metric(metric: Any) -> tuple[Callable[..., None], Callable[[], Any], Callable[[], None]]:
    import jax

    state = initial = [variable.value for variable in metric.variables]
    step = jax.jit(lambda state, batch, weight: metric.stateless_update_state(state, *batch, **weight))
    result = jax.jit(metric.stateless_result)

    def update(*batch: Any, **weight: Any) -> None:
        nonlocal state
        state = step(state, batch, weight)

    def start() -> None:
        nonlocal state
        state = initial

    return update, lambda: result(state), start


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


def _forward(_: str, function: Any) -> Step:
    return lambda y, x, upstream: (function(y, [ops.convert_to_tensor(part) for part in x]), None)


def _jax(mode: str, function: Any) -> Step:
    import jax

    def weighted(x: Any, y: Any, upstream: Any) -> tuple[Any, Any]:
        value = function(y, x)
        return (value * upstream).sum(), value

    run = jax.value_and_grad(weighted, has_aux=True)
    if mode == "jit":
        run = jax.jit(run)

    def step(y: Any, x: list[Any], upstream: Any) -> tuple[Any, Any]:
        y = y if mode == "eager" else [ops.convert_to_tensor(part) for part in y]
        (_, value), gradients = run([ops.convert_to_tensor(part) for part in x], y, upstream)
        return value, gradients

    return step


def _tensorflow(mode: str, function: Any) -> Step:
    import tensorflow as tf

    def run(y: Any, x: Any, upstream: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(y, x)
            weighted = tf.reduce_sum(value * tf.cast(upstream, value.dtype))
        return value, tape.gradient(weighted, x)

    compiled = None

    def step(y: Any, x: list[Any], upstream: Any) -> tuple[Any, Any]:
        nonlocal compiled
        tensors = [tf.convert_to_tensor(part) for part in x]
        if mode == "eager":
            return run(y, tensors, upstream)
        batch = [[tf.convert_to_tensor(part) for part in y], tensors, tf.convert_to_tensor(upstream)]
        if compiled is None:
            signature = None
            if mode.endswith("unknown-batch"):
                signature = tf.nest.map_structure(
                    lambda t: tf.TensorSpec([None, *t.shape[1:]] if len(t.shape) else [], t.dtype), batch
                )
            compiled = tf.function(run, input_signature=signature, jit_compile=mode.startswith("xla"))
        result: tuple[Any, Any] = compiled(*batch)
        return result

    return step


def _torch(mode: str, function: Any) -> Step:
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

    def step(y: Any, x: list[Any], upstream: Any) -> tuple[Any, Any]:
        x = [torch.as_tensor(part, device=device).clone().requires_grad_() for part in x]
        with quiet():
            value = compiled(y if mode == "eager" else [torch.as_tensor(part, device=device) for part in y], x)
        weighted = (value * torch.as_tensor(upstream, dtype=value.dtype, device=value.device)).sum()
        if weighted.requires_grad:
            weighted.backward()
        return value.detach(), [part.grad for part in x]

    return step


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 within: as the default of Keras, and with JAX's 64-bit types."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    # On JAX and torch, Keras turns the result of mixed operations, and its own mean, into float32. What says so is not
    # public; without it, values have the bits of float32, which is seen by `slopes.truth`.
    narrowing = getattr(sys.modules.get("keras.src.backend.common.dtypes"), "BIT64_TO_BIT32_DTYPE", {})
    narrowed = narrowing.get("float64")
    if narrowed:
        narrowing["float64"] = "float64"
    try:
        with _wide_jax() if BACKEND == "jax" else contextlib.nullcontext():
            yield
    finally:
        keras.config.set_floatx(before)
        if narrowed:
            narrowing["float64"] = narrowed


@contextlib.contextmanager
def _wide_jax() -> Iterator[None]:
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)  # JAX before 0.8 has no `jax.enable_x64`
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def quick(function: Any) -> Any:
    """Return the function, compiled on backends where that takes less time than to run it a few dozen times."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


# Relative rounding of the products of float32, as `settle` was asked for.
_products = ROUNDING


def settle(device: str, precision: str) -> None:
    """Compute on a device, with a precision; the arguments are those of `devices.Settings`.

    Raises:
        TargetError: if the backend has no such device.
    """
    global _products
    if device and device != (kind := _device()[0]):
        raise TargetError(f"`device` {device}: {BACKEND} has none here, it computes on {kind}")
    if precision.startswith("mixed"):
        keras.config.set_dtype_policy(precision)
    elif precision:
        _set_products(precision == "tf32")
        # A CPU multiplies float32 as it is.
        _products = _OF_TF32 if precision == "tf32" and _device()[0] != "cpu" else ROUNDING


def _set_products(tf32: bool) -> None:
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    elif BACKEND == "torch":
        import torch

        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(tf32)


def rounding() -> float:
    """Return the relative rounding of products of float32: that of TF32 if `settle` was asked for it."""
    return _products


def _device() -> tuple[str, str]:
    """Return the kind of the device that computes, as `devices.DEVICES` has it, and its name."""
    if BACKEND == "jax":
        import jax

        return jax.default_backend(), str(jax.devices()[0].device_kind)
    if BACKEND == "torch":
        import torch

        place = ops.convert_to_tensor(0).device
        kind = {"cuda": "gpu", "mps": "gpu", "xla": "tpu"}.get(place.type, place.type)
        return kind, torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    if BACKEND == "tensorflow":
        import tensorflow as tf

        kind = next((kind for kind in ("TPU", "GPU") if tf.config.list_physical_devices(kind)), "CPU").lower()
        return kind, kind
    return "cpu", "cpu"


def version() -> str:
    """Return the version of the backend and of Keras, the device, and how it multiplies where that was set."""
    module = sys.modules.get(BACKEND) or importlib.import_module(BACKEND)
    parts = [f"{BACKEND} {getattr(module, '__version__', '')}", f"keras {keras.__version__}", _device()[1]]
    if products := _named_products():
        parts.append(f"products in {products}")
    return ", ".join(parts)


def _named_products() -> str:
    """Return the precision of products of float32, or "" for the framework's default."""
    if BACKEND == "jax":
        import jax

        return str(jax.config.jax_default_matmul_precision or "")
    if BACKEND == "torch":
        import torch

        named = torch.get_float32_matmul_precision()
        return "" if named == "highest" else named
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return "" if tf.config.experimental.tensor_float_32_execution_enabled() else "float32"
    return ""


def compilations() -> int:
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
