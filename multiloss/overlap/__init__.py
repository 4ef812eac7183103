"""Losses and metrics of overlapping masks, from counts of true positives, false positives and false negatives."""

from multiloss.overlap.cldice_loss import ClDiceLoss, cldice
from multiloss.overlap.combined_losses import (
    CombinedLoss,
    DiceCrossEntropyLoss,
    DiceFocalLoss,
    dice_cross_entropy,
    dice_focal,
)
from multiloss.overlap.dice_losses import DiceLoss, dice, dice_coef, dice_loss
from multiloss.overlap.generalized_dice_loss import GeneralizedDiceLoss, generalized_dice
from multiloss.overlap.jaccard_loss import JaccardLoss, jaccard
from multiloss.overlap.log_cosh_dice_loss import LogCoshDiceLoss, log_cosh_dice
from multiloss.overlap.lovasz_loss import LovaszLoss, lovasz
from multiloss.overlap.mcc_loss import MCCLoss, mcc
from multiloss.overlap.metrics import DiceCoefficient, JaccardIndex
from multiloss.overlap.options import OverlapOptions
from multiloss.overlap.pixel_losses import CrossEntropyLoss, FocalLoss, cross_entropy, focal
from multiloss.overlap.tversky_losses import FocalTverskyLoss, TverskyLoss, focal_tversky, tversky
from multiloss.overlap.unified_focal_loss import UnifiedFocalLoss, unified_focal

__all__ = [
    "ClDiceLoss",
    "CombinedLoss",
    "CrossEntropyLoss",
    "DiceCoefficient",
    "DiceCrossEntropyLoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "JaccardIndex",
    "JaccardLoss",
    "LogCoshDiceLoss",
    "LovaszLoss",
    "MCCLoss",
    "OverlapOptions",
    "TverskyLoss",
    "UnifiedFocalLoss",
    "cldice",
    "cross_entropy",
    "dice",
    "dice_coef",
    "dice_cross_entropy",
    "dice_focal",
    "dice_loss",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "jaccard",
    "log_cosh_dice",
    "lovasz",
    "mcc",
    "tversky",
    "unified_focal",
]
