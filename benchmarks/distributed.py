"""What it costs to spread the pairwise user loss over replicas of one machine, as a table for docs/distribution.md.

    python benchmarks/distributed.py

Value and gradient of `PairwiseUserLoss(across_replicas=True)` on a batch of 4096 x 128, by 1, 2 and 4 replicas: devices
of JAX made of processor cores, logical devices of TensorFlow's MirroredStrategy, processes of torch with gloo. They
share the cores, so that nothing gets faster: what shows is how much work there is in all (processor time of all
replicas, as a multiple of that of one), and how much memory each replica needs beyond its rows: as XLA plans it on JAX,
as the process grows on torch, and as the process grows over the number of replicas on TensorFlow.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import time

import numpy as np

BATCH, FEATURES, STEPS = 4096, 128, 10
REPLICAS = (1, 2, 4)


def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, BATCH).astype("int32"), rng.normal(size=(BATCH, FEATURES)).astype("float32")


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB: Linux counts KiB


def timed(step):
    """Seconds of the processor, and of the clock, that a step takes; of the process, once it has warmed up."""
    step()
    processor, clock = time.process_time(), time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.process_time() - processor) / STEPS, (time.perf_counter() - clock) / STEPS


def jax_worker(count):
    import jax
    import keras

    from multiloss import PairwiseUserLoss

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    y, x = data()
    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    x, y = jax.device_put(x, rows), jax.device_put(y, rows)
    loss = PairwiseUserLoss(across_replicas=True)
    step = jax.jit(jax.value_and_grad(lambda x, y: loss(y, x))).lower(x, y).compile()
    times = timed(lambda: jax.block_until_ready(step(x, y)))
    return *times, step.memory_analysis().temp_size_in_bytes / 2**20


def tensorflow_worker(count):
    import tensorflow as tf

    from multiloss import PairwiseUserLoss

    cores = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cores[0], [tf.config.LogicalDeviceConfiguration()] * count)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    loss = PairwiseUserLoss(across_replicas=True)
    y, x = data()

    def replica(y, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, x)
        return value, tape.gradient(value, x)

    step = tf.function(lambda y, x: strategy.run(replica, (y, x)))
    size = BATCH // count

    def rows(array):
        parts = [tf.constant(array[i * size : (i + 1) * size]) for i in range(count)]
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    y, x = rows(y), rows(x)
    step.get_concrete_function(y, x)
    before = resident()
    times = timed(
        lambda: [part.numpy() for result in step(y, x) for part in strategy.experimental_local_results(result)]
    )
    return *times, (resident() - before) / count


def torch_worker(count):
    import torch
    from torch import distributed

    from multiloss import PairwiseUserLoss

    torch.set_num_threads(1)
    index = 0
    if count > 1:
        distributed.init_process_group("gloo")
        index = distributed.get_rank()
    size = BATCH // count
    y, x = (torch.as_tensor(array[index * size : (index + 1) * size]) for array in data())
    x.requires_grad_()
    loss = PairwiseUserLoss(across_replicas=True)

    def step():
        x.grad = None
        loss(y, x).backward()

    before = resident()
    times = timed(step)
    figures = *times, resident() - before
    if count > 1:
        distributed.destroy_process_group()
    return figures


def measured(backend, count):
    """Processor seconds of all replicas, seconds, MiB a replica."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    common["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, backend, str(count)],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(count if backend == "torch" else 1)
    ]
    figures = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    processor, clock, memory = zip(*figures, strict=True)
    return sum(processor), max(clock), max(memory)


def main():
    if len(sys.argv) == 3:
        backend, count = sys.argv[1], int(sys.argv[2])
        workers = {"jax": jax_worker, "tensorflow": tensorflow_worker, "torch": torch_worker}
        print(json.dumps(workers[backend](count)))
        return
    print("| | replicas | processor time of all | time | MiB a replica |\n|---|---|---|---|---|")
    for backend in ("jax", "tensorflow", "torch"):
        first = None
        for count in REPLICAS:
            processor, clock, memory = measured(backend, count)
            first = first or (processor, clock)
            ratios = f"{processor / first[0]:.2f} | {clock / first[1]:.2f}"
            print(f"| {backend} | {count} | {ratios} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
