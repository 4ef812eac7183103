"""All metrics."""

from multiloss.overlap.metrics import DiceCoefficient, JaccardIndex
from multiloss.pairwise.metrics import RowsWithoutPositives

__all__ = ["DiceCoefficient", "JaccardIndex", "RowsWithoutPositives"]
