"""The losses of `posted.py`: on the right ones no row may fail, on the others the named rows must. Plain data."""

from typing import NamedTuple


class Posted(NamedTuple):
    """A right loss."""

    target: str  # in posted.py
    inputs: str  # a family, or a function of posted_inputs.py
    # Where float32 alone is what a row may stumble on: what Keras does to the labels, or how far float32 carries.
    doubt: str = ""
    rows: frozenset[str] = frozenset()  # that fail all the same, by what Keras does


class Faulty(NamedTuple):
    """A common form with a true fault."""

    target: str
    inputs: str
    rows: frozenset[str]
    why: str


_CLIP = "1 - 1e-7 is 1 - 1.19e-7 in float32, so that the logarithm of what is left is off by 1% (Keras's own too)"
_SINGLE = "`ops.log(2.0)` is float32: on TensorFlow it does not mix with float64, on the others it does"
_IDS = "Keras casts labels to float32 before the loss sees them: ids above 2^24 are rounded, not by the loss"
_ROUNDED = frozenset({"large_labels"})

POSTED = {
    "dice_coef_loss": Posted("dice_coef_loss", "masks"),
    "dice_loss, smooth 1e-7": Posted("dice_loss_tiny_smooth", "masks"),
    "soft dice, epsilon()": Posted("soft_dice_loss", "masks"),
    "jaccard_distance": Posted("jaccard_distance", "masks"),
    "iou_loss": Posted("iou_loss", "masks"),
    "binary focal loss": Posted("binary_focal_loss()", "masks", _CLIP),
    "weighted_bce": Posted("weighted_bce(0.3, 0.7)", "masks", _CLIP),
    "tversky_loss": Posted("tversky_loss", "masks"),
    "focal Tversky, epsilon": Posted("focal_tversky_with_epsilon", "masks"),
    "bce_dice_loss": Posted("bce_dice_loss", "masks", _CLIP),
    "combo_loss": Posted("combo_loss", "masks", "as that of epsilon 1e-7: 1 - 1e-6 is off by 1e-3 of what is left"),
    "log_cosh_dice_loss": Posted("log_cosh_dice_loss", "masks"),
    "class DiceLoss": Posted("DiceLoss", "masks"),
    "class FocalLoss": Posted("FocalLoss", "masks", "epsilon 1e-4, off by 2e-4 of what is left of 1"),
    "categorical focal loss": Posted("categorical_focal_loss()", "one-hot", _CLIP),
    "kl_loss": Posted("kl_loss", "one-hot"),
    "label smoothing": Posted("label_smoothing_loss(0.1)", "one-hot"),
    "macro soft F1": Posted("macro_soft_f1", "one-hot"),
    "sparse, temperature": Posted("sparse_ce_with_temperature(2.0)", "integer-labels"),
    "two classes": Posted("WeightedTwoClassCrossentropy", "two_classes"),
    "log_cosh": Posted("log_cosh", "regression", _SINGLE),
    "quantile_loss": Posted("quantile_loss(0.9)", "regression"),
    "huber_loss": Posted("huber_loss", "regression"),
    "smooth_l1": Posted("smooth_l1", "regression"),
    "wing_loss": Posted("wing_loss", "regression", _SINGLE),
    "charbonnier": Posted("charbonnier", "regression"),
    "mape": Posted("mape", "regression"),
    "pearson_loss": Posted("pearson_loss", "regression"),
    "ccc_loss": Posted("ccc_loss", "regression", "the difference of two means of 1e4 each is rounded to 1e-3"),
    "cosine_loss": Posted("cosine_loss", "regression"),
    "hinge": Posted("hinge", "regression"),
    "gaussian_nll": Posted("gaussian_nll", "mean_and_variance"),
    "class RMSLELoss": Posted("RMSLELoss", "regression", "the logarithm of 1e4 is rounded to 1e-6"),
    "contrastive_loss": Posted("contrastive_loss(1.0)", "pairs"),
    "triplet, concatenated": Posted("triplet_of_concatenated", "triplets"),
    "triplet, batch all": Posted("triplet_batch_all", "labels-embeddings", _IDS, _ROUNDED),
    "triplet, batch hard": Posted(
        "triplet_batch_hard", "labels-embeddings", f"{_IDS}; an empty batch is refused by all", _ROUNDED
    ),
    "supcon_loss": Posted("supcon_loss", "labels-embeddings", _IDS, _ROUNDED),
    "nt_xent": Posted("nt_xent", "views"),
    "pairwise_hinge": Posted("pairwise_hinge", "lists"),
}


def _faulty(target: str, inputs: str, row: str, why: str) -> Faulty:
    return Faulty(target, inputs, frozenset({row}), why)


TRULY_FAULTY = {
    "BCE without clip": _faulty("bce_without_clip", "masks", "finite", "0 log(0) where it is sure and right"),
    "RMSE": _faulty("rmse", "regression", "finite", "the root has no slope at 0: its gradient is NaN at the truth"),
    "focal Tversky": _faulty("focal_tversky", "masks", "finite", "0^0.75 has an infinite slope: NaN where it is right"),
    "IoU without smooth": _faulty("iou_without_smooth", "masks", "finite", "0 / 0 where nothing is true or predicted"),
    "batch-hard by products": _faulty(
        "batch_hard_by_products", "labels-embeddings", "value", "x^2 + y^2 - 2 x y cancels at an offset of 1e4"
    ),
    "class CustomMSE": _faulty("CustomMSE", "regression", "rank", "[B] against [B, 1] becomes [B, B]"),
    "class FlatDiceLoss": _faulty("FlatDiceLoss", "masks", "sample_weight", "one number for the batch has no weights"),
    "class FocalLossWithoutConfig": _faulty(
        "FocalLossWithoutConfig(gamma=3.0)", "masks", "config", "gamma is 2 again after loading"
    ),
}
