"""Keras 3 losses written once, exact on TensorFlow, JAX and PyTorch, each held to a NumPy oracle.

Importing this package does not import Keras, so that `multiloss.oracles` and `encode_ids` stay NumPy-only. The losses
are imported at first use, or as soon as Keras is, so that `load_model` knows them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from multiloss import _after_keras

if TYPE_CHECKING:
    from multiloss import oracles
    from multiloss.ids import encode_ids
    from multiloss.overlap import (
        ClDiceLoss,
        CombinedLoss,
        CrossEntropyLoss,
        DiceCoefficient,
        DiceCrossEntropyLoss,
        DiceFocalLoss,
        DiceLoss,
        FocalLoss,
        FocalTverskyLoss,
        GeneralizedDiceLoss,
        JaccardIndex,
        JaccardLoss,
        LogCoshDiceLoss,
        LovaszLoss,
        MCCLoss,
        OverlapOptions,
        TverskyLoss,
        UnifiedFocalLoss,
        cldice,
        cross_entropy,
        dice,
        dice_coef,
        dice_cross_entropy,
        dice_focal,
        dice_loss,
        focal,
        focal_tversky,
        generalized_dice,
        jaccard,
        log_cosh_dice,
        lovasz,
        mcc,
        tversky,
        unified_focal,
    )
    from multiloss.pairwise import (
        ContrastiveLoss,
        PairwiseUserLoss,
        SupConLoss,
        contrastive,
        pairwise_user_loss,
        supcon,
    )

__all__ = [
    "ClDiceLoss",
    "CombinedLoss",
    "ContrastiveLoss",
    "CrossEntropyLoss",
    "DiceCoefficient",
    "DiceCrossEntropyLoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "JaccardIndex",
    "JaccardLoss",
    "LogCoshDiceLoss",
    "LovaszLoss",
    "MCCLoss",
    "OverlapOptions",
    "PairwiseUserLoss",
    "SupConLoss",
    "TverskyLoss",
    "UnifiedFocalLoss",
    "cldice",
    "contrastive",
    "cross_entropy",
    "dice",
    "dice_coef",
    "dice_cross_entropy",
    "dice_focal",
    "dice_loss",
    "encode_ids",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "jaccard",
    "log_cosh_dice",
    "lovasz",
    "mcc",
    "oracles",
    "pairwise_user_loss",
    "supcon",
    "tversky",
    "unified_focal",
]
__version__ = "0.1.0"

_LOSSES = ("multiloss.overlap", "multiloss.pairwise")
_after_keras.load(_LOSSES)


def __getattr__(name: str) -> Any:
    if name == "oracles":
        return importlib.import_module("multiloss.oracles")
    if name in __all__:
        for home in ("multiloss.ids", *_LOSSES):
            if name in (module := importlib.import_module(home)).__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'multiloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
