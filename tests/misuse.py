"""Mistakes that mypy finds, by `tox -e lint`, which fails if an `ignore` below is unused: then one is found no more."""

from multiloss import DiceLoss, PairwiseUserLoss, TverskyLoss
from multiloss.losses import dice, tversky

DiceLoss(empty="zero")  # type: ignore[arg-type]
DiceLoss(average="weighted")  # type: ignore[arg-type]
DiceLoss(smoth=1.0)  # type: ignore[call-arg]
TverskyLoss(0.3, 0.7, "sum")  # type: ignore[call-arg]
TverskyLoss(mode="multi")  # type: ignore[arg-type]
TverskyLoss(over="batch")  # type: ignore[call-arg]
dice([[1]], [[0.5]], mode="multi-class")  # type: ignore[arg-type]
dice([[1]], [[0.5]], reduction="sum")  # type: ignore[call-arg]
tversky([[1]], [[0.5]], data_format="NCHW")  # type: ignore[arg-type]
PairwiseUserLoss(pairs="max")  # type: ignore[arg-type]
PairwiseUserLoss(tiles=64)  # type: ignore[call-arg]
