"""What one backend computed of a loss, in a file, against what is computed later or elsewhere; and on which device."""

import numpy as np
import pytest

from multiloss.check import CheckError, TargetError, assert_matches, check_loss, recorded

MINE = """
import os

import keras
from keras import ops


class Loss(keras.losses.Loss):
    def __init__(self, power=1.5, slope=1.0, refuses=False, ends=False, where=None, **options):
        super().__init__(**options)
        self.power, self.slope, self.refuses, self.ends = power, slope, refuses, ends
        self.here = where in (None, keras.backend.backend())

    def call(self, y_true, y_pred):
        if self.ends:
            os._exit(3)
        if self.refuses and self.here:
            raise ValueError("no such batch")
        value = ops.mean(ops.abs(y_pred - y_true) ** self.power, axis=-1)
        slope = self.slope if self.here else 1.0
        return slope * value + (1 - slope) * ops.stop_gradient(value)


def factory(margin):
    return lambda y_true, y_pred: ops.relu(margin - y_true * y_pred)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE)
    return f"{path}:Loss"


@pytest.fixture(scope="module")
def reference(mine, workers, tmp_path_factory):
    """A record of torch and TensorFlow."""
    path = tmp_path_factory.mktemp("records") / "ref.npz"
    some = {"backends": ["tensorflow", "torch"], "checks": ["runs"], "inputs": "regression", "seed": 3}
    report = check_loss(mine, **some, record=path, workers=workers)
    assert report.ok, report.text()
    assert report.as_dict()["recorded"] == str(path)
    assert {cell.check for cell in report.cells} == {"runs", "value", "finite", "gradient"}  # whatever is asked for
    assert "\nrecord      " in report.text()
    return path


def against(reference, target, workers, backends=("torch",), **options):
    options = {"checks": ["recorded"], **options}
    return check_loss(target, backends=backends, against=reference, workers=workers, **options)


def failure(report, backend="torch"):
    (cell,) = [cell for cell in report.cells if cell.check == "recorded" and cell.backend == backend]
    assert cell.status == "fail", report.text()
    return cell


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.full), "torch"])
def test_what_is_computed_elsewhere_agrees_with_a_record(backend, reference, mine, workers):
    report = against(reference, mine, workers, [backend])
    assert report.ok, report.text()
    assert [(cell.check, cell.status) for cell in report.cells] == [("runs", "pass"), ("recorded", "pass")]
    (cell,) = [cell for cell in report.cells if cell.check == "recorded"]
    # Ill-conditioned batches, where backends differ in rounding, and ties, where a slope is any of two, among them.
    some = {"offset by 1e4, ref:tensorflow", "tied values, ref:tensorflow", "equal to the truth, ref:torch"}
    assert some <= {*cell.errors}
    assert 0 < cell.ratio < 1
    assert report.compared.endswith(f"; in the row `recorded`, with {reference}")


def test_the_other_checks_are_of_the_inputs_that_are_asked_for(reference, mine, workers):
    report = against(reference, mine, workers, ["torch"], checks=["value"], inputs="sign-labels")
    assert report.ok, report.text()
    cells = {cell.check: cell for cell in report.cells}
    assert "all labels -1" in cells["value"].errors
    assert not any("all labels -1" in case for case in cells["recorded"].errors)
    assert "recorded" not in {
        cell.check for cell in check_loss(mine, checks=["runs"], backends=["torch"], workers=workers).cells
    }


def test_another_value_is_named(reference, mine, workers):
    cell = failure(against(reference, f"{mine}(power=1.501)", workers))
    assert cell.detail.startswith("value differs from that of ref:tensorflow (tensorflow 2."), cell.detail
    assert cell.detail.endswith(", cpu)")
    assert cell.kind == "wrong"
    assert cell.batch.startswith("y_true = np.array(")
    assert cell.reproduce.endswith(f"--backends torch --against {reference} --only recorded")


def test_another_gradient_is_named(reference, mine, workers):
    cell = failure(against(reference, f"{mine}(slope=1.001)", workers))
    assert cell.detail.startswith("gradient differs from that of ref:t"), cell.detail


def test_another_shape_is_named(reference, mine, workers):
    cell = failure(against(reference, "keras.losses:cosine_similarity(axis=0)", workers))
    assert "] is expected, differs from that of ref:" in cell.detail


def test_what_raises_now_is_named(reference, mine, workers):
    cell = failure(against(reference, f"{mine}(refuses=True)", workers))
    assert cell.kind == "crash"
    assert "no such batch" in cell.detail


def test_a_backend_that_raised_is_not_in_the_record(mine, workers, tmp_path):
    path = tmp_path / "some.npz"
    report = check_loss(
        f"{mine}(refuses=True, where='tensorflow')",
        backends=["tensorflow", "torch"],
        record=path,
        checks=["runs"],
        workers=workers,
    )
    assert not report.ok
    assert against(path, mine, workers, ["torch"]).ok
    assert [*np.load(path)["header"].tolist().split('"replies"')][1].count("tensorflow") == 0
    with pytest.raises(CheckError, match="no such batch"):
        check_loss(f"{mine}(refuses=True)", backends=["torch"], record=tmp_path / "none.npz", workers=workers)
    assert not (tmp_path / "none.npz").exists()


def test_a_test_suite_asserts_that_a_loss_matches(reference, mine, workers):
    some = {"backends": ["torch"], "workers": workers}
    report = assert_matches(reference, **some)
    assert report.target == mine
    assert [cell.check for cell in report.cells] == ["runs", "recorded"]
    with pytest.raises(AssertionError, match=r"^FAILS: .*\(recorded\)\."):
        assert_matches(reference, f"{mine}(power=2.1)", **some)
    with pytest.raises(CheckError, match=r"`data` must be None for the record of a loss. Received: 'x'"):
        assert_matches(reference, data="x", **some)


@pytest.mark.full  # it ends a worker
def test_a_loss_without_any_value_is_not_recorded(mine, workers, tmp_path):
    path = tmp_path / "none.npz"
    with pytest.raises(CheckError, match=r"`record` .*none\.npz was not written: the loss has no value on any backend"):
        check_loss(f"{mine}(ends=True)", backends=["torch"], record=path, checks=["runs"], workers=workers)
    assert not path.exists()


def test_the_command_records_and_compares(command, capsys, tmp_path):
    path = tmp_path / "ref.npz"
    words = ["check", "keras.losses:LogCosh", "--backends", "torch", "--only", "value"]
    assert command([*words, "--record", str(path)]) == 0
    assert f"record    {path}" in capsys.readouterr().out
    assert command([*words, "--against", str(path)]) == 0
    assert "\nrecorded           ok" in capsys.readouterr().out


def test_a_metric_has_no_record(workers, tmp_path, reference):
    for option, path in (("record", tmp_path / "m.npz"), ("against", reference)):
        with pytest.raises(CheckError, match=f"`{option}` must be of a loss. Received: a metric"):
            check_loss("keras.metrics:MeanSquaredError", backends=["torch"], workers=workers, **{option: path})


def test_other_files_are_told_before_anything_runs(mine, tmp_path):
    path = tmp_path / "model.npz"
    recorded.write(path, "model", {})
    with pytest.raises(TargetError, match=r"must be a record of a loss. Received: a record of a model"):
        check_loss(mine, against=path)
    recorded.write(path, "loss", {"replies": {}})
    with pytest.raises(TargetError, match="is a damaged record: KeyError: 'target'"):
        check_loss(mine, against=path)
    with pytest.raises(TargetError, match=r"`record` must be an .npz file in a folder that exists"):
        check_loss(mine, record=tmp_path / "x.npy")


# --- device and precision --------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_device_that_is_not_there_is_told(backend, mine, workers):
    with pytest.raises(CheckError, match=f"^`device` tpu: {backend} has none here, it computes on (cpu|gpu)\n"):
        check_loss(mine, backends=[backend], device="tpu", workers=workers)


@pytest.mark.full
@pytest.mark.parametrize(
    ("backend", "products"),
    [("tensorflow", "float32"), ("jax", "highest"), ("jax", "tensorfloat32"), ("torch", "highest"), ("torch", "high")],
)
def test_the_precision_of_products_is_set_and_told(backend, products, mine, workers):
    precision = "tf32" if products in ("tensorfloat32", "high") else "float32"
    some = {"device": "cpu", "precision": precision, "checks": ["value"], "inputs": "regression"}
    report = check_loss(mine, backends=[backend], **some, workers=workers)
    assert report.ok
    told = f", products in {products}" * (products != "highest" or backend != "torch")  # it is the default there
    assert report.versions[backend].endswith(f", cpu{told}")
    assert not report.notes  # on a CPU, TF32 changes nothing
    worker = workers.get(backend, None)  # another process than that of the defaults
    assert "products" not in worker.ask("describe", target=mine).result["versions"]


def test_settings_that_are_not_known_are_told(mine):
    with pytest.raises(TargetError, match=r"`device` must be one of cpu, gpu, tpu. Received: 'cuda'"):
        check_loss(mine, device="cuda")
    with pytest.raises(TargetError, match=r"`precision` must be one of float32, tf32. Received: 'mixed_float16'"):
        check_loss(mine, precision="mixed_float16")
