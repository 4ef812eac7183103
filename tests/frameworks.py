"""What a backend can do to a function, beyond the ways that the checker runs it in: names frameworks' own API.

`MODES` and `evaluate` are those of `multiloss.check.worker`, with torch's code generator as the way to compile.
"""

import numpy as np
from keras import ops

from multiloss.check import worker
from multiloss.check.worker import BACKEND, evaluate
from multiloss.distribution import Share

MODES = [mode for mode in worker.MODES if mode != "aot_eager"]  # what generates code traces as well


def evaluate_unknown_sizes(function, y, x):
    """Value and gradient where no size is known in advance, which only TensorFlow has; elsewhere, of one batch."""
    if BACKEND != "tensorflow":
        return evaluate("eager", function, y, x)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None] * y.ndim, y.dtype), tf.TensorSpec([None] * x.ndim, x.dtype)])
    def step(y, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(y, x)
        return value, tape.gradient(value, x)

    return [result.numpy() for result in step(y, x)]


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


class Split(Share):
    """The shares of three replicas, one after another, in one process."""

    def __init__(self):
        super().__init__(3)

    def own(self, function, others):
        batch = ops.shape(others[0][0])[0]
        ends = [k * batch // 3 for k in range(4)]
        results = [function(ends[k], ends[k + 1] - ends[k], others) for k in range(3)]
        return [ops.concatenate(parts, axis=0) for parts in zip(*results, strict=True)]
