"""Differences of Keras itself between backends: what is said where a comparison parts for one of them.

`tests/compare/test_known.py` shows each of them. What no rule can tell from another fault is not listed.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable

from multiloss.check.models.report import STAGES
from multiloss.check.report import Cell

SEEN = "seen with Keras 3.15.1, TensorFlow 2.21, JAX 0.10.2, torch 2.13"
# Facts beside the classes of layers: of labels, and of weights.
WIDE_INTEGERS = "integers beyond 32 bits"
SAME_PATHS = "weights of one path"


@dataclasses.dataclass(frozen=True)
class Known:
    """One difference.

    Attributes:
        text: what is said, with a figure and what to do.
        stages: the stages at which numbers part for it.
        backend: the one of which one is off then; others may be, too.
        pattern: a regular expression, found in the detail of the cell: it names layer, weight, loss and optimizer.
        facts: one of them is needed: classes of layers in the model, `WIDE_INTEGERS`, `SAME_PATHS`.
        only: a regular expression of the names of all that is off at that stage.
    """

    text: str
    stages: tuple[str, ...]
    backend: str
    pattern: str = ""
    facts: tuple[str, ...] = ()
    only: str = ""

    def explains(self, cell: Cell, off: Collection[str], facts: Collection[str] = ()) -> bool:
        """Whether a cell fails for this.

        Args:
            cell: the first that fails of its backend.
            off: the backends whose first failure is at this stage.
            facts: the classes of the model's layers, and what is special of its labels and weights.
        """
        names = [name for name, error in cell.errors.items() if not error <= 1]
        return (
            cell.check in self.stages
            and self.backend in off
            and re.search(self.pattern, cell.detail) is not None
            and (not self.facts or not set(self.facts).isdisjoint(facts))
            and all(re.search(self.only, name) for name in names)
        )


def recognised(cells: Iterable[Cell], facts: Collection[str] = ()) -> tuple[Cell, ...]:
    """Return the cells, with what is known of the first that fails of each backend; `facts` as in `Known.explains`."""
    cells = tuple(cells)
    firsts: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: STAGES.index(cell.check)):
        if cell.status == "fail":
            firsts.setdefault(cell.backend, cell)
    said = {}
    for backend, cell in firsts.items():
        off = [other for other, first in firsts.items() if first.check == cell.check]
        text = next((known.text for known in KNOWN if known.explains(cell, off, facts)), "")
        said[cell.check, backend] = f"{cell.detail}. Known: {text} ({SEEN})" if text else cell.detail
    return tuple(dataclasses.replace(cell, detail=said.get((cell.check, cell.backend), cell.detail)) for cell in cells)


KNOWN = (
    # Steps.
    Known(
        "Of weights with the same path, as those of two layers of one name, Keras on torch sets the gradients of one "
        "back to 0; the others add up from step to step. Give layers of a model names of their own.",
        ("deterministic", "curve"),
        "torch",
        facts=(SAME_PATHS,),
    ),
    Known(
        "Keras on TensorFlow squares and clips the parts of an embedding's gradient before it adds those of the same "
        "row: the first step of Adam moves a row that a batch holds 4 times up to twice as far as elsewhere. SGD "
        "without clipping agrees.",
        ("step", "curve"),
        "tensorflow",
        r"embeddings`.*optimizer .*"
        r"\((Adam|AdamW|Adamax|Nadam|RMSprop|Adagrad|Adadelta|Adafactor|Ftrl|Lamb|Muon|SGD)\)",
    ),
    # Losses.
    Known(
        "Keras on TensorFlow computes crossentropies from the logits behind a sigmoid or softmax, on JAX and torch "
        "from probabilities clipped at 1e-7: a wrong answer with a logit of 20 costs 20 on TensorFlow, and 16 "
        "with a gradient of 0 elsewhere. Behind a sigmoid, TensorFlow's categorical crossentropy is even that of a "
        "softmax. Let the model return logits, and give the loss `from_logits=True`.",
        ("loss", "gradient"),
        "tensorflow",
        r"loss`?, .*`(sparse_)?(binary|categorical|binary_focal)_crossentropy`",
    ),
    Known(
        "JAX has integers of 32 bits: labels of 64 bits lose their upper half, without an error, so that 2**32 + 5 is "
        "5. Number the labels from 0.",
        ("loss",),
        "jax",
        facts=(WIDE_INTEGERS,),
    ),
    # Outputs of layers.
    Known(
        'Keras on torch averages the last row and column twice where padding="same" pads one side more than the other, '
        "as of 8 pixels with windows of 3 and steps of 2: off by 20 to 60 % of the largest output. Use "
        'padding="valid".',
        ("forward", "forward_training"),
        "torch",
        r"\(AveragePooling[123]D,",
    ),
    Known(
        "Bicubic interpolation has another coefficient on torch, -0.75, than on TensorFlow and JAX, -0.5: off by 8 to "
        "10 % of the largest output. Use bilinear, or `Resizing` with `antialias=True`, which agree.",
        ("forward", "forward_training"),
        "torch",
        r"\((Resizing|UpSampling2D),",
    ),
    Known(
        "`LayerNormalization` along other axes than the last ones is an error on torch. Permute its input, and its "
        "output back.",
        ("runs",),
        "torch",
        r"(?s)(?=.*LayerNormalization).*normalized_shape",
    ),
    *(
        Known(
            "An id that is not below the `input_dim` of an `Embedding` is an error on TensorFlow and torch (on a CPU), "
            "and without one a row of NaN on JAX. Let `input_dim` be above every id.",
            ("runs",),
            backend,
            r"(?s)(?=.*Embedding).*(is not in \[0, |index out of range)",
        )
        for backend in ("tensorflow", "torch")
    ),
    # Gradients.
    Known(
        "The gradient of |x| at 0 is 1 on JAX, and 0 on TensorFlow and torch: an answer that is exactly right, as 0 "
        "for padding, moves weights there. Use a loss that is smooth at 0, as Huber's.",
        ("gradient",),
        "jax",
        r"`mean_absolute_(percentage_)?error`",
    ),
    Known(
        "The gradient of |x| at 0 is 1 on JAX, and 0 on TensorFlow and torch: an L1 penalty of 0.01 gives a bias that "
        "is still 0 a gradient of 0.01 there. Penalize kernels only.",
        ("gradient",),
        "jax",
        r"by this weight|that of the loss",
        only="/(bias|beta)$",
    ),
    Known(
        "The gradient of `LeakyReLU` at 0 is 1 on JAX, and its slope on TensorFlow and torch; a row of zeros is 0 "
        "there while biases are. `ELU` agrees.",
        ("gradient",),
        "jax",
        r"\(LeakyReLU\) has another gradient",
    ),
    Known(
        "`UnitNormalization` of a row of zeros has a gradient of 1e12 on TensorFlow, and of NaN on JAX and torch. Keep "
        "such rows out of it.",
        ("gradient",),
        "tensorflow",
        r"\(UnitNormalization\) has another gradient",
    ),
    *(
        Known(
            "If the model takes `ops.norm` or `ops.std` of zeros: their gradient there is 0 on torch, NaN on JAX, and "
            "NaN on TensorFlow if a loss depends on it. Take `ops.where` of what is below the square root, and of the "
            "root.",
            ("gradient",),
            backend,
            r"by NaN or infinity",
        )
        for backend in ("torch", "jax")
    ),
    # Metrics.
    Known(
        "If the metric is weighted: it loses the mask of `Embedding` and `Masking` on JAX while the model trains: an "
        "error of 1 in each word is 0.5 there if half of a sentence is padding. Give the mask as `sample_weight`, too.",
        ("metrics",),
        "jax",
        facts=("Embedding", "Masking"),
    ),
)
