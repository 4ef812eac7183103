"""The base classes of the losses, for losses of one's own."""

from multiloss.pairwise._base import PairOptions, PairwiseLoss, PairwiseOptions

__all__ = ["PairOptions", "PairwiseLoss", "PairwiseOptions"]
