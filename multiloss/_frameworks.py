"""Operations that differ between frameworks: derivatives, the precision of products, and properties of tensors."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import backend, ops

Tensor = Any  # a tensor of the current backend
Tensors = tuple[Tensor, ...]


def foreign(value: Any) -> str | None:
    """Return the framework that a tensor, or the first one in lists, belongs to if it is not the current backend's.

    A tensor is recognised by the module of its type, without an import of its framework.
    """
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    for kind in type(value).__mro__:
        framework = _FRAMEWORKS.get(kind.__module__.partition(".")[0])
        if framework:
            return None if framework == backend.backend() else framework
    return None


_FRAMEWORKS = {"jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow", "torch": "torch"}


def differentiates() -> bool:
    """Return whether `vjp` supports the current backend. Keras's NumPy and OpenVINO backends have no derivatives."""
    return backend.backend() in ("jax", "tensorflow", "torch")


def vjp(
    function: Callable[..., tuple[Tensors, Any]], inputs: Sequence[Tensor]
) -> tuple[Tensors, Any, Callable[[Sequence[Tensor]], Sequence[Tensor]]]:
    """Call `function(*inputs)`, which returns results and auxiliary outputs that are not differentiated.

    Returns:
        Both, and a function that takes the upstream gradient of each result and returns the gradient of each input.
    """
    engines: dict[str, Any] = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
    results, rest, pull = engines[backend.backend()](function, inputs)
    return results, rest, pull


def may_round_products() -> bool:
    """Return whether `product` may round its inputs: TensorFlow and torch have one setting for all products."""
    return bool(backend.backend() == "torch" or (backend.backend() == "tensorflow" and has_accelerator()))


def has_accelerator(tensor: Tensor = None) -> bool:
    """Return whether results of a tensor are computed on a device other than a CPU."""
    if backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())
    return bool(backend.backend() == "torch" and tensor.device.type != "cpu")


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product; on JAX, in the precision of its inputs on any hardware."""
    if backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            return a @ b
    return a @ b  # on torch, `ops.matmul` casts float64 to float32


def has_value(tensor: Tensor) -> bool:
    """Return whether the value of a tensor can be read, which is not the case while a function is traced."""
    if backend.backend() == "jax":
        import jax

        # Nor can the parts of an array be read that are on another host.
        return not isinstance(tensor, jax.core.Tracer) and getattr(tensor, "is_fully_addressable", True)
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly() and not tf.is_symbolic_tensor(tensor)
    if backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return False
        return not (tensor.device.type == "meta" or isinstance(tensor, torch._subclasses.FakeTensor))
    return True


def known_extent(tensor: Tensor) -> float | None:
    """Return the largest absolute entry if reading it is cheap: on a CPU, and not in a graph; else None.

    This includes `jax.grad` outside of `jit`.
    """
    if has_accelerator(tensor):
        return None
    if backend.backend() == "jax":
        import jax

        if isinstance(tensor, jax.core.Tracer):  # has a value outside of `jit`, unless JAX renames the method
            tensor = getattr(tensor, "to_concrete_value", lambda: None)()
        if tensor is None or not getattr(tensor, "is_fully_addressable", True):  # may be a NumPy array here
            return None
    elif not has_value(tensor):
        return None
    if backend.backend() == "torch":
        return float(tensor.detach().abs().max().item())
    return float(np.abs(ops.convert_to_numpy(tensor)).max())


def runs_slowly_by_operation(tensor: Tensor) -> bool:
    """Return whether operations run one by one with tens of microseconds each: not compiled, and not torch."""
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
    """Raise NotImplementedError with this message if a kind of derivative does not support custom gradients."""
    try:
        yield
    except (TypeError, RuntimeError) as error:  # includes NotImplementedError
        if any(words in str(error) for words in ("custom_vjp", "setup_context", "jvp function")):
            raise NotImplementedError(message) from error
        raise


def may_need_gradient(value: Any) -> bool:
    """Return whether a value may need a gradient: a float tensor, unless the framework shows that it needs none."""
    if isinstance(value, keras.Variable):
        return bool(value.trainable)
    if not ops.is_tensor(value) or "float" not in backend.standardize_dtype(value.dtype):
        return False
    if backend.backend() == "jax":
        return not has_value(value)
    return bool(value.requires_grad) if backend.backend() == "torch" else True


def varying_alike(tensors: Any) -> Any:
    """Return tensors that vary over the same axes of `jax.shard_map`, as JAX wants those of a loop or derivative to.

    A tensor that is the same on all devices gets the sum of their gradients then.
    """
    if backend.backend() != "jax":
        return tensors
    import jax

    def axes(tensor: Tensor) -> frozenset[str]:
        kind = getattr(tensor, "aval", None)
        before_0_10: frozenset[str] = getattr(kind, "vma", frozenset())
        return frozenset(getattr(getattr(kind, "manual_axis_type", None), "varying", before_0_10))

    every: frozenset[str] = frozenset().union(*map(axes, jax.tree.leaves(tensors)))
    if not every:
        return tensors
    cast = getattr(jax.lax, "pcast", None)  # from JAX 0.8 on
    cast = functools.partial(cast, to="varying") if cast else jax.lax.pvary
    return jax.tree.map(lambda tensor: cast(tensor, tuple(every - axes(tensor))), tensors)


def has_symbolic_size(tensor: Tensor) -> bool:
    """Return whether a size is symbolic on JAX, where Keras only infers the shape of the result."""
    return backend.backend() == "jax" and not all(isinstance(size, int) for size in tensor.shape)


def _of_jax(function: Any, inputs: Sequence[Tensor]) -> Any:
    import jax

    def run(*inputs: Tensor) -> tuple[Tensors, Any]:
        results, rest = function(*inputs)
        return varying_alike((results, inputs))[0], rest

    results, pull, rest = jax.vjp(run, *varying_alike(inputs), has_aux=True)
    return results, rest, lambda upstream: pull(varying_alike((tuple(upstream), results))[0])


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

    # Identity hooks: the hooks of an enclosing checkpoint would otherwise handle the tensors saved here.
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
