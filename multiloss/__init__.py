"""Keras 3 losses written once, exact on TensorFlow, JAX and PyTorch, each held to a NumPy oracle.

Importing this package does not import Keras, so that `multiloss.oracles` and `encode_ids` stay NumPy-only. The losses
are imported at first use, or as soon as Keras is, so that `load_model` knows them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from multiloss import _register_on_keras_import
from multiloss._backends import MissingBackendError

if TYPE_CHECKING:
    from multiloss import losses, oracles
    from multiloss.ids import *
    from multiloss.overlap import *
    from multiloss.pairwise import *

# What can be imported from here, a line a module. Known before Keras is imported, so not read from the modules.
__all__ = ["losses", "oracles"]
__all__ += ["encode_ids"]
__all__ += ["ClDiceLoss", "cldice"]
__all__ += ["CombinedLoss", "DiceCrossEntropyLoss", "DiceFocalLoss", "dice_cross_entropy", "dice_focal"]
__all__ += ["DiceLoss", "dice", "dice_coef", "dice_loss"]
__all__ += ["GeneralizedDiceLoss", "generalized_dice"]
__all__ += ["JaccardLoss", "jaccard"]
__all__ += ["LogCoshDiceLoss", "log_cosh_dice"]
__all__ += ["LovaszLoss", "lovasz"]
__all__ += ["MCCLoss", "mcc"]
__all__ += ["DiceCoefficient", "JaccardIndex"]
__all__ += ["OverlapOptions"]
__all__ += ["CrossEntropyLoss", "FocalLoss", "cross_entropy", "focal"]
__all__ += ["FocalTverskyLoss", "TverskyLoss", "focal_tversky", "tversky"]
__all__ += ["UnifiedFocalLoss", "unified_focal"]
__all__ += ["ContrastiveLoss", "contrastive"]
__all__ += ["SupConLoss", "supcon"]
__all__ += ["PairwiseUserLoss", "pairwise_user_loss"]
__version__ = "0.1.0"

_LOSSES = ("multiloss.overlap", "multiloss.pairwise")
_register_on_keras_import.load(_LOSSES)


def __getattr__(name: str) -> Any:
    if name in __all__:
        try:
            if name in ("losses", "oracles"):
                return importlib.import_module(f"multiloss.{name}")
            for home in ("multiloss.ids", *_LOSSES):
                if hasattr(module := importlib.import_module(home), name):
                    return getattr(module, name)
        except MissingBackendError as error:  # `hasattr` and `inspect` take no other error for an answer
            raise AttributeError(str(error)) from error
    raise AttributeError(f"module 'multiloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
