"""Cases drawn at random: a failing one is found, made small, and shown; a right loss passes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multiloss.check import CheckError, TargetError, Workers, check_loss, inputs, search
from multiloss.check.cli import main

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
MSE = f"{HERE / 'faults_oracle.py'}:mse"


@pytest.fixture(scope="module")
def workers():
    with Workers() as kept:
        yield kept


def searched(name, workers, **arguments):
    arguments = {"inputs": "regression", "checks": ["value", "gradient"], "backends": ["torch"], **arguments}
    return check_loss(f"{FAULTS}:{name}", MSE, workers=workers, **arguments)


def test_a_fault_that_the_cases_miss_is_found_and_made_small(workers):
    missed = searched("WrongAtSevenEighths", workers)
    assert missed.ok, missed.text()
    report = searched("WrongAtSevenEighths", workers, search=400)
    (cell,) = report.failures
    assert (cell.check, cell.backend, cell.case) == ("search", "torch", "drawn")
    assert cell.detail == "value: another value than the oracle"
    assert cell.reproduce.endswith("--only value --only gradient --search 400")
    (note,) = report.notes
    shown = dict(line.split(" = ") for line in note.splitlines()[1:])
    y, x = (eval(shown[name], {"np": np}) for name in ("y_true", "y_pred"))
    assert y.shape == x.shape == (1, 2)
    assert np.count_nonzero(y) == 0
    assert sorted(x.ravel()) == [0, 0.875]
    assert note in report.text().replace("\n  ", "\n")


def test_the_same_seed_draws_the_same_in_every_process(tmp_path):
    """hypothesis draws constants of the modules at hand, but not here."""
    (tmp_path / "other.py").write_text("NUMBERS = [0.8125, 0.6875, 12345.0, 2345, 3456, 4567]")
    program = (
        "import hashlib, sys; from multiloss.check import search\n"
        "for name in sys.argv[2:]: __import__(name)\n"
        "drawn = hashlib.sha256()\n"
        "keep = lambda case: drawn.update(case.y.tobytes() + case.x.tobytes()) or []\n"
        "search.smallest(search.strategy(sys.argv[1], False), keep, 200, 3, None)\n"
        "print(drawn.hexdigest())"
    )
    # Not as an installed module, whose constants hypothesis would not look at.
    there = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for family in inputs.FAMILIES:
        drawn = {
            subprocess.check_output([sys.executable, "-c", program, family, *others], env=there)
            for others in ([], ["other"])
        }
        assert len(drawn) == 1, family


@pytest.mark.parametrize("family", inputs.FAMILIES)
@pytest.mark.parametrize("logits", [False, True])
def test_what_is_drawn_is_of_the_family(family, logits):
    """As the first case of the family is, of rank, dtype and range."""
    model = inputs.family(family, 0, logits)[0]
    seen = []

    def failing(case):
        seen.append(case)
        assert (case.y.dtype, case.x.dtype) == (model.y.dtype, model.x.dtype)
        assert (case.y.ndim, case.x.ndim) == (model.y.ndim, model.x.ndim)
        assert len(case.y) == len(case.x)
        if family in ("masks", "one-hot", "integer-labels") and not logits:
            assert 0 <= case.x.min() <= case.x.max() <= 1
        if family in ("one-hot", "integer-labels") and not logits:
            np.testing.assert_allclose(case.x.sum(-1), 1, atol=1e-6)  # of three float32
        return []

    assert search.smallest(search.strategy(family, logits), failing, 200, 0, None).case is None
    assert {len(case.x) for case in seen} == {1, 2, 3}
    assert len({case.x.tobytes() for case in seen}) > 100


def test_seeds_of_a_function_are_drawn(workers):
    report = searched("Right", workers, inputs=f"{HERE / 'own.py'}:rows", search=20)
    assert report.ok, report.text()
    found = searched("WrongAtSevenEighths", workers, inputs=f"{HERE / 'own.py'}:rows", search=400)
    assert [cell.check for cell in found.failures] == ["search"]


def test_what_cannot_be_told_is_no_failure(workers):
    arguments = {"inputs": "regression", "backends": ["torch"], "checks": ["gradient"], "search": 5}
    report = check_loss(f"{FAULTS}:NoFloat64", workers=workers, **arguments)
    found = {cell.check: cell.status for cell in report.cells}
    assert found == {"runs": "pass", "gradient": "not checked", "search": "pass"}


def test_a_worker_that_is_lost_ends_the_search(workers):
    report = searched("CrashAtSevenEighths", workers, search=400)
    assert [(cell.check, cell.backend) for cell in report.failures] == [("search", "torch")]
    assert "exit code 7" in report.failures[0].detail


def test_what_cannot_be_searched_is_refused(monkeypatch, capsys, tmp_path, workers):
    np.savez(tmp_path / "batch.npz", y_true=np.ones(3, np.float32), y_pred=np.ones(3, np.float32))
    with pytest.raises(TargetError, match="`search` needs a family or a function of a seed"):
        searched("Right", workers, inputs=str(tmp_path / "batch.npz"), search=1)
    with pytest.raises(CheckError, match=r"`search` must be a whole number >= 0\. Received: -1"):
        searched("Right", workers, search=-1)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    assert main(["check", "keras.losses:Huber", "--backends", "torch", "--search", "1"]) == 2
    assert "`search` needs hypothesis: pip install 'multiloss[search]'" in capsys.readouterr().err
