"""Losses over all pairs of a batch: labels `[B]`, embeddings `[B, D]`."""

from multiloss.pairwise.contrastive_loss import ContrastiveLoss, contrastive
from multiloss.pairwise.supcon_loss import SupConLoss, supcon
from multiloss.pairwise.user import PairwiseUserLoss, pairwise_user_loss

__all__ = ["ContrastiveLoss", "PairwiseUserLoss", "SupConLoss", "contrastive", "pairwise_user_loss", "supcon"]
