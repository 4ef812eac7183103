"""Other libraries' numbers: docs/overlap_interop.md says how to get them, and each row of its tables is tested here.

Keras is called. What the others gave is in tests/data/peers.json, recorded by benchmarks/record_peers.py; none of them
need be installed.
"""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from multiloss import losses

DOCUMENT = (Path(__file__).parents[2] / "docs" / "overlap_interop.md").read_text(encoding="utf-8")
PEERS = json.loads((Path(__file__).parents[1] / "data" / "peers.json").read_text(encoding="utf-8"))
DATA = {
    **{"M": "multiclass", "A": "absent", "N": "absent_from_batch", "O": "background", "S": "soft"},
    **{"B": "binary", "T": "two_classes", "L": "lines", "E": "empty"},
}
# Sums of 120 pixels in float32 have some ten roundings of 6e-8, values up to 2 as many again, and what is recorded has
# few of them or none. A row that says another tolerance has its reason below the table.
TOLERANCE = 2e-6
# What is in the way of these losses among the options that a section says of all its rows.
WITHOUT = {"focal": {"empty", "smooth"}, "cross_entropy": {"empty", "smooth"}, "lovasz": {"smooth"}}
LOSSES = (
    *("dice", "jaccard", "tversky", "generalized_dice", "lovasz", "mcc", "cldice", "unified_focal"),
    *("focal", "cross_entropy", "dice_focal", "dice_cross_entropy", "DiceLoss"),
)


def rows():
    """Each row of the document on each of its data: library, call, our expression, its table's options, ..."""
    for section in DOCUMENT.split("\n## ")[1:]:
        library, version = section.splitlines()[0].split()
        before, *parts = re.split(r"^Calls are of ", section, flags=re.M)
        assert parts
        assert "\n| `" not in before
        for part in parts:
            module, options = re.match(r"`(.*?)`\. Everywhere: `(.*?)`", part).groups()
            cells = r"^\| `(.*)` \| `(.*)` \| ([A-Z ]+?)(?: to (\S+))?(?: where (swapped|not)\b[^|]*)? \|$"
            table = re.findall(cells, part, re.M)
            assert len(table) == part.count("\n| `")
            for call, ours, letters, tolerance, swapped in table:
                theirs = f"{module}.{call}" if not swapped else exchanged(f"{module}.{call}", swapped == "swapped")
                for data in (DATA[letter] for letter in letters.split()):
                    case = library, version, theirs, ours, options, data, float(tolerance or TOLERANCE)
                    yield pytest.param(*case, id=f"{module}.{call}-{data}{swapped and '-'}{swapped}")


def exchanged(call, swapped):
    """Return a call of Keras's Tversky as a version has it that swaps alpha and beta, or one that does not."""
    truth, missed = np.ones((1, 2), "float32"), np.array([[1, 0]], "float32")
    installed_swaps = float(keras.losses.tversky(truth, missed, alpha=1, beta=0)) > 0.25  # 0.5, or else 0
    if installed_swaps == swapped:
        return call
    return re.sub(r"alpha=(.*?), beta=(.*?)([,)])", r"alpha=\2, beta=\1\3", call)


def arrays(data, kind, mode):
    """Truth and predictions of a mode, which need not be the one that the data were made for."""
    kind = "probabilities" if kind == "thresholded" else kind
    truth, predictions = np.array(PEERS["data"][data]["truth"]), np.array(PEERS["data"][data][kind], np.float32)
    if mode == "binary":
        return truth[..., 0], predictions[..., 0]
    if mode == "multilabel" and truth.ndim < predictions.ndim:
        truth = np.eye(predictions.shape[-1], dtype=int)[truth]
    return truth, predictions


def evaluate(ours, options, data, kind):
    """Evaluate an expression of our losses, such as `dice(smooth=1) / 2`, as an array `[B]` or a scalar.

    A class gives the mean over samples, a function their values.
    """
    common = eval(f"dict({options})")

    def bound(name):
        def loss(**given):
            own = {key: value for key, value in common.items() if key not in WITHOUT.get(name, ())}
            own |= {"mode": "binary" if data in ("binary", "lines", "empty") else "multiclass", **given}
            truth, predictions = arrays(data, kind, own["mode"])
            own["from_logits"], named = kind == "logits", getattr(losses, name)
            is_class = isinstance(named, type)
            value = named(**own)(truth, predictions) if is_class else named(truth, predictions, **own)
            return ops.convert_to_numpy(value).astype("float64")

        return loss

    labels = np.array(PEERS["data"][data]["truth"])
    return eval(ours, {"np": np, "labels": labels, **{name: bound(name) for name in LOSSES}})


def of_keras(call, data):
    """What Keras gives, and whether for probabilities or logits."""
    kind = "logits" if "from_logits=True" in call else "probabilities"
    truth, predictions = arrays(data, kind, "multilabel")
    return eval(call, {"keras": keras})(truth.astype("float32"), predictions), kind


def recorded(library, version, call, data):
    """What the library gave, and whether for probabilities or logits."""
    wanted = {"library": library, "version": version, "call": call, "data": data}
    (record,) = (record for record in PEERS["records"] if wanted.items() <= record.items())
    return record["value"], record["input"]


@pytest.mark.parametrize(("library", "version", "call", "ours", "options", "data", "tolerance"), list(rows()))
def test_ours_is_theirs(library, version, call, ours, options, data, tolerance):
    theirs, kind = of_keras(call, data) if library == "keras" else recorded(library, version, call, data)
    theirs, values = ops.convert_to_numpy(theirs), evaluate(ours, options, data, kind)
    if theirs.ndim and values.ndim:  # of samples: in the mean over their classes and pixels
        assert len(theirs) == len(values)
        theirs = theirs.reshape(len(theirs), -1).mean(axis=1)
    else:
        theirs, values = theirs.mean(), values.mean()
    assert values == pytest.approx(theirs, rel=0, abs=tolerance)


def test_every_recorded_call_is_in_the_document():
    """In a table on all of its data, or by name and library among what has no counterpart."""
    tested = {(case.values[2], case.values[5]) for case in rows()}
    for record in PEERS["records"]:
        _, _, call = record["call"].split(".", 2)
        section = DOCUMENT.split(f"\n## {record['library']} {record['version']}\n")[1].split("\n## ")[0]
        assert (record["call"], record["data"]) in tested or f"- `{call}`" in section


def test_keras_divides_probabilities_by_their_sum():
    """And ours do not: the example of the document."""
    truth, predictions = np.array([[1, 0]], "float32"), np.array([[0.9, 0.3]], "float32")
    theirs = float(keras.losses.CategoricalCrossentropy()(truth, predictions))
    assert float(keras.losses.SparseCategoricalCrossentropy()(np.array([0]), predictions)) == pytest.approx(theirs)
    focal = float(keras.losses.CategoricalFocalCrossentropy(alpha=1)(truth, predictions))
    assert focal == pytest.approx((1 - 0.9 / 1.2) ** 2 * theirs)
    ours = float(losses.cross_entropy(truth, predictions, mode="multiclass")[0])
    assert f"Keras's cross-entropy is {theirs:.4f} and ours is {ours:.4f}." in DOCUMENT.replace("\n  ", " ")
    divided = predictions / predictions.sum(axis=-1, keepdims=True)
    assert float(losses.cross_entropy(truth, divided, mode="multiclass")[0]) == pytest.approx(theirs)


def test_options_of_a_section_are_dropped_only_where_a_loss_refuses_them():
    for name, options in WITHOUT.items():
        for option in options:
            with pytest.raises(TypeError, match=f"has no argument `{option}`"):
                getattr(losses, name)([[1]], [[0.5]], **{option: "skip" if option == "empty" else 0})
