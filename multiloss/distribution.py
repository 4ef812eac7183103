"""Gathers a batch that is distributed over replicas, with the frameworks' own API.

A replica is one of the devices that compute the same model, each on its rows of a batch: on JAX, a device of the mesh
of `keras.distribution`; on TensorFlow, a replica of `tf.distribute`; on torch, a process of `torch.distributed`.
`gather` returns the global batch, and a `Share` with the rows that this replica computes.

**Gradients.** Every replica computes the same loss of the global batch, and the gradient of its own rows. This gradient
is complete, since the loss has all columns. So no gradient is communicated, and after the engine's own averaging the
parameters move as on one device. `gather` multiplies the gradient by the number of replicas, since the average divides
by it.

**JAX** has global arrays. By default, XLA gathers parts of them in every step of a loop over tiles. Instead, the batch
is replicated to each device once, and `shard_map` splits the work. Within a `shard_map` or `pmap` of the user's own,
arrays are those of one device, as elsewhere: they are gathered along the axis that the user names.

**TensorFlow and torch** gather twice per step: first embeddings, labels and weights, concatenated as columns of float32
that only carry their bits; then the values of the rows. Before that, replicas exchange their shapes and dtypes, so that
a mismatch raises an error instead of hanging a collective.
"""

from collections.abc import Callable
from typing import Any

from keras import backend, distribution, ops, tree

from multiloss._arguments import Tensor

Tensors = dict[str, Tensor | None]

_NARROW = ("int8", "int16", "uint8", "uint16")
_DTYPES = ("float32", "float64", "int32", "int64", "uint32", "uint64")


class Share:
    """The rows of the global batch that this replica computes, and the exchange of results between replicas.

    This base class is for programs whose arrays are global, as on JAX.
    """

    def __init__(self, count: int):
        self.count = count  # the number of replicas

    def laid_out(self, part: Tensor) -> Tensor:
        """Return a tensor of the global batch, replicated to each device once."""
        return part

    def own(self, function: Callable[[Any, Any, Any], Any], others: Any) -> Any:
        """Return `function(start, size, others)` for this replica's rows of the global batch.

        Its results are tensors of `size` rows.
        """
        raise NotImplementedError

    def whole(self, own: Tensor) -> Tensor:
        """Return the rows of all replicas, `[B, S]`, given a result of `own`."""
        return own

    def placed(self, own: Tensor) -> Tensor:
        """Return a result of `own` at its place in the global batch, with zeros elsewhere."""
        return own

    def total(self, own: Tensor) -> Tensor:
        """Return the gradient by a parameter, such that it covers all rows after the engine's own reduction."""
        return ops.sum(own)

    def loss(self, value: Tensor, averaged: bool) -> Tensor:
        """Return the loss of the global batch as the engine expects it from each replica; Keras may have averaged it.

        TensorFlow adds the losses of the replicas, for which Keras has already divided averages by their number.
        """
        return value

    def _attached(self, part: Tensor, whole: Tensor) -> Tensor:
        """Return `whole`, the rows of all replicas; if they are floats, this replica's part gets its gradient."""
        if "float" not in backend.standardize_dtype(part.dtype):
            return whole

        @ops.custom_gradient  # type: ignore[untyped-decorator]  # Keras has no types
        def attach(part: Tensor, whole: Tensor) -> tuple[Tensor, Any]:
            def gradient(*args: Any, upstream: Any = None) -> tuple[Tensor, None]:
                # torch passes it by name.
                return self._share_of_gradient(args[-1] if upstream is None else upstream), None

            return whole, gradient

        result: Tensor = attach(part, whole)
        return result

    def _share_of_gradient(self, upstream: Tensor) -> Tensor:
        return upstream


def gather(rows: Tensors, across: bool | str = True) -> tuple[Tensors, Share | None]:
    """Return the rows of all replicas, in their order, and this replica's share, None with a single replica.

    Args:
        across: True, or the name of the axis of `jax.shard_map` or `jax.pmap` along which the replicas are.
        rows: name -> tensor `[b, n]` or None, named as in the caller's arguments; `b` may differ between replicas.
            Floats have at least 32 bits, and get the gradient of this replica's rows, times the number of replicas.
            Integers of fewer than 32 bits are returned as int32.

    Raises:
        ValueError: on every replica, if replicas differ in n, in dtype, or in which tensors are None
            (TensorFlow, in a graph: InvalidArgumentError); if `across` is no axis, or should be one.
    """
    engines = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
    engine = engines.get(backend.backend())
    for name, part in rows.items():
        if part is not None and backend.standardize_dtype(part.dtype) in _NARROW:
            rows = {**rows, name: ops.cast(part, "int32")}
    if isinstance(across, str):
        return _along(rows, across)
    return (engine(rows) if engine else None) or (rows, None)


def added_up(sums: list[Tensor], across: bool | str = True) -> list[Tensor]:
    """Return sums `[1, n]` added over all replicas, with the gradient of this replica's part, as in `gather`."""
    gathered, _ = gather({"counts": ops.concatenate(sums, axis=1)}, across)
    total, result, at = ops.sum(gathered["counts"], axis=0, keepdims=True), [], 0
    for part in sums:
        result.append(total[:, at : at + part.shape[1]])
        at += part.shape[1]
    return result


def unaveraged(labels: Any) -> Any:
    """Return labels as integers if Keras has averaged them to build a model under a strategy of several replicas.

    Keras uses the mean of the replicas' batches as an example batch, in a graph that never runs.
    """
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        building = not tf.executing_eagerly() and tf.distribute.in_cross_replica_context()
        if building and tf.is_tensor(labels) and labels.dtype.is_floating:
            return tf.cast(labels, tf.int64)
    return labels


def _first(rows: Tensors) -> Tensor:
    return next(part for part in rows.values() if part is not None)


def _between(before: Any, part: Tensor, after: Any) -> Tensor:
    """Pad rows with `before` rows of zeros in front and `after` rows behind."""
    zeros = [ops.zeros((count, *tuple(part.shape)[1:]), dtype=part.dtype) for count in (before, after)]
    return ops.concatenate([zeros[0], part, zeros[1]], axis=0)


# --- JAX -------------------------------------------------------------------------------------------------------------


class _Mesh(Share):
    def __init__(self, mesh: Any, batch: int):
        super().__init__(mesh.size)
        self._mesh, self._batch = mesh, batch

    def laid_out(self, part: Tensor) -> Tensor:
        import jax

        everywhere = jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec())
        return self._attached(part, jax.lax.with_sharding_constraint(ops.stop_gradient(part), everywhere))

    def own(self, function: Callable[[Any, Any, Any], Any], others: Any) -> Any:
        import jax
        from jax.sharding import PartitionSpec

        # Over every axis of the mesh: devices with shards of one model replica share its work as well.
        axes, size = self._mesh.axis_names, (self._batch + self.count - 1) // self.count
        run = jax.shard_map(
            lambda others: function(size * jax.lax.axis_index(axes), size, others),
            mesh=self._mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(axes),
            check_vma=False,
        )
        return tree.map_structure(lambda part: part[: self._batch], jax.jit(run)(others))


class _Axis(Share):
    """The devices along an axis of `shard_map` or `pmap`, each with as many rows."""

    def __init__(self, axis: str, size: int):
        import jax

        super().__init__(jax.lax.psum(1, axis))
        self._axis, self._size = axis, size

    def _start(self) -> Tensor:
        import jax

        return self._size * jax.lax.axis_index(self._axis)

    def gathered(self, part: Tensor) -> Tensor:
        """Return the rows of all devices, with the gradient of this one's."""
        return self._attached(part, self.whole(part))

    def own(self, function: Callable[[Any, Any, Any], Any], others: Any) -> Any:
        return function(self._start(), self._size, others)

    def whole(self, own: Tensor) -> Tensor:
        import jax

        return jax.lax.all_gather(ops.stop_gradient(own), self._axis, tiled=True)

    def placed(self, own: Tensor) -> Tensor:
        zeros = ops.zeros((self.count * self._size, own.shape[1]), dtype=own.dtype)
        return ops.slice_update(zeros, (self._start(), 0), own)

    def total(self, own: Tensor) -> Tensor:
        return self.count * ops.sum(own)

    def _share_of_gradient(self, upstream: Tensor) -> Tensor:
        return self.count * ops.slice(upstream, (self._start(), 0), (self._size, upstream.shape[1]))


def _along(rows: Tensors, name: str) -> tuple[Tensors, Share]:
    if backend.backend() != "jax":
        raise ValueError(
            "`across_replicas` can be the name of an axis only on JAX, in `jax.shard_map` or `jax.pmap`. "
            f"Received: {name!r}, where Keras runs on {backend.backend()}"
        )
    try:
        axis = _Axis(name, _first(rows).shape[0])
    except NameError as error:
        raise ValueError(
            "`across_replicas` must be an axis of the `jax.shard_map` or `jax.pmap` in which the loss is called. "
            f"Received: {name!r}"
        ) from error
    return {name: part if part is None else axis.gathered(part) for name, part in rows.items()}, axis


def _of_jax(rows: Tensors) -> tuple[Tensors, Share] | None:
    import jax

    axes = getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())
    if axes:
        raise ValueError(
            "`across_replicas` must be the name of the axis of the batch in `jax.shard_map` and `jax.pmap`. "
            f"Received: True, within axes {', '.join(map(repr, axes))}"
        )
    current = distribution.distribution()
    mesh = current.device_mesh.backend_mesh if current is not None else None
    if mesh is None or mesh.size == 1:
        return None
    return rows, _Mesh(mesh, _first(rows).shape[0])


# --- TensorFlow and torch --------------------------------------------------------------------------------------------


class _Replica(Share):
    def __init__(self, collect: Callable[[Tensor], Tensor], count: int, start: Any, size: Any, batch: Any):
        super().__init__(count)
        self._collect, self._start, self._size, self._batch = collect, start, size, batch

    def own(self, function: Callable[[Any, Any, Any], Any], others: Any) -> Any:
        return function(self._start, self._size, others)

    def whole(self, own: Tensor) -> Tensor:
        return self.collected([ops.stop_gradient(own)])[0]

    def placed(self, own: Tensor) -> Tensor:
        return _between(self._start, own, self._batch - self._start - self._size)

    def total(self, own: Tensor) -> Tensor:
        return self.count * ops.sum(own)

    def loss(self, value: Tensor, averaged: bool) -> Tensor:
        return value / self.count if backend.backend() == "tensorflow" and not averaged else value

    def collected(self, parts: list[Tensor]) -> list[Tensor]:
        """Return the rows of all replicas for tensors `[b, n]`, sent as columns of one tensor."""
        bits = [_view(ops.stop_gradient(part), "float32") for part in parts]
        every = self._collect(ops.concatenate(bits, axis=1))
        whole, at = [], 0
        for part, columns in zip(parts, bits, strict=True):
            width = columns.shape[1]
            # `take` instead of a slice: torch reads 64-bit numbers only from contiguous columns.
            own = ops.take(every, range(at, at + width), axis=1)
            whole.append(self._attached(part, _view(own, backend.standardize_dtype(part.dtype))))
            at += width
        return whole

    def _share_of_gradient(self, upstream: Tensor) -> Tensor:
        return self.count * upstream[self._start : self._start + self._size]


def _view(part: Tensor, dtype: str) -> Tensor:
    """Reinterpret the bits of `[b, n]` as another dtype, as `ops.view` does in Keras from 3.12 on."""
    if backend.backend() == "torch":
        import torch

        return part.view(getattr(torch, dtype))
    import tensorflow as tf

    other = tf.as_dtype(dtype)
    columns = part.shape[1] * part.dtype.size // other.size
    if other.size > part.dtype.size:
        part = tf.reshape(part, (-1, columns, other.size // part.dtype.size))
    return tf.reshape(tf.bitcast(part, other), (-1, columns))


def _of_tensorflow(rows: Tensors) -> tuple[Tensors, Share] | None:
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    # There is no context between steps, where Keras builds a model from symbolic tensors.
    if context is None or context.num_replicas_in_sync == 1:
        return None

    def collect(bits: Tensor) -> Tensor:
        return context.all_gather(bits, axis=0)

    facts = tf.stack([tf.shape(_first(rows))[0], *_facts(rows)])
    every = tf.bitcast(collect(tf.bitcast(facts, tf.float32)[None]), tf.int32)
    assertions = [
        tf.debugging.assert_equal(every[:, column], every[0, column], message=f"{_expected(name)}. Received:")
        for number, name in enumerate(rows)
        for column in (1 + 2 * number, 2 + 2 * number)
    ]
    with tf.control_dependencies(assertions):
        sizes = tf.identity(every[:, 0])
    index = context.replica_id_in_sync_group
    start, batch = tf.reduce_sum(sizes[:index]), tf.reduce_sum(sizes)
    with tf.control_dependencies([sizes]):
        return _whole(rows, _Replica(collect, context.num_replicas_in_sync, start, sizes[index], batch))


def _of_torch(rows: Tensors) -> tuple[Tensors, Share] | None:
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return None
    from torch.distributed import _functional_collectives as functional  # recommended by torch in its deprecations

    count, index = distributed.get_world_size(), distributed.get_rank()

    def collect(part: Tensor) -> Tensor:
        return functional.wait_tensor(functional.all_gather_single(part.contiguous(), 0, distributed.group.WORLD))

    first = _first(rows)
    every = collect(torch.tensor([first.shape[0], *_facts(rows)], device=first.device)).reshape(count, -1).tolist()
    for number, name in enumerate(rows):
        got = [facts[1 + 2 * number : 3 + 2 * number] for facts in every]
        if any(facts != got[0] for facts in got):
            shown = ", ".join(f"[b, {columns}] of {_DTYPES[dtype]}" if columns else "None" for columns, dtype in got)
            raise ValueError(f"{_expected(name)}. Received: {shown}")
    sizes = [facts[0] for facts in every]
    longest = max(sizes)

    def collect_rows(bits: Tensor) -> Tensor:  # padded to the same size, then cut
        filled = collect(_between(0, bits, longest - sizes[index]))
        return torch.cat([part[:size] for part, size in zip(filled.split(longest), sizes, strict=True)])

    return _whole(rows, _Replica(collect_rows, count, sum(sizes[:index]), sizes[index], sum(sizes)))


def _whole(rows: Tensors, share: _Replica) -> tuple[Tensors, Share]:
    given = {name: part for name, part in rows.items() if part is not None}
    return {**rows, **dict(zip(given, share.collected(list(given.values())), strict=True))}, share


def _facts(rows: Tensors) -> list[int]:
    """Return the number of columns and the dtype of each tensor, as two numbers."""
    facts: list[int] = []
    for part in rows.values():
        given = (0, 0) if part is None else (part.shape[1], _DTYPES.index(backend.standardize_dtype(part.dtype)))
        facts.extend(given)
    return facts


def _expected(name: str) -> str:
    return f"`{name}` must have the same number of columns and the same dtype on every replica"
