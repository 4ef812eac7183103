"""Planted faults, each found by its row, with an oracle and without one; right losses, on which no row fails."""

import itertools
from pathlib import Path

import pytest
from planted_table import ALL, PLANTED, RIGHT
from posted_table import POSTED, TRULY_FAULTY

from multiloss.check import FAMILIES, check_loss

HERE = Path(__file__).parent
# On each loss one backend, of which neighbours in a table have different ones.
TURNS = ("torch", "jax", "tensorflow")


def found(name, with_oracle, backends, workers):
    """The rows and backends that fail, of those of one row."""
    fault = PLANTED[name]
    oracle = f"{HERE}/planted_oracles.py:{fault.oracle}" if with_oracle else None
    report = check_loss(
        f"{HERE}/planted.py:{fault.target}",
        oracle,
        inputs=fault.inputs,
        backends=sorted(backends),
        checks=[fault.found_with if with_oracle else fault.found_without],
        workers=workers,
        timeout=60,
    )
    for cell in report.failures:
        assert cell.detail
        assert cell.reproduce
        assert cell.kind
    return {(cell.check, cell.backend) for cell in report.failures}


def where(fault):
    """The backends on which a fault shows without an oracle, and those that take part: one's, beside the others."""
    shown = fault.backends if fault.backends_without is None else fault.backends_without
    return shown, (ALL if len(shown) == 1 and fault.found_without in ("value", "gradient", "empty_batch") else shown)


WITHOUT = [name for name, fault in PLANTED.items() if fault.found_without]


def test_of_the_faults_most_are_found_without_an_oracle():
    assert len(PLANTED) >= 50
    assert len(WITHOUT) >= 0.85 * len(PLANTED)
    assert all(fault.why for fault in PLANTED.values() if fault.found_without is None)


# Those that torch alone shows, most of them in less than a second.
@pytest.mark.parametrize("name", [name for name in WITHOUT if where(PLANTED[name])[0] > {"torch"}])
def test_a_fault_is_found_without_an_oracle(name, workers):
    assert found(name, False, {"torch"}, workers) >= {(PLANTED[name].found_without, "torch")}


@pytest.mark.full
@pytest.mark.parametrize(("name", "turn"), list(zip(PLANTED, itertools.cycle(TURNS))))
def test_a_fault_is_found_with_an_oracle(name, turn, workers):
    shown = PLANTED[name].backends
    backends = {turn} if shown == ALL else shown
    assert found(name, True, backends, workers) >= {(PLANTED[name].found_with, backend) for backend in backends}


@pytest.mark.full
@pytest.mark.parametrize("name", WITHOUT)
def test_a_fault_is_found_without_an_oracle_on_every_backend(name, workers):
    shown, taking_part = where(PLANTED[name])
    wanted = {(PLANTED[name].found_without, backend) for backend in shown}
    assert found(name, False, taking_part, workers) >= wanted


@pytest.mark.full
@pytest.mark.parametrize("with_oracle", [True, False], ids=["oracle", "own"])
@pytest.mark.parametrize(("name", "backend"), list(zip(RIGHT, itertools.cycle(TURNS))))
def test_on_a_right_loss_nothing_fails(name, backend, with_oracle, workers):
    right = RIGHT[name]
    oracle = f"{HERE}/planted_oracles.py:{right.oracle}" if with_oracle else None
    target = f"{HERE}/planted.py:{right.target}"
    report = check_loss(target, oracle, inputs=right.inputs, backends=[backend], workers=workers)
    assert report.ok, report.text()
    assert {cell.status for cell in report.cells} <= {"pass", "not applicable"}


def posted(loss, backends, workers):
    """The rows that fail of a loss as people post them."""
    inputs = loss.inputs if loss.inputs in FAMILIES else f"{HERE}/posted_inputs.py:{loss.inputs}"
    report = check_loss(f"{HERE}/posted.py:{loss.target}", inputs=inputs, backends=backends, workers=workers)
    return {cell.check for cell in report.failures}, report


# In the default tier, the forms that once raised a false alarm.
ONCE = ("dice_loss, smooth 1e-7", "binary focal loss", "combo_loss", "ccc_loss")


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(name, backend, marks=() if name in ONCE else pytest.mark.full)
        for name, backend in zip(POSTED, itertools.cycle(TURNS))
    ],
)
def test_on_a_loss_as_posted_nothing_fails(name, backend, workers):
    failing, report = posted(POSTED[name], [backend if name not in ONCE else "torch"], workers)
    assert failing == POSTED[name].rows, report.text()


@pytest.mark.full
@pytest.mark.parametrize(("name", "backend"), list(zip(TRULY_FAULTY, itertools.cycle(TURNS))))
def test_a_fault_as_posted_is_found(name, backend, workers):
    failing, report = posted(TRULY_FAULTY[name], [backend], workers)
    assert failing >= TRULY_FAULTY[name].rows, report.text()
