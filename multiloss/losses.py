"""All losses: classes for `compile`, functions of unreduced values, and the base classes for losses of your own.

Functions of ids have the attribute `exact_labels = True`, which `multiloss check` reads: it hands them labels as they
are, where it casts those of other functions to floats, as `compile` does.
"""

from multiloss.overlap._base import OverlapLoss, OverlapOptions, RatioOptions
from multiloss.overlap._engine.sums import Counts
from multiloss.overlap.batch_dice_loss import BatchDiceLoss, dice_coef, dice_loss
from multiloss.overlap.cldice_loss import ClDiceLoss, cldice
from multiloss.overlap.combined_loss import CombinedLoss
from multiloss.overlap.cross_entropy_loss import CrossEntropyLoss, cross_entropy
from multiloss.overlap.dice_focal_loss import DiceCrossEntropyLoss, DiceFocalLoss, dice_cross_entropy, dice_focal
from multiloss.overlap.dice_loss import DiceLoss, dice
from multiloss.overlap.focal_loss import FocalLoss, focal
from multiloss.overlap.focal_tversky_loss import FocalTverskyLoss, focal_tversky
from multiloss.overlap.generalized_dice_loss import GeneralizedDiceLoss, generalized_dice
from multiloss.overlap.jaccard_loss import JaccardLoss, jaccard
from multiloss.overlap.log_cosh_dice_loss import LogCoshDiceLoss, log_cosh_dice
from multiloss.overlap.lovasz_loss import LovaszLoss, lovasz
from multiloss.overlap.mcc_loss import MCCLoss, mcc
from multiloss.overlap.tversky_loss import TverskyLoss, tversky
from multiloss.overlap.unified_focal_loss import UnifiedFocalLoss, unified_focal
from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions
from multiloss.pairwise.contrastive_loss import ContrastiveLoss, contrastive
from multiloss.pairwise.supcon_loss import SupConLoss, supcon
from multiloss.pairwise.user_loss import PairwiseUserLoss, pairwise_user_loss

__all__ = ["Counts", "OverlapLoss", "OverlapOptions", "PairOptions", "PairwiseLoss", "PairwiseOptions", "RatioOptions"]
__all__ += ["BatchDiceLoss", "dice_coef", "dice_loss"]
__all__ += ["ClDiceLoss", "cldice"]
__all__ += ["CombinedLoss"]
__all__ += ["ContrastiveLoss", "contrastive"]
__all__ += ["CrossEntropyLoss", "cross_entropy"]
__all__ += ["DiceCrossEntropyLoss", "DiceFocalLoss", "dice_cross_entropy", "dice_focal"]
__all__ += ["DiceLoss", "dice"]
__all__ += ["FocalLoss", "focal"]
__all__ += ["FocalTverskyLoss", "focal_tversky"]
__all__ += ["GeneralizedDiceLoss", "generalized_dice"]
__all__ += ["JaccardLoss", "jaccard"]
__all__ += ["LogCoshDiceLoss", "log_cosh_dice"]
__all__ += ["LovaszLoss", "lovasz"]
__all__ += ["MCCLoss", "mcc"]
__all__ += ["PairwiseUserLoss", "pairwise_user_loss"]
__all__ += ["SupConLoss", "supcon"]
__all__ += ["TverskyLoss", "tversky"]
__all__ += ["UnifiedFocalLoss", "unified_focal"]

for function in (pairwise_user_loss, contrastive, supcon):
    vars(function)["exact_labels"] = True
del function
