"""Time, memory and accuracy of the dice losses, on every backend, beside those of other libraries.

    python benchmarks/overlap.py                the whole run: a table, docs/overlap_benchmark.png and .json (minutes)
    python benchmarks/overlap.py --quick        few runs, memory of the plain dice only, and no files

A time is the least of many runs of value and gradient with respect to predictions, for float32 truth and predictions 8
x 512 x 512 x 4, as a multiple of that of one pass over the two arrays, `sum(t * p)`, in the same framework, mode and
process; the forms take turns, so that what else the machine does falls on all of them. Memory is what a fresh process
needs beyond the one that has imported everything and run a small batch, less truth, predictions and gradient (of
torch's inductor, with what it takes to compile again). Accuracy is the largest relative error of a value against
float64 on the same float32 inputs, for these arrays and for 16 masks of 1024 x 1024. MONAI and
segmentation-models-pytorch run on torch if they are importable, in their own layout (classes second). Runs on a GPU
unchanged: times wait for the device, and its memory is what the framework reports.

The forms:

    dice                    one ratio a sample, beside    keras.losses.Dice a sample, `axis=(1, 2, 3)`
    dice_loss               one ratio in all, beside      keras.losses.Dice, its default
    dice multilabel         one ratio a sample and class, beside MONAI's DiceLoss and segmentation-models-pytorch's,
                            which has one a class
"""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time

import numpy as np
from pairwise import DOCS, peak, processor
from pairwise import MODES as PAIRWISE_MODES

MODES = {**PAIRWISE_MODES, "torch": ["eager", "inductor"]}
SHAPE = (8, 512, 512, 4)
MASKS = (16, 1024, 1024)
PASS = "sum(t * p)"
FORMS = ("dice", "keras Dice a sample", "dice_loss", "keras Dice", "dice multilabel", "smp DiceLoss", "MONAI DiceLoss")


def data(shape):
    """Truth of 0 and 1 and predictions, correlated, differently from sample to sample and from class to class."""
    rng = np.random.default_rng(0)
    p = rng.random(shape, dtype=np.float32)
    share = np.linspace(0.2, 0.9, shape[0] * shape[-1] if len(shape) > 3 else shape[0], dtype=np.float32)
    share = share.reshape(shape[0], *[1] * (len(shape) - 2), -1)
    return (rng.random(shape, dtype=np.float32) < share * p).astype(np.float32), p


def exact(t, p, axes):
    """Dice loss in float64, with sums over `axes`."""
    product = t.astype(np.float64) * p
    return 1 - 2 * product.sum(axes) / (t.sum(axes, dtype=np.float64) + p.sum(axes, dtype=np.float64))


# --- in a process of its own, with one backend -----------------------------------------------------------------------


def peer(package):
    """Module of the losses of a library, without its models if what these need is missing; None if not installed."""
    if (spec := importlib.util.find_spec(package)) is None:
        print(f"{package} is not installed: left out", file=sys.stderr)
        return None
    try:
        importlib.import_module(package)
    except ImportError:
        sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{package}.losses")


def forms(backend):
    """Name -> function of (t, p) whose value is the loss, and whether classes come second."""
    import keras

    from multiloss import dice_loss
    from multiloss.losses import dice

    whole, a_sample, keras_whole = dice_loss(), keras.losses.Dice(axis=(1, 2, 3)), keras.losses.Dice()
    result = {
        "dice": (dice, False),
        "keras Dice a sample": (a_sample, False),
        "dice_loss": (whole, False),
        "keras Dice": (keras_whole, False),
        "dice multilabel": (lambda t, p: dice(t, p, mode="multilabel"), False),
    }
    if backend == "torch" and (smp := peer("segmentation_models_pytorch")):
        smp_dice = smp.DiceLoss(mode="multilabel", from_logits=False)
        result["smp DiceLoss"] = (lambda t, p: smp_dice(p, t), True)
    if backend == "torch" and (monai := peer("monai")):
        monai_dice = monai.DiceLoss()
        result["MONAI DiceLoss"] = (lambda t, p: monai_dice(p, t), True)
    return result


def stepper(backend, mode, function, t, p, gradient=True):
    """Return a function that computes value and gradient (or the value alone), waits for them and returns the value.

    Only the small value is copied to the host: to copy the gradient would take longer than to compute it.
    """
    from keras import ops

    if backend == "jax":
        import jax

        def both(p, t):
            return jax.value_and_grad(lambda p: (ops.sum(value := function(t, p)), value), has_aux=True)(p)

        step = jax.jit(both if gradient else lambda p, t: ((0, function(t, p)), ()))
        return lambda: jax.block_until_ready(step(p, t))[0][1]
    if backend == "tensorflow":
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # or it warns of one function for each form

        @tf.function(jit_compile=mode == "xla")
        def step(t, p):
            if not gradient:
                return function(t, p), ()
            with tf.GradientTape() as tape:
                tape.watch(p)
                value = function(t, p)
            return value, tape.gradient(value, p)

        return lambda: step(t, p)[0].numpy()
    p = p.requires_grad_(gradient)
    if mode == "inductor":
        import torch

        function = torch.compile(function)

    def run():
        p.grad = None
        value = function(t, p)
        if gradient:
            value.sum().backward()
        return value.detach().cpu()  # which waits

    return run


def steppers(backend, mode, t, p):
    """Name -> stepper of the pass and of each form, on NumPy arrays `t` and `p`."""
    from keras import ops

    def arrays(second):
        return [ops.convert_to_tensor(np.moveaxis(x, -1, 1).copy() if second else x) for x in (t, p)]

    layouts = {False: arrays(False)}
    steps = {PASS: stepper(backend, mode, lambda t, p: ops.sum(t * p), *layouts[False], gradient=False)}
    for name, (function, second) in forms(backend).items():
        if second not in layouts:
            layouts[second] = arrays(second)
        steps[name] = stepper(backend, mode, function, *layouts[second])
    return steps


def measure_times(backend, mode, runs, _):
    steps = steppers(backend, mode, *data(SHAPE))
    for step in steps.values():
        step()  # which compiles
    times = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: min(several) for name, several in times.items()}


def measure_accuracy(backend, mode, *_):
    from keras import ops

    errors = {}
    for shape in (SHAPE, MASKS):
        t, p = data(shape)
        each = tuple(range(1, len(shape)))
        axes = {"dice": each, "keras Dice a sample": each, "dice_loss": None, "keras Dice": None}
        if len(shape) > 3:
            axes["dice multilabel"] = each[:-1]
        tensors = ops.convert_to_tensor(t), ops.convert_to_tensor(p)
        for name, over in axes.items():
            function, expected = forms(backend)[name][0], exact(t, p, over)
            if name == "keras Dice a sample":  # its values rather than their mean
                import keras

                function = keras.losses.Dice(axis=over, reduction=None)
            value = np.asarray(stepper(backend, mode, function, *tensors, gradient=False)(), np.float64)
            value = 1 + value if name == "dice_loss" else value
            expected = expected.mean(axis=1) if name == "dice multilabel" else expected
            errors[f"{name} | {' x '.join(map(str, shape))}"] = float(np.max(np.abs(value - expected) / expected))
    return errors


def measure_memory(backend, mode, _, name):
    from keras import ops

    function, second = forms(backend)[name]

    def run(batch, *rest):
        shape = (batch, rest[-1], *rest[:-1]) if second else (batch, *rest)
        t, p = (ops.full(shape, value, dtype="float32") for value in (0.5, 0.25))  # made where they stay
        stepper(backend, mode, function, t, p)()

    run(2, 64, 64, 4)
    before = peak(backend)
    run(*SHAPE)
    return peak(backend) - before - 3 * 4 * int(np.prod(SHAPE))


def names(backend, *_):
    return list(forms(backend))


def worker(arguments):
    backend, mode, what = arguments.worker
    measure = {"times": measure_times, "accuracy": measure_accuracy, "memory": measure_memory, "names": names}[what]
    print("RESULT" + json.dumps(measure(backend, mode, arguments.runs, arguments.form)))


# --- the whole run ---------------------------------------------------------------------------------------------------


def in_a_process(backend, mode, what, runs=0, form=""):
    print(f"{backend} {mode}: {what} {form}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--worker", backend, mode, what, "--runs", str(runs), "--form", form]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if what == "memory":  # glibc is to return what is freed at once, or what it keeps for later is counted
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    if what == "times":
        # glibc gives arrays of this size pages of their own and returns them when freed, so that each call would page
        # them in anew, which takes longer than all the rest. A process that trains has its memory: so has this one.
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.partition("RESULT")[2])


def measure_all(quick):
    result = {"machine": f"{processor()}, {os.cpu_count()} cores", "modes": {}}
    for backend, modes in MODES.items():
        for mode in modes:
            known = ["dice"] if quick else in_a_process(backend, mode, "names")
            result["modes"][f"{backend} {mode}"] = {
                "times": in_a_process(backend, mode, "times", 10 if quick else 60),
                "accuracy": in_a_process(backend, mode, "accuracy"),
                "memory": {form: in_a_process(backend, mode, "memory", form=form) for form in known},
            }
    return result


def report(result):
    arrays = " x ".join(map(str, SHAPE))
    print(f"\n{result['machine']}\n\nTime of value and gradient, {arrays}, as a multiple of one pass `{PASS}`")
    for name, mode in result["modes"].items():
        reference = mode["times"][PASS]
        row = ", ".join(f"{form} {t / reference:.2f}" for form, t in mode["times"].items() if form != PASS)
        print(f"  {name:17} {row}  ({reference * 1e3:.2f} ms)")
    print(f"\nMemory beyond truth, predictions and gradient of {4 * np.prod(SHAPE) / 2**20:.0f} MiB each, MiB")
    for name, mode in result["modes"].items():
        print(f"  {name:17} " + ", ".join(f"{form} {size / 2**20:.0f}" for form, size in mode["memory"].items()))
    print("\nLargest relative error of a value")
    for name, mode in result["modes"].items():
        for kind, error in mode["accuracy"].items():
            print(f"  {name:17} {kind:45} {error:.0e}")


def draw(result, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    colors = dict(zip(FORMS, ("C0", "#a6cee3", "C1", "#fdd0a2", "C2", "C7", "C3"), strict=True))
    for place, mode in enumerate(result["modes"].values()):
        ratios = {form: mode["times"][form] / mode["times"][PASS] for form in FORMS if form in mode["times"]}
        sizes = {form: mode["memory"][form] / 2**20 for form in FORMS if form in mode["memory"]}
        for ax, values in zip(axes, (ratios, sizes), strict=True):
            for i, (form, value) in enumerate(values.items()):
                bar = ax.bar(place + 0.12 * (i - len(values) / 2), value, 0.11, color=colors[form], label=form)
                ax.bar_label(bar, fmt="%.1f" if ax is axes[0] else "%.0f", fontsize=5)
    axes[0].axhline(1, color="k", linestyle=":", linewidth=1)
    axes[0].set(ylabel=f"time / one pass {PASS}", title=f"Value and gradient, {' x '.join(map(str, SHAPE))}")
    axes[1].set(ylabel="MiB", title="Memory beyond truth, predictions and gradient")
    for ax in axes:
        ax.set_xticks(range(len(result["modes"])), result["modes"])
        ax.grid(axis="y", alpha=0.3)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    known = [form for form in FORMS if form in handles]
    figure.legend([handles[form] for form in known], known, loc="lower center", ncols=len(known), fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs, memory of the plain dice only, and no files")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments)
    result = measure_all(arguments.quick)
    report(result)
    if not arguments.quick:
        draw(result, DOCS / "overlap_benchmark.png")
        (DOCS / "overlap_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
