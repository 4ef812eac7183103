"""All metrics."""

from multiloss.overlap.confusion_matrix import ConfusionMatrix
from multiloss.overlap.metrics import (
    DiceCoefficient,
    JaccardIndex,
    MatthewsCorrelation,
    Precision,
    Recall,
    Specificity,
)
from multiloss.pairwise.metrics import RowsWithoutPositives

__all__ = ["ConfusionMatrix", "DiceCoefficient", "JaccardIndex", "MatthewsCorrelation", "Precision", "Recall"]
__all__ += ["RowsWithoutPositives", "Specificity"]
