"""What one backend computed, in a file, against what is computed later or elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from partings import PARTINGS

from multiloss.check import CheckError, TargetError, assert_matches, compare_training, recorded

HERE = Path(__file__).parent
RIGHT = (f"{HERE}/unfit.py:build", f"{HERE}/unfit.py:arrays")
SIZES = {"steps": 3, "batch_size": 8}


def parting(name):
    return f"{HERE}/partings.py:{PARTINGS[name].build.__name__}", f"{HERE}/partings.py:{PARTINGS[name].data.__name__}"


@pytest.fixture(scope="module")
def reference(workers, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "ref.npz"
    report = compare_training(*RIGHT, **SIZES, backends=["torch"], record=path, workers=workers)
    assert report.ok
    assert report.verdict == f"RECORDED: {RIGHT[0]}: 3 steps on torch."
    assert {cell.check for cell in report.cells} == {"runs", "data", "weights", "deterministic"}
    return path


def test_what_is_computed_elsewhere_agrees_with_a_record(reference, workers):
    report = compare_training(*RIGHT, backends=["tensorflow"], against=reference, workers=workers)
    assert report.ok, report.text()
    assert report.backends == ("ref:torch", "tensorflow")
    assert report.versions["ref:torch"].endswith(", cpu")
    assert report.steps == 3  # the record's
    assert "Weights are those of ref:torch: with one seed, each backend draws others." in report.notes
    judged = {(cell.check, cell.backend) for cell in report.cells if cell.status == "pass"}
    assert {("curve", "ref:torch"), ("gradient", "ref:torch"), ("step", "tensorflow")} <= judged
    of_record = {cell.check for cell in report.cells if cell.detail == "of a record"}
    assert of_record == {"runs", "deterministic"}


def test_two_backends_are_recorded_and_compared_at_once(workers, tmp_path):
    path = tmp_path / "both.npz"
    report = compare_training(*RIGHT, **SIZES, backends=["tensorflow", "torch"], record=path, workers=workers)
    assert report.verdict.startswith("AGREES: ")
    again = compare_training(*RIGHT, backends=["torch"], against=path, workers=workers)
    assert again.ok, again.text()
    assert again.backends == ("both:tensorflow", "both:torch", "torch")


FULL = [pytest.param(name, marks=pytest.mark.full) for name in ("custom gradient", "another momentum")]


@pytest.mark.parametrize("name", ["unbiased variance", *FULL])
def test_what_parts_from_a_record_is_named(name, workers, tmp_path):
    """As after an upgrade: one version of two may be wrong."""
    path, planted = tmp_path / "old.npz", PARTINGS[name]
    other = "tensorflow" if planted.backend == "torch" else "torch"
    compare_training(*parting(name), steps=3, backends=[planted.backend], record=path, workers=workers)
    report = compare_training(*parting(name), backends=[other], against=path, workers=workers)
    assert not report.ok
    assert {cell.check for cell in report.first.values()} == {planted.stage}
    assert set(report.first) == {f"old:{planted.backend}", other}
    for cell in report.first.values():
        assert planted.where in cell.detail or planted.where in (cell.case or "") or "of_rows/" in cell.detail
        assert "either may be wrong" in cell.detail
        assert f"--against {path}" in cell.reproduce


def test_data_and_architecture_are_held_to_the_record(reference, workers, tmp_path):
    other = f"{HERE}/unfit.py:without_weights"
    report = compare_training(RIGHT[0], other, backends=["torch"], against=reference, workers=workers)
    assert report.first["torch"].check == "data"
    assert report.first["torch"].detail.endswith("What follows is of the batches of ref:torch")
    content = recorded.read(reference, "model")
    (kernel,) = [path for path in content["described"]["weights"] if path.endswith("kernel")]
    content["described"]["weights"][kernel] = np.ones((3, 2), np.float32)
    recorded.write(tmp_path / "wider.npz", "model", content)
    report = compare_training(*RIGHT, backends=["torch"], against=tmp_path / "wider.npz", workers=workers)
    assert report.first["torch"].check == "weights"
    assert report.first["torch"].detail == f"another architecture: `{kernel}` [3, 1], elsewhere `{kernel}` [3, 2]"


def test_a_test_suite_asserts_that_numbers_match(reference, workers, tmp_path):
    assert assert_matches(str(reference), backends=["torch"], workers=workers).ok
    content = recorded.read(reference, "model")
    (kernel,) = [path for path in content["described"]["weights"] if path.endswith("kernel")]
    for run in (content["replies"]["torch"]["train"]["run"], *content["replies"]["torch"]["train"]["moved"]):
        run["gradients"][kernel] *= np.float32(1.001)
    changed = tmp_path / "changed.npz"
    recorded.write(changed, "model", content)
    with pytest.raises(AssertionError, match=r"^PARTS: .* at `gradient`, stepping/answer/kernel"):
        assert_matches(str(changed), backends=["torch"], workers=workers)


def test_the_command_records_and_compares(command, capsys, tmp_path):
    words = ["compare", RIGHT[0], "--data", RIGHT[1], "--backends", "torch"]
    path = str(tmp_path / "ref.npz")
    assert command([*words, "--steps", "2", "--record", path]) == 0
    assert capsys.readouterr().out.startswith("RECORDED: ")
    assert command([*words, "--against", path]) == 0
    assert capsys.readouterr().out.startswith("AGREES: ")
    Path(path).write_bytes(Path(path).read_bytes()[:1000])
    assert command([*words, "--against", path]) == 2
    assert "is no record, or a damaged one" in capsys.readouterr().err


def test_a_record_that_cannot_be_written_is_told_before_anything_runs(workers, tmp_path):
    with pytest.raises(TargetError, match=r"`record` must be an \.npz file in a folder that exists\. Received: "):
        compare_training(*RIGHT, backends=["torch"], record=tmp_path / "none" / "ref.npz", workers=workers)


@pytest.mark.full
def test_the_precision_is_that_of_a_policy(workers, tmp_path):
    some = {"precision": "mixed_bfloat16", "device": "cpu", "workers": workers}
    report = compare_training(*RIGHT, **SIZES, **some, backends=["torch"], record=tmp_path / "ref.npz")
    assert report.ok, report.text()
    assert report.rounding == report.as_dict()["rounding"] == 2.0**-8
    assert "\nrounding  0.0039 (bfloat16)\n" in report.text()
    with pytest.raises(TargetError, match=r"`precision` must be one of float32, tf32, mixed_bfloat16, mixed_"):
        compare_training(*RIGHT, precision="bfloat16")


@pytest.mark.full
@pytest.mark.parametrize("precision", ["tf32", "mixed_bfloat16", "mixed_float16"])
def test_in_every_precision_backends_agree(precision, workers):
    report = compare_training(*RIGHT, **SIZES, precision=precision, workers=workers)
    assert report.ok, report.text()


@pytest.mark.full
def test_a_device_that_is_not_there_leaves_nothing_to_compare(workers, tmp_path):
    with pytest.raises(CheckError, match=r"^`device` tpu: torch has none here, it computes on (cpu|gpu)"):
        compare_training(*RIGHT, device="tpu", backends=["torch"], record=tmp_path / "ref.npz", workers=workers)
