"""Metrics as targets of the checker: planted faults, each found by its own row; right ones; what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from multiloss.check import METRIC_CHECKS, check_loss
from multiloss.check.checks.metrics import MIXED, divisions
from multiloss.check.families import batches

ORACLES = Path(__file__).parent / "metric_oracles.py"
FAULTY = Path(__file__).parent / "faulty_metrics.py"
CLASSES = "y: int[B] in 0..2, x: prob[B, 3]"
ALL = ["tensorflow", "jax", "torch"]
# The rows that fail for each fault, on torch, and the inputs: those of the first row are what the fault is about.
PLANTED = {
    "MeanOfMeans": ({"streaming", "weights"}, CLASSES),  # a weighted batch is one of another size
    "LastBatch": ({"streaming", "weights"}, CLASSES),
    "EmptyBatchIsNaN": ({"streaming"}, CLASSES),
    "IgnoredWeights": ({"weights"}, CLASSES),
    "HalfWeighted": ({"weights"}, CLASSES),
    "ResetForgets": ({"reset"}, CLASSES),
    "PythonState": ({"reset", "evaluate"}, CLASSES),  # with a first update that only builds
    "Unweighted": ({"evaluate"}, CLASSES),
    "HalfSums": ({"float16"}, "regression"),
    "HalfVariable": ({"streaming", "finite"}, "regression"),  # it overflows
    "NaNBefore": ({"finite"}, CLASSES),
    "LostParameter": ({"config"}, CLASSES),
    "LostDtype": ({"config"}, CLASSES),
    "OrderMatters": ({"streaming"}, CLASSES),
    "WrongAxis": ({"streaming", "weights"}, CLASSES),
}


def checked(name, inputs=CLASSES, oracle=None, **arguments):
    oracle = oracle and f"{ORACLES}:{oracle}"
    return check_loss(f"{FAULTY}:{name}", oracle, inputs=inputs, **{"backends": ["torch"], **arguments})


def failing(report):
    return {cell.check for cell in report.failures}


def cell(report, check):
    return next(cell for cell in report.cells if cell.check == check)


@pytest.mark.parametrize("name", PLANTED)
def test_fault_is_found_by_its_row(name, workers):
    rows, inputs = PLANTED[name]
    report = checked(name, inputs, workers=workers)
    assert failing(report) == rows, report.text(failures=None)


@pytest.mark.parametrize(
    ("name", "oracle", "inputs"),
    [
        ("WrongAxis", "accuracy", CLASSES),
        ("WrongPart", "of_both", CLASSES),
        ("WrongTie", "positives", "masks"),  # no rounding moves 0.5
    ],
)
def test_oracle_finds_wrong_values(name, oracle, inputs, workers):
    report = checked(name, inputs, oracle, workers=workers, checks=["value"])
    assert failing(report) == {"value"}, report.text()


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("Accuracy", "accuracy"),
        ("Accuracy", "weighted_accuracy"),
        ("OfBoth", "of_both"),
        ("Refusing", None),
        ("Lazy", None),
        ("OfBatches", None),
        ("DEFINED_ONCE", None),
    ],
)
def test_right_metric_passes(name, oracle, workers):
    report = checked(name, oracle=oracle, workers=workers)
    assert report.ok, report.text(failures=None)
    assert {cell.check for cell in report.cells} == set(METRIC_CHECKS)
    run = {cell.check for cell in report.cells if cell.status == "pass"}
    skipped = {"compiled", "unknown_batch"} | ({"weights"} if name == "Refusing" else set())
    assert run == set(METRIC_CHECKS) - skipped
    assert "(a metric)" in report.target


def test_state_that_all_share_is_found(workers):
    """Whatever else it disturbs, `reset` says what it is."""
    report = checked("SharedState", workers=workers, checks=["reset"])
    assert "the result of a new metric depends" in cell(report, "reset").detail


def test_oracle_of_weights_is_given_them(workers):
    report = checked("IgnoredWeights", oracle="weighted_accuracy", workers=workers, checks=["value"])
    assert failing(report) == {"value"}
    assert cell(report, "value").case == f"{MIXED}, weighted"


def test_weights_that_are_refused_are_not_applicable(workers):
    for name, words in {"Unweighted": "takes no `sample_weight`", "Refusing": "must be None"}.items():
        row = cell(checked(name, workers=workers, checks=["weights"]), "weights")
        assert row.status == "not applicable"
        assert words in row.detail


def test_functions_are_wrapped_as_compile_wraps_them(workers):
    report = checked("hits", workers=workers, metric=True)
    assert report.ok, report.text(failures=None)
    assert cell(report, "config").status == "not applicable"
    report = checked("mean_of_hits", workers=workers, metric=True)
    assert "streaming" in failing(report), report.text(failures=None)
    assert "--metric" in cell(report, "streaming").reproduce
    assert "--metric" not in cell(checked("MeanOfMeans", workers=workers), "streaming").reproduce


def test_command_says_what_it_is(command, capsys):
    assert command(["check", f"{FAULTY}:hits", "--metric", "--inputs", CLASSES, "--backends", "torch"]) == 0
    assert ":hits (a metric)" in capsys.readouterr().out


def test_instance_of_another_process(workers):
    import keras

    report = check_loss(keras.metrics.MeanIoU(num_classes=3), backends=["torch"], workers=workers, checks=["value"])
    assert report.ok, report.text()


ACCURACY = f"{FAULTY}:Accuracy"
# Words of the message -> the target and arguments that it is about.
REFUSED = {
    "`checks` of a metric must be among runs, value": (ACCURACY, {"checks": ["gradient"]}),
    "`skip` of a metric must be among": (ACCURACY, {"skip": ["save"]}),
    "`search` must be 0 for a metric. Received: 5": (ACCURACY, {"search": 5}),
    "as many numbers as the metric, 1. Received: 3": (ACCURACY, {"oracle": f"{ORACLES}:of_both"}),
    "fails on 'random': KeyError": (ACCURACY, {"oracle": f"{ORACLES}:raising"}),
    "takes (values, sample_weight)": ("keras.metrics:Mean", {}),
    "`checks` must be among runs, value": ("keras.losses:MeanSquaredError", {"checks": ["streaming"]}),
    "raises on every backend": ("keras.metrics:F1Score", {"inputs": "y: float[B], x: float[B]"}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words, workers):
    target, given = REFUSED[words]
    with pytest.raises(ValueError, match=re.escape(words)):
        check_loss(target, **{"inputs": CLASSES, "backends": ["torch"], "workers": workers, **given})


def test_divisions_hold_every_row_once_in_batches_of_different_sizes():
    plain = batches(CLASSES, 0)[0]
    for seed in range(20):
        for rows in (2, 3, 6):
            case = plain.take(slice(rows))
            for name, parts in divisions(case, seed).items():
                numbers = np.sort(np.concatenate([part.x.ravel() for part in parts]))
                np.testing.assert_array_equal(numbers, np.sort(case.x.ravel()))
                sizes = {part.rows for part in parts}
                assert name == "row by row" or rows <= len(parts) or len(sizes) > 1


FEW = "y: int[6] in 0..2, x: int[6] in 0..2"  # Keras's MeanIoU takes seconds for the 65,505 rows that others have
OWN = ["DiceCoefficient", "JaccardIndex", "ConfusionMatrix", "MatthewsCorrelation", "RowsWithoutPositives"]
OWN = [f"multiloss.metrics:{name}" for name in (*OWN, "DiceCoefficient(samplewise=True)", "Recall(average='micro')")]
KERAS = ["MeanSquaredError", "BinaryAccuracy", "AUC", "MeanIoU(num_classes=3)", "F1Score", "BinaryCrossentropy"]
KERAS = [f"keras.metrics:{name}" for name in KERAS]


@pytest.mark.parametrize("target", [*OWN, *KERAS])
def test_no_false_alarm(target, workers):
    report = check_loss(target, inputs=FEW if "MeanIoU" in target else None, backends=["torch"], workers=workers)
    assert report.ok, report.text(failures=None)


def test_keras_metric_that_loses_an_axis(workers):
    """True: `keras.metrics.CosineSimilarity.get_config` has a name and a dtype only."""
    report = check_loss("keras.metrics:CosineSimilarity(axis=0)", backends=["torch"], workers=workers)
    assert "config" in failing(report), report.text()


# Keras's BinaryCrossentropy of float16 is NaN on TensorFlow and JAX, truly: 1 - 1e-7 is 1, whose logarithm is taken.
@pytest.mark.full
@pytest.mark.parametrize("target", [*OWN, *KERAS[:-1]])
def test_no_false_alarm_on_any_backend(target, workers):
    report = check_loss(target, inputs=FEW if "MeanIoU" in target else None, backends=ALL, workers=workers)
    assert report.ok, report.text(failures=None)


# On all backends: rows that fail on torch too, and those of compiled modes.
COMPILED = {
    "PythonState": {"reset", "compiled", "unknown_batch", "evaluate"},
    "StaticRows": {"unknown_batch"},
    "MeanOfMeans": {"streaming", "weights"},
    "Accuracy": set(),
    "Lazy": set(),
}


@pytest.mark.full
@pytest.mark.parametrize("name", COMPILED)
def test_fault_of_compiled_modes(name, workers):
    report = checked(name, workers=workers, backends=ALL)
    assert failing(report) == COMPILED[name], report.text(failures=None)
