"""Losses and metrics of overlapping masks, from counts of true positives, false positives and false negatives."""
