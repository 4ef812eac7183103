"""Losses over all pairs of a batch, or of its rows and references: labels `[B]`, embeddings `[B, D]`."""

from multiloss.pairwise.contrastive_loss import *
from multiloss.pairwise.supcon_loss import *
from multiloss.pairwise.user_loss import *
