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
DATA = {"M": "multiclass", "A": "absent", "N": "absent_from_batch", "B": "binary", "T": "two_classes", "L": "lines"}
# Sums of 120 pixels in float32 have some ten roundings of 6e-8, values up to 2 as many again, and what is recorded has
# few of them or none. A row that says another tolerance has its reason below the table.
TOLERANCE = 2e-6
# What is in the way of these losses among the options that a section says of all its rows.
WITHOUT = {"focal": {"empty", "smooth"}, "cross_entropy": {"empty", "smooth"}, "lovasz": {"smooth"}}
LOSSES = (
    *("dice", "jaccard", "tversky", "generalized_dice", "lovasz", "mcc", "cldice", "unified_focal"),
    *("focal", "cross_entropy", "dice_focal", "dice_cross_entropy"),
)


def rows():
    """Each row of the document on each of its data: library, call, our expression, its section's options, ..."""
    for section in DOCUMENT.split("\n## ")[1:]:
        library, version = section.splitlines()[0].split()
        (module, options), *more = re.findall(r"^Calls are of `(.*?)`\. Everywhere: `(.*?)`", section, re.M)
        assert not more
        table = re.findall(r"^\| `(.*)` \| `(.*)` \| ([A-Z ]+?)(?: to (\S+))? \|$", section, re.M)
        assert len(table) == section.count("\n| `")
        for call, ours, letters, tolerance in table:
            for data in (DATA[letter] for letter in letters.split()):
                case = library, version, f"{module}.{call}", ours, options, data, float(tolerance or TOLERANCE)
                yield pytest.param(*case, id=f"{module}.{call}-{data}")


def arrays(data, kind, mode):
    """Truth and predictions of a mode, which need not be the one that the data were made for."""
    truth, predictions = np.array(PEERS["data"][data]["truth"]), np.array(PEERS["data"][data][kind], np.float32)
    if mode == "binary":
        return truth[..., 0], predictions[..., 0]
    if mode == "multilabel" and truth.ndim < predictions.ndim:
        truth = np.eye(predictions.shape[-1], dtype=int)[truth]
    return truth, predictions


def evaluate(ours, options, data, kind):
    """Evaluate an expression of our losses, such as `dice(smooth=1) / 2`, as an array `[B]` or a scalar."""
    common = eval(f"dict({options})")

    def bound(name):
        def loss(**given):
            own = {key: value for key, value in common.items() if key not in WITHOUT.get(name, ())}
            own |= {"mode": "binary" if data in ("binary", "lines") else "multiclass", **given}
            of = "two_classes" if data == "binary" and own["mode"] == "multiclass" else data
            truth, predictions = arrays(of, kind, own["mode"])
            value = getattr(losses, name)(truth, predictions, from_logits=kind == "logits", **own)
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
        call = record["call"].split(".losses.")[1]
        section = DOCUMENT.split(f"\n## {record['library']} {record['version']}\n")[1].split("\n## ")[0]
        assert (record["call"], record["data"]) in tested or f"- `{call}`" in section


def test_options_of_a_section_are_dropped_only_where_a_loss_refuses_them():
    for name, options in WITHOUT.items():
        for option in options:
            with pytest.raises(TypeError, match=f"has no argument `{option}`"):
                getattr(losses, name)([[1]], [[0.5]], **{option: "skip" if option == "empty" else 0})
