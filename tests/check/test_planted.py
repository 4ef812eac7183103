"""Planted faults, each found by its row, with an oracle and without one; right losses, on which no row fails."""

from pathlib import Path

import pytest
from planted_table import ALL, PLANTED
from posted_table import POSTED

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


def posted(loss, backends, workers):
    """The rows that fail of a loss as people post them."""
    inputs = loss.inputs if loss.inputs in FAMILIES else f"{HERE}/posted_inputs.py:{loss.inputs}"
    report = check_loss(f"{HERE}/posted.py:{loss.target}", inputs=inputs, backends=backends, workers=workers)
    return {cell.check for cell in report.failures}, report


# The forms that once raised a false alarm.
@pytest.mark.parametrize("name", ["dice_loss, smooth 1e-7", "combo_loss", "ccc_loss"])
def test_on_a_loss_as_posted_nothing_fails(name, workers):
    failing, report = posted(POSTED[name], ["torch"], workers)
    assert failing == POSTED[name].rows, report.text()
