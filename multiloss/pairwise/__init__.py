"""Losses over all pairs of a batch: labels `[B]`, embeddings `[B, D]`."""

from multiloss.pairwise.user import PairwiseUserLoss, pairwise_user_loss

__all__ = ["PairwiseUserLoss", "pairwise_user_loss"]
