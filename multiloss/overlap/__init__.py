"""Losses of overlapping masks: truth and prediction of the same shape."""

from multiloss.overlap.dice import dice_coef, dice_loss

__all__ = ["dice_coef", "dice_loss"]
