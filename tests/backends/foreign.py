"""What losses, functions and metrics say to tensors of other frameworks; imported in a process of each backend."""

from functools import partial

import jax
import keras
import numpy as np
import tensorflow as tf
import torch

from multiloss import CombinedLoss, DiceLoss, PairwiseUserLoss, dice_coef, dice_loss
from multiloss.losses import dice, pairwise_user_loss, supcon
from multiloss.metrics import DiceCoefficient, JaccardIndex

BACKEND = keras.backend.backend()
X, ROW = np.full((4, 3), 0.5, "float32"), np.ones(4, "float32")
IDS, TRUTH = np.array([1, 1, 2, 2], "int32"), np.ones((4, 3), "int32")
MAKE = {
    "jax": {"array": jax.numpy.asarray, "list of arrays": lambda x: [jax.numpy.asarray(x)]},
    "torch": {
        "tensor": torch.tensor,
        "tensor with a gradient": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
        "parameter": lambda x: torch.nn.Parameter(torch.tensor(x, dtype=torch.float32)),
    },
    "tensorflow": {"tensor": tf.constant, "variable": tf.Variable},
}
# (argument, an array, what takes it)
USES = [
    ("labels", IDS, lambda v: pairwise_user_loss(v, X)),
    ("embeddings", X, lambda v: pairwise_user_loss(IDS, v)),
    ("labels", IDS, lambda v: PairwiseUserLoss()(v, X)),
    ("embeddings", X, lambda v: PairwiseUserLoss()(IDS, v)),
    ("sample_weight", ROW, lambda v: PairwiseUserLoss()(IDS, X, v)),
    ("ref_labels", IDS, lambda v: supcon(IDS, X, ref_labels=v, ref_embeddings=X)),
    ("ref_embeddings", X, lambda v: supcon(IDS, X, ref_labels=IDS, ref_embeddings=v)),
    ("pair_weights", np.ones((4, 4), "float32"), lambda v: supcon(IDS, X, pair_weights=v)),
    ("margin", np.float32(1), lambda v: PairwiseUserLoss(margin=v)),
    ("temperature", np.float32(1), lambda v: supcon(IDS, X, temperature=v)),
    ("y_true", TRUTH, lambda v: dice(v, X)),
    ("y_pred", X, lambda v: dice(TRUTH, v)),
    ("mask", ROW, lambda v: dice(TRUTH, X, mask=v)),
    ("y_true", TRUTH, lambda v: DiceLoss()(v, X)),
    ("y_pred", X, lambda v: DiceLoss()(TRUTH, v)),
    ("sample_weight", ROW, lambda v: DiceLoss()(TRUTH, X, v)),
    ("sample_weight", ROW, lambda v: CombinedLoss([DiceLoss()])(TRUTH, X, v)),
    ("y_true", TRUTH, lambda v: dice_coef(v, X)),
    ("y_pred", X, lambda v: dice_loss()(TRUTH, v)),
    ("y_true", TRUTH, lambda v: DiceCoefficient().update_state(v, X)),
    ("y_pred", X, lambda v: JaccardIndex().update_state(TRUTH, v)),
    ("sample_weight", ROW, lambda v: JaccardIndex().update_state(TRUTH, X, v)),
]


def traced(framework, use):
    """Return a function that uses an array as a tensor that its framework traces."""
    return jax.jit(use) if framework == "jax" else lambda array: tf.function(use, autograph=False)(tf.constant(array))


def complaints():
    """Return how many were refused by the names of argument and frameworks, and what was not."""
    refused, others = 0, []
    for framework in MAKE.keys() - {BACKEND}:
        message = (
            f"Keras runs on {BACKEND} (KERAS_BACKEND); this is a {framework} "
            f"{'array' if framework == 'jax' else 'tensor'}. Set KERAS_BACKEND={framework} before keras is imported."
        )
        for argument, array, use in USES:
            calls = {
                form: partial(lambda use, make, x: use(make(x)), use, make) for form, make in MAKE[framework].items()
            }
            if framework != "torch":
                calls["traced"] = traced(framework, use)
            for form, call in calls.items():
                try:
                    call(array)
                    others.append(f"{argument}: {framework} {form} was taken")
                except Exception as error:  # whatever else came is told, and fails the test
                    if isinstance(error, TypeError) and str(error) == f"`{argument}`: {message}":
                        refused += 1
                    else:
                        others.append(f"{argument}: {framework} {form}: {type(error).__name__}: {error}")
    return refused, others
