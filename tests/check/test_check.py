"""The checker itself: planted faults, each found by its own row and no other; right losses; what it refuses."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import multiloss
from multiloss.check import (
    CheckError,
    TargetError,
    Workers,
    assert_consistent,
    check_loss,
    cli,
    compare,
    inputs,
    targets,
)
from multiloss.check.cli import main

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
MSE = f"{HERE / 'faults_oracle.py'}:mse"
ALL = {"tensorflow", "jax", "torch"}
# Which row fails for each fault, and on which backends.
PLANTED = {
    "WrongValue": ("value", ALL),
    "WrongGradient": ("gradient", ALL),
    "NaNGradientOnTorch": ("gradient", {"torch"}),
    "IgnoredWeight": ("sample_weight", ALL),
    "IgnoredMask": ("mask", ALL),
    "Overflow": ("float16", ALL),
    "Stateful": ("determinism", ALL),
    "LostParameter": ("config", ALL),
    "Retracing": ("retracing", {"jax", "torch"}),
    "CrashOnJax": ("runs", {"jax"}),
    "HangOnTorch": ("runs", {"torch"}),
    "Distance": ("labels above 2^24", ALL),
}


@pytest.fixture(scope="module")
def workers():
    with Workers() as kept:
        yield kept


def failures(report):
    return {(cell.check, cell.backend) for cell in report.failures}


@pytest.mark.parametrize("name", PLANTED)
def test_each_fault_is_found_in_its_own_row(name):
    check, backends = PLANTED[name]
    oracle, family = ("distance", "labels-embeddings") if name == "Distance" else ("mse", "regression")
    # A worker that hangs is waited for three times.
    timeout = 15 if name == "HangOnTorch" else 60
    report = check_loss(f"{FAULTS}:{name}", f"{HERE / 'faults_oracle.py'}:{oracle}", inputs=family, timeout=timeout)
    assert failures(report) == {(check, backend) for backend in backends}, report.text()
    for cell in report.failures:
        assert cell.reproduce
        assert cell.detail


# As many seeds as CHECK_SEEDS says.
#
#     CHECK_SEEDS=200 python -m pytest tests/check/test_check.py -k seeds
#
# 200 of 200 passed, on 3 backends in all rows, in 530 s (2 cores, measured 2026-11-24, with workers kept).
@pytest.mark.parametrize("seed", range(1, 1 + int(os.environ.get("CHECK_SEEDS", "2"))))
def test_a_right_loss_holds_with_many_seeds(seed, workers):
    report = check_loss(f"{FAULTS}:Right", MSE, inputs="regression", seed=seed, workers=workers)
    assert report.ok, report.text()
    assert {cell.status for cell in report.cells} <= {"pass", "not applicable"}


def test_a_right_loss_holds():
    report = check_loss(f"{FAULTS}:Right(factor=2.0)", inputs="regression")
    assert report.ok, report.text()
    assert report.exit_code == 0


# --- what is refused, with exit code 2 -------------------------------------------------------------------------------

REFUSED = {
    "no colon": (["nothing"], "a target must be `module:attribute` or `path.py:attribute`. Received: 'nothing'"),
    "no module": (["no_such:loss"], "'no_such' does not import: ModuleNotFoundError: No module named 'no_such'"),
    "no file": (["no_such.py:loss"], "no such file: no_such.py"),
    "no expression": (["json:("], "`(` of 'json:(' is no Python expression"),
    "unknown backend": (["json:loads", "--backends", "mxnet"], "`backends` must be of tensorflow, jax, torch, numpy"),
    "no python": (
        ["json:loads", "--backend", "jax=/no/python"],
        "`backends` must give jax an interpreter. Received: '/",
    ),
    "no equals sign": (["json:loads", "--backend", "jax"], "`--backend` must be NAME=PYTHON. Received: 'jax'"),
    "unknown check": (["json:loads", "--only", "speed"], "`checks` must be of runs, value, gradient"),
    "no file of known": (["json:loads", "--known", "no_such.txt"], "No such file or directory: 'no_such.txt'"),
    "oracle missing": (["json:loads", "--oracle", "json:nothing"], "'json:nothing' could not be made: NameError"),
    "no attribute": (["keras.losses:Nothing", "--backends", "torch"], "'keras.losses:Nothing' could not be made"),
    "not callable": (
        ["keras:__version__", "--backends", "torch"],
        "'keras:__version__' is not callable. Received: str",
    ),
    "other arguments": (["json:loads", "--backends", "torch"], "json:loads takes other arguments or inputs than"),
    "unknown inputs": (
        ["keras.losses:Dice", "--inputs", "x", "--backends", "torch"],
        "`inputs` must be of labels-embedd",
    ),
    "no .npz": (["keras.losses:Dice", "--inputs", "no.npz", "--backends", "torch"], "no such file: no.npz"),
    "shape": (
        ["keras.losses:mean_squared_error", "--oracle", "numpy:subtract", "--backends", "torch"],
        "`oracle` must return the shape of the loss, (6,). Received: (6, 3)",
    ),
    "failing oracle": (
        ["keras.losses:mean_squared_error", "--oracle", "json:loads", "--backends", "torch"],
        "`oracle` fails on 'random': TypeError",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused_in_one_line(name, capsys):
    arguments, message = REFUSED[name]
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.startswith("multiloss check: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("kind", ["empty", "truncated", "corrupt", "npy"])
def test_files_that_are_no_npz_are_refused(kind, tmp_path):
    path = tmp_path / "batch.npz"
    np.savez_compressed(path, y_true=np.ones((9, 9)), y_pred=np.ones((9, 9)))
    whole = path.read_bytes()
    middle = len(whole) // 4
    bad = {"empty": b"", "truncated": whole[:-30], "corrupt": whole[:middle] + b"\xff" * 9 + whole[middle + 9 :]}
    np.save(tmp_path / "batch.npy", np.ones(3))
    path.write_bytes(bad[kind] if kind in bad else (tmp_path / "batch.npy").read_bytes())
    with pytest.raises(TargetError, match=r"batch\.npz is no readable \.npz file: \w+: "):
        inputs.load(str(path), 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def f(seed): raise KeyError('x')", "must take a seed and return cases. With 0 it raises KeyError: 'x'"),
        ("def f(): return {}", "With 0 it raises TypeError: f() takes 0 positional arguments but 1 was given"),
        ("def f(seed): return {'a': ([[1], [1, 2]], [1.0])}", "case 'a' of {} must be of arrays: setting an array"),
        ("import sys; sys.exit(0)", "does not import: SystemExit: 0"),
    ],
)
def test_functions_of_inputs_that_fail_are_refused(body, message, tmp_path):
    path = tmp_path / "made.py"
    path.write_text(body)
    with pytest.raises(TargetError, match=re.escape(message.format(f"{path}:f"))):
        inputs.load(f"{path}:f", 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def f(y, x): return None",
            "`oracle` fails on 'random': TypeError: it must return numbers. Received: NoneType",
        ),
        ("def f(y, x): raise SystemExit(0)", "`oracle` fails on 'random': SystemExit: 0"),
    ],
)
def test_oracles_that_give_no_numbers_are_refused(body, message, tmp_path, workers):
    (tmp_path / "o.py").write_text(body)
    with pytest.raises(CheckError, match=message):
        check_loss("keras.losses:mean_squared_error", f"{tmp_path}/o.py:f", backends=["torch"], workers=workers)


def test_an_oracle_file_that_exits_is_refused(tmp_path, capsys):
    (tmp_path / "o.py").write_text("import sys; sys.exit(0)")
    assert main(["check", "keras.losses:mean_squared_error", "--oracle", f"{tmp_path}/o.py:f"]) == 2
    assert "does not import: SystemExit: 0" in capsys.readouterr().err


def test_what_cannot_be_written_or_known_is_refused_before_the_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("multiloss.check.pool.gather", None)  # no worker is asked
    arguments = ["check", "keras.losses:Huber", "--backends", "torch", "--only", "value"]
    (tmp_path / "known.txt").write_text("config\n")
    for more, message in (
        (["--json", str(tmp_path / "none" / "x")], "`--json` must be a file in a folder that exists. Received: '"),
        (["--html", str(tmp_path)], "`--html` must be a file in a folder that exists. Received: '"),
        (["--known", str(tmp_path / "known.txt")], "a check of: runs, value. Received: 'config'"),
    ):
        assert main([*arguments, *more]) == 2
        assert message in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert main(["check", "no_such:loss", "--debug"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_debug_shows_the_traceback_of_the_worker(tmp_path, capsys):
    (tmp_path / "deep.py").write_text(
        "class Deep:\n    def __init__(self): self.fail()\n    def fail(self): raise RuntimeError('deep\\n  inside')"
    )
    target = f"{tmp_path}/deep.py:Deep"
    assert main(["check", target, "--backends", "torch", "--debug"]) == 2
    error = capsys.readouterr().err
    assert "in fail" in error
    assert error.endswith(f"multiloss check: {target} could not be made: RuntimeError: deep inside\n")


def test_a_missing_backend_that_was_asked_for_fails(monkeypatch):
    monkeypatch.setattr("multiloss.check.pool.installed", lambda backend: backend == "torch")
    report = check_loss("keras.losses:MeanSquaredError", backends=["torch", "jax"], checks=["value"])
    assert failures(report) == {("runs", "jax")}
    assert "pip install 'multiloss[jax]'" in report.text()
    unasked = check_loss("keras.losses:MeanSquaredError", checks=["value"])
    assert unasked.ok
    assert set(unasked.unchecked) == {"tensorflow", "jax"}


def test_a_backend_without_gradients_is_a_column_of_values():
    report = check_loss(f"{FAULTS}:Right", backends=["torch", "numpy"], checks=["value", "gradient", "mask"])
    assert report.ok, report.text()
    found = {(cell.check, cell.backend): cell.status for cell in report.cells}
    assert found["value", "numpy"] == "pass"
    assert found["gradient", "numpy"] == found["mask", "numpy"] == "not applicable"
    assert found["gradient", "torch"] == "pass"
    wrong = check_loss(f"{FAULTS}:WrongValue", f"{HERE / 'faults_oracle.py'}:mse", backends=["numpy"], checks=["value"])
    assert failures(wrong) == {("value", "numpy")}


def test_a_backend_of_another_interpreter(tmp_path):
    """Here one that leaves a trace of having been used."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    report = check_loss("keras.losses:MeanSquaredError", backends={"torch": str(python)}, checks=["value"])
    assert report.ok, report.text()
    assert (tmp_path / "used").exists()
    failing = check_loss("keras.losses:MeanSquaredError", backends={"torch": str(python)}, checks=["config"])
    assert f"--backends torch --backend torch={python} --only config" in failing.failures[0].reproduce


def test_a_backend_of_another_interpreter_joins_those_installed(monkeypatch):
    monkeypatch.setattr("multiloss.check.cli.installed", lambda backend: backend != "jax")
    assert cli._backends(None, ["jax=/p"]) == {"tensorflow": None, "torch": None, "jax": "/p"}
    assert cli._backends("torch, jax", []) == {"torch": None, "jax": None}


def test_a_worker_that_could_not_start_is_started_again(tmp_path):
    python = tmp_path / "python"
    logged = "I0000 00:00:1.2 3 port.cc:1] oneDNN custom operations are on"
    python.write_text(
        f"#!/bin/sh\nif [ -e '{tmp_path}/ready' ]; then exec '{sys.executable}' \"$@\"; fi\n"
        f"echo \"ModuleNotFoundError: No module named 'keras'\" >&2; echo '{logged}' >&2; exit 1\n"
    )
    python.chmod(0o755)
    with Workers() as workers:
        for _ in range(2):
            report = check_loss(
                "keras.losses:Huber", backends={"torch": str(python)}, checks=["value"], workers=workers
            )
            (cell,) = report.failures
            assert cell.detail == (
                "the process ended with exit code 1: ModuleNotFoundError: No module named 'keras'. "
                f"Install it: {python} -m pip install 'multiloss[torch]'"
            )
        (tmp_path / "ready").touch()
        report = check_loss("keras.losses:Huber", backends={"torch": str(python)}, checks=["value"], workers=workers)
    assert report.ok, report.text()


def test_a_worker_that_hangs_ends_with_its_parent():
    program = (
        "import sys, threading, time, numpy as np; from multiloss.check.pool import Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker('torch')\n"
        "    assert worker.ask('describe', target=sys.argv[1]).status == 'done'\n"
        "    batch = np.ones((6, 3), np.float32)\n"
        "    ask = lambda: worker.ask('run', target=sys.argv[1], y=batch, x=batch)\n"
        "    threading.Thread(target=ask).start()\n"
        "    print(worker.process_id, flush=True)\n"
    )
    command = [sys.executable, "-c", program, f"{FAULTS}:HangOnTorch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = parent.stdout.readline().strip()
        time.sleep(1)  # it hangs by now
        parent.kill()

    def alive():
        state = subprocess.run(["ps", "-o", "stat=", "-p", worker], capture_output=True, text=True, check=False).stdout
        return state.strip() not in ("",) and not state.startswith("Z")

    end = time.monotonic() + 20
    while alive() and time.monotonic() < end:
        time.sleep(0.2)
    assert worker
    assert not alive()


def test_many_full_pixels_overflow_float16(workers):
    report = check_loss("keras.losses:Tversky", backends=["torch"], checks=["float16"], workers=workers)
    assert failures(report) == {("float16", "torch")}
    assert report.failures[0].case.startswith("many full pixels")


@pytest.mark.parametrize("name", ["KeywordsLoseDtype", "ConstantDtype", "KeywordsKeepDtype(factor=2.0)"])
def test_a_dtype_that_the_config_loses_is_found(name, workers):
    checks, wanted = ["config", "save"], {("config", "torch"), ("save", "torch")}
    report = check_loss(f"{FAULTS}:{name}", inputs="regression", backends=["torch"], checks=checks, workers=workers)
    assert failures(report) == (set() if "Keep" in name else wanted), report.text()
    assert {cell.detail for cell in report.failures} <= {"dtype float64 becomes float32"}


def test_of_two_backends_without_an_oracle_neither_is_trusted(workers):
    arguments = {"inputs": "regression", "backends": ["torch", "jax"], "checks": ["value", "fit"], "workers": workers}
    report = check_loss(f"{FAULTS}:OtherOnTorch", **arguments)
    assert failures(report) == {(check, backend) for check in ("value", "fit") for backend in ("torch", "jax")}
    assert report.failures[0].detail == "another value than jax has: without an oracle, either may be wrong"


def test_a_function_made_at_every_call_is_traced_again(workers):
    arguments = {"inputs": "regression", "backends": ["tensorflow"], "checks": ["retracing"], "workers": workers}
    assert check_loss(f"{FAULTS}:Right", **arguments).ok
    report = check_loss(f"{FAULTS}:TracedAtEveryCall", **arguments)
    assert failures(report) == {("retracing", "tensorflow")}


def test_rows_that_cannot_apply_to_small_batches_say_why(tmp_path, workers):
    shapes = {"one_row": (1, 3), "one_axis": (4,)}
    for name, shape in shapes.items():
        np.savez(tmp_path / f"{name}.npz", y_true=np.zeros(shape, np.float32), y_pred=np.ones(shape, np.float32))
    arguments = {"backends": ["torch"], "checks": ["sample_weight", "save", "fit"], "workers": workers}
    one_row, one_axis = (
        {
            cell.check: cell
            for cell in check_loss(f"{FAULTS}:{target}", inputs=f"{tmp_path}/{name}.npz", **arguments).cells
        }
        for name, target in (("one_row", "Right"), ("one_axis", "OfNumbers"))
    )
    assert one_row["sample_weight"].detail == "the first case, 'batch', has no two rows to tell apart"
    assert one_row["fit"].status == "pass"
    assert one_axis["save"].detail == one_axis["fit"].detail == "`y_pred` [B] has no last axis for a layer to make"


def test_workers_are_kept_from_one_check_to_the_next():
    with Workers() as workers:
        seen = set()
        for name in ("MeanSquaredError", "MeanAbsoluteError"):
            check_loss(f"keras.losses:{name}", backends=["torch"], checks=["value"], workers=workers)
            seen.add(workers.get("torch", None, 60.0).process_id)
    assert len(seen) == 1


# --- inputs, targets, comparisons ------------------------------------------------------------------------------------


def test_inputs_of_a_file_and_of_a_function(tmp_path):
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 4, 2)).astype(np.float32)
    np.savez(tmp_path / "one.npz", y_true=y, y_pred=x)
    np.savez(tmp_path / "two.npz", a_y_true=y, a_y_pred=x, b_y_true=y, b_y_pred=x)
    assert [case.name for case in inputs.load(str(tmp_path / "one.npz"), 0)] == ["batch"]
    assert [case.name for case in inputs.load(str(tmp_path / "two.npz"), 0)] == ["a", "b"]
    (tmp_path / "made.py").write_text(
        "def make(seed):\n    import numpy as np\n    return {'x': (np.ones(3), np.ones(3))}"
    )
    report = check_loss(
        "keras.losses:mean_squared_error", inputs=f"{tmp_path / 'made.py'}:make", backends=["torch"], checks=["value"]
    )
    assert report.ok
    np.savez(tmp_path / "scalar.npz", y_true=np.float32(1), y_pred=np.float32(1))
    with pytest.raises(TargetError, match=r"must have floats `y_pred`, and as many rows .* float32 \(\) and float32"):
        inputs.load(str(tmp_path / "scalar.npz"), 0)
    np.savez(tmp_path / "half.npz", y_true=y)
    with pytest.raises(TargetError, match=r"case .batch. of .* must be a pair"):
        inputs.load(str(tmp_path / "half.npz"), 0)
    np.savez(tmp_path / "ints.npz", y_true=y, y_pred=y.astype(int))
    with pytest.raises(TargetError, match="must have floats `y_pred`, and as many rows of numbers `y_true`"):
        inputs.load(str(tmp_path / "ints.npz"), 0)


def test_families_are_hard_and_repeatable():
    for family in inputs.FAMILIES:
        for logits in (False, True):
            cases = inputs.family(family, 3, logits)
            assert {len(case.x) for case in cases} >= {0, 1, 2}
            assert any(case.large for case in cases)
            assert [case.name for case in cases if case.plain] == ["random"]
            for case, again in zip(cases, inputs.family(family, 3, logits), strict=True):
                np.testing.assert_array_equal(case.x, again.x)
                np.testing.assert_array_equal(case.y, again.y)
                assert case.x.dtype == np.float32
                assert len(case.x) == len(case.y)
    assert (inputs.family("masks", 3)[0].x != inputs.family("masks", 4)[0].x).any()


@pytest.mark.parametrize(
    ("target", "family"),
    [
        ("keras.losses:Dice", "masks"),
        ("keras.losses:BinaryFocalCrossentropy", "masks"),
        ("keras.losses:CategoricalFocalCrossentropy", "one-hot"),
        ("keras.losses:SparseCategoricalCrossentropy", "integer-labels"),
        ("keras.losses:MeanSquaredError", "regression"),
        ("multiloss:PairwiseUserLoss(margin=1.0)", "labels-embeddings"),
        ("multiloss:dice_loss(smooth=1)", "masks"),
    ],
)
def test_families_are_guessed_from_names(target, family):
    assert inputs.guess(target) == family


def test_targets_are_modules_files_calls_and_objects(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def loss(y, x, *, factor): return factor\ndef make(factor): return lambda y, x: factor\n")
    assert targets.resolve(f"{path}:make(3)")(0, 0) == 3
    assert targets.resolve(f"{path}:loss(factor=4)")(0, 0) == 4
    assert targets.resolve("multiloss.oracles:dice") is targets.resolve(
        targets.text_of(targets.resolve("multiloss.oracles:dice"))
    )
    assert targets.text_of(failures).endswith("test_check.py:failures")
    with pytest.raises(TargetError, match="another process has to import it"):
        targets.text_of(lambda y, x: x)


def fault(text):
    return targets.resolve(f"{FAULTS}:{text}")


def test_classes_and_instances_are_targets():
    for kind in (keras.losses.Huber, fault("Right")):
        assert targets.resolve(targets.text_of(kind)) is kind
    assert type(targets.resolve(targets.text_of(keras.losses.Huber()))) is keras.losses.Huber
    assert targets.resolve(targets.text_of(fault("Right(factor=3.0)"))).factor == 3
    assert inputs.guess(targets.text_of(multiloss.DiceLoss(smooth=1.0))) == "masks"  # its config has colons of its own


def test_an_instance_that_its_config_does_not_describe_is_refused():
    for instance, name in (
        (fault("LostParameter(factor=2.0)"), "factor"),
        (keras.losses.Huber(delta=3.0), "_fn_kwargs"),
        (keras.losses.MeanSquaredError(dtype="float16"), "_dtype"),
    ):
        with pytest.raises(TargetError, match=f"comes back from its `get_config` with another .*`{name}`"):
            targets.text_of(instance)
    assert targets.text_of(fault("LostParameter()"))  # at its default, nothing is lost


def test_half_precision_is_rounded_to_nearest_even():
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1.0, 3e38, 1e5], np.float32)
    np.testing.assert_array_equal(compare.halved(x[:3], "bfloat16"), np.float32([1, 1 + 2.0**-6, -1]))
    assert np.isinf(compare.halved(x[4:], "float16")).all()


def test_kinks_allow_any_slope_between_the_sides():
    x = np.zeros((1, 1), np.float32)
    points, steps = compare.points(x)
    slopes = compare.slopes(np.abs(points).sum(axis=(1, 2)), steps, x.shape)
    assert (slopes.lower, slopes.upper) == (-1, 1)
    assert compare.gradient_difference(np.array([[0.5]]), [slopes], 1e-4).ratio == 0
    assert compare.gradient_difference(np.array([[1.1]]), [slopes], 1e-4).ratio > 100
    assert compare.gradient_difference(np.array([[np.nan]]), [slopes], 1e-4).ratio == np.inf


# --- command and plugin ----------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("report.json", "report.html")]
    arguments = ["check", "keras.losses:MeanSquaredError", "--backends", "torch", "--only", "value", "--only", "config"]
    assert main([*arguments, "--json", files[0], "--html", files[1]]) == 1
    table = capsys.readouterr().out
    assert "FAIL config, torch\n  `get_config` leaves out dtype" in table
    told = json.loads(Path(files[0]).read_text())
    assert told["target"] == "keras.losses:MeanSquaredError"
    assert "config" in Path(files[1]).read_text()
    known = tmp_path / "known.txt"
    known.write_text("config  # Keras leaves the dtype out\n")
    assert main([*arguments, "--known", str(known)]) == 0
    known.write_text("config\nvalue\n")
    assert main([*arguments, "--known", str(known)]) == 1
    assert "PASSES!" in capsys.readouterr().out


def test_assert_consistent_in_a_suite_of_a_user(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from multiloss.check import assert_consistent\n"
        "def test_good(): assert_consistent('keras.losses:mean_squared_error', checks=['value'])\n"
        "def test_bad(): assert_consistent('keras.losses:MeanSquaredError', checks=['config'])\n"
    )
    plugin = [] if "multiloss" in _entry_points() else ["-p", "multiloss.check.plugin"]
    command = [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "--multiloss-backends", "torch"]
    done = subprocess.run([*command, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "`get_config` leaves out dtype" in done.stdout
    assert "- AssertionError: keras" in done.stdout.splitlines()[-2]  # as far as the terminal is wide
    assert "jax" not in done.stdout


def _entry_points():
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="pytest11")}


def test_importing_the_plugin_imports_no_framework():
    program = (
        "import multiloss.check.plugin, sys; "
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_assert_consistent_raises_with_the_report():
    with pytest.raises(AssertionError, match="leaves out dtype"):
        assert_consistent("keras.losses:MeanSquaredError", backends=["torch"], checks=["config"])
    with pytest.raises(CheckError, match="`checks` must be of"):
        assert_consistent("keras.losses:MeanSquaredError", checks=["speed"])
