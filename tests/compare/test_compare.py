"""Whole models on every backend: right ones agree, each planted parting is named, and what cannot be compared is told.

In the default tier are one or two partings of each stage and of each way of naming, and the models that agree for
another reason than others.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from partings import PARTINGS

from multiloss._backends import BACKENDS
from multiloss.check import CheckError, assert_agrees, compare_training

HERE = Path(__file__).parent
MODELS = ("cnn", "unet", "lstm", "embedding", "own_step", "two_heads", "dropout")


def full_but(quick, names):
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.full) for name in names]


def of_model(name, workers, **options):
    file = f"{HERE}/models.py"
    return compare_training(f"{file}:build_{name}", f"{file}:data_{name}", workers=workers, **options)


def of_unfit(workers, build="build", data="arrays", **options):
    build = f"{HERE}/unfit.py:{build}"
    data = str(data) if str(data).endswith(".npz") else f"{HERE}/unfit.py:{data}"
    return compare_training(build, data, steps=3, batch_size=8, workers=workers, **options)


# --- models without a fault ------------------------------------------------------------------------------------------


def test_every_model_of_the_file_is_compared():
    builds = re.findall(r"^def build_(\w+)", (HERE / "models.py").read_text(), flags=re.MULTILINE)
    assert set(builds) == set(MODELS)


@pytest.mark.parametrize("name", full_but(("own_step",), MODELS))
def test_what_differs_by_rounding_agrees(name, workers):
    report = of_model(name, workers, steps=5)
    assert report.ok, report.text()
    assert {cell.status for cell in report.cells} <= {"pass", "not applicable"}
    assert report.backends == BACKENDS
    assert {len(curve) for curve in report.curves.values()} == {5}
    assert report.verdict.startswith("AGREES: ")
    weights = "Weights are those of tensorflow: with one seed, each backend draws others."
    notes = "\n".join(note for note in report.notes if note != weights)
    assert weights in report.notes
    if name == "cnn":
        assert "The gradient of `block_1_conv/bias`, `block_2_conv/bias` is 0: what float32 has is rounding" in notes
        assert "The optimizer divides it by its own size" in notes
    elif name == "dropout":
        assert "`drop` (Dropout) draws random numbers" in notes
        assert "`noise` (GaussianNoise) draws random numbers" in notes
    else:
        assert not notes


# --- planted partings ------------------------------------------------------------------------------------------------

# Where the first stage is rightly another than the table has.
OTHERWISE = {
    "dropout left on": "deterministic",  # two runs of one backend are compared before backends are
    "training ignored": "forward_training",  # in inference, it computes what the others do
}
QUICK = (
    "data in another order",
    "another architecture",
    "unbiased variance",
    "drawn in build",  # each backend has its own
    "training ignored",
    "unseeded noise",
    "averaged twice",
    "another penalty",  # a loss that a layer adds
    "another threshold",
    "custom gradient, no weights",  # named by single layers
    "stopped gradient",  # no layer has it
    "another momentum",
    "another schedule",
)


def parted(name, workers):
    parting = PARTINGS[name]
    build, data = (f"{HERE}/partings.py:{function.__name__}" for function in (parting.build, parting.data))
    report = compare_training(build, data, steps=5, workers=workers)
    return parting, report


def test_the_partings_are_those_of_every_stage():
    assert len(PARTINGS) >= 30
    stages = {"data", "weights", "forward", "loss", "metrics", "gradient", "step", "curve", "deterministic"}
    assert {parting.stage for parting in PARTINGS.values()} == stages
    assert {PARTINGS[name].stage for name in QUICK} == stages
    assert all(PARTINGS[name].why for name in OTHERWISE)


@pytest.mark.parametrize("name", full_but(QUICK, PARTINGS))
def test_what_parts_first_is_named(name, workers):
    parting, report = parted(name, workers)
    assert not report.ok
    assert report.exit_code == 1
    stage = OTHERWISE.get(name, parting.stage)
    assert {backend: cell.check for backend, cell in report.first.items()} == dict.fromkeys(
        BACKENDS if parting.backend is None else [parting.backend], stage
    )
    for cell in report.first.values():
        assert parting.where in cell.detail
        assert "follows from" not in cell.detail
        assert f"{parting.build.__name__} --data " in cell.reproduce
    later = [cell for cell in report.failures if cell is not report.first[cell.backend]]
    assert all(cell.detail == f"follows from `{stage}`" for cell in later)
    assert report.verdict.startswith("PARTS: ")
    assert f"at `{stage}`" in report.verdict


def test_rows_in_another_order_are_told_from_other_rows(workers):
    _, report = parted("data in another order", workers)
    detail = report.first["tensorflow"].detail
    assert detail.startswith('`x["measurements"]` of batch 0 has other numbers, of the same rows in another order.')
    report = of_unfit(workers, data="other_numbers_on_torch")
    assert report.first["torch"].detail.startswith("`y` of batch 1 has other numbers. What follows is of the batches")
    report = of_unfit(workers, data="fewer_on_torch")
    assert report.first["torch"].detail.startswith("2 batches, elsewhere 3")


def test_the_smallest_input_that_shows_it_is_a_row(workers):
    _, report = parted("unbiased variance", workers)
    lines = report.first["torch"].batch.splitlines()
    names = {"np": np}
    exec(lines[0], names)
    assert names["x"].shape == (1, 8)
    assert [line.partition(":")[0] for line in lines[1:]] == [f"# on {backend}" for backend in BACKENDS]


# --- data in every form ----------------------------------------------------------------------------------------------


@pytest.fixture
def npz(tmp_path):
    """A function that writes an `.npz` of these arrays and returns its path."""

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
WEIGHT = RNG.uniform(0.5, 2, 24).astype("float32")


def test_data_may_have_weights_or_none(workers):
    with_weights, without = (of_unfit(workers, data=data) for data in ("arrays", "without_weights"))
    assert with_weights.ok
    assert without.ok
    # Weights are there to be used; the same seed gives the same numbers otherwise.
    assert abs(with_weights.curves["jax"][0] - without.curves["jax"][0]) > 1e-3


FORMS = {
    "a dataset": ("build", "Batches"),
    "a dataset's call": ("build", "Batches(0)"),
    "dicts": ("build_of_dicts", "dicts"),
    "a file": ("build", {"x": X, "y": Y, "sample_weight": WEIGHT}),
    "a file of dicts": ("build_of_dicts", {"x.measurements": X, "y.answer": Y, "sample_weight.answer": WEIGHT}),
}


@pytest.fixture(scope="module")
def curve(workers):
    """The losses for arrays."""
    return of_unfit(workers).curves["jax"]


@pytest.mark.parametrize("form", FORMS)
def test_data_may_have_other_forms(form, npz, workers, curve):
    build, data = FORMS[form]
    report = of_unfit(workers, build, npz(**data) if isinstance(data, dict) else data)
    assert report.ok, report.text()
    np.testing.assert_allclose(
        report.curves["jax"], curve, rtol=1e-5
    )  # the numbers are the same, but for float32's rounding of three steps


def test_a_model_whose_layers_have_all_its_losses_needs_no_labels(workers):
    assert of_unfit(workers, "build_without_labels", "without_labels").ok


def test_the_seed_is_that_of_the_data(workers):
    assert of_unfit(workers, seed=0).curves["jax"] != of_unfit(workers, seed=1).curves["jax"]


# --- what cannot be compared -----------------------------------------------------------------------------------------

NOWHERE = {
    "needs arguments": ("build_with_arguments", "arrays", "`build` must be called without arguments."),
    "no model": ("build_nothing", "arrays", "`build` must return a keras.Model."),
    "not compiled": ("build_uncompiled", "arrays", "`build` must return a compiled model: call `model.compile(...)`"),
    "not a function": ("ROWS", "arrays", "`build` must be a function that returns a new model. Received: int"),
    "raises": (
        "build_raises",
        "arrays",
        "build_raises raises on every backend: RuntimeError: no such file",
    ),
    "missing": ("missing", "arrays", "unfit.py:missing' could not be evaluated: NameError"),
    "step raises": ("step_raises_everywhere", "arrays", "raises on every backend: RuntimeError: no such"),
    "unequal": ("build", "unequal", "`data` must have rows, and as many in each array."),
    "no rows": ("build", "empty", "`data` must have rows, and as many in each array."),
    "words": ("build", "words", "`data` must consist of numbers."),
    "another width": ("build", "wider", "expected axis -1 of input shape to have value 3"),
    "four parts": ("build", "four", "`data` must give (x, y) or (x, y, sample_weight)."),
    "no seed": ("build", "of_no_seed", "`data` must be a function of a seed."),
    "wrong inside": ("build", "wrong_type_inside", "raises with seed 0: TypeError: can only concatenate tuple"),
    "data raise": ("build", "raises", "unfit.py:raises raises with seed 0: OSError: no such file: train.csv"),
    "no data": ("build", "missing", "unfit.py:missing' could not be evaluated: NameError"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_what_no_backend_can_run_is_one_line(name, workers):
    build, data, message = NOWHERE[name]
    with pytest.raises(CheckError) as caught:
        of_unfit(workers, build, data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


FILES = {
    "none": (None, "`data` must be a file that exists. Received: "),
    "text": (b"x,y\n1,2\n", "is not a readable .npz file: "),
    "empty": (b"", "is not a readable .npz file: EOFError"),
    "cut": (lambda whole: whole[:200], "is not a readable .npz file: BadZipFile: File is not a zip file"),
    "flipped": (
        lambda whole: whole[:180] + bytes([whole[180] ^ 255]) + whole[181:],
        "is not a readable .npz file: BadZipFile: Bad CRC-32",
    ),
    "objects": ({"x": np.array([{}, 1])}, "is not a readable .npz file: ValueError: Object arrays cannot be loaded"),
    "other names": ({"x": X, "labels": Y}, "`data` must consist of `x`, `y` and `sample_weight`."),
    "no x": ({"y": Y}, "`data` must have `x`."),
    "twice": ({"x": X, "x.a": X}, "has both an array and parts of it"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_one_line(name, npz, workers, tmp_path):
    written, message = FILES[name]
    path = tmp_path / "data.npz"
    if isinstance(written, dict):
        npz(**written)
    elif callable(written):
        path.write_bytes(written(npz(x=X, y=Y).read_bytes()))
    elif written is not None:
        path.write_bytes(written)
    with pytest.raises(CheckError) as caught:
        of_unfit(workers, data=path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ON_TORCH = {
    "build_raises_on_torch": "RuntimeError: no such\nkernel on this device",
    "build_dies_on_torch": "the process ended with exit code 3",
    "step_raises": "RuntimeError: no such\nkernel on this device",
    "step_dies": "the process ended with exit code 3",
    "step_hangs": "no reply within 15 s: the process was killed (--timeout raises the limit)",
    "data": "raises with seed 0: RuntimeError: no such\nkernel on this device",
}


def goes_on(report, lost):
    """What is said of the one backend that did not run, where the others were compared."""
    assert not report.ok
    assert report.exit_code == 1
    assert {(cell.check, cell.backend) for cell in report.failures} == {("runs", lost)}
    assert report.verdict.startswith("FAILS: ")
    assert report.verdict.endswith(f": {lost} did not run.")
    assert all(note.startswith("Weights are those of ") for note in report.notes)
    rest = set(BACKENDS) - {lost}
    assert {cell.backend for cell in report.cells if (cell.check, cell.status) == ("curve", "pass")} == rest
    assert set(report.curves) == rest
    (cell,) = report.failures
    assert cell.kind == "crash"
    return cell.detail


@pytest.mark.parametrize("name", full_but(("build_raises_on_torch", "step_raises", "step_dies"), ON_TORCH))
def test_what_one_backend_cannot_run_leaves_the_others(name, workers):
    build, data = ("build", "raises_on_torch") if name == "data" else (name, "arrays")
    # Others take less than a second, but of a loaded machine.
    report = of_unfit(workers, build, data, **({"timeout": 15} if name == "step_hangs" else {}))
    assert ON_TORCH[name] in goes_on(report, "torch")
    assert "no such\nkernel" not in report.text()


def test_a_backend_that_is_not_installed_leaves_the_others(workers, monkeypatch):
    monkeypatch.setattr("multiloss._backends.installed", lambda backend: backend != "tensorflow")
    detail = goes_on(of_unfit(workers, backends=BACKENDS), "tensorflow")
    assert detail.startswith("tensorflow is not installed: pip install ")
    report = of_unfit(workers)
    assert report.ok
    assert report.backends == ("jax", "torch")
    assert set(report.unchecked) == {"tensorflow"}


def test_one_backend_is_too_few(workers):
    with pytest.raises(CheckError, match=r"`backends` must be two or more, to be compared\. Received: jax"):
        of_unfit(workers, backends=["jax"])


# --- the command -----------------------------------------------------------------------------------------------------


class Strict(HTMLParser):
    """Counts elements, and fails where one is closed that is not open."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta", "br", "line", "circle", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "circle", "path"):
            assert self.open.pop() == tag


def test_the_command_writes_text_json_html_and_a_picture(command, tmp_path, capsys):
    paths = {option: tmp_path / f"report.{ending}" for option, ending in (("json", "json"), ("html", "html"))}
    paths["picture"] = tmp_path / "report.png"
    words = ["compare", f"{HERE}/partings.py:build_momentum", "--data", f"{HERE}/partings.py:data_rows", "--steps", "4"]
    assert command([*words, *(word for option, path in paths.items() for word in (f"--{option}", str(path)))]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("PARTS: ")
    assert re.search(r"^step +ok \S+ +ok \S+ +FAIL ", out, flags=re.MULTILINE)
    assert not [line for line in err.splitlines() if " requests after " not in line]

    report = json.loads(paths["json"].read_text(), parse_constant=pytest.fail)
    assert report["schema"] == 1
    assert not report["ok"]
    assert report["verdict"] == out.splitlines()[0]
    assert set(report["curves"]) == set(BACKENDS)
    assert {len(curve) for curve in report["curves"].values()} == {4}
    first = next(cell for cell in report["cells"] if cell["status"] == "fail")
    assert (first["check"], first["backend"], first["case"]) == ("step", "torch", "of_rows/normalized/moving_mean")

    page = paths["html"].read_text()
    assert Strict(page).seen.count("polyline") == 3
    assert "Loss of each step" in page
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")


def test_the_exit_code_is_0_if_differences_are_rounding(command, capsys):
    words = ["compare", f"{HERE}/unfit.py:build", "--data", f"{HERE}/unfit.py:arrays", "--batch-size", "8"]
    assert command([*words, "--steps", "2", "--backends", "jax,torch"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("AGREES: ")
    assert "2 steps on jax, torch differ by rounding" in out
    assert "tensorflow" not in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data", "unfit.py:words"], "`data` must consist of numbers."),
        (["--data", "unfit.py:arrays", "--steps", "0"], "`steps` must be an integer > 0. Received: 0"),
        (["--data", "unfit.py:arrays", "--batch-size", "-1"], "`batch_size` must be an integer > 0. Received: -1"),
        (["--data", "unfit.py:arrays", "--timeout", "nan"], "`timeout` must be a finite number > 0. Received: nan"),
        (["--data", "unfit.py:arrays", "--backends", "mxnet"], "`backends` must be among tensorflow, jax, torch"),
        (["--data", "unfit.py:arrays", "--picture", "/none/x.png"], "`--picture` must be a file in a folder that ex"),
    ],
)
def test_what_cannot_be_compared_gives_2(more, message, command, capsys, monkeypatch):
    data = f"{HERE}/{more[1]}"
    assert command(["compare", f"{HERE}/unfit.py:build", "--data", data, *more[2:]]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("multiloss compare: ")
    assert message in err
    assert err.count("\n") == 1


def test_without_data_the_usage_is_shown(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command(["compare", "m:build"])
    assert caught.value.code == 2
    assert "the following arguments are required: --data" in capsys.readouterr().err


def test_the_assertion_fails_with_the_report(workers):
    model, data = f"{HERE}/unfit.py:build", f"{HERE}/unfit.py:arrays"
    options = {"backends": ["jax", "torch"], "steps": 2, "batch_size": 8, "workers": workers}
    assert assert_agrees(model, data, **options).ok
    parting = PARTINGS["averaged twice"]
    with pytest.raises(AssertionError, match=r"^PARTS: .*at `loss`, loss"):
        assert_agrees(f"{HERE}/partings.py:{parting.build.__name__}", f"{HERE}/partings.py:data_rows", **options)


def test_progress_is_told_for_each_request(workers):
    calls = []
    of_unfit(workers, backends=["jax", "torch"], progress=lambda *call: calls.append(call))
    for backend in ("jax", "torch"):
        assert [call[1:] for call in calls if call[0] == backend] == [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_ctrl_c_ends_it(command, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt  # as the signal does, which some machines' runners ignore

    monkeypatch.setattr("multiloss.check.cli._Progress.__call__", interrupt)
    words = ["compare", f"{HERE}/unfit.py:build", "--data", f"{HERE}/unfit.py:arrays", "--backends", "jax,torch"]
    assert command(words) == 130
    assert capsys.readouterr().err == "multiloss compare: interrupted\n"


# --- models that a tool could trip over -------------------------------------------------------------------------------

ODD = {
    **{"float_ids": "data_words"},
    **dict.fromkeys(("mixed", "scaled", "by_class", "normalized", "shared"), "data_rows"),
}


@pytest.mark.parametrize("name", full_but(("by_class",), ODD))
def test_odd_models_agree(name, workers):
    file = f"{HERE}/odd.py"
    report = compare_training(f"{file}:build_{name}", f"{file}:{ODD[name]}", steps=3, workers=workers)
    assert report.ok, report.text()
    assert {cell.status for cell in report.cells} <= {"pass", "not applicable"}
    compared = {cell.check for cell in report.cells if cell.status == "pass"}
    assert {"forward", "loss", "gradient", "step", "curve"} <= compared


def test_weights_of_one_path_are_told_apart(workers):
    """That Keras on torch does not is found, and known."""
    report = compare_training(f"{HERE}/odd.py:build_twice_named", f"{HERE}/odd.py:data_rows", steps=3, workers=workers)
    assert {(cell.check, cell.backend) for cell in report.first.values()} == {("deterministic", "torch")}
    (cell,) = report.first.values()
    assert cell.detail.startswith(
        "`twice/same/kernel` differs after the same step, taken twice. Known: Of weights with"
    )
    (gradients,) = [cell.errors for cell in report.cells if (cell.check, cell.backend) == ("gradient", "jax")]
    assert {"twice/same/kernel", "twice/same/kernel#2"} <= set(gradients)


def test_weights_in_another_order_are_told(workers):
    build, data = f"{HERE}/odd.py:build_in_another_order", f"{HERE}/odd.py:data_rows"
    report = compare_training(build, data, steps=1, backends=["tensorflow", "torch"], workers=workers)
    (cell,) = [cell for cell in report.cells if cell.check == "weights" and cell.status == "fail"]
    assert cell.detail.startswith("the same weights in another order: `")
