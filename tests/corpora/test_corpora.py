"""All planted faults, right losses and posted losses, on every backend: `tox -e corpora`, by hand.

The default tier has those that torch alone shows: `tests/check/test_planted.py`.
"""

import itertools
from pathlib import Path

import pytest
import test_planted
from planted_table import ALL, PLANTED, RIGHT
from posted_table import POSTED, TRULY_FAULTY
from test_planted import WITHOUT, found, posted, where

from multiloss.check import check_loss

HERE = Path(test_planted.__file__).parent
# On each loss one backend, of which neighbours in a table have different ones.
TURNS = ("torch", "jax", "tensorflow")


@pytest.mark.parametrize(("name", "turn"), list(zip(PLANTED, itertools.cycle(TURNS))))
def test_a_fault_is_found_with_an_oracle(name, turn, workers):
    shown, row = PLANTED[name].backends, PLANTED[name].found_with
    backends = {turn} if shown == ALL else shown
    # What raises for an empty batch is a fault only beside backends on which it does not.
    asked = ALL if row == "empty_batch" else backends
    assert found(name, True, asked, workers) >= {(row, backend) for backend in backends}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_fault_is_found_without_an_oracle_on_every_backend(name, workers):
    shown, taking_part = where(PLANTED[name])
    wanted = {(PLANTED[name].found_without, backend) for backend in shown}
    assert found(name, False, taking_part, workers) >= wanted


@pytest.mark.parametrize("with_oracle", [True, False], ids=["oracle", "own"])
@pytest.mark.parametrize(("name", "backend"), list(zip(RIGHT, itertools.cycle(TURNS))))
def test_on_a_right_loss_nothing_fails(name, backend, with_oracle, workers):
    right = RIGHT[name]
    oracle = f"{HERE}/planted_oracles.py:{right.oracle}" if with_oracle else None
    target = f"{HERE}/planted.py:{right.target}"
    report = check_loss(target, oracle, inputs=right.inputs, backends=[backend], workers=workers)
    assert report.ok, report.text()
    assert {cell.status for cell in report.cells} <= {"pass", "not applicable"}


@pytest.mark.parametrize(("name", "backend"), list(zip(POSTED, itertools.cycle(TURNS))))
def test_on_a_loss_as_posted_nothing_fails(name, backend, workers):
    failing, report = posted(POSTED[name], [backend], workers)
    assert failing == POSTED[name].rows, report.text()


@pytest.mark.parametrize(("name", "backend"), list(zip(TRULY_FAULTY, itertools.cycle(TURNS))))
def test_a_fault_as_posted_is_found(name, backend, workers):
    failing, report = posted(TRULY_FAULTY[name], [backend], workers)
    assert failing >= TRULY_FAULTY[name].rows, report.text()
