"""What a backend can do to a function, beyond the ways that the checker runs it in: names frameworks' own API."""

import functools
from unittest import mock

import numpy as np
import pytest
from keras import ops

from multiloss import distribution
from multiloss.check import backends
from multiloss.check.backends import BACKEND
from multiloss.distribution import Share

# The quickest way to run many batches of one shape: outside `jit`, JAX compiles every operation, and every loop again.
QUICK = {"jax": "jit"}.get(BACKEND, "eager")
# The quickest way to compile: torch traces and differentiates, but generates no code.
COMPILED = {"jax": "jit", "tensorflow": "graph", "torch": "aot_eager"}[BACKEND]
MODES = backends.MODES
# Those that compile in less than the seconds that it takes torch.
FAST = [mode for mode in MODES if mode not in ("aot_eager", "inductor")]


def modes(*default, of=MODES):
    """Modes as parameters of a test, of which those named are in the default tier."""
    return [pytest.param(mode, marks=() if mode in default else pytest.mark.full) for mode in of]


def ways(tile, of=FAST):
    """Parameters (tile, mode) of a pairwise loss: through its loop, and directly; in the default tier in `QUICK`.

    What has no known size goes through the loop anyway, which stands for that of a graph.
    """
    each = [(way, mode) for mode in of for way in (tile, "all")]
    some = [(way, mode) for way, mode in each if way != "all" or "unknown" not in mode]
    return [
        pytest.param(way, mode, marks=() if mode == QUICK else pytest.mark.full)
        for way, mode in some
        if mode != "graph" or way == "all"
    ]


def full_on(*backends):
    """Mark a test that is in the full tier where it takes seconds, as what JAX compiles operation by operation does.

    It is for what the default tier proves on the other backends: an identity, or what happens before any framework.
    """
    return pytest.mark.full if BACKEND in backends else lambda test: test


@functools.lru_cache(maxsize=1)
def _prepared(mode, function, form):
    backends.forget()
    return backends.prepare(mode, lambda y, x: function(y[0], x[0]))


def evaluate(mode, function, y, x, upstream=1.0):
    """Value of `function(y, x)` and gradient of `sum(upstream * value)` with respect to x, in one of `MODES`.

    y and x are NumPy arrays, x of floats. A function that is asked for again in the same mode is not compiled again.
    """
    # With an unknown batch size, it is compiled for what else is known of the first batch.
    form = (y.shape[1:], y.dtype, x.shape[1:], np.ndim(upstream)) if "unknown" in mode else None
    value, gradients = _prepared(mode, function, form)([y], [x], upstream)
    return value, gradients and gradients[0]


def quick(function):
    """Return a function of arrays and tensors that JAX compiles as a whole."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


def graph_breaks():
    """How often torch.compile has left its graph for what it cannot trace, since it was last asked."""
    import torch

    breaks = torch._dynamo.utils.counters["graph_break"]
    count = sum(breaks.values())
    breaks.clear()
    return count


def compilations(function, *arguments):
    """How many functions JAX compiles in a call; the others compile nothing that they are not told to."""
    if BACKEND != "jax":
        function(*arguments)
        return 0
    import jax

    counted = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **_: counted.append(event))
    function(*arguments)
    return sum("backend_compile" in event for event in counted)


def rounded_products(function, *arrays):
    """How many matrix products JAX may round on an accelerator; the others have one setting for all, the user's."""
    if BACKEND != "jax":
        return 0
    import jax

    text = str(jax.make_jaxpr(function)(*arrays))
    assert "dot_general[" in text
    return text.count("dot_general[") - text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")


def evaluate_unknown_sizes(function):
    """A function of (y, x), `[B, H, W]` of int64 and float32, which returns the value and gradient of this one.

    No size is known in advance, which only TensorFlow has; elsewhere, it is as of any batch.
    """
    if BACKEND != "tensorflow":
        return functools.partial(evaluate, QUICK, function)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None] * 3, "int64"), tf.TensorSpec([None] * 3, "float32")])
    def step(y, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(y, x)
        return value, tape.gradient(value, x)

    return lambda y, x: [result.numpy() for result in step(y, x)]


def further_derivatives(function, x, direction):
    """What a backend has beyond the gradient of `function(x)`, a scalar.

    Two tables of name -> function without arguments: of second derivatives `[*x.shape, *x.shape]`, and of the
    derivative along a direction, in forward mode.
    """
    tables = {"jax": _further_of_jax, "tensorflow": _further_of_tensorflow, "torch": _further_of_torch}
    return tables[BACKEND](function, x, direction)


def _further_of_jax(function, x, direction):
    import jax

    x, direction = jax.numpy.asarray(x), jax.numpy.asarray(direction)
    second = {
        "hessian": lambda: jax.jit(jax.hessian(function))(x),
        "reverse over reverse": lambda: jax.jit(jax.jacrev(jax.jacrev(function)))(x),
    }
    return second, {"jvp": lambda: jax.jvp(function, (x,), (direction,))[1]}


def _further_of_tensorflow(function, x, direction):
    import tensorflow as tf

    x, direction = tf.constant(x), tf.constant(direction)

    def hessian():
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            gradient = inner.gradient(value, x)
        return outer.jacobian(gradient, x)

    def forward():
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            value = function(x)
        return accumulator.jvp(value)

    second = {"tape over tape": hessian, "tape over tape in a graph": tf.function(hessian)}
    return second, {"forward accumulator": forward, "forward accumulator in a graph": tf.function(forward)}


def _further_of_torch(function, x, direction):
    import torch
    from torch.autograd import forward_ad

    x, direction = torch.as_tensor(x), torch.as_tensor(direction)

    def forward():
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction))).tangent

    second = {
        "torch.func.hessian": lambda: torch.func.hessian(function)(x),
        "reverse over reverse": lambda: torch.autograd.functional.hessian(function, x),
    }
    return second, {"torch.func.jvp": lambda: torch.func.jvp(function, (x,), (direction,))[1], "forward_ad": forward}


def gradients_of_a_stack(function, xs):
    """Gradients of `function(x)`, a scalar, for each of a stack `[S, ...]`, by `vmap` where there is one."""
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.jit(jax.vmap(jax.grad(function)))(xs))
    if BACKEND == "torch":
        import torch

        return torch.func.vmap(torch.func.grad(function))(torch.as_tensor(xs)).numpy()
    return np.stack([evaluate(QUICK, lambda y, x: function(x), np.zeros(1), x)[1] for x in xs])


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
        batch = ops.shape(others[0][0].t)[0]
        ends = [k * batch // 3 for k in range(4)]
        results = [function(ends[k], ends[k + 1] - ends[k], others) for k in range(3)]
        return [ops.concatenate(parts, axis=0) for parts in zip(*results, strict=True)]


def in_shares(loss, **options):
    """Return a function of (y, x): rows of a loss, each of three replicas computing its own."""
    across = loss(across_replicas=True, reduction=None, **options)

    def function(y, x):
        with mock.patch.object(distribution, "gather", lambda rows, across: (rows, Split())):
            return across(y, x)

    return function
