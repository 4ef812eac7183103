"""Cases drawn at random: a failing one is found, made small, and shown; a right loss passes.

What is drawn: `tests/plain/test_search.py`.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from multiloss.check import CheckError, TargetError, Workers, check_loss

HERE = Path(__file__).parent
FAULTS = HERE / "faults.py"
MSE = f"{HERE / 'faults_oracle.py'}:mse"


def searched(name, workers, **arguments):
    arguments = {"inputs": "regression", "checks": ["value", "gradient"], "backends": ["torch"], **arguments}
    return check_loss(f"{FAULTS}:{name}", MSE, workers=workers, **arguments)


def test_a_fault_that_the_cases_miss_is_found_and_made_small(workers):
    missed = searched("WrongAtSevenEighths", workers)
    assert missed.ok, missed.text()
    report = searched("WrongAtSevenEighths", workers, search=400)
    (cell,) = report.failures
    assert (cell.check, cell.backend, cell.case) == ("search", "torch", "drawn")
    assert cell.detail == "value: value differs from the oracle"
    assert cell.reproduce.endswith("--only value,finite,gradient --search 400")
    (note,) = report.notes
    shown = dict(line.split(" = ") for line in note.splitlines()[1:])
    y, x = (eval(shown[name], {"np": np}) for name in ("y_true", "y_pred"))
    assert y.shape == x.shape == (1, 2)
    assert np.count_nonzero(y) == 0
    assert sorted(x.ravel()) == [0, 0.875]
    assert note in report.text().replace("\n  ", "\n")


def test_seeds_of_a_function_are_drawn(workers):
    report = searched("Right", workers, inputs=f"{HERE / 'own.py'}:rows", search=20)
    assert report.ok, report.text()
    found = searched("WrongAtSevenEighths", workers, inputs=f"{HERE / 'own.py'}:rows", search=400)
    assert [cell.check for cell in found.failures] == ["search"]


def test_what_cannot_be_told_is_no_failure(workers):
    arguments = {"inputs": "regression", "backends": ["torch"], "checks": ["gradient"], "search": 5}
    report = check_loss(f"{FAULTS}:NoFloat64", workers=workers, **arguments)
    found = {cell.check: cell.status for cell in report.cells}
    assert found == {"runs": "pass", "finite": "pass", "gradient": "not checked", "search": "pass"}


@pytest.mark.full
def test_a_worker_that_is_lost_ends_the_search():
    with Workers() as own:
        report = searched("CrashAtSevenEighths", own, search=400)
    assert [(cell.check, cell.backend) for cell in report.failures] == [("search", "torch")]
    assert "exit code 7" in report.failures[0].detail


def test_what_cannot_be_searched_is_refused(monkeypatch, command, capsys, tmp_path, workers):
    np.savez(tmp_path / "batch.npz", y_true=np.ones(3, np.float32), y_pred=np.ones(3, np.float32))
    with pytest.raises(TargetError, match="`search` needs a family, a specification or a function of a seed"):
        searched("Right", workers, inputs=str(tmp_path / "batch.npz"), search=1)
    with pytest.raises(CheckError, match=r"`search` must be an integer >= 0\. Received: -1"):
        searched("Right", workers, search=-1)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    assert command(["check", "keras.losses:Huber", "--backends", "torch", "--search", "1"]) == 2
    assert '`search` needs hypothesis: pip install "multiloss[search]"' in capsys.readouterr().err
