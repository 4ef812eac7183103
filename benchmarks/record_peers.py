"""Record what other libraries give for their overlap losses, in tests/data/peers.json.

    python -m venv peers && . peers/bin/activate
    pip install torch==2.13.0 jax==0.10.2 keras==3.15.1 scipy tqdm
    pip install --no-deps monai==1.6.1 segmentation-models-pytorch==0.6.0 optax==0.2.8 medicai==0.0.4
    python benchmarks/record_peers.py

These libraries are no dependencies of this project: its tests read the file. What they need for models is not needed
here, so pip may be left to complain of it. The data are small, made with a fixed seed and stored beside the values:

    multiclass         every class in every sample          two_classes        `binary` as two classes, softmax
    absent             class 2 not in sample 1              binary             one class, sigmoid
    absent_from_batch  class 2 in no sample                 lines              one class, two lines, for centrelines
    background         only class 0 in sample 1             empty              one class, in 2 samples of 4
    soft               soft labels of 3 classes

`truth` is of integers `[B, H, W]` with classes that exclude each other, of soft labels `[B, H, W, C]`, and else of 0
and 1 `[B, H, W, 1]`; `probabilities` and `logits` are `[B, H, W, C]`. A record is one call, to be read as Python, with
predictions of the kind that `input` names; "thresholded" are `probabilities > 0.5`, given to a metric, of which
`aggregate()` is recorded. `value` is what came back: a number, or nested lists with the library's own order of axes
(classes second for torch's libraries), less trailing axes of size 1 from the third on, and `dtype` its type.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
import torch
from scipy.special import expit, softmax

OUT = Path(__file__).parents[1] / "tests" / "data" / "peers.json"

# Library, input, what `$` stands for: data, and the calls that are made with each of them. `%` is reduction='none', and
# `@` a tensor of 1, 2 and 3. A library's other words say how it is called: "single" in float32, "one-hot" and "indices"
# with which truth.
CALLS = """
monai, probabilities: multiclass absent absent_from_batch
    DiceLoss() | DiceLoss(%) | DiceLoss(batch=True) | DiceLoss(batch=True, %) | DiceLoss(squared_pred=True, %)
    DiceLoss(include_background=False, %) | DiceLoss(smooth_nr=1, smooth_dr=1, %)
    DiceLoss(smooth_nr=0, smooth_dr=1e-5, %) | DiceLoss(jaccard=True, %) | DiceLoss(jaccard=True, batch=True)
    DiceLoss(jaccard=True, smooth_nr=1, smooth_dr=1, %) | DiceLoss(jaccard=True, squared_pred=True, %)
    TverskyLoss(alpha=0.3, beta=0.7, %) | TverskyLoss(alpha=0.3, beta=0.7, batch=True)
    TverskyLoss(alpha=0.3, beta=0.7, smooth_nr=1, smooth_dr=1, include_background=False, %) | GeneralizedDiceLoss()
    GeneralizedDiceLoss(%) | GeneralizedDiceLoss(batch=True) | GeneralizedDiceLoss(w_type='simple', %)
    GeneralizedDiceLoss(w_type='uniform', %) | GeneralizedDiceLoss(smooth_nr=0, smooth_dr=0, %) | MCCLoss(%)
    MCCLoss(batch=True) | GeneralizedDiceLoss(include_background=False, smooth_nr=0, smooth_dr=0, %)
monai, probabilities: multiclass
    DiceLoss(weight=[1, 2, 3], %) | DiceLoss(weight=[1, 2, 3]) | DiceLoss(ignore_index=1) | MCCLoss(smooth_dr=0, %)
    SoftclDiceLoss(iter_=2, %) | SoftclDiceLoss(iter_=2, include_background=False, %)
monai, probabilities: binary
    DiceLoss(%) | DiceLoss(batch=True) | DiceLoss(squared_pred=True, %) | DiceLoss(smooth_nr=1, smooth_dr=1, %)
    DiceLoss(jaccard=True, %) | TverskyLoss(alpha=0.3, beta=0.7, %) | GeneralizedDiceLoss(%) | MCCLoss(%)
    MCCLoss(batch=True) | MCCLoss(smooth_dr=0, batch=True)
monai, probabilities: binary two_classes
    AsymmetricUnifiedFocalLoss() | AsymmetricUnifiedFocalLoss(weight=0.3, delta=0.6, gamma=0.2)
monai, probabilities: two_classes
    unified_focal_loss.AsymmetricFocalTverskyLoss(%) | unified_focal_loss.AsymmetricFocalLoss()
    unified_focal_loss.AsymmetricFocalTverskyLoss(delta=0.6, gamma=0.5)
    unified_focal_loss.AsymmetricFocalLoss(delta=0.6, gamma=0.5)
monai, probabilities: lines
    SoftclDiceLoss() | SoftclDiceLoss(iter_=1) | SoftclDiceLoss(smooth_nr=1e-5, smooth_dr=1e-5, smooth=1e-12)
    SoftclDiceLoss(smooth=1e-12) | SoftDiceclDiceLoss() | SoftDiceclDiceLoss(alpha=0.3, smooth=1e-12)
monai, logits: multiclass absent absent_from_batch
    DiceLoss(softmax=True) | DiceCELoss(softmax=True) | DiceFocalLoss(softmax=True) | FocalLoss(use_softmax=True)
monai, logits: multiclass
    DiceCELoss(softmax=True, lambda_dice=0.5, lambda_ce=2) | DiceCELoss(softmax=True, include_background=False)
    DiceCELoss(softmax=True, squared_pred=True, batch=True) | DiceCELoss(softmax=True, label_smoothing=0.1)
    DiceFocalLoss(softmax=True, gamma=1, lambda_dice=0.5, lambda_focal=2) | GeneralizedDiceFocalLoss(softmax=True)
    DiceFocalLoss(softmax=True, include_background=False) | FocalLoss(use_softmax=True, gamma=0.5)
    FocalLoss(use_softmax=True, %) | FocalLoss(use_softmax=True, weight=[1, 2, 3]) | FocalLoss(include_background=False)
    FocalLoss(use_softmax=True, alpha=[1, 2, 3]) | FocalLoss(use_softmax=True, include_background=False) | FocalLoss()
    FocalLoss(alpha=0.25) | FocalLoss(use_softmax=True, alpha=0.25) | FocalLoss(alpha=[0.25, 0.5, 0.75])
monai, logits: binary
    DiceLoss(sigmoid=True) | DiceCELoss(sigmoid=True) | DiceFocalLoss(sigmoid=True) | FocalLoss()
    FocalLoss(alpha=0.25) | FocalLoss(gamma=0.5) | FocalLoss(alpha=0.6, gamma=0.5)
monai, probabilities: soft
    DiceLoss(%) | DiceLoss(soft_label=True) | DiceLoss(soft_label=True, %) | DiceLoss(soft_label=True, batch=True)
    DiceLoss(soft_label=True, jaccard=True, %) | DiceLoss(squared_pred=True, %)
    DiceLoss(soft_label=True, squared_pred=True, %) | DiceLoss(soft_label=True, include_background=False, %)
    TverskyLoss(soft_label=True, alpha=0.3, beta=0.7, %) | TverskyLoss(alpha=0.3, beta=0.7, %)
    GeneralizedDiceLoss(soft_label=True, smooth_nr=0, smooth_dr=0, %)
    GeneralizedDiceLoss(soft_label=True, w_type='simple', %)
monai, probabilities: multiclass absent absent_from_batch
    DiceLoss(soft_label=True, %)
monai, probabilities: empty
    GeneralizedDiceLoss(smooth_nr=1e-12, smooth_dr=1e-12, %) | GeneralizedDiceLoss(w_type='uniform', %)
monai, probabilities: background
    GeneralizedDiceLoss(include_background=False, smooth_nr=1e-12, smooth_dr=1e-12, %)
monai single, logits: multiclass
    DiceCELoss(softmax=True, weight=@)
monai single indices, logits: multiclass
    DiceCELoss(softmax=True, to_onehot_y=True, weight=@)
monai single, logits: binary
    DiceCELoss(sigmoid=True, weight=torch.tensor(3.0))
monai metrics, thresholded: multiclass absent absent_from_batch background empty
    DiceMetric(reduction='mean', ignore_empty=True) | DiceMetric(reduction='mean', ignore_empty=False)
monai metrics, thresholded: multiclass absent absent_from_batch background
    DiceMetric(reduction='mean', ignore_empty=True, include_background=False)
torch single, logits: multiclass absent absent_from_batch
    CrossEntropyLoss(weight=@) | CrossEntropyLoss(ignore_index=1) | CrossEntropyLoss(weight=@, ignore_index=1)
torch single, logits: multiclass absent absent_from_batch two_classes
    CrossEntropyLoss()
torch single, logits: multiclass
    CrossEntropyLoss(weight=@, %) | CrossEntropyLoss(weight=@, label_smoothing=0.1)
torch single, logits: soft
    CrossEntropyLoss() | CrossEntropyLoss(weight=@)
torch single one-hot, logits: multiclass absent absent_from_batch
    BCEWithLogitsLoss() | BCEWithLogitsLoss(pos_weight=@.reshape(3, 1, 1))
torch single, logits: binary
    BCEWithLogitsLoss() | BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    BCEWithLogitsLoss(pos_weight=torch.tensor(3.0), %)
smp, logits, mode='multiclass': multiclass absent absent_from_batch
    DiceLoss($) | DiceLoss($, smooth=1.0) | DiceLoss($, classes=[1, 2]) | JaccardLoss($) | JaccardLoss($, smooth=1.0)
    TverskyLoss($, alpha=0.3, beta=0.7) | TverskyLoss($, alpha=0.3, beta=0.7, smooth=1.0)
    TverskyLoss($, alpha=0.3, beta=0.7, gamma=0.75) | FocalLoss($) | FocalLoss($, gamma=0.5)
smp single, logits, mode='multiclass': multiclass absent absent_from_batch
    LovaszLoss($) | LovaszLoss($, per_image=True) | LovaszLoss($, ignore_index=1)
smp, logits, mode='multiclass': multiclass
    DiceLoss($, class_weights=[1.0, 2.0, 3.0]) | DiceLoss($, log_loss=True) | JaccardLoss($, log_loss=True)
    DiceLoss($, ignore_index=1) | FocalLoss($, ignore_index=1) | FocalLoss($, alpha=0.25)
    FocalLoss($, class_weights=[1.0, 2.0, 3.0])
    TverskyLoss($, alpha=0.3, beta=0.7, gamma=2.0, class_weights=[1.0, 2.0, 3.0])
smp, logits, mode='binary': binary
    DiceLoss($) | DiceLoss($, smooth=1.0) | JaccardLoss($) | TverskyLoss($, alpha=0.3, beta=0.7)
    TverskyLoss($, alpha=0.3, beta=0.7, gamma=0.75) | FocalLoss($) | FocalLoss($, alpha=0.25)
    FocalLoss($, normalized=True) | DiceLoss(mode='multilabel')
smp single, logits, mode='binary': binary
    LovaszLoss($) | LovaszLoss($, per_image=True)
smp, probabilities: binary
    DiceLoss(mode='binary', from_logits=False) | MCCLoss() | MCCLoss(eps=1.0)
smp one-hot, probabilities: multiclass
    MCCLoss()
smp, probabilities, mode='multilabel', from_logits=False: soft
    DiceLoss($) | JaccardLoss($) | TverskyLoss($, alpha=0.3, beta=0.7)
optax, probabilities, predictions, targets, apply_softmax=False: multiclass absent absent_from_batch
    dice_loss($) | dice_loss($, %) | dice_loss($, smooth=1e-5, %) | dice_loss($, alpha=0.3, beta=0.7, %)
    dice_loss($, alpha=1.0, beta=1.0, %) | dice_loss($, ignore_background=True) | dice_loss($, axis=(0, 1, 2))
    dice_loss($, class_weights=np.array([1.0, 2.0, 3.0])) | multiclass_generalized_dice_loss($)
optax, logits, predictions, targets: multiclass
    dice_loss($) | multiclass_generalized_dice_loss($) | multiclass_generalized_dice_loss($, smooth=1e-5)
optax, logits, predictions, targets: binary
    dice_loss($) | binary_dice_loss($) | binary_dice_loss($, smooth=1e-5) | sigmoid_focal_loss($)
    sigmoid_focal_loss($, alpha=0.25)
medicai, probabilities, from_logits=False, num_classes=3: multiclass absent absent_from_batch
    CategoricalDiceLoss($) | SparseDiceLoss($) | CategoricalDiceLoss($, %) | CategoricalDiceLoss($, smooth=1e-3, %)
    CategoricalDiceLoss($, smooth=0.1, %) | CategoricalDiceLoss($, target_class_ids=[1, 2], %)
    SparseDiceLoss($, ignore_class_ids=1) | CategoricalIoULoss($, %) | CategoricalTverskyLoss($, alpha=0.3, beta=0.7, %)
    CategoricalGeneralizedDiceLoss($, %) | CategoricalGeneralizedDiceLoss($, weight_type='simple', %)
    CategoricalDiceCELoss($) | CategoricalGeneralizedDiceLoss($, weight_type='uniform', %) | CategoricalDiceCELoss($, %)
medicai, logits, from_logits=True, num_classes=3: multiclass
    CategoricalDiceLoss($) | CategoricalDiceCELoss($, dice_weight=0.5, ce_weight=2.0)
medicai, probabilities, from_logits=False, num_classes=1: binary
    BinaryDiceLoss($, %) | BinaryIoULoss($, %) | BinaryTverskyLoss($, alpha=0.3, beta=0.7, %)
    BinaryGeneralizedDiceLoss($, %) | BinaryDiceCELoss($, %)
medicai, probabilities, from_logits=False, num_classes=1: lines
    BinaryCenterlineDiceLoss($, iters=3) | BinaryCenterlineDiceLoss($)
"""


def make_data():
    """Logits are multiples of 1/64, exact in any precision, and lean towards the truth."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 4, 5))
    logits = np.round(64 * (rng.normal(size=(2, 4, 5, 3)) + np.eye(3)[labels])) / 64
    binary = rng.integers(0, 2, (2, 4, 5, 1))
    leaning = np.round(64 * (rng.normal(size=binary.shape) + 2 * binary - 1)) / 64
    absent, nowhere = labels.copy(), labels % 2
    absent[1] %= 2
    lines = np.zeros((1, 8, 8, 1), int)
    lines[0, 1:4, 1:7], lines[0, 3:, 5] = 1, 1
    blurred = np.round(64 * (rng.normal(size=lines.shape) + 3 * lines - 1.5)) / 64
    assert all(len(np.unique(sample)) == classes for y, classes in ((labels, 3), (binary, 2)) for sample in y)
    two = np.concatenate([np.zeros_like(leaning), leaning], axis=-1)
    cases = {"multiclass": (labels, logits), "absent": (absent, logits), "absent_from_batch": (nowhere, logits)}
    cases |= {"binary": (binary, leaning), "two_classes": (binary[..., 0], two), "lines": (lines, blurred)}
    # Of truth that sums to 1, in multiples of 1/64 as well.
    soft = np.floor(64 * rng.dirichlet([1, 1, 1], labels.shape)) / 64
    soft[..., 2] = 1 - soft[..., 0] - soft[..., 1]
    background, empty = labels.copy(), np.concatenate([binary, 0 * binary])
    background[1] = 0
    found = np.round(64 * (rng.normal(size=empty.shape) + 2 * empty - 1)) / 64
    found[3] = -abs(found[3]) - 1 / 64
    assert (found[2] > 0).any()
    cases |= {"soft": (soft, logits), "background": (background, logits), "empty": (empty, found)}
    return {
        name: {"truth": t, "probabilities": softmax(x, axis=-1) if x.shape[-1] > 1 else expit(x), "logits": x}
        for name, (t, x) in cases.items()
    }


def without_models(package):
    """Make `package.losses` importable without what its package imports for its models."""
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))
    return importlib.import_module(f"{package}.losses")


def evaluate(module, library, call, case, kind):
    """Give the call what its library takes: order of arguments and of axes, one-hot truth or integers."""
    truth, pred = case["truth"], case["probabilities" if kind == "thresholded" else kind]
    one_hot = truth if truth.ndim == pred.ndim else np.eye(pred.shape[-1], dtype=int)[truth]
    arrays = {"predictions": jax.numpy.asarray(pred), "targets": jax.numpy.asarray(one_hot, float)}
    called = eval(call, {**vars(module), **arrays, "np": np, "torch": torch})
    name, *how = library.split()
    if name == "optax":
        return called
    if name == "medicai":
        return called(truth[..., None] if call.startswith("Sparse") else one_hot, pred)
    dtype = torch.float32 if "single" in how else torch.float64
    if "indices" in how:
        truth = truth[:, None]
    elif name == "monai" or "one-hot" in how or truth.ndim == pred.ndim:
        truth = np.moveaxis(one_hot, -1, 1)
    real = name == "monai" or truth.dtype == float or (name == "torch" and truth.ndim == pred.ndim)
    truth = torch.tensor(truth, dtype=dtype if real else torch.int64)
    pred = torch.tensor(np.moveaxis(pred, -1, 1), dtype=dtype)
    if kind != "thresholded":
        return called(pred, truth)
    called((pred > 0.5).to(dtype), truth)
    return called.aggregate()


def main():
    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    data, records = make_data(), []
    modules = {"torch.nn": torch.nn, "monai.metrics": importlib.import_module("monai.metrics")}
    modules |= {f"{name}.losses": importlib.import_module(f"{name}.losses") for name in ("monai", "optax", "medicai")}
    modules["smp.losses"] = without_models("segmentation_models_pytorch")
    for line in CALLS.strip().splitlines():
        if not line.startswith(" "):
            heading, cases = line.split(": ")
            library, kind, common = f"{heading}, ".split(", ", 2)
            name = library.split()[0]
            module = {"torch": "torch.nn"}.get(name, f"{name}.{'metrics' if 'metrics' in library else 'losses'}")
            continue
        line = line.replace("%", "reduction='none'").replace("@", "torch.tensor([1.0, 2.0, 3.0])")
        for call in line.strip().replace("$", common[:-2]).split(" | "):
            for case in cases.split():
                value = np.asarray(evaluate(modules[module], library, call, data[case], kind))
                assert np.isfinite(value).all(), (library, call, case)
                while value.ndim > 2 and value.shape[-1] == 1:
                    value = value[..., 0]
                peer = "segmentation-models-pytorch" if name == "smp" else name
                version = importlib.metadata.version(peer).split("+")[0]  # torch's tells of the hardware, too
                record = {"library": peer, "version": version, "call": f"{module}.{call}"}
                record |= {"data": case, "input": kind, "input_dtype": "float32" if "single" in library else "float64"}
                records.append({**record, "dtype": str(value.dtype), "value": value.tolist()})
    OUT.parent.mkdir(exist_ok=True)
    arrays = {case: {name: array.tolist() for name, array in arrays.items()} for case, arrays in data.items()}
    rows = ",\n".join(json.dumps(record) for record in records)
    OUT.write_text(f'{{"data": {json.dumps(arrays)},\n"records": [\n{rows}\n]}}\n')
    print(f"{len(records)} values in {OUT.name}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
