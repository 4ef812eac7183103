"""The one seam where a batch that is spread over replicas becomes whole. It names the frameworks' own API.

A replica is one of the devices that compute the same model, each on its rows of a batch: of JAX, a device of the mesh
of `keras.distribution`; of TensorFlow, a replica of `tf.distribute`; of torch, a process of `torch.distributed`.
`gather` makes the batch whole, and a `Share` says which of its rows are this replica's to compute.

**Gradients.** Every replica computes the same loss of the whole batch, and of its gradient the rows that it gave to the
batch: complete, since the loss knows all columns. So no gradient travels back, and after the engine's own averaging the
parameters move as on one device. `gather` multiplies by the number of replicas what the average over them divides by.

**JAX** has global arrays. Left to itself, XLA gathers parts of them in every step of a loop over tiles; so the batch is
laid out whole on each device, once, and the work is split by `shard_map`.

**TensorFlow and torch** gather twice a step: embeddings, labels and weights beside each other, as columns of float32
that hold their bits and that nothing computes with; then the values of the rows. Before that, each replica tells the
others what shape and dtype it has, so that replicas that do not fit get an error, where a collective might hang.
"""

from collections.abc import Callable
from typing import Any

from keras import backend, distribution, ops, tree

from multiloss._arguments import Tensor

Tensors = dict[str, Tensor | None]

_NARROW = ("int8", "int16", "uint8", "uint16")
_DTYPES = ("float32", "float64", "int32", "int64", "uint32", "uint64")


class Share:
    """The rows of the whole batch that this replica is to compute, and how it gets to know the results of the others.

    This is the share of one replica in a program that has all arrays whole, as JAX has.
    """

    def __init__(self, count: int):
        self.count = count  # of replicas

    def laid_out(self, part: Tensor) -> Tensor:
        """Return a tensor of the whole batch that is there in full, once, for all that this replica does with it."""
        return part

    def own(self, function: Callable[[Any, Any, Any], Any], others: Any) -> Any:
        """Return `function(start, size, others)`, called for this replica's rows of the whole batch.

        Its results are tensors of `size` rows.
        """
        raise NotImplementedError

    def whole(self, own: Tensor) -> Tensor:
        """Return the rows of all replicas, `[B, S]`, of a result of `own`."""
        return own

    def placed(self, own: Tensor) -> Tensor:
        """Return a result of `own` where it belongs in the whole batch, with zeros elsewhere."""
        return own

    def total(self, own: Tensor) -> Tensor:
        """Return the gradient by a parameter, of all rows once the engine is done, of parts of replicas."""
        return ops.sum(own)

    def loss(self, value: Tensor, averaged: bool) -> Tensor:
        """Return a loss of the whole batch, averaged by Keras or not, as the engine wants it from each replica.

        TensorFlow adds up the losses of the replicas, to which end Keras has divided any average by their number.
        """
        return value

    def _attached(self, part: Tensor, whole: Tensor) -> Tensor:
        """Return `whole`, rows of all replicas, with a gradient for this replica's part of it, if it is of floats."""
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


def gather(rows: Tensors) -> tuple[Tensors, Share | None]:
    """Return the rows of all replicas, in their order, and this replica's share; None if there is but one replica.

    Args:
        rows: name -> tensor `[b, n]` or None, under the names that the caller knows; `b` may differ between replicas.
            Those of floats get their gradient: of this replica's rows, times the number of replicas. Of floats of at
            least 32 bits, or integers; integers of fewer come back as int32.

    Raises:
        ValueError: on every replica, if their tensors differ in n or in dtype, or one lacks what another has
            (TensorFlow, in a graph: InvalidArgumentError).
    """
    engines = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
    engine = engines.get(backend.backend())
    for name, part in rows.items():
        if part is not None and backend.standardize_dtype(part.dtype) in _NARROW:
            rows = {**rows, name: ops.cast(part, "int32")}
    return (engine(rows) if engine else None) or (rows, None)


def added_up(sums: list[Tensor]) -> list[Tensor]:
    """Return sums `[1, n]` added up over all replicas, with the gradient of this replica's part, as in `gather`."""
    beside, _ = gather({"counts": ops.concatenate(sums, axis=1)})
    total, result, at = ops.sum(beside["counts"], axis=0, keepdims=True), [], 0
    for part in sums:
        result.append(total[:, at : at + part.shape[1]])
        at += part.shape[1]
    return result


def unaveraged(labels: Any) -> Any:
    """Return labels as integers where Keras has averaged them: to build a model under a strategy of several replicas.

    It takes the mean of the replicas' batches for an example of a batch, in a graph that never runs.
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
    """Rows with as many rows of zeros before and after them."""
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

        # Over every axis of the mesh: devices that hold parts of one replica of the model share its work as well.
        axes, size = self._mesh.axis_names, (self._batch + self.count - 1) // self.count
        run = jax.shard_map(
            lambda others: function(size * jax.lax.axis_index(axes), size, others),
            mesh=self._mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(axes),
            check_vma=False,
        )
        return tree.map_structure(lambda part: part[: self._batch], jax.jit(run)(others))


def _of_jax(rows: Tensors) -> tuple[Tensors, Share] | None:
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
        """Return the rows of all replicas of tensors `[b, n]`, sent beside each other."""
        bits = [_view(ops.stop_gradient(part), "float32") for part in parts]
        every = self._collect(ops.concatenate(bits, axis=1))
        whole, at = [], 0
        for part, columns in zip(parts, bits, strict=True):
            width = columns.shape[1]
            # Taken, not sliced: torch makes numbers of 64 bits only of columns that lie side by side.
            own = ops.take(every, range(at, at + width), axis=1)
            whole.append(self._attached(part, _view(own, backend.standardize_dtype(part.dtype))))
            at += width
        return whole

    def _share_of_gradient(self, upstream: Tensor) -> Tensor:
        return self.count * upstream[self._start : self._start + self._size]


def _view(part: Tensor, dtype: str) -> Tensor:
    """Read the bits of `[b, n]` as numbers of another dtype: `ops.view`, which Keras has from 3.12 on."""
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
    # There is no context between steps, where Keras builds a model from symbols.
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
    from torch.distributed import _functional_collectives as functional  # which torch names where it deprecates others

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

    def collect_rows(bits: Tensor) -> Tensor:  # as many from each, and then without what fills them up
        filled = collect(_between(0, bits, longest - sizes[index]))
        return torch.cat([part[:size] for part, size in zip(filled.split(longest), sizes, strict=True)])

    return _whole(rows, _Replica(collect_rows, count, sum(sizes[:index]), sizes[index], sum(sizes)))


def _whole(rows: Tensors, share: _Replica) -> tuple[Tensors, Share]:
    given = {name: part for name, part in rows.items() if part is not None}
    return {**rows, **dict(zip(given, share.collected(list(given.values())), strict=True))}, share


def _facts(rows: Tensors) -> list[int]:
    """How many columns each has, and of what dtype: two numbers each."""
    facts: list[int] = []
    for part in rows.values():
        given = (0, 0) if part is None else (part.shape[1], _DTYPES.index(backend.standardize_dtype(part.dtype)))
        facts.extend(given)
    return facts


def _expected(name: str) -> str:
    return f"`{name}` must have the same number of columns and the same dtype on every replica"
