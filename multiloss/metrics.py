"""All metrics."""

from multiloss.overlap.metrics import DiceCoefficient, JaccardIndex

__all__ = ["DiceCoefficient", "JaccardIndex"]
