"""Time, memory and accuracy of the pairwise user loss, on every backend, beside the forms it replaces.

    tox -e bench                the whole run: a table, docs/pairwise_benchmark.png and .json (some minutes)
    tox -e bench -- --quick     one size of each
    tox -e bench -- --few       few pairs alone: the two ways through them, eager too, and first calls

A time is the least of several runs of value and gradient, given as a multiple of that of two bare matrix products
`(x @ x.T) @ x` in the same framework, mode and process. Memory is what a fresh process needs beyond the one that has
imported everything and run a batch of 256, less input and gradient. Accuracy is measured against float64 on the same
float32 inputs: of the loss as a fraction of the sum of all distances, of the gradient as one of its largest entry.
Of few pairs, times are multiples of that of the broadcasting form, whose own are given; the forms take turns.
Runs on a GPU unchanged: times wait for the device, and its memory is what the framework reports for it.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MODES = {"jax": ["jit"], "tensorflow": ["xla", "graph"], "torch": ["eager"]}
FEW = [(32, 16), (32, 64), (64, 64), (128, 16), (128, 64), (256, 16), (256, 64), (512, 16), (512, 64), (1024, 64)]
DOCS = Path(__file__).parents[1] / "docs"
FEATURES = 128
STYLES = {"multiloss": "o-", "broadcasting": "s:", "torch.cdist": "^--", "pytorch-metric-learning contrastive": "v-."}


def hard_data(batch, features):
    """Users of 16 rows each, in the states that training goes through."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, max(2, batch // 16), batch)
    noise, clusters = rng.normal(size=(batch, features)), rng.normal(size=(batch, features))[users]
    data = {
        "random": noise,
        "clusters of 1e-2": clusters + 1e-2 * noise,
        "clusters of 1e-4": clusters + 1e-4 * noise,
        "clusters of 1e-2, offset 100": clusters + 1e-2 * noise + 100,
        "all within 1e-3": clusters[:1] + 1e-3 * noise,
        "half identical": np.where(np.arange(batch)[:, None] % 2, noise, noise[:1]),
    }
    return users.astype(np.int32), {name: x.astype(np.float32) for name, x in data.items()}


def exact(users, x):
    """Loss, gradient and sum of all distances, in float64, from differences."""
    x = x.astype(np.float64)
    loss, total, gradient = 0.0, 0.0, np.zeros_like(x)
    for i in range(len(x)):
        difference = x[i] - x
        distance = np.sqrt(np.sum(difference**2, axis=1))
        sign = np.where(users == users[i], 1.0, -1.0)
        loss, total = loss + sign @ distance / 2, total + distance.sum() / 2
        gradient[i] = (sign / np.where(distance > 0, distance, np.inf)) @ difference
    return loss, gradient, total


# --- in a process of its own, with one backend -----------------------------------------------------------------------


def forms(backend, few=False):
    """Name -> function of (users, x) whose value is the loss, and the largest batch that it is asked for.

    Without the latter, those that are compared on few pairs.
    """
    from keras import ops

    from multiloss import pairwise_user_loss

    def ours(users, x):
        return ops.sum(pairwise_user_loss(users, x))

    def direct(users, x):
        return ops.sum(pairwise_user_loss(users, x, tile="all"))

    def loop(users, x):
        return ops.sum(pairwise_user_loss(users, x, tile=256))  # as the default, up to B = 8192

    def broadcasting(users, x):
        distance = ops.sqrt(ops.sum(ops.square(x[:, None] - x[None]), axis=-1) + 1e-12)
        return 0.5 * ops.sum(ops.where(users[:, None] == users[None], distance, -distance))

    result = {"multiloss": (ours, 10**9), "broadcasting": (broadcasting, 1024)}
    if few:
        return {name: form for name, (form, _) in result.items()} | {"direct": direct, "loop": loop}
    if backend == "torch":
        import torch

        def cdist(users, x):
            distance = torch.cdist(x, x)
            return 0.5 * torch.where(users[:, None] == users[None], distance, -distance).sum()

        result["torch.cdist"] = (cdist, 8192)
        try:
            from pytorch_metric_learning.losses import ContrastiveLoss
        except ImportError:
            print("pytorch-metric-learning is not installed: left out", file=sys.stderr)
        else:
            peer = ContrastiveLoss()
            result["pytorch-metric-learning contrastive"] = (lambda users, x: peer(x, users), 4096)
    return result


def stepper(backend, mode, function, users, x):
    """Return a function that computes value and gradient and waits for them, and what it returns as arrays."""
    if backend == "jax":
        import jax

        users, x = jax.numpy.asarray(users), jax.numpy.asarray(x)
        step = jax.value_and_grad(lambda x, users: function(users, x))
        step = step if mode == "eager" else jax.jit(step)
        return lambda: jax.block_until_ready(step(x, users))
    if backend == "tensorflow":
        import tensorflow as tf

        users, x = tf.constant(users), tf.constant(x)

        def step(users, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(users, x)
            return value, tape.gradient(value, x)

        step = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla")
        return lambda: [tensor.numpy() for tensor in step(users, x)]
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    users, x = torch.as_tensor(users, device=device), torch.as_tensor(x, device=device).requires_grad_()

    def run():
        x.grad = None
        value = function(users, x)
        value.backward()
        return value.item(), x.grad.cpu().numpy()  # which waits

    return run


def bare(backend, mode, x):
    """Two matrix products, and a wait."""
    if backend == "jax":
        import jax

        x, step = jax.numpy.asarray(x), jax.jit(lambda x: (x @ x.T) @ x)
        return lambda: jax.block_until_ready(step(x))
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        step = tf.function(lambda x: tf.matmul(tf.matmul(x, x, transpose_b=True), x), jit_compile=mode == "xla")
        return lambda: step(x).numpy()
    import torch

    x = torch.as_tensor(x, device="cuda" if torch.cuda.is_available() else "cpu")
    return lambda: ((x @ x.T) @ x).cpu()


def seconds(step, runs):
    """Least time of several runs, after one that compiles."""
    step()
    return min(timed(step) for _ in range(runs))


def resident():
    """Bytes of the host that this process holds now, or, where the system does not say so, has held at most."""
    if Path("/proc/self/statm").exists():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak(backend, on_host=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024):
    """Bytes that this process has needed at most, on the device or, by `on_host`, on the host."""
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    if backend == "jax":
        import jax

        if statistics := jax.devices()[0].memory_stats():
            return statistics["peak_bytes_in_use"]
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return on_host()


def measure_times(backend, mode, batch, features, runs):
    users, data = hard_data(batch, features)
    reference = seconds(bare(backend, mode, data["random"]), runs)
    times = {"two products": reference}
    for name, (function, largest) in forms(backend).items():
        if batch <= largest:
            times[name] = seconds(stepper(backend, mode, function, users, data["random"]), runs)
    if batch == 8192:
        late = stepper(backend, mode, forms(backend)["multiloss"][0], users, data["clusters of 1e-4"])
        times["multiloss on clusters of 1e-4"] = seconds(late, runs)
    return times


def measure_few(backend, mode):
    """Of each form at each size: seconds of the first call, and the least of the others."""
    functions, result = forms(backend, few=True), {}
    for batch, features in [(8, 3), *FEW]:  # the first for what is made once in a process
        users, data = hard_data(batch, features)
        steps = {name: stepper(backend, mode, form, users, data["random"]) for name, form in functions.items()}
        times = {}
        for name, step in steps.items():
            forget(backend)
            times[name] = [timed(step), timed(step)]
        for _ in range(12):
            for name, step in steps.items():
                for _ in range(max(1, min(40, int(0.02 / times[name][1])))):
                    times[name][1] = min(times[name][1], timed(step))
        result[f"B = {batch}, D = {features}"] = times
    return dict(list(result.items())[1:])


def forget(backend):
    """Outside of `jit`, JAX compiles what a form has in common with the one before but once."""
    if backend == "jax":
        import jax

        jax.clear_caches()


def timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure_accuracy(backend, mode, batch, features):
    users, data = hard_data(batch, features)
    errors = {}
    for kind, x in data.items():
        loss, gradient, total = exact(users, x)
        for name, (function, _) in forms(backend).items():
            too_large = name == "broadcasting" and batch**2 * features > 2**28  # of a GiB, several of which it takes
            if "contrastive" not in name and not too_large:
                value, slope = (np.asarray(part, np.float64) for part in stepper(backend, mode, function, users, x)())
                error = np.abs(slope - gradient).max() / np.abs(gradient).max()
                errors[f"{name} | {kind}"] = [float(abs(value - loss) / total), float(error)]
    return errors


def measure_memory(backend, mode, batch, features):
    function = forms(backend)["multiloss"][0]

    def run(rows):
        users = np.arange(rows, dtype=np.int32) // 16
        data = np.random.default_rng(0).standard_normal(size=(rows, features), dtype=np.float32)
        stepper(backend, mode, function, users, data)()

    run(256)
    before = peak(backend, on_host=resident)  # the peak so far is of imports, and would hide as much of what follows
    run(batch)
    return peak(backend) - before - 2 * 4 * batch * features


def worker(arguments):
    backend, mode, what = arguments.worker
    if what == "few":
        result = measure_few(backend, mode)
    else:
        measure = {"times": measure_times, "accuracy": measure_accuracy, "memory": measure_memory}[what]
        extra = (arguments.runs,) if what == "times" else ()
        result = measure(backend, mode, arguments.batch, arguments.features, *extra)
    print("RESULT" + json.dumps(result))


# --- the whole run ---------------------------------------------------------------------------------------------------


def in_a_process(backend, mode, what, batch=0, features=FEATURES, runs=5):
    sizes = f", B = {batch}, D = {features}" if batch else " pairs"
    print(f"{backend} {mode}: {what}{sizes}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--worker", backend, mode, what, "--batch", str(batch)]
    command += ["--features", str(features), "--runs", str(runs)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if what == "memory":  # glibc is to return what is freed at once, or what it keeps for later is counted
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.partition("RESULT")[2])


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure_few_everywhere():
    modes = [(backend, mode) for backend, some in MODES.items() for mode in dict.fromkeys((*some, "eager"))]
    return {f"{backend} {mode}": in_a_process(backend, mode, "few") for backend, mode in modes}


def report_few(result):
    print("\nFew pairs: value and gradient, as a multiple of the broadcasting form / the same of the first call")
    for mode, sizes in result.items():
        for size, times in sizes.items():
            first, reference = times["broadcasting"]
            ratios = {name: (f / first, t / reference) for name, (f, t) in times.items() if name != "broadcasting"}
            row = ", ".join(f"{name} {later:.2f} / {earlier:.1f}" for name, (earlier, later) in ratios.items())
            print(f"  {mode:17} {size:16} {row}  ({reference * 1e3:.2f} ms, {first:.2f} s)")


def measure_all(quick):
    sizes = [8192] if quick else [1024, 2048, 4096, 8192]
    widths = [FEATURES] if quick else [2, FEATURES, 2048]
    large = [8192] if quick else [8192, 16384, 32768]
    result = {"machine": f"{processor()}, {os.cpu_count()} cores", "modes": {}}
    for backend, modes in MODES.items():
        for mode in modes:
            result["modes"][f"{backend} {mode}"] = {
                "times": {batch: in_a_process(backend, mode, "times", batch) for batch in sizes},
                "accuracy": {width: in_a_process(backend, mode, "accuracy", 1024, width) for width in widths},
                "memory": {batch: in_a_process(backend, mode, "memory", batch) for batch in large},
            }
    result["few"] = measure_few_everywhere()
    return result


def exponent(times):
    """Slope of the line through the times of multiloss, in logarithms."""
    batches = sorted(times, key=int)
    if len(batches) == 1:
        return float("nan")
    logs = [np.log([float(batch) for batch in batches]), np.log([times[batch]["multiloss"] for batch in batches])]
    return float(np.polyfit(*logs, 1)[0])


def report(result):
    print(f"\n{result['machine']}\n\nTime of value and gradient, as a multiple of two matrix products")
    for name, mode in result["modes"].items():
        for batch, times in mode["times"].items():
            reference = times.pop("two products")
            row = ", ".join(f"{form} {t / reference:.1f}" for form, t in times.items())
            print(f"  {name:17} B = {batch:5} {row}  ({reference * 1e3:.2f} ms)")
            times["two products"] = reference
        print(f"  {name:17} multiloss grows as B^{exponent(mode['times']):.2f}")
    print("\nMemory beyond input and gradient, MiB")
    for name, mode in result["modes"].items():
        print(f"  {name:17} " + ", ".join(f"B = {batch}: {size / 2**20:.0f}" for batch, size in mode["memory"].items()))
    print("\nError of the loss / of the gradient, B = 1024")
    for name, mode in result["modes"].items():
        for features, errors in mode["accuracy"].items():
            for kind, (loss, gradient) in errors.items():
                print(f"  {name:17} D = {features:5} {kind:45} {loss:.0e} / {gradient:.0e}")
    report_few(result["few"])


def draw(result, path):
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for color, (name, mode) in zip(("C0", "C1", "C2", "C3"), result["modes"].items(), strict=False):
        for form, style in STYLES.items():
            points = [(int(b), t[form] / t["two products"]) for b, t in mode["times"].items() if form in t]
            if points:
                left.loglog(*zip(*points, strict=True), style, color=color, label=f"{form}, {name}")
        right.loglog([int(b) for b in mode["memory"]], [m / 2**20 for m in mode["memory"].values()], "o-", label=name)
    batches = np.array([8192, 32768])
    right.loglog(batches, 4 * batches.astype(float) ** 2 / 2**20, "k:", label="one matrix [B, B]")
    left.set(xlabel="B (D = 128)", ylabel="time / two matrix products", title="Value and gradient")
    right.set(xlabel="B (D = 128)", ylabel="MiB", title="Memory beyond input and gradient")
    for axes in (left, right):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one size of each, and no files")
    parser.add_argument("--few", action="store_true", help="few pairs alone, and no files")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments)
    if arguments.few:
        return report_few(measure_few_everywhere())
    result = measure_all(arguments.quick)
    report(result)
    if not arguments.quick:
        draw(result, DOCS / "pairwise_benchmark.png")
        (DOCS / "pairwise_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
