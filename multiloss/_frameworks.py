"""The seam where frameworks differ: derivatives, the precision of a product, and what a tensor tells of itself."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import backend, ops

Tensor = Any  # a tensor of whichever backend Keras runs on
Tensors = tuple[Tensor, ...]


def differentiates() -> bool:
    """Whether `vjp` knows the backend at hand. Keras's NumPy and OpenVINO, for one, have no derivatives."""
    return backend.backend() in ("jax", "tensorflow", "torch")


def vjp(
    function: Callable[..., tuple[Tensors, Any]], inputs: Sequence[Tensor]
) -> tuple[Tensors, Any, Callable[[Sequence[Tensor]], Sequence[Tensor]]]:
    """Call `function(*inputs)`, which returns results and something besides, without a derivative.

    Returns:
        Both, and the function that takes an upstream gradient for each result, and returns that of each input.
    """
    engines: dict[str, Any] = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
    results, rest, pull = engines[backend.backend()](function, inputs)
    return results, rest, pull


def may_round_products() -> bool:
    """Whether the inputs of `product` may be rounded: TensorFlow and torch have one setting for all products."""
    return bool(backend.backend() == "torch" or (backend.backend() == "tensorflow" and has_accelerator()))


def has_accelerator(tensor: Tensor = None) -> bool:
    """Whether what is made of a tensor is computed by something else than a processor."""
    if backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())
    return bool(backend.backend() == "torch" and tensor.device.type != "cpu")


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, on JAX in the precision of its inputs on any hardware."""
    if backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            return a @ b
    return a @ b  # on torch, `ops.matmul` makes float32 of float64


def has_value(tensor: Tensor) -> bool:
    """Whether the value of a tensor can be read: not while a function is traced."""
    if backend.backend() == "jax":
        import jax

        return not isinstance(tensor, jax.core.Tracer)
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly() and not tf.is_symbolic_tensor(tensor)
    if backend.backend() == "torch":
        import torch

        return not (torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor))
    return True


def known_extent(tensor: Tensor) -> float | None:
    """Return the largest entry by its size where to read it costs next to nothing: of a processor, and not in a graph.

    That is so within `jax.grad`, too, outside of `jit`.
    """
    if has_accelerator(tensor):
        return None
    if backend.backend() == "jax":
        import jax

        if isinstance(tensor, jax.core.Tracer):  # which has a value outside of `jit`; if JAX renames that, none
            tensor = getattr(tensor, "to_concrete_value", lambda: None)()
        if tensor is None or not getattr(tensor, "is_fully_addressable", True):  # it may be of NumPy by now
            return None
    elif not has_value(tensor):
        return None
    if backend.backend() == "torch":
        return float(tensor.detach().abs().max().item())
    return float(np.abs(ops.convert_to_numpy(tensor)).max())


def runs_slowly_by_operation(tensor: Tensor) -> bool:
    """Whether operations run one by one, each for tens of microseconds: outside of what is compiled, but for torch."""
    if backend.backend() == "jax":
        return known_extent(tensor) is not None
    return backend.backend() == "tensorflow" and has_value(tensor)


def pools_slowly(tensor: Tensor) -> bool:
    """Whether a pool takes several times as long as comparing shifted arrays: on torch, not compiled, on a CPU.

    What fuses operations computes shifted arrays anew for every neighbour of a neighbour, in up to 100 times the time.
    """
    return backend.backend() == "torch" and has_value(tensor) and not has_accelerator(tensor)


@contextlib.contextmanager
def explained(message: str) -> Iterator[None]:
    """Say so where a framework cannot differentiate a function with a gradient of its own in some other way."""
    try:
        yield
    except (TypeError, RuntimeError) as error:  # of which NotImplementedError is one
        if any(words in str(error) for words in ("custom_vjp", "setup_context", "jvp function")):
            raise NotImplementedError(message) from error
        raise


def may_need_gradient(value: Any) -> bool:
    """Whether anybody may ask for a gradient by a value: a tensor of floats that is not seen to need none."""
    if isinstance(value, keras.Variable):
        return bool(value.trainable)
    if not ops.is_tensor(value) or "float" not in backend.standardize_dtype(value.dtype):
        return False
    if backend.backend() == "jax":
        return not has_value(value)
    return bool(value.requires_grad) if backend.backend() == "torch" else True


def has_symbolic_size(tensor: Tensor) -> bool:
    """Whether a size is a symbol of JAX: Keras asks for the shape of a result, and computes nothing."""
    return backend.backend() == "jax" and not all(isinstance(size, int) for size in tensor.shape)


def _of_jax(function: Any, inputs: Sequence[Tensor]) -> Any:
    import jax

    results, pull, rest = jax.vjp(function, *inputs, has_aux=True)
    return results, rest, lambda upstream: pull(tuple(upstream))


def _of_tensorflow(function: Any, inputs: Sequence[Tensor]) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        for tensor in inputs:
            tape.watch(tensor)
        results, rest = function(*inputs)

    def pull(upstream: Sequence[Tensor]) -> Sequence[Tensor]:
        return tuple(tape.gradient(list(results), list(inputs), list(upstream), unconnected_gradients="zero"))

    return results, rest, pull


def _of_torch(function: Any, inputs: Sequence[Tensor]) -> Any:
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    # Hooks that keep what they are given: those of a checkpoint around this would take what is saved here for its own.
    kept = contextlib.nullcontext() if torch.compiler.is_compiling() else saved_tensors_hooks(_same, _same)
    with torch.enable_grad(), kept:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        results, rest = function(*leaves)

    def pull(upstream: Sequence[Tensor]) -> Sequence[Tensor]:
        pairs = [(y, g) for y, g in zip(results, upstream, strict=True) if y.requires_grad]
        if not pairs:  # constants
            return [torch.zeros_like(leaf) for leaf in leaves]
        ys, gs = zip(*pairs, strict=True)
        return tuple(torch.autograd.grad(ys, leaves, gs, allow_unused=True, materialize_grads=True))

    return tuple(result.detach() for result in results), rest, pull


def _same(tensor: Tensor) -> Tensor:
    return tensor
