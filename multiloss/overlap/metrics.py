"""Indices of all that was seen, for `compile(metrics=...)`: one set of counts, and a formula of them each."""

from typing import final

import keras
from keras import ops

from multiloss._arguments import Tensor
from multiloss.overlap._engine import ratios
from multiloss.overlap._metric import IndexMetric

__all__ = ["DiceCoefficient", "JaccardIndex", "MatthewsCorrelation", "Precision", "Recall", "Specificity"]


@final
@keras.saving.register_keras_serializable(package="multiloss")
class DiceCoefficient(IndexMetric):
    """Dice coefficient (F1 score) of everything seen, from counts added up over batches, of whatever sizes.

        2 tp / (2 tp + fp + fn) of each class, in the mean over the classes that were seen, in truth or prediction

    Unlike the mean of the coefficients of batches, which is what Keras makes of a function as a metric, it does not
    depend on how the data are divided into batches. Predictions count as hard labels: the most probable class of
    classes that exclude each other (of equal ones the first), and else what is above `thresh`. 0 if nothing was added,
    as in Keras; 1 if no class was seen in truth or prediction.

    Dice 1945, doi:10.2307/1932409.

    Args:
        thresh: a number in (0, 1) above which a prediction counts as 1, in modes "binary" and "multilabel"; None counts
            predictions as they are, in all modes.
        average: "macro" for the mean over classes, weighted by `class_weight`; "micro" for the index of the counts of
            all classes together, each times its weight; "weighted" for the mean weighted by how often a class is true;
            or None for each class, `[C]`, NaN for those that are left out.
        samplewise: whether the index is that of each sample (image), in the mean over samples. Then a `sample_weight`
            of samples weights that mean, and one of pixels the pixels within a sample.
        empty: what a class counts that is empty in truth, of everything or, if `samplewise`, of a sample:
            "skip_unseen": left out of means if it is not predicted either, which leaves out a sample without any class;
            "skip": left out of means, predicted or not;
            "formula": 1 if it is not predicted either, and else the formula, which is 0;
            "worst": 0.
        mode: "multiclass" for classes that exclude each other, "multilabel" for classes that do not, "binary" for a
            mask of one class; None for "multiclass" if truth is class indices beside predictions with a class axis, and
            else "binary": **one-hot truth needs a mode**, since by its shape it could be a mask. `from_logits`,
            `classes`, `include_background`, `data_format` and `validate` are as in `multiloss.losses.OverlapLoss`. A
            batch with values out of range makes the result NaN where they are not read, as in compiled code.
        sparse_y_pred: whether predictions are class indices, `[B, ...]`, and not probabilities `[B, ..., C]`.
        num_classes: the number of classes, if neither `class_names` nor `class_weight` tells it. It is needed for
            `sparse_y_pred`, and before the first update: for a result with `average=None`, and for the state of
            `stateless_update_state`.
        class_names: a name for each class. Then the result is a dictionary, which Keras's logs take apart for
            callbacks: "dice_coefficient" if there is an `average`, and "dice_coefficient_liver" for a class "liver".
            Metrics of several outputs need different names, as Keras leaves out the names of outputs there.
        class_weight: a weight for each class.
        ignore_index: a label whose pixels do not count, as in `OverlapLoss`. If it is the index of a class, of
            classes that exclude each other, the class is left out of the mean (Keras's `ignore_class` counts it as 0).
        name: name of the metric.
        dtype: dtype of the result. Counts of whole numbers are exact while one batch has at most 2^24 pixels a class,
            up to 2^47 in all.

    Raises:
        TypeError, ValueError: as `DiceLoss`, and for options that exclude each other. An index beyond its range, of
            truth that was not checked, is NaN.

    Examples:
        >>> from multiloss.metrics import DiceCoefficient
        >>> metric = DiceCoefficient(thresh=0.5)
        >>> metric.update_state([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])  # tp 1, fn 1
        >>> metric.update_state([[0, 0], [1, 0]], [[0.9, 0.4], [0.6, 0.1]])  # tp 1, fp 1
        >>> round(float(metric.result()), 4)  # 4 / 6
        0.6667
    """

    _needs_negatives = False

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return ratios.ratio(tp, tp + (fp + fn) / 2)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class JaccardIndex(IndexMetric):
    """Jaccard index (intersection over union) of everything seen, from counts added up over batches.

        tp / (tp + fp + fn) of each class, in the mean over the classes that were seen, in truth or prediction

    Else as `DiceCoefficient`, with the same arguments. Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x.

    Examples:
        >>> from multiloss.metrics import JaccardIndex
        >>> metric = JaccardIndex(mode="multiclass", average=None)
        >>> metric.update_state([[0, 1, 1]], [[[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]]])
        >>> [float(index) for index in metric.result()]
        [0.5, 0.5]
    """

    _needs_negatives = False

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return ratios.ratio(tp, tp + (fp + fn))


@final
@keras.saving.register_keras_serializable(package="multiloss")
class Precision(IndexMetric):
    """Precision (positive predictive value) of everything seen, from counts added up over batches.

        tp / (tp + fp) of each class, in the mean over the classes that were seen, in truth or prediction

    0 for a class that is true somewhere and predicted nowhere. Else as `DiceCoefficient`, with the same arguments.
    Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, section 2.

    Examples:
        >>> from multiloss.metrics import Precision
        >>> metric = Precision()
        >>> metric.update_state([[1, 1, 0, 0]], [[0.9, 0.4, 0.7, 0.1]])  # tp 1, fp 1
        >>> float(metric.result())
        0.5
    """

    _needs_negatives = False

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return ratios.ratio(tp, tp + fp)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class Recall(IndexMetric):
    """Recall (sensitivity) of everything seen, from counts added up over batches.

        tp / (tp + fn) of each class, in the mean over the classes that were seen, in truth or prediction

    0 for a class that is predicted somewhere and true nowhere. Else as `DiceCoefficient`, with the same arguments.
    Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, section 2.

    Examples:
        >>> from multiloss.metrics import Recall
        >>> metric = Recall()
        >>> metric.update_state([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])  # tp 1, fn 1
        >>> float(metric.result())
        0.5
    """

    _needs_negatives = False

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return ratios.ratio(tp, tp + fn)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class Specificity(IndexMetric):
    """Specificity (true negative rate) of everything seen, from counts added up over batches.

        tn / (tn + fp) of each class, in the mean over the classes that were seen, in truth or prediction

    0 for a class that is true everywhere. Else as `DiceCoefficient`, with the same arguments.
    Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, section 2.

    Examples:
        >>> from multiloss.metrics import Specificity
        >>> metric = Specificity()
        >>> metric.update_state([[1, 0, 0, 0, 0]], [[0.9, 0.7, 0.2, 0.1, 0.1]])  # tn 3, fp 1
        >>> float(metric.result())
        0.75
    """

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        return ratios.ratio(tn, tn + fp)


@final
@keras.saving.register_keras_serializable(package="multiloss")
class MatthewsCorrelation(IndexMetric):
    """Matthews correlation coefficient (phi) of everything seen, from counts added up over batches.

        (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn)) of each class, in [-1, 1], in the mean over the
        classes that were seen, in truth or prediction

    0 where the root is 0, as for a class that is true everywhere, or seen nowhere. `average="micro"` of classes that
    exclude each other is R_K, of the products added up over the classes, as scikit-learn's `matthews_corrcoef` and
    torchmetrics' `MulticlassMatthewsCorrCoef` are; it takes no `class_weight`. Else as `DiceCoefficient`,
    with the same arguments.

    Matthews 1975, doi:10.1016/0005-2795(75)90109-9; R_K: Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006.

    Examples:
        >>> from multiloss.metrics import MatthewsCorrelation
        >>> metric = MatthewsCorrelation()
        >>> metric.update_state([[1, 1, 0, 0]], [[0.9, 0.4, 0.2, 0.1]])  # tp 1, fn 1, tn 2
        >>> round(float(metric.result()), 4)  # 2 / sqrt(1 * 2 * 2 * 3)
        0.5774
    """

    _least = -1.0
    _unseen = 0.0
    _unweighted = ("weighted", "micro")

    def _index(self, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
        tp, fp, fn, tn = _shares(tp, fp, fn, tn)
        root = _root(tp + fp) * _root(tp + fn) * _root(tn + fp) * _root(tn + fn)
        return ratios.ratio(tp * tn - fp * fn, root)

    def _micro(self, counts: Tensor, among: Tensor) -> Tensor:
        if self.mode == "multilabel":
            return super()._micro(counts, among)
        # With a class that is ignored: it may be predicted, and then correlates with nothing.
        tp, fp, fn, tn = _shares(*ops.unstack(counts))
        products = (tp * tn - fp * fn, (tp + fp) * (tn + fn), (tp + fn) * (tn + fp))
        above, predicted, true = (ops.sum(product, axis=-1, keepdims=True) for product in products)
        return ratios.ratio(above, _root(predicted) * _root(true))


def _shares(*counts: Tensor) -> list[Tensor]:
    """Return counts as shares of all pixels, whose products are within float32."""
    total = sum(counts)
    return [ratios.ratio(count, total) for count in counts]


def _root(x: Tensor) -> Tensor:
    return ratios.power(x, 0.5)
