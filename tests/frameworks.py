"""Every way a backend can run a function: the one file of the tests that names a framework's own API.

`MODES` lists the ways of the backend at hand. `evaluate(mode, function, y, x)` returns the value of `function(y, x)`
and the gradient of `sum(upstream * value)` with respect to x, as NumPy arrays.
"""

import warnings

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()
MODES = {
    "jax": ["eager", "jit"],
    "tensorflow": ["eager", "graph", "xla", "graph-unknown-batch", "xla-unknown-batch"],
    "torch": ["eager", "compile"],
}[BACKEND]


def evaluate(mode, function, y, x, upstream=1.0):
    """Value and gradient of one function in one mode; y and x are NumPy arrays, x of floats."""
    value, gradient = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}[BACKEND](mode, function, y, x, upstream)
    return ops.convert_to_numpy(value), ops.convert_to_numpy(gradient)


def _jax(mode, function, y, x, upstream):
    import jax

    def weighted(x, y):
        value = function(y, x)
        return (value * upstream).sum(), value

    step = jax.value_and_grad(weighted, has_aux=True)
    if mode == "jit":
        step = jax.jit(step)
    (_, value), gradient = step(ops.convert_to_tensor(x), y if mode == "eager" else ops.convert_to_tensor(y))
    return value, gradient


def _tensorflow(mode, function, y, x, upstream):
    import tensorflow as tf

    def step(y, x):
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


def _torch(mode, function, y, x, upstream):
    import torch

    x = torch.as_tensor(x).clone().requires_grad_()
    with warnings.catch_warnings():
        if mode == "compile":
            # Tracing trips over warnings of torch's own; those of the losses are errors in the eager mode.
            warnings.simplefilter("ignore")
            torch.compiler.reset()
            y, function = torch.as_tensor(y), torch.compile(function)
        value = function(y, x)
    (value * torch.as_tensor(upstream, dtype=value.dtype)).sum().backward()
    return value.detach(), x.grad


def gradient_of_gradient(function, x):
    """Gradient of the sum of squares of the gradient of `function(x)`."""
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: (jax.grad(function)(x) ** 2).sum())(x)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            squares = tf.reduce_sum(inner.gradient(value, x) ** 2)
        return outer.gradient(squares, x)
    import torch

    x = torch.as_tensor(x).requires_grad_()
    (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad((gradient**2).sum(), x)


def gradients_under_transformations(function, x):
    """Gradients of `function(x)`, a scalar, under what else the backend may do to it: name -> array."""
    if BACKEND == "jax":
        import jax

        x = jax.numpy.asarray(x)
        forms = {
            "checkpoint": jax.checkpoint(function),
            "inner jit": jax.jit(function),
            "scan": lambda x: jax.lax.scan(lambda total, x: (total + function(x), None), 0.0, x[None])[0],
            "cond": lambda x: jax.lax.cond(x.sum() < 1e9, function, lambda x: 0 * x.sum(), x),
        }
        return {name: np.asarray(jax.grad(form)(x)) for name, form in forms.items()}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.recompute_grad(function)(x)
        return {"recompute_grad": tape.gradient(value, x).numpy()}
    import torch

    results = {}
    for dtype in (torch.bfloat16, torch.float16):
        leaf = torch.as_tensor(x).clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            value = function(leaf)
        value.backward()
        results[f"autocast to {dtype}"] = leaf.grad.numpy()
    leaf = torch.as_tensor(x).clone().requires_grad_()
    torch.utils.checkpoint.checkpoint(function, leaf, use_reentrant=False).backward()
    return {**results, "checkpoint": leaf.grad.numpy()}
