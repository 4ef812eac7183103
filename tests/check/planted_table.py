"""Which row of the checker finds which fault of `planted.py`. Plain data: nothing of Keras is imported.

Other rows may fail too: what is computed in float16 is also infinite at 1e4. The named row must.
"""

from typing import NamedTuple

ALL = frozenset({"tensorflow", "jax", "torch"})
COMPILING = frozenset({"tensorflow", "jax"})


class Right(NamedTuple):
    """A loss without a fault: every row passes, or does not apply."""

    target: str  # in planted.py
    inputs: str  # a family
    oracle: str  # in planted_oracles.py


class Planted(NamedTuple):
    """A loss with one fault."""

    target: str
    inputs: str
    oracle: str
    found_with: str | None  # the row that finds it with the oracle
    found_without: str | None  # the row that finds it without; None, with a reason, where none can
    backends: frozenset[str] = ALL  # where it shows
    why: str = ""  # the reason of a None
    backends_without: frozenset[str] | None = None  # where it shows without the oracle, if elsewhere


RIGHT = {
    "Squared": Right("Squared", "regression", "squared"),
    "Squared(factor=3.0)": Right("Squared(factor=3.0)", "regression", "squared_3"),
    "PreciseSquared": Right("PreciseSquared", "regression", "squared"),
    "Scaled": Right("Scaled", "regression", "scaled"),
    "squared_error": Right("squared_error", "regression", "squared"),
    "rms_error": Right("rms_error", "regression", "rms"),
    "cosine_distance": Right("cosine_distance", "regression", "cosine"),
    "pinball": Right("pinball", "regression", "pinball"),
    "largest_error": Right("largest_error", "regression", "largest"),
    "excess": Right("excess", "regression", "excess"),
    "logcosh": Right("logcosh", "regression", "logcosh"),
    "Dice": Right("Dice", "masks", "dice"),
    "crossentropy": Right("crossentropy", "masks", "crossentropy"),
    "PreciseCrossentropy": Right("PreciseCrossentropy", "masks", "crossentropy"),
    "focal": Right("focal", "masks", "focal"),
    "categorical": Right("categorical", "one-hot", "categorical"),
    "expected_error": Right("expected_error", "one-hot", "expected_error"),
    "SparseCrossentropy": Right("SparseCrossentropy", "integer-labels", "sparse"),
    "contrastive": Right("contrastive", "labels-embeddings", "contrastive"),
    "batch_hard": Right("batch_hard", "labels-embeddings", "batch_hard"),
}

_FORMULA = "a formula of its own, right for another definition: only an oracle knows"

PLANTED = {
    # Values.
    "off above 64 rows": Planted("OffAbove64Rows", "regression", "squared", "batch_size", "batch_size"),
    "first 64 rows only": Planted("First64Rows", "regression", "squared", "batch_size", "batch_size"),
    "sign flipped": Planted("cosine_of_the_wrong_sign", "regression", "cosine", "value", None, why=_FORMULA),
    "truth and prediction swapped": Planted("pinball_swapped", "regression", "pinball", "value", None, why=_FORMULA),
    "probabilities taken for logits": Planted(
        "crossentropy_of_logits", "masks", "crossentropy", "value", None, why=_FORMULA
    ),
    "epsilon of 1e-2": Planted("crossentropy_large_epsilon", "masks", "crossentropy", "value", None, why=_FORMULA),
    "ties counted twice": Planted(
        "largest_error_counts_ties",
        "regression",
        "largest",
        "value",
        None,
        why="the same on every backend, and in float64; at a tie the value jumps, and has no slope to compare with",
    ),
    "batch of 1 squeezed": Planted("squared_error_squeezed", "regression", "squared", "value", "value"),
    "all labels the same": Planted(
        "batch_hard_fills_with_largest", "labels-embeddings", "batch_hard", "value", None, why=_FORMULA
    ),
    "first class left out": Planted("FirstClassLeftOut", "integer-labels", "sparse", "value", None, why=_FORMULA),
    "other epsilon on torch": Planted(
        "crossentropy_other_epsilon_on_torch", "masks", "crossentropy", "value", "value", frozenset({"torch"})
    ),
    "computed in float16": Planted("squared_error_in_half", "regression", "squared", "value", "finite"),
    "cancellation": Planted("contrastive_by_products", "labels-embeddings", "contrastive", "value", "value"),
    "labels rounded to float32": Planted(
        "contrastive_of_rounded_labels", "labels-embeddings", "contrastive", "large_labels", "large_labels"
    ),
    # Shapes.
    "axis 1 for the last": Planted("MeanOverAxis1", "regression", "squared", "rank", "rank"),
    "[B] against [B, 1]": Planted("Broadcasting", "regression", "squared", "rank", "rank"),
    "one-hot of a column": Planted("OneHotOfColumn", "integer-labels", "sparse", "rank", "rank"),
    "batch size from the shape": Planted(
        "squared_error_of_known_batch",
        "regression",
        "squared",
        "unknown_batch",
        "unknown_batch",
        frozenset({"tensorflow"}),
    ),
    "len of a tensor": Planted(
        "LengthOfTruth", "regression", "squared", "unknown_batch", "unknown_batch", frozenset({"tensorflow"})
    ),
    "loop over rows": Planted(
        "squared_error_by_rows", "regression", "squared", "unknown_batch", "unknown_batch", frozenset({"tensorflow"})
    ),
    "integer of a shape": Planted(
        "squared_error_by_integer_size",
        "regression",
        "squared",
        "unknown_batch",
        "unknown_batch",
        frozenset({"tensorflow"}),
    ),
    "no empty batch on JAX": Planted(
        "NoEmptyBatchOnJax", "regression", "squared", "empty_batch", "empty_batch", frozenset({"jax"})
    ),
    # Gradients.
    "gradient off by 5e-4": Planted("GradientSlightlyOff", "regression", "squared", "gradient", "gradient"),
    "gradient twice on torch": Planted(
        "GradientTwiceOnTorch", "regression", "squared", "gradient", "gradient", frozenset({"torch"})
    ),
    "part of the gradient stopped": Planted("focal_with_fixed_weights", "masks", "focal", "gradient", "gradient"),
    "argmax": Planted(
        "error_of_argmax",
        "one-hot",
        "expected_error",
        "value",
        "gradient",
        backends_without=frozenset({"tensorflow", "torch"}),  # JAX gives the slope that it has, 0
    ),
    "own gradient without a factor": Planted(
        "squared_error_own_gradient", "regression", "squared", "gradient", "gradient"
    ),
    "own gradient ignores upstream": Planted("UpstreamIgnored", "regression", "squared", "gradient", "gradient"),
    # NaN and infinity.
    "root of 0": Planted("rms_error_without_epsilon", "regression", "rms", "finite", "finite"),
    "coincident rows": Planted("contrastive_without_epsilon", "labels-embeddings", "contrastive", "finite", "finite"),
    "logarithm of 0": Planted("crossentropy_without_epsilon", "masks", "crossentropy", "finite", "finite"),
    "0 / 0 on empty masks": Planted("DiceOfNothing", "masks", "dice_without_smooth", "finite", "finite"),
    "NaN behind where": Planted("excess_behind_where", "regression", "excess", "finite", "finite"),
    "cosh overflows": Planted("logcosh_by_its_name", "regression", "logcosh", "finite", "finite"),
    "sum overflows float16": Planted("Float16Overflow", "regression", "squared", "float16", "float16"),
    "epsilon is 0 in float16": Planted("Float16Epsilon", "masks", "crossentropy", "float16", "float16"),
    # Weights, masks, the reduction.
    "weights [B, 1] ignored": Planted(
        "ColumnWeightsIgnored", "regression", "squared", "sample_weight", "sample_weight"
    ),
    "weights applied twice": Planted("WeightsSquared", "regression", "squared", "sample_weight", "sample_weight"),
    "weights of columns": Planted("WeightsOfColumns", "regression", "squared", "sample_weight", "sample_weight"),
    "mean over the batch inside": Planted(
        "MeanOverBatch", "regression", "squared_mean", "sample_weight", "sample_weight"
    ),
    "mask dropped": Planted("MaskDropped", "regression", "squared", "mask", "mask"),
    "mask dropped with weights": Planted("MaskDroppedWithWeights", "regression", "squared", "mask", "mask"),
    "reduced twice": Planted("ReducedTwice", "regression", "squared", "reduction", "reduction"),
    "reduction ignored": Planted("ReductionIgnored", "regression", "squared", "reduction", "reduction"),
    # Settings.
    "factor missing from the config": Planted("FactorLost(factor=3.0)", "regression", "squared_3", "config", "config"),
    "factor constant in the config": Planted(
        "FactorConstant(factor=3.0)", "regression", "squared_3", "config", "config"
    ),
    "reduction missing from the config": Planted(
        'ReductionLost(reduction="sum")', "regression", "squared", "config", "config"
    ),
    "lambda": Planted("Transformed", "regression", "squared", "save", "save"),
    # State, tracing, processes.
    "state between batches": Planted("RunningMean", "regression", "squared", "determinism", "determinism"),
    "stale constant": Planted("StaleConstant", "regression", "scaled", "compiled", "compiled", COMPILING),
    "random numbers": Planted("squared_error_noisy", "regression", "squared", "determinism", "determinism"),
    # TensorFlow's AutoGraph converts the `if`, but not in the step of `fit`, whose row finds it too.
    "Python if": Planted("squared_error_if", "regression", "squared", "compiled", "compiled", frozenset({"jax"})),
    "NumPy in call": Planted("NumpyInCall", "regression", "squared", "compiled", "compiled", COMPILING),
    "traced at every call": Planted("Retracing", "regression", "squared", "retracing", "retracing", COMPILING),
    "ends the process": Planted("EndsTheProcess", "regression", "squared", "runs", "runs", frozenset({"jax"})),
}
# Not a fault of any row: what is asked for in float64 has the digits of float32.
UNSEEN = {"computed in float32": ("squared_error_in_single", "regression", "squared", "no row gives a loss float64")}
