"""The checker itself: planted faults, each found by its own row and no other; right losses; what it refuses.

Tests take the workers of `conftest.py`. Those that lose a worker start their own: of JAX where any backend does, which
starts first.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
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
    inputs,
    targets,
)

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
FAULTS_ORACLE = HERE / "faults_oracle.py"
MSE = f"{FAULTS_ORACLE}:mse"
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
    "HangOnJax": ("runs", {"jax"}),
    "Distance": ("labels above 2^24", ALL),
}


class Lost(Workers):
    """The shared workers, but for JAX, whose worker is to be lost: an own one, with so many seconds for an answer."""

    def __init__(self, shared, seconds):
        super().__init__()
        self.shared, self.seconds = shared, seconds

    def get(self, backend, python, *limits):
        if backend != "jax":
            return self.shared.get(backend, python, *limits)
        return super().get(backend, python, self.seconds)


def failures(report):
    return {(cell.check, cell.backend) for cell in report.failures}


# In the default tier each is looked for on one backend, in turn where it shows on all; in the full tier on every one.
# What hangs is in the tests of workers, `test_workers.py`.
TURNS = itertools.cycle(sorted(ALL))
ONE = {name: next(TURNS) if backends == ALL else min(backends) for name, (_, backends) in PLANTED.items()}
ONE |= {"Distance": "jax", "LostParameter": "torch"}  # whose rows these are cheapest on
LOOKED_FOR = [
    *[pytest.param(name, [one], id=f"{name}-{one}") for name, one in ONE.items() if name != "HangOnJax"],
    *[pytest.param(name, None, id=name, marks=pytest.mark.full) for name in PLANTED],
]


@pytest.mark.parametrize(("name", "asked"), LOOKED_FOR)
def test_each_fault_is_found_in_its_own_row(name, asked, workers):
    check, backends = PLANTED[name]
    backends = backends & set(asked or ALL)
    oracle, family = ("distance", "labels-embeddings") if name == "Distance" else ("mse", "regression")
    with contextlib.ExitStack() as stack:
        if check == "runs":
            # What hangs is waited for twice. All else that this worker does, it does at once.
            workers = stack.enter_context(Lost(workers, 5 if name == "HangOnJax" else 60))
        report = check_loss(
            f"{FAULTS}:{name}", f"{FAULTS_ORACLE}:{oracle}", inputs=family, backends=asked, workers=workers
        )
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


def test_a_right_loss_holds_without_an_oracle(workers):
    report = check_loss(f"{FAULTS}:Right(factor=2.0)", inputs="regression", workers=workers)
    assert report.ok, report.text()
    assert report.exit_code == 0
    assert {cell.backend for cell in report.cells} == ALL


@pytest.mark.full
def test_a_right_loss_holds_in_processes_of_its_own():
    report = check_loss(f"{FAULTS}:Right(factor=2.0)", inputs="regression")
    assert report.ok, report.text()
    assert {cell.backend for cell in report.cells} == ALL


# --- what is refused, with exit code 2, once a worker answered; before that: tests/plain/test_command.py --------------

REFUSED = {
    "no colon": (["nothing"], "a target must be `module:attribute` or `path.py:attribute`. Received: 'nothing'"),
    "no module": (["no_such:loss"], "'no_such' could not be imported: ModuleNotFoundError: No module named"),
    "no file": (["no_such.py:loss"], "no such file: no_such.py"),
    "no expression": (["json:("], "`(` of 'json:(' is not a Python expression"),
    "no attribute": (["keras.losses:Nothing", "--backends", "torch"], "'keras.losses:Nothing' could not be evaluated"),
    "not callable": (
        ["keras:__version__", "--backends", "torch"],
        "'keras:__version__' is not callable. Received: str",
    ),
    "other arguments": (["json:loads", "--backends", "torch"], "json:loads fails on (y_true, y_pred) of"),
    "unknown inputs": (
        ["keras.losses:Dice", "--inputs", "x", "--backends", "torch"],
        "`inputs` must be one of labels-embedd",
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
def test_what_cannot_be_checked_is_refused_in_one_line(name, command, capsys):
    arguments, message = REFUSED[name]
    assert command(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.startswith("multiloss check: ")
    assert err.count("\n") == 1


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


def test_debug_shows_the_traceback_of_the_worker(tmp_path, command, capsys):
    (tmp_path / "deep.py").write_text(
        "class Deep:\n    def __init__(self): self.fail()\n    def fail(self): raise RuntimeError('deep\\n  inside')"
    )
    target = f"{tmp_path}/deep.py:Deep"
    assert command(["check", target, "--backends", "torch", "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert "in fail" in error
    assert error.endswith(f"multiloss check: {target} could not be created: RuntimeError: deep inside\n")


def test_a_missing_backend_that_was_asked_for_fails(monkeypatch, workers):
    monkeypatch.setattr("multiloss._backends.installed", lambda backend: backend == "torch")
    report = check_loss("keras.losses:MeanSquaredError", backends=["torch", "jax"], checks=["value"], workers=workers)
    assert failures(report) == {("runs", "jax")}
    assert 'pip install "multiloss[jax]"' in report.text()
    unasked = check_loss("keras.losses:MeanSquaredError", checks=["value"], workers=workers)
    assert unasked.ok
    assert set(unasked.unchecked) == {"tensorflow", "jax"}


def test_a_backend_without_gradients_is_a_column_of_values(workers):
    arguments = {"backends": ["torch", "numpy"], "checks": ["value", "gradient", "mask"], "workers": workers}
    report = check_loss(f"{FAULTS}:Right", **arguments)
    assert report.ok, report.text()
    found = {(cell.check, cell.backend): cell.status for cell in report.cells}
    assert found["value", "numpy"] == "pass"
    assert found["gradient", "numpy"] == found["mask", "numpy"] == "not applicable"
    assert found["gradient", "torch"] == "pass"
    wrong = check_loss(f"{FAULTS}:WrongValue", MSE, backends=["numpy"], checks=["value"], workers=workers)
    assert failures(wrong) == {("value", "numpy")}


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
    assert report.failures[0].detail == "value differs from jax: without an oracle, either may be wrong"


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
    assert one_row["sample_weight"].detail == "the first case, 'batch', has fewer than two rows"
    assert one_row["fit"].status == "pass"
    assert (
        one_axis["save"].detail == one_axis["fit"].detail == "`y_pred` [B] has no feature axis for a layer to produce"
    )


# --- inputs and targets ---------------------------------------------------------------------------------------------


def test_inputs_of_a_function(tmp_path, workers):
    (tmp_path / "made.py").write_text(
        "def make(seed):\n    import numpy as np\n    return {'x': (np.ones(3), np.ones(3))}"
    )
    arguments = {"inputs": f"{tmp_path / 'made.py'}:make", "backends": ["torch"], "checks": ["value"]}
    report = check_loss("keras.losses:mean_squared_error", workers=workers, **arguments)
    assert report.ok
    assert report.inputs == arguments["inputs"]


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
        with pytest.raises(TargetError, match=f"changes .*`{name}`.* in a round trip through its `get_config`"):
            targets.text_of(instance)
    assert targets.text_of(fault("LostParameter()"))  # at its default, nothing is lost


# --- command and plugin ----------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_shows(tmp_path, command, capsys):
    files = [str(tmp_path / name) for name in ("report.json", "report.html")]
    arguments = ["check", "keras.losses:MeanSquaredError", "--backends", "torch", "--only", "value", "--only", "config"]
    assert command([*arguments, "--json", files[0], "--html", files[1]]) == 1
    table = capsys.readouterr().out
    assert "FAIL config (torch)" in table
    assert "\n  `get_config` leaves out dtype" in table
    told = json.loads(Path(files[0]).read_text())
    assert told["target"] == "keras.losses:MeanSquaredError"
    assert "config" in Path(files[1]).read_text()
    known = tmp_path / "known.txt"
    known.write_text("config  # Keras leaves the dtype out\n")
    assert command([*arguments, "--known", str(known)]) == 0
    known.write_text("config\nvalue\n")
    assert command([*arguments, "--known", str(known)]) == 1
    assert "PASSES!" in capsys.readouterr().out


def test_the_command_in_processes_of_its_own():
    line = [sys.executable, "-m", "multiloss", "check", f"{FAULTS}:LostParameter", "--backends", "jax"]
    done = subprocess.run([*line, "--only", "config"], capture_output=True, text=True, check=False)
    assert "FAIL config (jax)" in done.stdout, done.stderr
    assert "\n  `get_config` leaves out factor" in done.stdout
    assert done.returncode == 1


def test_assert_consistent_in_a_suite_of_a_user(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from multiloss.check import assert_consistent\n"
        "def test_good(): assert_consistent('keras.losses:mean_squared_error', checks=['determinism'])\n"
        "def test_bad(): assert_consistent('keras.losses:MeanSquaredError', checks=['config'])\n"
    )
    plugin = [] if "multiloss" in _entry_points() else ["-p", "multiloss.check.plugin"]
    command = [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "--multiloss-backends", "jax"]
    done = subprocess.run([*command, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "`get_config` leaves out dtype" in done.stdout
    assert "- AssertionError: keras" in done.stdout.splitlines()[-2]  # as far as the terminal is wide
    assert "torch" not in done.stdout


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


def test_assert_consistent_raises_with_the_report(workers):
    with pytest.raises(AssertionError, match="leaves out dtype"):
        assert_consistent("keras.losses:MeanSquaredError", backends=["torch"], checks=["config"], workers=workers)
    with pytest.raises(CheckError, match="`checks` must be among"):
        assert_consistent("keras.losses:MeanSquaredError", checks=["speed"])
