"""An overlap loss that is not in the package: what an author inherits, and what is said where something is missing."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from cases import PARTS, gradient_of
from frameworks import FAST, QUICK, evaluate, full_on, modes
from keras import ops
from overlap import CLOSE

from multiloss.losses import OverlapLoss

PAGE = (Path(__file__).parents[2] / "docs/write_your_own.md").read_text(encoding="utf-8")
# Each class is there in each sample, so that no ratio is 0 / 0.
CLASSES = np.array([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0], [1, 0, 2, 2, 1]])
ONE_HOT = np.eye(3, dtype=int)[CLASSES]


@keras.saving.register_keras_serializable(package="tests")
class Balanced(OverlapLoss):
    """Balanced error: share of the truth that is missed, and a share of the rest that is called true."""

    def __init__(self, share=0.5, **options):
        super().__init__(**options)
        self.share = share

    def losses(self, counts):
        missed, invented = self.ratio(counts.fn, counts.tp + counts.fn), self.ratio(counts.fp, counts.fp + counts.tn)
        return (1 - self.share) * missed + self.share * invented


def balanced(y, x, weights=1.0, share=0.5):
    """By the definition, of each sample and class: `[B, ..., C]` -> `[B, C]`."""
    t, p = y.astype(np.float64), x.astype(np.float64)
    axes = tuple(range(1, t.ndim - 1))
    tp, fp, fn, tn = (np.sum(weights * c, axes) for c in (t * p, (1 - t) * p, t * (1 - p), (1 - t) * (1 - p)))
    return (1 - share) * fn / (tp + fn) + share * fp / (fp + tn)


@pytest.mark.parametrize("mode", modes(QUICK, of=FAST))
def test_values_and_gradients_are_those_of_the_formula(mode):
    loss = Balanced(share=0.3, mode="multilabel", empty="formula", reduction=None)
    value, gradient = evaluate(mode, loss, ONE_HOT, PARTS)
    np.testing.assert_allclose(value, balanced(ONE_HOT, PARTS, share=0.3).mean(axis=1), **CLOSE)
    expected = gradient_of(lambda y, x: balanced(y, x, share=0.3).mean(axis=1), ONE_HOT, PARTS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)  # quotients of sums of float32


@full_on("jax")
def test_an_author_inherits_every_option():
    def call(y, x, mask=None, **options):
        return ops.convert_to_numpy(Balanced(empty="formula", **options).call(y, x, mask))

    each = balanced(ONE_HOT, PARTS)
    np.testing.assert_allclose(call(CLASSES, PARTS), each.mean(axis=1), **CLOSE)
    np.testing.assert_allclose(call(CLASSES, PARTS, average=None), each, **CLOSE)
    np.testing.assert_allclose(call(CLASSES, PARTS, classes=(2, 0)), each[:, [2, 0]].mean(axis=1), **CLOSE)
    weighted = each @ [1, 2, 0] / 3
    np.testing.assert_allclose(call(CLASSES, PARTS, class_weight=(1, 2, 0)), weighted, **CLOSE)
    whole = balanced(ONE_HOT.reshape(1, -1, 3), PARTS.reshape(1, -1, 3))
    np.testing.assert_allclose(call(CLASSES, PARTS, batch=True), whole.mean(), **CLOSE)
    pooled = balanced(ONE_HOT.reshape(3, -1, 1), PARTS.reshape(3, -1, 1))[:, 0]
    np.testing.assert_allclose(call(CLASSES, PARTS, average="micro"), pooled, **CLOSE)
    kept = (np.arange(5) < 4).astype(np.float32)
    expected = balanced(ONE_HOT, PARTS, kept[:, None]).mean(axis=1)
    np.testing.assert_allclose(call(CLASSES, PARTS, np.tile(kept, (3, 1))), expected, **CLOSE)
    ignored = np.where(kept, CLASSES, 9)
    np.testing.assert_allclose(call(ignored, PARTS, ignore_index=9), expected, **CLOSE)
    logits = np.log(PARTS)
    np.testing.assert_allclose(call(CLASSES, logits, from_logits=True), each.mean(axis=1), **CLOSE)


def test_through_fit_and_save_and_load(tmp_path):
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(3, activation="sigmoid")])
    model.compile(loss=Balanced(share=0.25, mode="multilabel", batch=True), optimizer="sgd")
    before = model.evaluate(PARTS, ONE_HOT, verbose=0)
    model.fit(PARTS, ONE_HOT, verbose=0, epochs=2)
    assert model.evaluate(PARTS, ONE_HOT, verbose=0) < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    assert (loaded.loss.share, loaded.loss.batch, loaded.loss.name) == (0.25, True, "balanced")


def test_what_an_author_fixes_is_not_in_the_config():
    class Whole(Balanced):
        def __init__(self, **options):
            super().__init__(share=0.1, batch=True, **options)

    config = Whole(smooth=2.0).get_config()
    assert config.keys().isdisjoint({"share", "batch"})
    assert (config["smooth"], config["dtype"], config["name"]) == (2.0, "float32", "whole")
    assert Whole.from_config(config).get_config() == config
    with pytest.raises(
        TypeError, match=re.escape("Whole has no argument `smoth`. It takes: share, mode, from_logits,")
    ):
        Whole(smoth=1)

    class Below(Whole):
        pass

    class AtDefault(Balanced):
        def __init__(self, **options):
            super().__init__(batch=False, average="macro", **options)

    for kind in (Below, AtDefault):
        config = kind(smooth=2.0).get_config()
        again = kind.from_config(config)
        assert (again.get_config(), again.batch, again.smooth) == (config, kind is Below, 2.0)


def test_arguments_may_come_from_a_class_in_front():
    class Named:
        def __init__(self, label="", **options):
            super().__init__(**options)
            self.label = label

    class Mine(Named, Balanced):
        pass

    config = Mine(label="a", share=0.25).get_config()
    assert (config["label"], config["share"]) == ("a", 0.25)
    assert Mine.from_config(config).get_config() == config


def test_what_is_said_to_an_author():
    class Missing(OverlapLoss):
        pass

    class Scalar(OverlapLoss):
        def losses(self, counts):
            return ops.sum(counts.tp)

    with pytest.raises(NotImplementedError, match=re.escape("Missing must define `losses(counts)`")):
        Missing()(CLASSES, PARTS)

    class Fewer(Balanced):
        def transform(self, losses):
            return losses[:1]

    with pytest.raises(ValueError, match=re.escape("`Fewer.transform` must return a tensor of the shape of")):
        Fewer()(CLASSES, PARTS)
    message = "`Scalar.losses` must return a tensor of the shape of the counts, (3, 3). Received shape: ()"
    with pytest.raises(ValueError, match=re.escape(message)):
        Scalar()(CLASSES, PARTS)


@full_on("jax")
def test_the_loss_of_the_document_is_what_it_says():
    names = {"__name__": "document"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "docs/write_your_own.md", "exec"), names)
    parts = np.exp(names["logits"]) / np.exp(names["logits"]).sum(axis=-1, keepdims=True)
    each = balanced(np.eye(3)[names["labels"]], parts, share=0.3)
    np.testing.assert_allclose(ops.convert_to_numpy(names["values"]), each @ [0.2, 1, 1] / 2.2, **CLOSE)
    assert float(names["value"]) == pytest.approx((each @ [0.2, 1, 1] / 2.2).mean(), abs=CLOSE["atol"])
