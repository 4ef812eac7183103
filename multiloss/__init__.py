"""Keras 3 losses written once, exact on TensorFlow, JAX and PyTorch, each held to a NumPy oracle.

Importing this package does not import Keras, so that `multiloss.oracles` and `encode_ids` stay NumPy-only. The losses
are imported at first use, or as soon as Keras is, so that `load_model` knows them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from multiloss import _register_on_keras_import
from multiloss._backends import MissingBackendError

if TYPE_CHECKING:
    from multiloss import losses, metrics, oracles
    from multiloss.ids import *
    from multiloss.losses import *
    from multiloss.metrics import *

# What can be imported from here. Known before Keras is imported, so not read from the modules.
__all__ = ["losses", "metrics", "oracles"]
__all__ += ["dice_coef", "dice_loss", "encode_ids", "pairwise_user_loss"]
__all__ += ["ContrastiveLoss", "PairwiseUserLoss", "SupConLoss"]
__all__ += ["BatchDiceLoss", "ClDiceLoss", "CombinedLoss", "CrossEntropyLoss", "DiceCrossEntropyLoss", "DiceFocalLoss"]
__all__ += ["DiceLoss", "FocalLoss", "FocalTverskyLoss", "GeneralizedDiceLoss", "JaccardLoss", "LogCoshDiceLoss"]
__all__ += ["LovaszLoss", "MCCLoss", "TverskyLoss", "UnifiedFocalLoss"]
__all__ += ["ConfusionMatrix", "DiceCoefficient", "JaccardIndex", "MatthewsCorrelation", "Precision", "Recall"]
__all__ += ["RowsWithoutPositives", "Specificity"]
__version__ = "0.2.0"

_REGISTERED = ("multiloss.losses", "multiloss.metrics")
_register_on_keras_import.load(_REGISTERED)


def __getattr__(name: str) -> Any:
    if name in __all__:
        try:
            if name in ("losses", "metrics", "oracles"):
                return importlib.import_module(f"multiloss.{name}")
            for home in ("multiloss.ids", *_REGISTERED):
                if hasattr(module := importlib.import_module(home), name):
                    return getattr(module, name)
        except MissingBackendError as error:  # `hasattr` and `inspect` take no other error for an answer
            raise AttributeError(str(error)) from error
    raise AttributeError(f"module 'multiloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
