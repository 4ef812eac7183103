"""Write `docs/keras-losses.md`: the results of `multiloss check` on every loss class of the installed Keras.

python docs/keras_losses.py
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from multiloss.check import Report, Workers, check_loss
from multiloss.check.inputs import guess

PAGE = Path(__file__).with_name("keras-losses.md")
SEARCH = 50
# Inputs of the losses whose names suggest none, or the wrong ones.
FAMILIES = {
    "CTC": "docs/keras_losses.py:ctc",
    "CategoricalGeneralizedCrossEntropy": "integer-labels",
    "CategoricalHinge": "one-hot",
    "Circle": "labels-embeddings",
    "KLDivergence": "one-hot",
}
# Oracles: by that of `Dice`, the prediction of an empty mask as empty is correct.
ORACLES = {"Dice": "multiloss.oracles:dice(mode='binary', batch=True, average='micro', smooth=1e-7)"}
# (loss, or "" for any, and check) -> the cause, found by examining the loss without the checker.
BY_HAND = {
    ("", "config"): "No class has the dtype in its config. A missing parameter returns to its default.",
    ("", "save"): "Same cause as `config`.",
    ("Huber", "config"): "For an error of 5, `Huber(delta=3.0)` is 10.5, but 4.5 when recreated from its own config.",
    ("BinaryCrossentropy", "sample_weight"): (
        "Weights `[B]` multiply values `[B, H, W]` without being expanded to `[B, 1, 1]`. If B = W, nothing raises: "
        "with B = 2, the weights [1, 0] select the left column of both samples instead of the first sample."
    ),
    ("BinaryCrossentropy", "mask"): "Same cause as `sample_weight`.",
    ("BinaryCrossentropy", "float16"): (
        "With dtype float16, probabilities are clipped at 1 - 1e-7, which rounds to 1: the gradient at a saturated, "
        "correct pixel is NaN."
    ),
    ("BinaryCrossentropy", "bfloat16"): (
        "With dtype bfloat16, 1 - 1e-7 rounds to 1 as well: the loss of a saturated, correct pixel is NaN on "
        "TensorFlow and JAX; on torch, loss and gradient are 0."
    ),
    ("BinaryFocalCrossentropy", "float16"): "Same cause as in `BinaryCrossentropy`.",
    ("BinaryFocalCrossentropy", "bfloat16"): "Same cause as in `BinaryCrossentropy`.",
    ("BinaryFocalCrossentropy", "sample_weight"): "Same cause as in `BinaryCrossentropy`.",
    ("BinaryFocalCrossentropy", "mask"): "Same cause as in `BinaryCrossentropy`.",
    ("CategoricalGeneralizedCrossEntropy", "gradient"): (
        "For q < 1, the derivative of p ** q at p = 0 is infinite and not clipped: the gradient is -inf, and NaN in "
        "the rest of the row."
    ),
    (
        "CategoricalGeneralizedCrossEntropy",
        "[B] and [B, 1]",
    ): "Labels `[B, 1]` broadcast against `[B]`: 3 rows give 9 values.",
    (
        "CategoricalHinge",
        "value",
    ): "`ops.max` of an empty tensor raises; the other losses of Keras accept an empty batch.",
    ("CategoricalHinge", "gradient"): "Same cause as `value`.",
    ("CategoricalHinge", "unknown batch size"): "Same cause as `value`.",
    (
        "Circle",
        "labels above 2^24",
    ): "Labels are cast to float32, where 2^24 and 2^24 + 1 are equal, so that other pairs are positive.",
    ("CategoricalGeneralizedCrossEntropy", "search"): "Same cause as `gradient`.",
    ("CTC", "retracing"): (
        "`lax.scan` gets a new function at every call. Outside of `jit`, JAX compiles it each time: 63 compilations at "
        "the first call, one at every other."
    ),
    ("Dice", "gradient"): "Same cause as `value`: the oracle's gradient is 0 where both masks are empty.",
    ("Dice", "search"): "Same cause as `value`.",
    ("SparseCategoricalCrossentropy", "search"): (
        "TensorFlow clips probabilities at 1e-7 before normalizing them, JAX and torch afterwards: where a wrong class "
        "has the probability 0, its gradient is 0 on TensorFlow and 1 on JAX and torch."
    ),
    ("CosineSimilarity", "search"): "At rows of zeros the gradient is NaN on JAX and torch, and 0 on TensorFlow.",
    ("Dice", "value"): "An empty mask that is predicted as empty has a loss of 1.0.",
    ("Dice", "float16"): "Sums of more than 65,504 pixels overflow in float16: NaN on a perfect 257 x 256 mask.",
    (
        "Dice",
        "sample_weight",
    ): "The value is a scalar: weights [1, 0] and [0, 1] give the same number, 0.25 and 0.25.",
    ("Tversky", "sample_weight"): "Same cause as in `Dice`.",
    ("Tversky", "float16"): "Same cause as in `Dice`.",
    (
        "Hinge",
        "retracing",
    ): "It converts labels in `ops.cond` with new functions at every call, which JAX compiles each time.",
    ("SquaredHinge", "retracing"): "Same cause as in `Hinge`.",
    ("KLDivergence", "float16"): (
        "Probabilities are clipped at 1e-7, which float16 cannot represent precisely: infinite gradients on "
        "TensorFlow, NaN on JAX, and on torch an infinite value where a prediction is saturated and wrong."
    ),
}
HEAD = """# Every loss of Keras, checked

Generated by `python docs/keras_losses.py`: do not edit. {versions}. Seed {seed}.
Values are compared between backends, and gradients with finite differences of the loss's own values in float64. `Dice`
is compared with an oracle instead, `multiloss.oracles:dice`, for which an empty mask predicted as empty is correct. For
each loss, {search} more cases are drawn.

A cell names the backends on which a check fails. "-" means not applicable, "?" means not checked.
"""


def ctc(seed: int) -> dict[str, tuple[Any, Any]]:
    """Return label sequences that are shorter than the logit sequences and padded with 0."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(1, 4, (4, 3)).astype(np.int32), rng.normal(size=(4, 7, 4)).astype(np.float32)
    y[1, 1:] = y[2, 2:] = 0
    same = np.ones_like(y)
    return {"random": (y, x), "repeated labels": (same, x), "equal logits": (y, 0 * x), "sure": (y, 30 * x)}


def names() -> list[str]:
    """Return the names of the loss classes of Keras."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return sorted(
        name
        for name, item in vars(keras.losses).items()
        if inspect.isclass(item) and issubclass(item, keras.losses.Loss) and item is not keras.losses.Loss
    )


def mark(report: Report, check: str) -> str:
    """Return the table cell for one row of a report."""
    cells = [cell for cell in report.cells if cell.check == check]
    failing = [cell.backend for cell in cells if cell.status == "fail"]
    if failing:
        return "all" if len(failing) == len(report.versions) else ", ".join(failing)
    if all(cell.status == "not applicable" for cell in cells):
        return "-"
    return "?" if any(cell.status == "not checked" for cell in cells) else ""


def section(name: str, report: Report) -> list[str]:
    """Return the failures of a loss, each with a command that reproduces it and its cause."""
    lines = [f"\n### {name}\n"]
    for check in dict.fromkeys(cell.check for cell in report.failures):
        cells = [cell for cell in report.failures if cell.check == check]
        by_hand = BY_HAND.get((name, check)) or BY_HAND.get(("", check)) or "Not examined."
        detail = " ".join(cells[0].detail.split())[:200]
        where = ", ".join(cell.backend for cell in cells)
        lines.append(
            f"- **{check}** ({where}): {detail} ({cells[0].case}).\n  *{by_hand}*\n\n      {cells[0].reproduce}\n"
        )
    return lines if report.failures else [*lines, "None."]


def main() -> None:
    """Check every loss and write the page."""
    reports: dict[str, Report] = {}
    with Workers() as workers:
        for name in names():
            target = f"keras.losses:{name}"
            family = FAMILIES.get(name, guess(target))
            count = SEARCH if name not in ("CTC",) else 0  # no family has label sequences that fit the logits
            print(target, family, file=sys.stderr, flush=True)
            report = check_loss(target, ORACLES.get(name), inputs=family, search=count, workers=workers)
            reports[name] = report
            print(report.verdict, file=sys.stderr, flush=True)
    first = next(iter(reports.values()))
    checks = list(dict.fromkeys(cell.check for report in reports.values() for cell in report.cells))
    shown = [check for check in checks if any(mark(report, check) not in ("", "-") for report in reports.values())]
    lines = [HEAD.format(versions="; ".join(first.versions.values()), seed=first.seed, search=SEARCH)]
    lines.append(f"Pass everywhere: {', '.join(check for check in checks if check not in shown)}.\n")
    lines.append(f"| loss | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}")
    for name, report in reports.items():
        lines.append(f"| `{name}` | {' | '.join(mark(report, check) for check in shown)} |")
    lines.append(
        "\n## Failures, and commands that reproduce them\n\nThe cause, found by examining the loss, is in italics."
    )
    for name, report in reports.items():
        lines += section(name, report)
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
