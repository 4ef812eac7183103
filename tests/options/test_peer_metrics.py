"""Other libraries' metrics: docs/metrics_interop.md says which of ours give their numbers, and each row is tested here.

What the others gave is in tests/data/peer_metrics.json, recorded by benchmarks/record_metrics.py; none of them need be
installed.
"""

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from multiloss import metrics

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics_interop.md").read_text(encoding="utf-8")
PEERS = json.loads((Path(__file__).parents[1] / "data" / "peer_metrics.json").read_text(encoding="utf-8"))
RECORDS = {(record["module"], record["call"], record["data"]): record for record in PEERS["records"]}
EXCLUSIVE = {
    **{"M": "multiclass", "A": "absent", "N": "nowhere", "T": "ties", "V": "void"},
    **{"W": "weights", "I": "image_weights"},
}
BINARY = {"B": "binary", "E": "empty", "H": "binary_ties", "U": "binary_void", "F": "full", "Z": "nothing"}
MULTILABEL = {"L": "multilabel", "K": "labels_absent", "J": "labels_void", "G": "tags"}
DATA = EXCLUSIVE | BINARY | MULTILABEL
METRICS = (
    *("DiceCoefficient", "JaccardIndex", "Precision", "Recall", "Specificity", "MatthewsCorrelation"),
    "ConfusionMatrix",
)
# Counts are exact, and quotients of float32 have a few roundings of 6e-8. Keras adds 1e-7 to denominators from 1 on.
TOLERANCE = 1e-6


def rows():
    """Each row of the document on each of its data: library, module, call, our cell and data."""
    for section in DOCUMENT.split("\n## ")[1:]:
        library = section.splitlines()[0]
        before, *parts = re.split(r"^Calls are of ", section, flags=re.M)
        assert parts
        assert "\n| `" not in before
        for part in parts:
            module, common = re.match(r"`(.*?)`(?:, where `\.\.\.` is `(.*?)`)?\.\n", part).groups()
            table = re.findall(r"^\| `(.*)` \| (`.*`|none: .*) \| ([A-Z ]+) \|$", part, re.M)
            assert len(table) == part.count("\n| `")
            for call, ours, letters in table:
                for letter in letters.split():
                    theirs = call.replace("...", common or "...")
                    case = library, module, theirs, ours, DATA[letter]
                    yield pytest.param(*case, id=f"{module}.{theirs}-{letter}")


def forms(data, truth, predictions):
    """Which forms ours take after the peer, the same for peers that differ in nothing else: calls are kept by it."""
    first = {"first"} & {*predictions.split()}
    if data not in EXCLUSIVE.values():
        return frozenset(first)
    one_hot = {"onehot"} & {*truth.split()} if data != "void" else {}
    return frozenset({*first, *one_hot, predictions.split()[0]})


def given(data, mode, taken):
    """Truth and predictions in forms near those that the peer takes, and the options that tell of them."""
    y_true = np.array(PEERS["data"][data]["truth"])
    y_pred = np.array(PEERS["data"][data]["probabilities"], "float32")
    options, classes = {}, y_pred.shape[-1]
    if data in EXCLUSIVE.values():
        if mode != "multiclass":
            y_true = np.eye(classes, dtype=int)[y_true]
            if "probabilities" not in taken:
                y_pred = np.eye(classes, dtype="float32")[y_pred.argmax(axis=-1)]
        elif "labels" in taken:
            y_pred, options = y_pred.argmax(axis=-1), {"sparse_y_pred": True, "num_classes": classes}
        elif "onehot" in taken:
            y_true = np.eye(classes, dtype=int)[y_true]
    elif data in BINARY.values():
        if mode == "multiclass":
            y_pred, options = (y_pred[..., 0] > 0.5).astype(int), {"sparse_y_pred": True, "num_classes": 2}
        else:
            y_true = y_true[..., None]
    if "first" in taken and mode != "binary":
        y_true, y_pred = (np.moveaxis(y, -1, 1) if y.ndim == 4 else y for y in (y_true, y_pred))
        options["data_format"] = "channels_first"
    return y_true, y_pred, options


@functools.cache
def evaluate(ours, data, taken):
    """Evaluate an expression of our metrics, such as `JaccardIndex(average=None) / 4`, on data in two batches."""
    default = "binary" if data in BINARY.values() else "multiclass" if data in EXCLUSIVE.values() else "multilabel"
    weights = PEERS["data"][data].get("sample_weight")

    def bound(name):
        def metric(mode=default, **options):
            y_true, y_pred, more = given(data, mode, taken)
            one = getattr(metrics, name)(mode=mode, **{**more, **options})
            for batch in (slice(len(y_true) - 1), slice(len(y_true) - 1, None)):
                weight = None if weights is None else np.array(weights, "float32")[batch]
                one.update_state(y_true[batch], y_pred[batch], sample_weight=weight)
            return ops.convert_to_numpy(one.result()).astype("float64")

        return metric

    return np.asarray(eval(ours, {"np": np, **{name: bound(name) for name in METRICS}}))


def agree(theirs, ours):
    """Whether numbers are the same; of images, in the mean over them."""
    theirs = np.array(theirs, "float64")  # None is NaN
    while theirs.ndim and theirs.shape[-1] == 1 and theirs.ndim > ours.ndim:
        theirs = theirs[..., 0]
    if theirs.ndim == ours.ndim + 1:
        values, there = np.nan_to_num(theirs).sum(axis=0), (~np.isnan(theirs)).sum(axis=0)
        theirs = np.where(there > 0, values / np.maximum(there, 1), np.nan)
    same = theirs.shape == ours.shape  # and NaN in the same places: of classes that are left out
    return same and np.allclose(ours, theirs, rtol=0, atol=TOLERANCE, equal_nan=True)


@pytest.mark.parametrize(("library", "module", "call", "ours", "data"), list(rows()))
def test_ours_is_theirs(library, module, call, ours, data):
    """Or is not, or theirs is an error, where there is none of ours."""
    record = RECORDS[module, call, data]
    assert library == f"{record['library']} {record['version']}"
    raised = re.match(r"none: it raises `(\w+)`, as ", ours)
    if raised:
        assert record["value"] == raised[1]
        return
    unlike = re.match(r"none: unlike `(.*?)`, it ", ours)
    taken = forms(data, record["truth"], record["predictions"])
    values = evaluate(unlike[1] if unlike else ours.strip("`"), data, taken)
    assert agree(record["value"], values) == (not unlike), f"theirs: {record['value']}, ours: {values.tolist()}"


def test_every_recorded_call_is_in_the_document_once():
    assert sorted(case.values[1:3] + case.values[4:] for case in rows()) == sorted(RECORDS)


def test_labels_that_are_no_class_raise_an_error():
    """As the notes on Keras say, which leaves them out."""
    metric = metrics.JaccardIndex(mode="multiclass", num_classes=4, sparse_y_pred=True)
    with pytest.raises(ValueError, match="255"):
        metric.update_state(np.array([[0, 255]]), np.array([[0, 1]]))
