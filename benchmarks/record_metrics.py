"""Record what other libraries give for their metrics of overlap, in tests/data/peer_metrics.json.

    python -m venv peers && . peers/bin/activate
    pip install torch==2.13.0 jax==0.10.2 keras==3.15.1 scikit-learn==1.9.1 numpy==2.4.6 scipy tqdm
    pip install --no-deps torchmetrics==1.9.0 lightning-utilities==0.15.3 monai==1.6.1
    pip install --no-deps segmentation-models-pytorch==0.6.0 MedPy==0.5.2 SimpleITK==2.5.7
    python benchmarks/record_metrics.py

These libraries are no dependencies of this project: its tests read the file. The data are small, made with a fixed seed
and stored beside the values. Predictions are multiples of 1/64, exact in any precision:

    multiclass      4 classes, all of them in every image      binary         one class
    absent          some of them not in some images            empty          one class, not in 2 images of 4
    nowhere         some of them in no image                   binary_ties    one class, many predictions of 0.5
    ties            the highest prediction is often not alone  binary_void    one class, some pixels of label 255
    void            some pixels of label 255                   multilabel     4 classes that do not exclude each other
    weights         `multiclass`, pixels with weights          labels_absent  some of them not in some or all images
    image_weights   `multiclass`, images with weights          labels_void    some truth of label 255
    tags            `multilabel` without pixels             full           one class, everywhere in truth and prediction
                                                            nothing        one class, nowhere in truth and prediction

`truth` is of integers `[B, H, W]` for one class and for classes that exclude each other, else `[B, H, W, C]`;
`probabilities` are `[B, H, W, C]`. A record is one call, to be read as Python. A metric that is kept up to date sees
all images but the last, then the last. A call of a function names what it takes: `y_true` and `y_pred`, all images
at once. In which form they are, `truth` and `predictions` of the record say:

    indices  classes' numbers `[B, H, W]`                   labels         the predicted class, the first of the highest
    onehot   0 and 1, `[B, H, W, C]`                        binarized      0 and 1, `[B, H, W, C]`: the predicted class,
                                                                           or what is above 0.5
                                                            probabilities  `[B, H, W, C]`

"first" has the classes second, "second" an axis for them, "squeezed" none; "flat" has no pixels but samples only.
`value` is what came back, nested lists of numbers with null for NaN, or the name of the error that was raised.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
import torch

OUT = Path(__file__).parents[1] / "tests" / "data" / "peer_metrics.json"

# Module, truth, predictions, what `$` stands for: data, and the calls that are made with each of them.
CALLS = """
keras.metrics; indices; labels; num_classes=4: multiclass absent nowhere void
    MeanIoU($) | IoU($, target_class_ids=[1]) | IoU($, target_class_ids=[1, 2])
keras.metrics; indices; labels; num_classes=4: void
    MeanIoU($, ignore_class=255)
keras.metrics; indices; labels; num_classes=4: multiclass absent nowhere
    MeanIoU($, ignore_class=1)
keras.metrics; indices; labels; num_classes=4: weights
    MeanIoU($, dtype="float32") | MeanIoU($)
keras.metrics; indices; labels; num_classes=4: image_weights
    MeanIoU($, dtype="float32")
keras.metrics; indices; probabilities; num_classes=4, sparse_y_pred=False: multiclass absent nowhere ties
    MeanIoU($) | IoU($, target_class_ids=[1, 2])
keras.metrics; onehot; labels; num_classes=4, sparse_y_true=False: multiclass
    MeanIoU($)
keras.metrics; onehot first; probabilities first; num_classes=4: multiclass
    MeanIoU($, sparse_y_true=False, sparse_y_pred=False, axis=1) | OneHotMeanIoU($, axis=1)
keras.metrics; onehot; probabilities; num_classes=4: multiclass absent nowhere ties
    OneHotMeanIoU($) | OneHotIoU($, target_class_ids=[1, 2]) | OneHotIoU($, target_class_ids=[0, 1, 2, 3])
keras.metrics; onehot; labels; num_classes=4, sparse_y_pred=True: multiclass absent
    OneHotMeanIoU($)
keras.metrics; indices; probabilities; : binary empty
    BinaryIoU(target_class_ids=[1]) | BinaryIoU(target_class_ids=[1], threshold=0.25) | BinaryIoU()
    BinaryIoU(target_class_ids=[0])
keras.metrics; indices; probabilities; : binary_ties
    BinaryIoU(target_class_ids=[1]) | BinaryIoU(target_class_ids=[1], threshold=0.25)
keras.metrics; indices; probabilities; : nothing
    BinaryIoU(target_class_ids=[1])
keras.metrics; onehot; probabilities; : nothing
    Precision() | Recall()
keras.metrics; onehot flat; probabilities flat; : multiclass absent nowhere ties multilabel labels_absent
    F1Score() | F1Score(average="macro") | F1Score(average="micro") | F1Score(average="weighted")
keras.metrics; onehot flat; probabilities flat; threshold=0.5: multiclass multilabel labels_absent binary_ties
    F1Score($) | F1Score($, average="macro") | F1Score($, average="micro") | F1Score($, average="weighted")
keras.metrics; onehot flat; probabilities flat; threshold=0.5: weights
    F1Score($) | F1Score($, average="macro") | F1Score($, average="weighted")
keras.metrics; onehot; probabilities; : multiclass multilabel labels_absent binary empty binary_ties
    Precision() | Recall() | Precision(thresholds=0.25) | Recall(thresholds=0.25)
keras.metrics; onehot; probabilities; : multiclass multilabel labels_absent
    Precision(class_id=1) | Recall(class_id=1) | Precision(class_id=2) | Recall(class_id=2)
keras.metrics; onehot; probabilities; : multiclass
    Precision(thresholds=[0.25, 0.5]) | Precision(top_k=1) | Recall(top_k=1)
keras.metrics; onehot; probabilities; : ties
    Precision(top_k=1)
keras.metrics; onehot; probabilities; : weights
    Precision() | Recall() | Precision(class_id=1) | Recall(class_id=1)
keras.metrics; onehot; probabilities; : image_weights
    Precision()
torchmetrics.classification; indices; probabilities first; num_classes=4: multiclass absent nowhere ties
    MulticlassJaccardIndex($) | MulticlassJaccardIndex($, average=None) | MulticlassJaccardIndex($, average="micro")
    MulticlassJaccardIndex($, average="weighted") | MulticlassJaccardIndex($, zero_division=1, average=None)
    MulticlassF1Score($) | MulticlassF1Score($, average=None) | MulticlassF1Score($, average="micro")
    MulticlassF1Score($, average="weighted") | MulticlassF1Score($, zero_division=1, average=None)
    MulticlassPrecision($) | MulticlassPrecision($, average=None) | MulticlassPrecision($, average="micro")
    MulticlassPrecision($, average="weighted") | MulticlassPrecision($, zero_division=1, average=None)
    MulticlassRecall($) | MulticlassRecall($, average=None) | MulticlassRecall($, average="micro")
    MulticlassRecall($, average="weighted") | MulticlassRecall($, zero_division=1, average=None)
    MulticlassSpecificity($) | MulticlassSpecificity($, average=None) | MulticlassSpecificity($, average="micro")
    MulticlassSpecificity($, average="weighted") | MulticlassMatthewsCorrCoef($)
    MulticlassConfusionMatrix($) | MulticlassConfusionMatrix($, normalize="true")
    MulticlassConfusionMatrix($, normalize="pred") | MulticlassConfusionMatrix($, normalize="all")
torchmetrics.classification; indices; labels; num_classes=4, multidim_average="samplewise": multiclass absent
    MulticlassF1Score($) | MulticlassF1Score($, average=None) | MulticlassF1Score($, average="micro")
    MulticlassF1Score($, average="weighted") | MulticlassPrecision($) | MulticlassRecall($) | MulticlassSpecificity($)
torchmetrics.classification; indices; probabilities first; num_classes=4, ignore_index=255: void
    MulticlassJaccardIndex($) | MulticlassJaccardIndex($, average=None) | MulticlassF1Score($) | MulticlassPrecision($)
    MulticlassRecall($) | MulticlassSpecificity($) | MulticlassMatthewsCorrCoef($) | MulticlassConfusionMatrix($)
    MulticlassJaccardIndex($, average="micro") | MulticlassF1Score($, multidim_average="samplewise")
torchmetrics.classification; indices; probabilities first; num_classes=4, ignore_index=1: multiclass
    MulticlassJaccardIndex($) | MulticlassJaccardIndex($, average="micro") | MulticlassConfusionMatrix($)
    MulticlassF1Score($) | MulticlassF1Score($, average="micro") | MulticlassF1Score($, average="weighted")
    MulticlassF1Score($, average=None) | MulticlassRecall($) | MulticlassMatthewsCorrCoef($)
    MulticlassJaccardIndex($, average="weighted")
torchmetrics.classification; indices; probabilities squeezed; : binary empty binary_ties
    BinaryJaccardIndex() | BinaryJaccardIndex(threshold=0.25) | BinaryF1Score() | BinaryPrecision() | BinaryRecall()
    BinarySpecificity() | BinaryMatthewsCorrCoef() | BinaryConfusionMatrix() | BinaryConfusionMatrix(normalize="true")
    BinaryF1Score(threshold=0.25)
torchmetrics.classification; indices; probabilities squeezed; : nothing
    BinaryJaccardIndex() | BinaryF1Score() | BinarySpecificity() | BinaryMatthewsCorrCoef()
torchmetrics.classification; indices; probabilities squeezed; : full
    BinaryJaccardIndex() | BinarySpecificity() | BinaryMatthewsCorrCoef()
torchmetrics.classification; indices; probabilities squeezed; : binary empty
    BinaryF1Score(multidim_average="samplewise") | BinaryF1Score(multidim_average="samplewise", zero_division=1)
    BinaryPrecision(multidim_average="samplewise") | BinaryRecall(multidim_average="samplewise")
    BinarySpecificity(multidim_average="samplewise") | BinaryPrecision(multidim_average="samplewise", zero_division=1)
torchmetrics.classification; indices; probabilities squeezed; ignore_index=255: binary_void
    BinaryJaccardIndex($) | BinaryF1Score($) | BinarySpecificity($) | BinaryMatthewsCorrCoef($)
    BinaryConfusionMatrix($)
torchmetrics.classification; onehot first; probabilities first; num_labels=4: multilabel labels_absent
    MultilabelJaccardIndex($) | MultilabelJaccardIndex($, average=None) | MultilabelJaccardIndex($, average="micro")
    MultilabelJaccardIndex($, average="weighted") | MultilabelF1Score($) | MultilabelF1Score($, average="micro")
    MultilabelF1Score($, average="weighted") | MultilabelPrecision($) | MultilabelRecall($) | MultilabelSpecificity($)
    MultilabelSpecificity($, average="micro") | MultilabelMatthewsCorrCoef($) | MultilabelConfusionMatrix($)
    MultilabelConfusionMatrix($, normalize="true") | MultilabelF1Score($, multidim_average="samplewise")
    MultilabelConfusionMatrix($, normalize="pred") | MultilabelConfusionMatrix($, normalize="all")
torchmetrics.classification; onehot first; probabilities first; num_labels=4, ignore_index=255: labels_void
    MultilabelJaccardIndex($) | MultilabelJaccardIndex($, average="micro") | MultilabelF1Score($)
    MultilabelSpecificity($) | MultilabelConfusionMatrix($)
torchmetrics.segmentation; indices; labels; num_classes=4, input_format="index": multiclass absent nowhere
    MeanIoU($) | MeanIoU($, per_class=True) | MeanIoU($, include_background=False)
    MeanIoU($, include_background=False, per_class=True) | DiceScore($) | DiceScore($, average="micro")
    DiceScore($, average="weighted") | DiceScore($, average="none") | DiceScore($, include_background=False)
    DiceScore($, include_background=False, average="micro") | DiceScore($, aggregation_level="global")
    DiceScore($, average="micro", aggregation_level="global") | DiceScore($, average="none", aggregation_level="global")
    DiceScore($, average="weighted", aggregation_level="global") | GeneralizedDiceScore($)
    GeneralizedDiceScore($, weight_type="simple") | GeneralizedDiceScore($, weight_type="linear")
    GeneralizedDiceScore($, per_class=True)
torchmetrics.segmentation; indices; probabilities first; num_classes=4, input_format="mixed": ties
    MeanIoU($) | DiceScore($, aggregation_level="global")
torchmetrics.segmentation; onehot first; binarized first; num_classes=1: binary empty
    MeanIoU($) | DiceScore($) | DiceScore($, aggregation_level="global")
torchmetrics.segmentation; onehot first; binarized first; num_classes=4: multilabel labels_absent
    MeanIoU($) | DiceScore($)
sklearn.metrics; indices flat; labels flat; y_true, y_pred: multiclass absent nowhere ties weights
    jaccard_score($, average="macro") | jaccard_score($, average=None) | jaccard_score($, average="micro")
    jaccard_score($, average="weighted") | jaccard_score($, average="macro", labels=[1, 2, 3])
    jaccard_score($, average="micro", labels=[1, 2, 3]) | jaccard_score($, average=None, labels=[0, 1, 2, 3])
    jaccard_score($, average="macro", labels=[0, 1, 2, 3]) | f1_score($, average="macro")
    f1_score($, average=None, labels=[0, 1, 2, 3], zero_division=np.nan) | f1_score($, average="micro")
    f1_score($, average="weighted") | f1_score($, average="macro", labels=[0, 1, 2, 3], zero_division=1)
    precision_score($, average="macro") | precision_score($, average="micro") | precision_score($, average="weighted")
    precision_score($, average="macro", zero_division=1) | recall_score($, average="macro", zero_division=np.nan)
    recall_score($, average="macro") | recall_score($, average="micro") | recall_score($, average="weighted")
    recall_score($, average=None, labels=[0, 1, 2, 3], zero_division=np.nan) | matthews_corrcoef($)
    confusion_matrix($, labels=[0, 1, 2, 3]) | confusion_matrix($, labels=[0, 1, 2, 3], normalize="true")
    confusion_matrix($, labels=[0, 1, 2, 3], normalize="pred") | balanced_accuracy_score($)
    confusion_matrix($, labels=[0, 1, 2, 3], normalize="all") | accuracy_score($)
    multilabel_confusion_matrix($, labels=[0, 1, 2, 3])
sklearn.metrics; indices flat; labels flat; y_true, y_pred: void
    confusion_matrix($, labels=[0, 1, 2, 3]) | jaccard_score($, average="macro", labels=[0, 1, 2, 3])
sklearn.metrics; indices flat; labels flat; y_true, y_pred: binary empty
    jaccard_score($) | f1_score($) | precision_score($) | recall_score($) | recall_score($, pos_label=0)
    matthews_corrcoef($) | confusion_matrix($) | confusion_matrix($, normalize="true") | f1_score($, average="macro")
sklearn.metrics; indices flat; labels flat; y_true, y_pred: nothing
    jaccard_score($) | f1_score($) | matthews_corrcoef($)
sklearn.metrics; indices flat; labels flat; y_true, y_pred: full
    jaccard_score($) | recall_score($, pos_label=0) | matthews_corrcoef($)
sklearn.metrics; onehot flat; binarized flat; y_true, y_pred: multilabel labels_absent
    jaccard_score($, average="macro") | jaccard_score($, average=None) | jaccard_score($, average="micro")
    jaccard_score($, average="weighted") | f1_score($, average="macro") | f1_score($, average="micro")
    f1_score($, average="macro", zero_division=1) | f1_score($, average=None, zero_division=np.nan)
    precision_score($, average="macro") | precision_score($, average="macro", zero_division=1)
    recall_score($, average="macro") | recall_score($, average=None, zero_division=np.nan)
    recall_score($, average="weighted") | multilabel_confusion_matrix($)
sklearn.metrics; onehot flat; binarized flat; y_true, y_pred: tags
    jaccard_score($, average="samples") | jaccard_score($, average="samples", zero_division=1)
    f1_score($, average="samples") | f1_score($, average="samples", zero_division=1)
    f1_score($, average="samples", zero_division=np.nan) | precision_score($, average="samples")
    precision_score($, average="samples", zero_division=1) | recall_score($, average="samples")
    recall_score($, average="samples", zero_division=np.nan)
monai.metrics; onehot first; binarized first; : multiclass absent nowhere multilabel labels_absent
    DiceMetric() | DiceMetric(reduction="mean_batch") | DiceMetric(reduction="mean_channel")
    DiceMetric(reduction="none") | DiceMetric(ignore_empty=False) | DiceMetric(include_background=False)
    DiceMetric(reduction="mean_batch", ignore_empty=False) | DiceMetric(include_background=False, ignore_empty=False)
    MeanIoU() | MeanIoU(reduction="mean_batch") | MeanIoU(reduction="mean_channel") | MeanIoU(ignore_empty=False)
    MeanIoU(include_background=False) | MeanIoU(include_background=False, ignore_empty=False)
    ConfusionMatrixMetric(metric_name="precision") | ConfusionMatrixMetric(metric_name="recall")
    ConfusionMatrixMetric(metric_name="specificity") | ConfusionMatrixMetric(metric_name="f1 score")
    ConfusionMatrixMetric(metric_name="threat score")
    ConfusionMatrixMetric(metric_name="matthews correlation coefficient")
    ConfusionMatrixMetric(metric_name="precision", reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="recall", reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="specificity", reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="f1 score", reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="matthews correlation coefficient", reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="precision", reduction="mean_channel")
    ConfusionMatrixMetric(metric_name="f1 score", reduction="mean_channel")
    ConfusionMatrixMetric(metric_name="precision", compute_sample=True)
    ConfusionMatrixMetric(metric_name="recall", compute_sample=True)
    ConfusionMatrixMetric(metric_name="specificity", compute_sample=True)
    ConfusionMatrixMetric(metric_name="f1 score", compute_sample=True)
    ConfusionMatrixMetric(metric_name="threat score", compute_sample=True)
    ConfusionMatrixMetric(metric_name="f1 score", compute_sample=True, reduction="mean_batch")
    ConfusionMatrixMetric(metric_name="matthews correlation coefficient", compute_sample=True)
monai.metrics; onehot first; binarized first; : multiclass
    DiceMetric(ignore_index=1) | MeanIoU(ignore_index=1)
monai.metrics; onehot first; binarized first; ignore_index=255: void
    DiceMetric($) | MeanIoU($) | ConfusionMatrixMetric($, metric_name="specificity")
monai.metrics; indices second; labels second; num_classes=4: multiclass absent
    DiceMetric($) | DiceMetric($, include_background=False)
monai.metrics; indices second; labels second; num_classes=4, ignore_index=255: void
    DiceMetric($)
monai.metrics; onehot first; binarized first; : binary empty
    DiceMetric() | DiceMetric(ignore_empty=False) | DiceMetric(reduction="mean_batch")
    DiceMetric(reduction="mean_channel") | MeanIoU() | MeanIoU(ignore_empty=False) | MeanIoU(reduction="mean_channel")
    ConfusionMatrixMetric(metric_name="precision") | ConfusionMatrixMetric(metric_name="recall", compute_sample=True)
    ConfusionMatrixMetric(metric_name="precision", compute_sample=True)
    ConfusionMatrixMetric(metric_name="specificity", compute_sample=True)
    ConfusionMatrixMetric(metric_name="f1 score", compute_sample=True)
smp.metrics; indices; labels; mode="multiclass", num_classes=4: multiclass absent nowhere
    iou_score($, reduction="micro") | iou_score($, reduction="macro") | iou_score($, reduction="micro-imagewise")
    iou_score($, reduction="macro-imagewise") | iou_score($, reduction="none")
    iou_score($, reduction="weighted", class_weights=[1.0, 2.0, 3.0, 4.0])
    iou_score($, reduction="weighted-imagewise", class_weights=[1.0, 2.0, 3.0, 4.0])
    iou_score($, reduction="macro", class_weights=[1.0, 2.0, 3.0, 4.0])
    iou_score($, reduction="macro", zero_division=0) | iou_score($, reduction="macro-imagewise", zero_division=0)
    f1_score($, reduction="micro") | f1_score($, reduction="macro") | f1_score($, reduction="micro-imagewise")
    f1_score($, reduction="macro-imagewise") | f1_score($, reduction="macro-imagewise", zero_division=0)
    f1_score($, reduction="weighted", class_weights=[1.0, 2.0, 3.0, 4.0])
    f1_score($, reduction="weighted-imagewise", class_weights=[1.0, 2.0, 3.0, 4.0])
    precision($, reduction="macro") | precision($, reduction="macro", zero_division=0)
    precision($, reduction="macro-imagewise") | precision($, reduction="macro-imagewise", zero_division=0)
    recall($, reduction="macro") | recall($, reduction="macro", zero_division=0) | specificity($, reduction="micro")
    recall($, reduction="macro-imagewise") | recall($, reduction="macro-imagewise", zero_division=0)
    specificity($, reduction="macro") | specificity($, reduction="macro-imagewise")
smp.metrics; indices; labels; mode="multiclass", num_classes=4, ignore_index=255: void
    iou_score($, reduction="micro") | iou_score($, reduction="macro") | iou_score($, reduction="macro-imagewise")
    specificity($, reduction="macro")
smp.metrics; onehot first; probabilities first; mode="binary", threshold=0.5: binary empty binary_ties
    iou_score($, reduction="micro") | iou_score($, reduction="micro-imagewise")
    iou_score($, reduction="micro-imagewise", zero_division=0) | f1_score($, reduction="micro")
    f1_score($, reduction="micro-imagewise") | precision($, reduction="micro-imagewise")
    recall($, reduction="micro-imagewise", zero_division=0) | specificity($, reduction="micro-imagewise")
monai.metrics; onehot first; binarized first; : nothing
    DiceMetric() | DiceMetric(ignore_empty=False) | MeanIoU()
monai.metrics; onehot first; binarized first; : full
    ConfusionMatrixMetric(metric_name="specificity", compute_sample=True)
    ConfusionMatrixMetric(metric_name="matthews correlation coefficient", compute_sample=True)
smp.metrics; onehot first; probabilities first; mode="binary", threshold=0.5: nothing
    iou_score($, reduction="micro") | iou_score($, reduction="micro-imagewise")
smp.metrics; onehot first; probabilities first; mode="binary", threshold=0.5: full
    specificity($, reduction="micro-imagewise")
smp.metrics; onehot first; probabilities first; mode="multilabel", threshold=0.5: multilabel labels_absent
    iou_score($, reduction="micro") | iou_score($, reduction="macro") | iou_score($, reduction="micro-imagewise")
    iou_score($, reduction="macro-imagewise") | f1_score($, reduction="macro") | specificity($, reduction="macro")
    f1_score($, reduction="weighted", class_weights=[1.0, 2.0, 3.0, 4.0])
medpy.metric.binary; indices; labels; : binary empty
    dc(y_pred, y_true) | jc(y_pred, y_true) | precision(y_pred, y_true) | recall(y_pred, y_true)
    specificity(y_pred, y_true) | [dc(p, t) for p, t in zip(y_pred, y_true)]
    [jc(p, t) for p, t in zip(y_pred, y_true)] | [precision(p, t) for p, t in zip(y_pred, y_true)]
    [recall(p, t) for p, t in zip(y_pred, y_true)] | [specificity(p, t) for p, t in zip(y_pred, y_true)]
medpy.metric.binary; indices; labels; : nothing
    dc(y_pred, y_true) | jc(y_pred, y_true)
medpy.metric.binary; indices; labels; : full
    specificity(y_pred, y_true)
medpy.metric.binary; indices; labels; : multiclass absent nowhere
    [dc(y_pred == c, y_true == c) for c in range(4)] | [jc(y_pred == c, y_true == c) for c in range(4)]
"""
NAMES = {"sklearn": "scikit-learn", "smp": "segmentation-models-pytorch", "medpy": "MedPy"}


def likely(rng, truth):
    """Return rows of 64 counts that lean towards the truth, and of which the highest is alone."""
    scores = rng.normal(size=truth.shape) + 1.2 * truth
    shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    counts = np.floor(60 * shares)
    counts[np.arange(len(counts)), scores.argmax(axis=-1)] += 64 - counts.sum(axis=-1)
    return counts


def make_data():
    """Return the arrays of each case, what is special about them by construction, and checked."""
    rng, eye = np.random.default_rng(0), np.eye(4)
    truth = rng.integers(0, 4, (3, 4, 5))
    pred = likely(rng, eye[truth].reshape(-1, 4)).reshape(3, 4, 5, 4) / 64
    cases = {"multiclass": {"truth": truth, "probabilities": pred}}
    assert all(len(np.unique(image)) == 4 for image in (*truth, *pred.argmax(-1)))
    # Class 3 not in truth 1 but predicted, class 1 there but not predicted; class 2 of image 2 in neither.
    absent, seen = truth.copy(), pred.copy()
    absent[1][absent[1] == 3] = 0
    absent[2][absent[2] == 2] = 1
    move(seen[1], 1, 2)
    move(seen[2], 2, 3)
    cases["absent"] = {"truth": absent, "probabilities": seen}
    # The same of all images.
    nowhere, seen = truth.copy(), pred.copy()
    nowhere[nowhere == 2] = 0
    nowhere[nowhere == 3] = 1
    move(seen, 1, 2)
    move(seen, 3, 0)
    assert set(np.unique(nowhere)) == {0, 1}
    assert set(np.unique(seen.argmax(-1))) == {0, 2}
    cases["nowhere"] = {"truth": nowhere, "probabilities": seen}
    coarse = rng.multinomial(4, [0.25] * 4, size=truth.shape) / 4
    assert ((coarse == coarse.max(axis=-1, keepdims=True)).sum(axis=-1) > 1).any()
    cases["ties"] = {"truth": truth, "probabilities": coarse}
    void = np.where(rng.random(truth.shape) < 0.25, 255, truth)
    cases["void"] = {"truth": void, "probabilities": pred}
    weights = rng.choice([0, 0.25, 0.5, 1, 2], truth.shape)
    cases["weights"] = {"truth": truth, "probabilities": pred, "sample_weight": weights}
    cases["image_weights"] = {"truth": truth, "probabilities": pred, "sample_weight": np.array([2, 0.5, 1.25])}
    # One class.
    truth = rng.integers(0, 2, (4, 4, 5))
    pred = np.clip(rng.integers(0, 64, truth.shape) + 16 * (2 * truth - 1), 1, 63) / 64
    pred = np.where(pred == 0.5, 0.75, pred)[..., None]
    cases["binary"] = {"truth": truth, "probabilities": pred}
    # Truth of image 1 is empty, of image 2 the prediction as well; nothing is predicted of image 3.
    empty, seen = truth.copy(), pred.copy()
    empty[1:3] = 0
    seen[2:] = np.minimum(seen[2:], 31 / 64)
    cases["empty"] = {"truth": empty, "probabilities": seen}
    cases["binary_ties"] = {"truth": truth, "probabilities": rng.integers(1, 4, truth.shape)[..., None] / 4}
    cases["binary_void"] = {"truth": np.where(rng.random(truth.shape) < 0.25, 255, truth), "probabilities": pred}
    cases["nothing"] = {"truth": np.zeros_like(truth[:2]), "probabilities": np.minimum(pred[:2], 31 / 64)}
    cases["full"] = {"truth": np.ones_like(truth[:2]), "probabilities": np.maximum(pred[:2], 33 / 64)}
    # Classes that do not exclude each other.
    truth = rng.integers(0, 2, (3, 4, 5, 4))
    pred = np.clip(rng.integers(0, 64, truth.shape) + 16 * (2 * truth - 1), 1, 63) / 64
    pred[pred == 0.5] = 0.75
    cases["multilabel"] = {"truth": truth, "probabilities": pred}
    # Class 0 not in truth 1, nor predicted of image 2. Class 1 never predicted, class 2 not in truth, class 3 neither.
    absent, seen = truth.copy(), pred.copy()
    absent[1, ..., 0] = 0
    absent[..., 2:] = 0
    seen[2, ..., 0] = np.minimum(seen[2, ..., 0], 31 / 64)
    seen[..., 1::2] = np.minimum(seen[..., 1::2], 31 / 64)
    cases["labels_absent"] = {"truth": absent, "probabilities": seen}
    void = np.where(rng.random(truth.shape) < 0.2, 255, truth)
    cases["labels_void"] = {"truth": void, "probabilities": pred}
    # Sample 3 has no label but one predicted, sample 4 none at all, sample 5 one but none predicted.
    tags, seen = truth[:2, 0, :3].reshape(6, 4).copy(), pred[:2, 0, :3].reshape(6, 4).copy()
    tags[3:5], tags[5, 0], seen[3, 0] = 0, 1, 0.75
    seen[4:] = np.minimum(seen[4:], 31 / 64)
    cases["tags"] = {"truth": tags, "probabilities": seen}
    assert (np.concatenate([case["probabilities"].ravel() for case in cases.values()]) * 64 % 1 == 0).all()
    return cases


def move(probabilities, source, target):
    """Where class `source` would be predicted, exchange its probabilities with those of class `target`, in place."""
    here, order = probabilities.argmax(axis=-1) == source, np.arange(4)
    order[[source, target]] = target, source
    probabilities[here] = probabilities[here][:, order]


def form(case, name):
    """Return the truth or predictions of a case in the form of that name."""
    truth, pred = case["truth"], case["probabilities"].astype("float32")
    name, *more = name.split()
    one, labels = pred.shape[-1] == 1, truth.shape == pred.shape
    if name == "indices":
        array = truth
    elif name == "onehot":
        array = truth if labels else truth[..., None] if one else (truth[..., None] == np.arange(4)).astype(int)
    elif name == "probabilities":
        array = pred
    elif name == "labels":
        array = (pred[..., 0] > 0.5).astype(int) if one else pred.argmax(axis=-1)
    elif name == "binarized":
        array = (pred > 0.5).astype(int) if one or labels else np.eye(4, dtype=int)[pred.argmax(axis=-1)]
    if "first" in more:
        return np.moveaxis(array, -1, 1)
    if "second" in more:
        return array[:, None]
    if "squeezed" in more:
        return array[..., 0]
    return array.reshape(-1, *array.shape[truth.ndim - labels :]) if "flat" in more else array


def without_models(package):
    """Make `package.metrics` importable without what its package imports for its models."""
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))
    return importlib.import_module(f"{package}.metrics")


def evaluate(module, library, call, case, truth, pred):
    """Give the call what its library takes."""
    flat = "flat" in truth
    arrays = {"y_true": form(case, truth), "y_pred": form(case, pred)}
    weight = case.get("sample_weight")
    scope = {**vars(module), "np": np}
    if library in ("torchmetrics", "monai", "smp"):
        arrays = {key: torch.tensor(np.ascontiguousarray(array)) for key, array in arrays.items()}
    if re.search(r"\by_true\b", call):
        if weight is not None:
            weighted = {"sample_weight": weight.ravel()}
            scope |= {
                name: functools.partial(scope[name], **weighted)
                for name in dir(module)
                if name.endswith(("_score", "_matrix", "_corrcoef"))
            }
        return eval(call, {**scope, **arrays})
    metric = eval(call, scope)
    images = len(case["truth"])
    for batch in (slice(images - 1), slice(images - 1, images)):
        if flat:
            pixels = len(arrays["y_true"]) // images
            batch = slice(batch.start and batch.start * pixels, batch.stop * pixels)
        y_true, y_pred = arrays["y_true"][batch], arrays["y_pred"][batch]
        if library == "keras":
            here = None if weight is None else weight.ravel()[batch] if flat else weight[batch]
            if here is not None and here.ndim == 1 and "IoU" in call:
                here = np.broadcast_to(here[:, None, None], y_true.shape)
            metric.update_state(y_true, y_pred, sample_weight=here)
        elif library == "torchmetrics":
            metric.update(y_pred, y_true)
        else:
            metric(y_pred=y_pred.float() if "Confusion" in call else y_pred, y=y_true)
    if library == "monai":
        value = metric.aggregate()
        return value[0] if isinstance(value, list) else value
    return metric.result() if library == "keras" else metric.compute()


def plain(value):
    """Return nested lists of numbers, with None for NaN."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value != value else value


def main():
    warnings.simplefilter("ignore")
    data, records, modules = make_data(), [], {"smp.metrics": without_models("segmentation_models_pytorch")}
    for line in CALLS.strip().splitlines():
        if not line.startswith(" "):
            heading, cases = line.rsplit(":", 1)
            module, truth, pred, common = (part.strip() for part in heading.split("; "))
            if module == "smp.metrics":
                common = f"*get_stats(y_pred, y_true, {common})"
            if module not in modules:
                modules[module] = importlib.import_module(module)
            continue
        for call in line.strip().replace("$", common).split(" | "):
            for case in cases.split():
                library = module.split(".")[0]
                try:
                    value = evaluate(modules[module], library, call, data[case], truth, pred)
                    value = plain(np.asarray(value, "float64").tolist())
                except Exception as error:  # whatever it is, it is what the library gives, and is printed
                    value = type(error).__name__
                    print(f"{module}.{call} on {case}: {value}: {error}")
                name = NAMES.get(library, library)
                version = importlib.metadata.version(name)
                record = {"library": name, "version": version, "module": module, "call": call, "data": case}
                records.append({**record, "truth": truth, "predictions": pred, "value": value})
    arrays = {case: {name: array.tolist() for name, array in arrays.items()} for case, arrays in data.items()}
    rows = ",\n".join(json.dumps(record, allow_nan=False) for record in records)
    OUT.write_text(f'{{"data": {json.dumps(arrays)},\n"records": [\n{rows}\n]}}\n')
    print(f"{len(records)} values in {OUT.name}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
