"""The checker itself: planted faults, each found by its own row and no other; right losses; what it refuses.

Tests take the workers of `conftest.py`. Those that lose a worker start their own: of JAX where any backend does, which
starts first.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import multiloss
from multiloss.check import CheckError, TargetError, Workers, assert_consistent, check_loss, families, targets
from multiloss.check.checks.settings import KERAS_DTYPE

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
FAULTS_ORACLE = HERE / "faults_oracle.py"
MSE = f"{FAULTS_ORACLE}:mse"
ALL = {"tensorflow", "jax", "torch"}
# Which rows fail for each fault, and on which backends.
PLANTED = {
    "WrongValue": ({"value"}, ALL),
    "WrongGradient": ({"gradient"}, ALL),
    "NaNGradientOnTorch": ({"gradient"}, {"torch"}),
    "IgnoredWeight": ({"sample_weight"}, ALL),
    "IgnoredMask": ({"mask"}, ALL),
    "Overflow": ({"float16"}, ALL),
    "Stateful": ({"determinism"}, ALL),
    "LostParameter": ({"config"}, ALL),
    "Retracing": ({"retracing"}, {"jax", "torch"}),
    "OffAbove64Rows": ({"batch_size"}, ALL),
    "Broadcast": ({"rank"}, ALL),
    "Flat": ({"value", "rank"}, ALL),  # one of its batches has another rank
    "RefusesEmptyOnTorch": ({"empty_batch"}, {"torch"}),
    "CrashOnJax": ({"runs"}, {"jax"}),
    "HangOnJax": ({"runs"}, {"jax"}),
    "Distance": ({"large_labels"}, ALL),
}
# Rows that compile, which takes longer than all others.
COMPILING = {"compiled", "unknown_batch", "mask", "save", "fit", "retracing"}


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


# In the default tier each is looked for where it costs least, in the rows that do not compile and in its own; in the
# full tier in every row, on every backend. What hangs is in the tests of workers, `test_workers.py`.
ONE = {name: ["torch" if "torch" in backends else min(backends)] for name, (_, backends) in PLANTED.items()}
ONE |= {"RefusesEmptyOnTorch": ["torch", "numpy"], "NaNGradientOnTorch": ["torch", "tensorflow"]}  # they have to differ
LOOKED_FOR = [
    *[pytest.param(name, some, id=f"{name}-{some[0]}") for name, some in ONE.items() if name != "HangOnJax"],
    *[pytest.param(name, None, id=name, marks=pytest.mark.full) for name in PLANTED],
]


@pytest.mark.parametrize(("name", "asked"), LOOKED_FOR)
def test_each_fault_is_found_in_its_own_row(name, asked, workers):
    checks, backends = PLANTED[name]
    backends = backends & set(asked or ALL)
    oracle, family = ("distance", "labels-embeddings") if name == "Distance" else ("mse", "regression")
    with contextlib.ExitStack() as stack:
        if checks == {"runs"}:
            # What hangs is waited for twice. All else that this worker does, it does at once.
            workers = stack.enter_context(Lost(workers, 5 if name == "HangOnJax" else 60))
        report = check_loss(
            f"{FAULTS}:{name}",
            f"{FAULTS_ORACLE}:{oracle}",
            inputs=family,
            backends=asked,
            skip=COMPILING - checks if asked else (),
            workers=workers,
        )
    assert failures(report) == {(check, backend) for check in checks for backend in backends}, report.text()
    for cell in report.failures:
        assert cell.reproduce
        assert cell.detail
        assert cell.kind


# As many seeds as CHECK_SEEDS says.
#
#     CHECK_SEEDS=200 python -m pytest -m full tests/check/test_check.py -k seeds
#
# 200 of 200 passed, on 3 backends in all rows, in 530 s (2 cores, measured 2026-11-24, with workers kept).
@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 1 + int(os.environ.get("CHECK_SEEDS", "1"))))
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
    "a factory": (
        [f"{FAULTS}:make", "--inputs", "regression", "--backends", "torch"],
        f"{FAULTS}:make returned a function; call it: `make(...)`",
    ),
    "no attribute": (["keras.losses:Nothing", "--backends", "torch"], "'keras.losses:Nothing' could not be evaluated"),
    "not callable": (
        ["keras:__version__", "--backends", "torch"],
        "'keras:__version__' is not callable. Received: str",
    ),
    "other arguments": (
        ["json:loads", "--backends", "torch"],
        "json:loads raises on every backend: TypeError: loads() takes 1",
    ),
    "unknown inputs": (
        ["keras.losses:Dice", "--inputs", "x", "--backends", "torch"],
        "`inputs` must be one of labels-embedd",
    ),
    "no .npz": (["keras.losses:Dice", "--inputs", "no.npz", "--backends", "torch"], "no such file: no.npz"),
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
    lines = [line for line in err.splitlines() if " requests after " not in line]  # progress of a slow machine
    assert lines[0].startswith("multiloss check: ")
    assert [line for line in lines[1:] if not line.startswith("Hint: ")] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def f(y, x): return None",
            "`oracle` fails on 'random': it must return numbers. Received: NoneType",
        ),
        ("def f(y, x): raise SystemExit(0)", "`oracle` fails on 'random': SystemExit: 0"),
    ],
)
def test_oracles_that_give_no_numbers_are_refused(body, message, tmp_path, workers):
    (tmp_path / "o.py").write_text(body)
    with pytest.raises(CheckError, match=message):
        check_loss("keras.losses:mean_squared_error", f"{tmp_path}/o.py:f", backends=["torch"], workers=workers)


def test_an_oracle_of_another_shape_is_a_difference(workers):
    report = check_loss(
        "keras.losses:mean_squared_error", "numpy:subtract", backends=["torch"], checks=["value"], workers=workers
    )
    assert failures(report) == {("value", "torch")}
    assert report.failures[0].detail == "value of shape [1], expected [1, 3]: it differs from the oracle"


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


# The second is written as most losses are, the third says what its dtype is and yet loses it.
@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("keras.losses:MeanSquaredError", "note"),
        (f"{FAULTS}:KeywordsLoseDtype", "note"),
        (f"{FAULTS}:ConstantDtype", "fail"),
        (f"{FAULTS}:KeywordsKeepDtype(factor=2.0)", "nothing"),
    ],
)
def test_a_dtype_that_keras_loses_is_a_note_and_one_that_the_loss_loses_a_failure(target, told, workers):
    """A user can mend only the latter."""
    checks = ["config", "save"]
    report = check_loss(target, inputs="regression", backends=["torch"], checks=checks, workers=workers)
    assert failures(report) == ({("config", "torch")} if told == "fail" else set()), report.text()
    assert {(cell.detail, cell.kind) for cell in report.failures} <= {("dtype float64 becomes float32", "setting")}
    assert report.notes == ((KERAS_DTYPE,) if told == "note" else ())
    assert {cell.detail for cell in report.cells if cell.status == "pass"} <= {""}  # the note says it once


def test_of_two_backends_without_an_oracle_neither_is_trusted(workers):
    arguments = {"inputs": "regression", "backends": ["torch", "jax"], "checks": ["value", "fit"], "workers": workers}
    report = check_loss(f"{FAULTS}:OtherOnTorch", **arguments)
    assert failures(report) == {(check, backend) for check in ("value", "fit") for backend in ("torch", "jax")}
    assert report.failures[0].detail == "value differs from that of jax: without an oracle, either may be wrong"


def test_a_function_made_at_every_call_is_traced_again(workers):
    arguments = {"inputs": "regression", "backends": ["tensorflow"], "checks": ["retracing"], "workers": workers}
    assert check_loss(f"{FAULTS}:Right", **arguments).ok
    report = check_loss(f"{FAULTS}:TracedAtEveryCall", **arguments)
    assert failures(report) == {("retracing", "tensorflow")}


def test_workers_that_are_kept_compile_anew_for_each_check(workers):
    """What the first check left compiled would hide from the second one that the loss is traced again."""
    for _ in range(2):
        _, report = rows_of("Retracing", workers, checks=["retracing"])
        assert failures(report) == {("retracing", "torch")}


def test_a_mask_is_not_blamed_for_weights_that_are_ignored(workers):
    rows, report = rows_of("IgnoredWeight", workers, checks=["sample_weight", "mask"])
    assert failures(report) == {("sample_weight", "torch")}
    assert rows["mask"].status == "pass"


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


# --- what rows say of hard cases -------------------------------------------------------------------------------------


def rows_of(name, workers, oracle=None, inputs="regression", backends=("torch",), skip=COMPILING, **options):
    """The cells of a loss of `faults.py` by row, of the first backend; and the report."""
    oracle = oracle and f"{FAULTS_ORACLE}:{oracle}"
    given = {"inputs": inputs, "backends": list(backends), "skip": [] if "checks" in options else skip, **options}
    report = check_loss(f"{FAULTS}:{name}", oracle, workers=workers, **given)
    return {cell.check: cell for cell in report.cells if cell.backend == backends[0]}, report


def batch_of(cell):
    """The batch that a failure shows."""
    made = {"np": np}
    exec(cell.batch, made)
    return made["y_true"], made["y_pred"]


def test_a_plain_function_gets_tensors_of_one_dtype(workers):
    """As from `compile`, also in half precision and float64, where a mere product of arrays and tensors would raise."""
    for inputs in ("regression", "y: int[B, 3] in 0..3, x: float[B, 3]"):
        rows, report = rows_of("product", workers, inputs=inputs)
        assert report.ok, report.text()
        for check in ("value", "gradient", "float16", "bfloat16"):  # the values of `gradient` are in float64
            assert (rows[check].status, rows[check].detail) == ("pass", ""), check


def test_exact_labels_are_left_alone(workers):
    inputs = "y: int[B, 3] in 0..3, x: float[B, 3]"
    rows, report = rows_of("exactly_said", workers, inputs=inputs)
    assert report.ok, report.text()
    assert rows["gradient"].status == "pass"
    with pytest.raises(CheckError, match=r"raises on every backend: TypeError: labels of torch\.float32"):
        rows_of("exactly", workers, inputs=inputs)


@pytest.mark.full  # in the default tier: tests/plain/test_requests.py
def test_a_loss_that_refuses_float64_on_one_backend_is_judged_by_another(workers):
    rows, report = rows_of("NoFloat64OnTorch", workers, backends=("torch", "jax"), checks=["value", "gradient"])
    assert report.ok, report.text()
    assert (rows["gradient"].status, rows["gradient"].detail) == ("pass", "")
    rows, report = rows_of("NoFloat64OnTorch", workers, checks=["value", "gradient"])
    assert rows["gradient"].status == rows["value"].status == "not checked"
    assert "'random': no value in float64: TypeError: no float64 here" in rows["value"].detail


def test_a_batch_that_raises_hides_no_wrong_value_of_another(workers):
    rows, _ = rows_of("WrongOrRaises", workers, "mse", checks=["value", "gradient"])
    raised = "It also raises at 'batch of 2': ValueError: two rows"
    assert rows["value"].detail == f"value differs from the oracle. {raised}"
    assert rows["gradient"].detail == f"gradient differs from numerical derivatives of the oracle. {raised}"
    assert rows["value"].kind == rows["gradient"].kind == "wrong"
    assert set(rows["value"].errors) == {
        *("random", "tied values", "equal to the truth", "positive", "offset by 1e4", "values at +-1e4"),
        *("rank 3", "duplicated rows", "batch of 1"),  # "many features" has two rows
    }


def test_where_nothing_can_be_computed_nothing_is_said_of_it(workers):
    rows, report = rows_of("Raises", workers, checks=["retracing", "determinism"])
    for check in ("retracing", "determinism"):
        assert rows[check].status == "not checked"
        assert rows[check].detail == "'random': the loss could not be run: ValueError: never"
    assert report.ok  # that it runs is for the rows of values to say


def test_nan_on_every_backend_is_not_finite(workers):
    """The values agree with each other, and with those in float64: only `finite` can tell."""
    checks = ["value", "finite", "gradient"]
    rows, report = rows_of("LogOfZero", workers, backends=("torch", "numpy"), checks=checks)
    assert failures(report) == {("finite", "torch"), ("finite", "numpy")}
    assert rows["finite"].detail == "value is nan, on every backend"
    assert rows["finite"].kind == "nan"
    assert np.array_equal(*batch_of(rows["finite"]))
    assert "'equal to the truth': gradient is nan: see `finite`" in rows["gradient"].detail
    rows, report = rows_of("LogOfZero", workers, "mse_log", checks=checks)
    assert report.ok, report.text()  # the oracle has NaN there as well


def test_a_straight_through_gradient_is_right_if_the_loss_says_so(workers):
    checks = ["value", "finite", "gradient"]
    rows, report = rows_of("StraightThrough", workers, checks=checks)
    assert report.ok, report.text()
    assert rows["gradient"].detail == "straight-through, by intent: finite and the same on all backends"
    _, report = rows_of("StraightThroughUnsaid", workers, inputs=f"{HERE / 'own.py'}:rows", checks=checks)
    assert failures(report) == {("gradient", "torch")}
    _, report = rows_of("StraightThroughNaN", workers, checks=checks)
    assert failures(report) == {("finite", "torch")}


@pytest.mark.full  # in the default tier: tests/plain/test_verdicts.py
def test_straight_through_gradients_are_the_same_on_all_backends(workers):
    _, report = rows_of("StraightThroughOtherOnTorch", workers, backends=sorted(ALL), checks=["value", "gradient"])
    assert failures(report) == {("gradient", "torch")}


def test_an_error_that_all_backends_share_is_found_without_an_oracle(workers):
    """The formula cancels in float32 on each of them alike, and not in float64."""
    arguments = {"inputs": "labels-embeddings", "checks": ["value", "gradient"]}
    rows, report = rows_of("expanded_distances", workers, **arguments)
    assert failures(report) == {("value", "torch")}
    assert rows["value"].detail == "value differs from its own value in float64"
    assert rows["value"].case == "offset by 1e4"
    _, report = rows_of("Distance", workers, **arguments)
    assert report.ok, report.text()


def test_a_batch_of_no_rows_fails_only_where_another_backend_takes_it(workers):
    rows, report = rows_of("RefusesEmptyOnTorch", workers, backends=("torch", "numpy"), checks=["empty_batch"])
    assert failures(report) == {("empty_batch", "torch")}
    assert (rows["empty_batch"].kind, rows["empty_batch"].detail) == ("crash", "ValueError: no rows")
    assert [len(part) for part in batch_of(rows["empty_batch"])] == [0, 0]
    rows, report = rows_of("RefusesEmpty", workers, backends=("torch", "numpy"), checks=["empty_batch"])
    assert report.ok
    assert rows["empty_batch"].status == "not checked"
    assert rows["empty_batch"].detail == "'batch of 0': raises for a batch of 0 rows: ValueError: no rows"


def test_labels_and_predictions_may_be_structures(workers):
    labels = "y.labels: int[B, 8] in 0..4, y.mask: bool[B, 8], x: float[B, 8]"
    two = "y: float[B, 3], x.0: float[B, 3], x.1: float[B, 3] in -3..3"
    for name, inputs, wrong in (
        ("masked", labels, {"value", "gradient"}),
        ("Gaussian", two, {"value"}),
    ):
        oracle = name.lower()
        rows, report = rows_of(name, workers, oracle, inputs)
        assert report.ok, report.text()
        assert rows["gradient"].status == rows["float16"].status == rows["determinism"].status == "pass"
        _, report = rows_of(f"{name}(wrong=1e-3)", workers, oracle, inputs, checks=["value", "gradient"])
        assert failures(report) == {(check, "torch") for check in wrong}
        y, x = batch_of(report.failures[0])
        if name == "masked":
            assert {key: (part.shape, part.dtype) for key, part in y.items()} == {
                "labels": ((1, 8), np.int32),
                "mask": ((1, 8), bool),
            }
        else:
            assert [part.shape for part in x] == [(1, 3), (1, 3)]


def test_structures_have_no_model_and_their_masks_no_use(workers):
    inputs = "y: float[B, 3], x.0: float[B, 3], x.1: float[B, 3]"
    rows, _ = rows_of("Gaussian", workers, inputs=inputs, checks=["mask", "save", "fit", "rank"])
    assert {rows[check].status for check in ("mask", "save", "fit", "rank")} == {"not applicable"}
    assert rows["mask"].detail == "predictions are a structure, whose masks Keras does not use"
    assert rows["save"].detail == "labels or predictions are a structure, for which no model is at hand"


def test_failures_show_the_smallest_batch_that_has_them(workers):
    """One row, or two where it takes two; and of large batches, none, if a small one fails too."""
    for name, count in (("WrongOrRaises", 1), ("WrongForTwoRows", 2)):
        rows, _ = rows_of(name, workers, "mse", checks=["value", "gradient"])
        for check in ("value", "gradient"):
            y, x = batch_of(rows[check])
            assert y.shape == x.shape == (count, 3), (name, check)
            assert rows[check].case in rows[check].errors


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
    assert (
        families.guess(targets.text_of(multiloss.DiceLoss(smooth=1.0))) == "masks"
    )  # its config has colons of its own


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
    arguments = ["check", f"{FAULTS}:LostParameter", "--backends", "torch", "--only", "value", "--only", "config"]
    assert command([*arguments, "--json", files[0], "--html", files[1]]) == 1
    table = capsys.readouterr().out
    assert table.startswith(f"FAILS: {FAULTS}:LostParameter loses settings on torch (config).\n")
    assert "`get_config` leaves out `factor`: lost when the loss is saved" in table
    told = json.loads(Path(files[0]).read_text())
    assert told["target"] == f"{FAULTS}:LostParameter"
    assert "config" in Path(files[1]).read_text()
    known = tmp_path / "known.txt"
    known.write_text("config  # factor is never saved\n")
    assert command([*arguments, "--known", str(known)]) == 0
    known.write_text("config\nvalue\n")
    assert command([*arguments, "--known", str(known)]) == 1
    assert "PASSES!" in capsys.readouterr().out


def test_the_command_in_processes_of_its_own():
    line = [sys.executable, "-m", "multiloss", "check", f"{FAULTS}:LostParameter", "--backends", "jax"]
    done = subprocess.run([*line, "--only", "config"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"FAILS: {FAULTS}:LostParameter loses settings on jax (config).\n"), done.stderr
    assert done.returncode == 1


def test_assert_consistent_in_a_suite_of_a_user(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from multiloss.check import assert_consistent\n"
        "def test_good(): assert_consistent('keras.losses:mean_squared_error', checks=['determinism'])\n"
        f"def test_bad(): assert_consistent('{FAULTS}:LostParameter', checks=['config'])\n"
    )
    plugin = [] if "multiloss" in _entry_points() else ["-p", "multiloss.check.plugin"]
    command = [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "--multiloss-backends", "jax"]
    done = subprocess.run([*command, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "`get_config` leaves out `factor`" in done.stdout
    assert "- AssertionError: FAILS: " in done.stdout.splitlines()[-2]  # as far as the terminal is wide
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
    with pytest.raises(AssertionError, match="leaves out `factor`"):
        assert_consistent(f"{FAULTS}:LostParameter", backends=["torch"], checks=["config"], workers=workers)
    with pytest.raises(CheckError, match="`checks` must be among"):
        assert_consistent("keras.losses:MeanSquaredError", checks=["speed"])
