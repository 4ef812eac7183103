"""Losses and metrics of overlapping masks, from counts of true positives, false positives and false negatives."""

from multiloss.overlap.cldice_loss import *
from multiloss.overlap.combined_losses import *
from multiloss.overlap.dice_losses import *
from multiloss.overlap.generalized_dice_loss import *
from multiloss.overlap.jaccard_loss import *
from multiloss.overlap.log_cosh_dice_loss import *
from multiloss.overlap.lovasz_loss import *
from multiloss.overlap.mcc_loss import *
from multiloss.overlap.metrics import *
from multiloss.overlap.options import *
from multiloss.overlap.pixel_losses import *
from multiloss.overlap.tversky_losses import *
from multiloss.overlap.unified_focal_loss import *
